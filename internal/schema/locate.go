package schema

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"provwatch/internal/postgres"
	"provwatch/internal/store"
)

// Locate looks up where the provider tables are, for all statements that follow. It
// refuses provider tables in several schemas of the search path, and relations of their
// names that are not ordinary tables. It refuses a schema provwatch in which other roles
// could have planted objects. The error is an
// [*UnusableError], or ctx's own.
func Locate(ctx context.Context, db store.DBTX) (*postgres.Tables, error) {
	tables, err := postgres.Locate(ctx, db)
	var ambiguous *postgres.AmbiguousTablesError
	var kind *postgres.TableKindError
	switch {
	case errors.As(err, &ambiguous):
		return nil, &UnusableError{Reason: ambiguous.Error()}
	case errors.As(err, &kind):
		return nil, &UnusableError{Reason: kind.Error()}
	case err != nil:
		return nil, unusable("find the provider tables", err)
	case tables.Schema == "":
		return nil, &UnusableError{Reason: "the search_path names no schema, so that there is no place for the gateway's tables; set it for the role"}
	}
	return tables, refuseStrangers(ctx, db)
}

// refuseStrangers fails where others could have planted something in the schema
// provwatch. Once it has passed with the schema there, no stranger can add to it.
func refuseStrangers(ctx context.Context, db store.DBTX) error {
	strangers, err := store.On(db).ListStrangers(ctx)
	if err != nil {
		return unusable("look at its owner", err)
	}
	if len(strangers) > 0 {
		var list []string
		for _, s := range strangers {
			list = append(list, fmt.Sprintf("%q %s", s.Role, s.How))
		}
		return &UnusableError{Reason: "the schema provwatch is open to roles other than this one, the database's owner and the provider tables' owner (" +
			strings.Join(list, ", ") + "), which can plant objects in it; look at it, then drop it, or let the owner of the provider tables own it " +
			"and all that is in it, and revoke CREATE on it"}
	}
	return nil
}
