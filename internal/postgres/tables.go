package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"

	"github.com/jackc/pgx/v5"

	sqlfiles "provwatch/sql"
)

// fixSearchPath is how every session of the worker begins: from then on no
// statement resolves a name through a schema that others may write to. pg_temp is
// named, and last, since it is searched first where it is not. The path that the
// session would have had is kept for [Locate], and for the triggers of other
// programs.
const fixSearchPath = `SELECT pg_catalog.set_config('provwatch.search_path', pg_catalog.current_setting('search_path'), false); ` +
	`SET search_path = pg_catalog, pg_temp; `

// Tables says where the provider tables are.
type Tables struct {
	// Schema holds them. Before they exist it is the schema to make them in: the
	// first of the search path in which the role may create and that no stranger
	// owns, else the first that exists. It is empty when the path names no schema that exists.
	Schema string

	replacer *strings.Replacer
}

// Qualify replaces the placeholder [sqlfiles.Gateway] by the schema of the provider
// tables, and by the name of their enum: "gateway" before a table or the enum, and
// 'gateway' in a catalog query.
func (t *Tables) Qualify(sql string) string { return t.replacer.Replace(sql) }

func newTables(schema string, enum pgx.Identifier) *Tables {
	return &Tables{Schema: schema, replacer: strings.NewReplacer(
		sqlfiles.Gateway+".ai_provider_type", enum.Sanitize(),
		sqlfiles.Gateway+".ai_provider", pgx.Identifier{schema}.Sanitize()+".ai_provider",
		sqlfiles.Gateway+".dbcrypt_keys", pgx.Identifier{schema}.Sanitize()+".dbcrypt_keys",
		"'"+sqlfiles.Gateway+"'", quoteLiteral(schema),
	)}
}

// quoteLiteral quotes a string as libpq's PQescapeLiteral does, which holds
// whatever standard_conforming_strings is.
func quoteLiteral(s string) string {
	quoted := "'" + strings.ReplaceAll(s, "'", "''") + "'"
	if strings.Contains(s, `\`) {
		quoted = " E" + strings.ReplaceAll(quoted, `\`, `\\`)
	}
	return quoted
}

// AmbiguousTablesError says that several schemas of the search path have provider
// tables, of which only one can be the gateway's.
type AmbiguousTablesError struct{ Schemas []string }

func (e *AmbiguousTablesError) Error() string {
	list := make([]string, len(e.Schemas))
	for i, schema := range e.Schemas {
		list[i] = pgx.Identifier{schema}.Sanitize()
	}
	return fmt.Sprintf("the table ai_providers is in several schemas of the search_path (%s), of which only one can be the gateway's; "+
		"name it alone, by search_path=… in DATABASE_URL or by ALTER ROLE … SET search_path", strings.Join(list, ", "))
}

// kinds are the kinds of relations that a query reads as a table, by pg_class.relkind.
var kinds = map[string]string{"p": "a partitioned table", "v": "a view", "m": "a materialized view", "f": "a foreign table"}

// TableKindError says that something else than an ordinary table is in the place of a
// provider table: it has no triggers for its rows, or cannot be published, and the
// gateway's are ordinary tables.
type TableKindError struct{ Schema, Table, Kind string }

func (e *TableKindError) Error() string {
	return fmt.Sprintf("%s is %s, not an ordinary table; connect to the database of the gateway's own tables, or name their schema, by search_path=… in DATABASE_URL "+
		"or by ALTER ROLE … SET search_path", pgx.Identifier{e.Schema, e.Table}.Sanitize(), e.Kind)
}

// location is what the sessions of one configuration know of the provider tables.
type location struct{ known atomic.Pointer[Tables] }

// locationKey is where a connection's data has its *location.
const locationKey = "provwatch.tables"

func locationOf(conn *pgx.Conn) (*location, error) {
	if l, ok := conn.PgConn().CustomData()[locationKey].(*location); ok {
		return l, nil
	}
	return nil, errors.New("the session was not set up by postgres.ParseURL")
}

// queryer is a pool, a connection or a transaction.
type queryer interface {
	Query(context.Context, string, ...any) (pgx.Rows, error)
}

// Locate looks up where the provider tables are, for all sessions of the
// configuration that db's is of. The error can be an [*AmbiguousTablesError] or a
// [*TableKindError].
func Locate(ctx context.Context, db queryer) (*Tables, error) {
	// The connection that a pool chooses shows itself when it runs the query.
	var conn connOf
	rows, err := db.Query(ctx, sqlfiles.LocateTables, &conn)
	if err != nil {
		return nil, err
	}
	type found struct {
		Schema               string
		HasTables, MayCreate bool
		TypeSchema, TypeName string
		Providers, Keys      string // pg_class.relkind, empty where there is none
	}
	schemas, err := pgx.CollectRows(rows, pgx.RowToStructByPos[found])
	if err != nil {
		return nil, err
	}
	var having []string
	var chosen found
	for i, s := range schemas {
		if s.HasTables {
			having = append(having, s.Schema)
		}
		switch {
		case i == 0, s.HasTables && !chosen.HasTables, s.MayCreate && !chosen.MayCreate && !chosen.HasTables:
			chosen = s
		}
	}
	if len(having) > 1 {
		return nil, &AmbiguousTablesError{Schemas: having}
	}
	for _, table := range [][2]string{{"ai_providers", chosen.Providers}, {"ai_provider_keys", chosen.Keys}} {
		if kind := kinds[table[1]]; kind != "" {
			return nil, &TableKindError{Schema: chosen.Schema, Table: table[0], Kind: kind}
		}
	}
	tables := newTables(chosen.Schema, pgx.Identifier{chosen.TypeSchema, chosen.TypeName})
	conn.location.known.Store(tables)
	return tables, nil
}

// connOf learns which connection runs a query.
type connOf struct{ location *location }

// RewriteQuery implements [pgx.QueryRewriter].
func (c *connOf) RewriteQuery(_ context.Context, conn *pgx.Conn, sql string, args []any) (string, []any, error) {
	var err error
	c.location, err = locationOf(conn)
	return sql, args, err
}

// Qualifier, given as the first argument of a query, qualifies the names of the
// provider tables in it as [Tables.Qualify] does. The first query of a
// configuration looks up where they are.
type Qualifier struct{}

// RewriteQuery implements [pgx.QueryRewriter].
func (Qualifier) RewriteQuery(ctx context.Context, conn *pgx.Conn, sql string, args []any) (string, []any, error) {
	l, err := locationOf(conn)
	if err != nil {
		return "", nil, err
	}
	tables := l.known.Load()
	if tables == nil {
		if tables, err = Locate(ctx, conn); err != nil {
			return "", nil, err
		}
	}
	return tables.Qualify(sql), args, nil
}
