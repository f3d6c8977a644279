package store

import "context"

// Privilege is an action that a role may take on a schema, a table, a column or a function.
type Privilege struct {
	Schema string // empty for that of the provider tables
	Table  string // empty for a privilege on the schema; the function's name for EXECUTE
	Column string // empty for the whole table
	Action string // such as SELECT
}

// MissingPrivilege is a privilege that the role of the session lacks.
type MissingPrivilege struct {
	Role        string
	Schema      string // quoted
	OfProviders bool   // the schema is that of the provider tables
	// Table is as in [Privilege]. That of [RowSecurity] is qualified and quoted.
	Table, Column, Action string
}

// RowSecurity is in the place of an action where policies can hide rows of a table.
const RowSecurity = "row security"

// privilegeRecord is a privilege of the query listMissingPrivileges.
type privilegeRecord struct {
	Schema text `json:"schema_name"`
	Table  text `json:"table_name"`
	Column text `json:"column_name"`
	Action text `json:"privilege"`
}

// ListMissingPrivileges returns the privileges that the role of the session lacks, and the
// tables of the others whose rows policies can hide from it. What is not there is passed
// over.
func (q *Queries) ListMissingPrivileges(ctx context.Context, wanted []Privilege) ([]MissingPrivilege, error) {
	records := make([]privilegeRecord, len(wanted))
	for i, p := range wanted {
		records[i] = privilegeRecord{Schema: text(p.Schema), Table: text(p.Table), Column: text(p.Column), Action: text(p.Action)}
	}
	encoded, err := encode(records)
	if err != nil {
		return nil, err
	}
	rows, err := q.listMissingPrivileges(ctx, encoded)
	if err != nil {
		return nil, err
	}
	missing := make([]MissingPrivilege, len(rows))
	for i, row := range rows {
		missing[i] = MissingPrivilege{
			Role: row.Role, Schema: row.SchemaName, OfProviders: row.OfProviders,
			Table: row.TableName, Column: row.ColumnName, Action: row.Privilege,
		}
	}
	return missing, nil
}
