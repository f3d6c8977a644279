package provider

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"provwatch/internal/secret"
)

// Kind says how the database differs from the environment.
type Kind string

// The kinds of drift (docs/specification.md, section 6), strongest first: a provider
// that is both disabled and changed is reported as disabled, with all differing fields.
const (
	InSync   Kind = "in_sync"
	Missing  Kind = "missing"  // no row of this name
	Deleted  Kind = "deleted"  // soft-deleted
	Disabled Kind = "disabled" // live, but not enabled
	Changed  Kind = "changed"  // live and enabled, with another canonical hash
	// NotComparable is the kind of a live row that cannot be compared. It is no drift,
	// and never taken for in sync.
	NotComparable Kind = "not_comparable"
	// Resolved is the kind of the alert that ends a drift; an observation never
	// has it.
	Resolved Kind = "resolved"
	// Gap and Rewound are kinds of alerts that are about no provider: changes may have
	// passed unseen; the sequence of alerts was set back, or may have been, as by a restore.
	Gap     Kind = "gap"
	Rewound Kind = "rewound"
)

// HasProvider reports whether an alert of the kind is about a provider.
func (k Kind) HasProvider() bool { return k != Gap && k != Rewound }

// Field is one difference, in displayable form: no secret, URLs without userinfo
// and query, and long values cut ([DisplayText]).
type Field struct {
	Name string `json:"name"`
	Env  string `json:"env"`
	DB   string `json:"db"`
}

// Observation is the result of comparing one desired provider with the
// database at one moment.
type Observation struct {
	Provider   string
	ProviderID uuid.UUID // uuid.Nil when there is no row
	Kind       Kind
	Fields     []Field
	// EnvHash and DBHash are made by a [Hasher].
	EnvHash string
	// DBHash is the row's hash that is compared with EnvHash: see
	// [RowHashes.Against]. It is empty when there is no row, or when Unreadable is
	// set.
	DBHash string
	// DBType is the row's type as its column has it; DBSettings and DBHashes are
	// what the row's settings and canonical fields come to.
	DBType     Type
	DBSettings DecodedSettings // without credentials
	DBHashes   RowHashes
	// Credentials sums up how credentials differ, in counts alone; empty when
	// they agree or were not compared.
	Credentials string
	// Unreadable is why the row's settings cannot be decoded or decrypted, else nil.
	Unreadable error
	// UnreadableCredentials is why credentials that were to be compared cannot be, else
	// nil. Credentials is then empty.
	UnreadableCredentials error
}

// WhyNotComparable returns the reason of an observation of kind [NotComparable], nil
// for one of another kind.
func (o Observation) WhyNotComparable() error {
	if o.Kind != NotComparable {
		return nil
	}
	return cmp.Or(o.Unreadable, o.UnreadableCredentials)
}

// Compare compares what the environment asks for with the row that stands for
// the provider, nil when there is none. With credentials set, the row's Keys
// must be loaded, and key sets and Bedrock credentials are compared as well
// (--credential-drift).
func (h Hasher) Compare(desired Desired, row *Row, credentials bool) Observation {
	want := desired.Canonical()
	o := Observation{Provider: desired.Name, Kind: InSync, EnvHash: h.Hash(want)}
	if row == nil {
		o.Kind = Missing
		return o
	}
	o.ProviderID = row.ID

	settings := row.decoded()
	o.DBType = row.Type
	o.DBSettings = DecodedSettings{IsBedrock: settings.IsBedrock, BedrockRegion: settings.BedrockRegion, Err: settings.Err}
	stored := CanonicalOfRow(row.Type, row.BaseURL, settings)
	have := stored.against(desired.Type, desired.Bedrock != nil)
	if settings.Err != nil {
		o.Unreadable = settings.Err
		o.Fields = append(o.Fields, Field{Name: settingsField, Env: settingsSummary(desired), DB: notCompared + settings.Err.Error()})
		have.BedrockRegion = want.BedrockRegion
		if desired.Bedrock != nil && row.Type == Anthropic {
			have.Type = want.Type // whether it is a Bedrock row, its settings would tell
		}
	} else {
		o.DBHashes = h.RowHashes(stored)
		o.DBHash = o.DBHashes.Against(desired)
	}
	if want.Type != have.Type {
		o.Fields = append(o.Fields, typeField(desired.Type, row.Type, stored.Type == AmazonBedrock))
	}
	o.Fields = append(o.Fields, canonicalFields(want, have)...)
	if credentials && settings.Err == nil {
		if o.UnreadableCredentials = row.unreadableKey(); o.UnreadableCredentials == nil {
			differing := credentialFields(desired, row)
			o.Credentials = summary(differing)
			o.Fields = append(o.Fields, differing...)
		}
	}

	switch {
	case row.Deleted:
		o.Kind = Deleted
		o.Fields = append([]Field{{Name: "deleted", Env: "false", DB: "true"}}, o.Fields...)
	case o.Unreadable != nil:
		o.Kind = NotComparable
	case !row.Enabled:
		o.Kind = Disabled
		o.Fields = append([]Field{{Name: enabledField, Env: "true", DB: "false"}}, o.Fields...)
	case len(o.Fields) > 0:
		o.Kind = Changed
	case o.UnreadableCredentials != nil:
		o.Kind = NotComparable
	}
	if o.UnreadableCredentials != nil {
		o.Fields = append(o.Fields, Field{
			Name: apiKeysField, Env: strconv.Itoa(len(desired.Keys)), DB: notCompared + o.UnreadableCredentials.Error(),
		})
	}
	return o
}

// notCompared begins the database's side of a field that cannot be read.
const notCompared = "cannot be compared: "

// unreadableKey returns why one of the loaded keys cannot be compared, nil if all can.
func (r Row) unreadableKey() error {
	for _, key := range r.Keys {
		switch {
		case key.Err != nil:
			return key.Err
		case key.KeyID != "":
			return ErrAPIKeyID
		}
	}
	return nil
}

// WithoutCredentials returns the observation as if credentials had not been
// compared.
func (o Observation) WithoutCredentials() Observation {
	if o.Credentials == "" && o.UnreadableCredentials == nil {
		return o
	}
	ofCredentials := o.Kind == Changed || o.Kind == NotComparable && o.Unreadable == nil
	o.Credentials, o.UnreadableCredentials = "", nil
	o.Fields = slices.DeleteFunc(slices.Clone(o.Fields), Field.OfCredentials)
	if len(o.Fields) == 0 {
		o.Fields = nil // as of what was found in sync at once
		if ofCredentials {
			o.Kind = InSync
		}
	}
	return o
}

// OfSettings reports whether the field depends on the settings column, and so on
// whether that can be decoded. The type does, since settings make a row of type
// anthropic a Bedrock one.
func (f Field) OfSettings() bool {
	return f.Name == settingsField || f.Name == regionField || f.Name == typeFieldName
}

// OfEnabled reports whether the field says that a row is disabled.
func (f Field) OfEnabled() bool { return f.Name == enabledField }

// OfBaseURL reports whether the field compares base URLs.
func (f Field) OfBaseURL() bool { return f.Name == baseURLField }

// OfCredentials reports whether the field compares credentials.
func (f Field) OfCredentials() bool {
	return f.Name == apiKeysField || f.Name == bedrockCredentialsField
}

// The names of the fields that have a column of their own.
const (
	enabledField = "enabled"
	baseURLField = "base_url"
)

// The names of the fields that come from the settings column.
const (
	settingsField = "settings"
	regionField   = "bedrock_region"
	typeFieldName = "type"
)

// The names of the fields that compare credentials.
const (
	apiKeysField            = "api_keys"
	bedrockCredentialsField = "bedrock_credentials"
)

// HashDiffers reports whether the row is one that the seed must not take for
// the desired provider: its canonical hash differs or cannot be computed.
// A missing row does not differ.
func (o Observation) HashDiffers() bool {
	return o.Kind != Missing && o.DBHash != o.EnvHash
}

// typeField is the difference of two types, which can have one label: whether
// they are Bedrock then makes the difference.
func typeField(env, column Type, rowIsBedrock bool) Field {
	f := Field{Name: typeFieldName, Env: string(env), DB: string(column)}
	switch {
	case env != column:
	case rowIsBedrock:
		f.DB += " (Bedrock)"
	default:
		f.DB = string(notBedrock)
	}
	return f
}

// canonicalFields are the differences of the canonical fields but the type.
func canonicalFields(want, have Canonical) []Field {
	var fields []Field
	if want.BaseURL != have.BaseURL {
		fields = append(fields, shownField(baseURLField, DisplayURL(want.BaseURL), DisplayURL(have.BaseURL)))
	}
	if want.BedrockRegion != have.BedrockRegion {
		fields = append(fields, shownField(regionField, want.BedrockRegion, have.BedrockRegion))
	}
	return fields
}

func settingsSummary(d Desired) string {
	if d.Bedrock == nil {
		return "none"
	}
	return bedrockSettingsType
}

// credentialFields compares the key sets, all of which can be read, regardless of
// order, and the Bedrock pair. Its fields hold counts only, never a key or the hash of one.
func credentialFields(desired Desired, row *Row) []Field {
	var fields []Field
	inEnv := make(map[string]bool, len(desired.Keys))
	for _, key := range desired.Keys {
		inEnv[key.Reveal()] = true
	}
	inDB := make(map[string]bool, len(row.Keys))
	for _, stored := range row.Keys {
		inDB[stored.Key.Reveal()] = true
	}
	onlyEnv, onlyDB := countMissing(inEnv, inDB), countMissing(inDB, inEnv)
	if onlyEnv+onlyDB > 0 {
		fields = append(fields, Field{
			Name: apiKeysField,
			Env:  fmt.Sprintf("%d, of these %d not in the database", len(inEnv), onlyEnv),
			DB:   fmt.Sprintf("%d, of these %d not in the environment", len(inDB), onlyDB),
		})
	}

	var want Bedrock
	if desired.Bedrock != nil {
		want = *desired.Bedrock
	}
	// Settings that cannot be decoded are a difference of their own.
	have, _ := row.bedrock()
	differ := 0
	for _, pair := range [][2]secret.Text{{want.AccessKey, have.AccessKey}, {want.AccessKeySecret, have.AccessKeySecret}} {
		if !pair[0].Equal(pair[1]) {
			differ++
		}
	}
	if differ > 0 {
		fields = append(fields, Field{
			Name: bedrockCredentialsField,
			Env:  fmt.Sprintf("%d of 2 set", countSet(want.AccessKey, want.AccessKeySecret)),
			DB:   fmt.Sprintf("%d of 2 set, %d of 2 differ", countSet(have.AccessKey, have.AccessKeySecret), differ),
		})
	}
	return fields
}

func countMissing(from, in map[string]bool) int {
	n := 0
	for key := range from {
		if !in[key] {
			n++
		}
	}
	return n
}

func countSet(texts ...secret.Text) int {
	n := 0
	for _, t := range texts {
		if !t.IsZero() {
			n++
		}
	}
	return n
}

func summary(fields []Field) string {
	parts := make([]string, len(fields))
	for i, f := range fields {
		parts[i] = f.Name + ": env " + f.Env + "; db " + f.DB
	}
	return strings.Join(parts, "; ")
}
