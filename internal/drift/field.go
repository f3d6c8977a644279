package drift

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"provwatch/internal/provider"
)

// Field is one difference, in displayable form: no secret, URLs without userinfo
// and query, and long values cut ([provider.DisplayText]).
type Field struct {
	Name string `json:"name"`
	Env  string `json:"env"`
	DB   string `json:"db"`
}

// The names of the fields that have a column of their own.
const (
	DeletedField = "deleted"
	EnabledField = "enabled"
	BaseURLField = "base_url"
)

// The names of the fields that depend on the settings column. The type does, since
// settings make a row of type anthropic a Bedrock one.
const (
	SettingsField = "settings"
	RegionField   = "bedrock_region"
	TypeField     = "type"
)

// The names of the fields that compare credentials.
const (
	APIKeysField            = "api_keys"
	BedrockCredentialsField = "bedrock_credentials"
)

// RowDeleted is the field of a soft-deleted row, RowDisabled that of a disabled one.
var (
	RowDeleted  = Field{Name: DeletedField, Env: "false", DB: "true"}
	RowDisabled = Field{Name: EnabledField, Env: "true", DB: "false"}
)

// NotCompared begins the database's side of a field that cannot be read.
const NotCompared = "cannot be compared: "

// OfCredentials reports whether the field compares credentials.
func (f Field) OfCredentials() bool {
	return f.Name == APIKeysField || f.Name == BedrockCredentialsField
}

// ofSettings reports whether the field depends on the settings column, and so on
// whether that can be decoded.
func (f Field) ofSettings() bool {
	return f.Name == SettingsField || f.Name == RegionField || f.Name == TypeField
}

// Absent stands for the value of a side that is not there, where people read it.
const Absent = "-"

// Displayed returns the fields of a drift of the kind as people read them. Of an unmanaged row
// there is no environment's side.
func Displayed(kind Kind, fields []Field) []Field {
	if kind != Unmanaged {
		return fields
	}
	fields = slices.Clone(fields)
	for i := range fields {
		fields[i].Env = Absent
	}
	return fields
}

// Quoted returns both sides of a field of a drift of the kind in quotation marks, or [Absent].
func (f Field) Quoted(kind Kind) (env, db string) {
	if kind == Unmanaged {
		return Absent, strconv.Quote(f.DB)
	}
	return strconv.Quote(f.Env), strconv.Quote(f.DB)
}

// List formats the fields of a drift of the kind in one line.
func List(kind Kind, fields []Field) string {
	parts := make([]string, len(fields))
	for i, f := range fields {
		env, db := f.Quoted(kind)
		parts[i] = fmt.Sprintf("%s (environment %s, database %s)", f.Name, env, db)
	}
	return strings.Join(parts, ", ")
}

// shownField returns the difference of two values in displayable form. Where these
// are the same, the second says that they are not.
func shownField(name, env, db string) Field {
	f := Field{Name: name, Env: provider.DisplayText(env), DB: provider.DisplayText(db)}
	if f.Env == f.DB {
		f.DB += " (differs in a part that is not shown)"
	}
	return f
}
