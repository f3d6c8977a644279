package provider

import (
	"bytes"
	"errors"
	"time"

	"github.com/google/uuid"

	"provwatch/internal/secret"
)

// MaxKeys is how many keys, or access keys, a provider can have.
const MaxKeys = 5

// Desired is a provider as the environment asks for it.
type Desired struct {
	Name    string
	Type    Type
	BaseURL string
	// Keys are the bearer keys, in the order of the environment. A Bedrock
	// provider has none.
	Keys []secret.Text
	// Bedrock is nil unless the provider is a Bedrock one (docs/specification.md,
	// section 1).
	Bedrock *Bedrock
	// Variables are patterns of all environment variables that make the provider,
	// for messages: for example CODER_AIBRIDGE_PROVIDER_0_*.
	Variables string
	// CredentialsOrigin is the variable that holds the keys, or the access keys of
	// a Bedrock provider; empty when there are none.
	CredentialsOrigin string
}

// Canonical returns the fields that the database must agree with.
func (d Desired) Canonical() Canonical {
	c := Canonical{Type: d.Type, BaseURL: d.BaseURL}
	if d.Bedrock != nil {
		c.BedrockRegion = d.Bedrock.Region
	}
	return c
}

// UsesKeys is [UsesKeys] of the provider's row.
func (d Desired) UsesKeys() bool { return UsesKeys(d.Type, d.Bedrock != nil) }

// DisplayRegion returns the Bedrock region as it may be shown.
func (d Desired) DisplayRegion() string { return DisplayText(d.Canonical().BedrockRegion) }

// Settings returns the text for the settings column, absent for a provider
// that is not a Bedrock one.
func (d Desired) Settings() secret.Text {
	if d.Bedrock == nil {
		return secret.Text{}
	}
	return d.Bedrock.Encode()
}

// WithoutCredentials returns the provider without its keys and access keys.
func (d Desired) WithoutCredentials() Desired {
	d.Keys = nil
	if b := d.Bedrock; b != nil {
		d.Bedrock = &Bedrock{Region: b.Region, Model: b.Model, SmallFastModel: b.SmallFastModel}
	}
	return d
}

// Row is a provider as the database holds it.
type Row struct {
	ID      uuid.UUID
	Name    string
	Type    Type
	BaseURL string
	Enabled bool
	Deleted bool
	// Settings count only where the type's hash needs them.
	Settings      secret.Text
	SettingsKeyID string
	// Decoded, when set, stands for Settings: the WAL source decodes them as they
	// pass by and keeps nothing else of them, and encrypted ones are decoded where
	// the row is loaded.
	Decoded *DecodedSettings
	// Hashes, when set, stand for those of the fields above: the mirror of the WAL source
	// knows the hashes also of a row whose base URL or region it does not keep.
	Hashes    *RowHashes
	UpdatedAt time.Time
	// Keys are the stored bearer keys; they are loaded only where they are
	// compared.
	Keys []StoredKey
}

// DecodedSettings is what the canonical hash needs of the settings column.
type DecodedSettings struct {
	// IsBedrock reports whether the settings are of "_type" bedrock, also where Err
	// says that the rest of them cannot be decoded.
	IsBedrock     bool
	BedrockRegion string
	Err           error // why the settings cannot be decoded, else nil
	// AccessKey and AccessKeySecret are set only where credentials are compared.
	AccessKey, AccessKeySecret secret.Text
	// HasModel and AssumesRole report whether Bedrock settings name a model, and an IAM
	// role. They are set only where credentials are.
	HasModel, AssumesRole bool
}

// DecodedWithCredentials returns the same with credentials, of what
// [DecodeSettings] returned.
func DecodedWithCredentials(bedrock *Bedrock, err error) *DecodedSettings {
	if bedrock == nil {
		return &DecodedSettings{IsBedrock: ofBedrock(err), Err: err}
	}
	return &DecodedSettings{
		IsBedrock: true, BedrockRegion: bedrock.Region, AccessKey: bedrock.AccessKey, AccessKeySecret: bedrock.AccessKeySecret,
		HasModel: bedrock.Model != "", AssumesRole: bedrock.AssumesRole,
	}
}

// ErrAPIKeyID is why an API key that nobody tried to decrypt cannot be compared.
var ErrAPIKeyID = errors.New("an API key is encrypted with a key that this worker does not have (api_key_key_id)")

// StoredKey is a row of ai_provider_keys.
type StoredKey struct {
	ID  uuid.UUID
	Key secret.Text
	// KeyID names the key that Key is encrypted with; empty for plain text.
	KeyID string
	// Err is why Key cannot be decrypted, nil if that was not tried.
	Err error
}

// DecodedSettings returns what the canonical hash needs of the row's settings.
func (r Row) DecodedSettings() DecodedSettings {
	switch {
	case !r.Type.HashNeedsSettings():
		return DecodedSettings{}
	case r.Decoded != nil:
		return *r.Decoded
	}
	return *DecodeRegion(r.Settings, r.SettingsKeyID)
}

// Canonical returns the canonical fields of the row by itself, as
// [CanonicalOfRow] does, or why its settings cannot be decoded.
func (r Row) Canonical() (Canonical, error) {
	decoded := r.DecodedSettings()
	if decoded.Err != nil {
		return Canonical{}, decoded.Err
	}
	return CanonicalOfRow(r.Type, r.BaseURL, decoded), nil
}

// Current picks, among all rows of one name, the one that stands for the
// provider: the live one, else the one soft-deleted last, else the one of the
// highest id. It returns nil when there is none.
func Current(rows []Row) *Row {
	var best *Row
	for i := range rows {
		if best == nil || rows[i].isBefore(best) {
			best = &rows[i]
		}
	}
	return best
}

// CurrentByName returns what [Current] picks among the rows of each name.
func CurrentByName(rows []Row) map[string]*Row {
	current := make(map[string]*Row, len(rows))
	for i := range rows {
		row := &rows[i]
		if best := current[row.Name]; best == nil || row.isBefore(best) {
			current[row.Name] = row
		}
	}
	return current
}

// isBefore reports whether the row stands for the provider rather than another one of the
// name: see [Current].
func (r *Row) isBefore(other *Row) bool {
	if r.Deleted != other.Deleted {
		return other.Deleted
	}
	if !r.UpdatedAt.Equal(other.UpdatedAt) {
		return r.UpdatedAt.After(other.UpdatedAt)
	}
	return bytes.Compare(r.ID[:], other.ID[:]) > 0
}
