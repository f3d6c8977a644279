package drift

import (
	"fmt"
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

// List formats differences in one line.
func List(fields []Field) string {
	parts := make([]string, len(fields))
	for i, f := range fields {
		parts[i] = fmt.Sprintf("%s (environment %q, database %q)", f.Name, f.Env, f.DB)
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
