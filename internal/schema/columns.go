package schema

import (
	"fmt"
	"slices"
	"strings"

	"provwatch/internal/store"
)

// table is a provider table, and the columns that the worker uses.
type table struct {
	name    string
	used    []string // read or written
	given   []string // by an insert
	columns []store.ListColumnsRow
}

func providerTablesOf(details store.SchemaDetails) []table {
	return []table{
		{
			name:    "ai_providers",
			used:    []string{"id", "type", "name", "enabled", "deleted", "base_url", "settings", "settings_key_id", "updated_at"},
			given:   []string{"id", "type", "name", "base_url", "settings"},
			columns: details.ProviderColumns,
		},
		{
			name:    "ai_provider_keys",
			used:    []string{"id", "provider_id", "api_key", "api_key_key_id"},
			given:   []string{"id", "provider_id", "api_key"},
			columns: details.KeyColumns,
		},
	}
}

// checkColumns checks that provider tables that another program made have the
// columns that the worker uses, and no other column that an insert must give a value.
func checkColumns(details store.SchemaDetails) error {
	for _, t := range providerTablesOf(details) {
		if err := t.check(); err != nil {
			return err
		}
	}
	return nil
}

func (t table) check() error {
	var reason string
	switch {
	case len(t.missing()) > 0:
		reason = fmt.Sprintf("table %s lacks the columns %s; it is of a version of the gateway that this worker does not know",
			t.name, strings.Join(t.missing(), ", "))
	case len(t.mistyped()) > 0:
		reason = fmt.Sprintf("columns of table %s are not of type uuid: %s; it is not the gateway's table, or of a version that this worker does not know",
			t.name, strings.Join(t.mistyped(), ", "))
	case !t.hasEnum():
		reason = fmt.Sprintf("the column type of table %s is not of an enum; it is not the gateway's table, or of a version that this worker does not know", t.name)
	case len(t.unknown()) > 0:
		reason = fmt.Sprintf("table %s has columns that need a value which this worker does not know: %s; give them a default",
			t.name, strings.Join(t.unknown(), ", "))
	default:
		return nil
	}
	return &UnusableError{Reason: reason}
}

func (t table) missing() (names []string) {
	for _, name := range t.used {
		if !slices.ContainsFunc(t.columns, func(c store.ListColumnsRow) bool { return c.Name == name }) {
			names = append(names, name)
		}
	}
	return names
}

func (t table) mistyped() (names []string) {
	for _, c := range t.columns {
		if strings.HasSuffix(c.Name, "id") && slices.Contains(t.given, c.Name) && c.Type != "uuid" {
			names = append(names, c.Name)
		}
	}
	return names
}

// hasEnum reports whether the column type, if there is one, is of an enum.
func (t table) hasEnum() bool {
	return !slices.ContainsFunc(t.columns, func(c store.ListColumnsRow) bool { return c.Name == "type" && !c.IsEnum })
}

// unknown returns the columns that need a value and have none in an insert.
func (t table) unknown() (names []string) {
	for _, c := range t.columns {
		if c.Required && !slices.Contains(t.given, c.Name) {
			names = append(names, c.Name)
		}
	}
	return names
}
