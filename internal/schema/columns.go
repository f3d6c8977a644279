package schema

import (
	"fmt"
	"slices"
	"strings"

	"provwatch/internal/store"
)

// Columns that the worker reads or writes, by table.
var (
	providerColumns = []string{"id", "type", "name", "enabled", "deleted", "base_url", "settings", "settings_key_id", "updated_at"}
	keyColumns      = []string{"id", "provider_id", "api_key", "api_key_key_id"}
)

// Columns that the worker gives a value to when it inserts.
var (
	providerInserts = []string{"id", "type", "name", "base_url", "settings"}
	keyInserts      = []string{"id", "provider_id", "api_key"}
)

// checkColumns checks that provider tables made by another program have the
// columns that the worker uses, and none that an insert would have to fill
// without knowing it.
func checkColumns(details store.SchemaDetails) error {
	for _, table := range []struct {
		name           string
		columns        []store.ListColumnsRow
		needed, filled []string
	}{
		{"ai_providers", details.ProviderColumns, providerColumns, providerInserts},
		{"ai_provider_keys", details.KeyColumns, keyColumns, keyInserts},
	} {
		columns := table.columns
		var missing, unknown, mistyped []string
		for _, name := range table.needed {
			if !slices.ContainsFunc(columns, func(c store.ListColumnsRow) bool { return c.Name == name }) {
				missing = append(missing, name)
			}
		}
		for _, c := range columns {
			if strings.HasSuffix(c.Name, "id") && slices.Contains(table.filled, c.Name) && c.Type != "uuid" {
				mistyped = append(mistyped, c.Name)
			}
			if c.Required && !slices.Contains(table.filled, c.Name) {
				unknown = append(unknown, c.Name)
			}
		}
		if len(missing) > 0 {
			return &UnusableError{Reason: fmt.Sprintf("table %s lacks the columns %s; it is of a version of the gateway that this worker does not know",
				table.name, strings.Join(missing, ", "))}
		}
		if len(mistyped) > 0 {
			return &UnusableError{Reason: fmt.Sprintf("columns of table %s are not of type uuid: %s; it is not the gateway's table, or of a version that this worker does not know",
				table.name, strings.Join(mistyped, ", "))}
		}
		if i := slices.IndexFunc(columns, func(c store.ListColumnsRow) bool { return c.Name == "type" }); i >= 0 && !columns[i].IsEnum {
			return &UnusableError{Reason: fmt.Sprintf("the column type of table %s is not of an enum; it is not the gateway's table, or of a version that this worker does not know", table.name)}
		}
		if len(unknown) > 0 {
			return &UnusableError{Reason: fmt.Sprintf("table %s has columns that need a value which this worker does not know: %s; give them a default",
				table.name, strings.Join(unknown, ", "))}
		}
	}
	return nil
}
