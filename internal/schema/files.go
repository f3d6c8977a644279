package schema

import (
	"database/sql"
	"io"
	"io/fs"
	"strings"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/database"

	"provwatch/internal/postgres"
	sqlfiles "provwatch/sql"
)

// versionTable is where goose keeps the versions applied.
const versionTable = "provwatch.schema_migrations"

// newProvider returns what applies the migrations that a database lacks.
func newProvider(db *sql.DB, status Status, tables *postgres.Tables) (*goose.Provider, error) {
	versions, err := database.NewStore(database.DialectPostgres, versionTable)
	if err != nil {
		return nil, err
	}
	migrations, err := fs.Sub(sqlfiles.Migrations, "migrations")
	if err != nil {
		return nil, err
	}
	options := []goose.ProviderOption{goose.WithStore(versions), goose.WithDisableGlobalRegistry(true)}
	if status.Foreign {
		options = append(options, goose.WithExcludeVersions([]int64{providerTables}))
	}
	return goose.NewProvider(database.DialectCustom, db, qualified{migrations, tables}, options...)
}

// qualified is a folder of SQL files in which the provider tables have their schema.
type qualified struct {
	fs.FS
	tables *postgres.Tables
}

func (q qualified) Open(name string) (fs.File, error) {
	file, err := q.FS.Open(name)
	if err != nil || !strings.HasSuffix(name, ".sql") {
		return file, err
	}
	text, err := io.ReadAll(file)
	return qualifiedFile{file, strings.NewReader(q.tables.Qualify(string(text)))}, err
}

type qualifiedFile struct {
	fs.File
	text *strings.Reader
}

func (f qualifiedFile) Read(p []byte) (int, error) { return f.text.Read(p) }
