package provider

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"provwatch/internal/secret"
)

// Bedrock is what the settings column of an Amazon Bedrock provider holds.
type Bedrock struct {
	Region          string
	Model           string
	SmallFastModel  string
	AccessKey       secret.Text
	AccessKeySecret secret.Text
	// AssumesRole reports whether stored settings name an IAM role, which provwatch
	// neither compares nor writes.
	AssumesRole bool
}

// HasCredentials reports whether there is an access key or a secret; nil has none.
func (b *Bedrock) HasCredentials() bool {
	return b != nil && !(b.AccessKey.IsZero() && b.AccessKeySecret.IsZero())
}

// The discriminators of the settings JSON (docs/specification.md, section 3).
const (
	bedrockSettingsType    = "bedrock"
	bedrockSettingsVersion = 1
)

// bedrockSettings is the stored form of [Bedrock] as it is encoded. It alone
// holds the secrets as plain strings, and never leaves this file.
type bedrockSettings struct {
	Type            string `json:"_type"`
	Version         int    `json:"_version"`
	Region          string `json:"region"`
	Model           string `json:"model"`
	SmallFastModel  string `json:"small_fast_model"`
	AccessKey       string `json:"access_key,omitempty"`
	AccessKeySecret string `json:"access_key_secret,omitempty"`
}

// storedSettings is the same as it is decoded.
type storedSettings struct {
	Type            string     `json:"_type"`
	Version         int        `json:"_version"`
	Region          string     `json:"region"`
	Model           string     `json:"model"`
	SmallFastModel  string     `json:"small_fast_model"`
	AccessKey       credential `json:"access_key"`
	AccessKeySecret credential `json:"access_key_secret"`
	// RoleARN is the gateway's, in whatever form.
	RoleARN json.RawMessage `json:"role_arn"`
}

func (s *storedSettings) assumesRole() bool {
	var arn string
	return json.Unmarshal(s.RoleARN, &arn) == nil && arn != ""
}

// credential is a JSON string that is not decoded unless it is needed: unlike a
// Go string it can be cleared.
type credential struct{ quoted []byte }

// UnmarshalJSON takes what would unmarshal into a string, and a null for none.
func (c *credential) UnmarshalJSON(quoted []byte) error {
	switch {
	case bytes.Equal(quoted, []byte("null")):
		return nil
	case quoted[0] != '"':
		return ErrSettingsBadShape
	}
	clear(c.quoted)
	c.quoted = bytes.Clone(quoted)
	return nil
}

// take decodes the credential and clears it.
func (c *credential) take() (text secret.Text) {
	if len(c.quoted) > 0 {
		var plain string
		// It was found to be valid when it was taken.
		_ = json.Unmarshal(c.quoted, &plain)
		text = secret.New(plain)
	}
	c.clear()
	return text
}

func (c *credential) clear() { clear(c.quoted) }

// Encode returns the JSON to be stored in the settings column. The result
// holds the plain credentials, which is why it is a secret.
func (b Bedrock) Encode() secret.Text {
	encoded, err := json.Marshal(bedrockSettings{
		Type:            bedrockSettingsType,
		Version:         bedrockSettingsVersion,
		Region:          b.Region,
		Model:           b.Model,
		SmallFastModel:  b.SmallFastModel,
		AccessKey:       b.AccessKey.Reveal(),
		AccessKeySecret: b.AccessKeySecret.Reveal(),
	})
	if err != nil {
		panic("provider: a struct of strings always marshals: " + err.Error())
	}
	return secret.New(string(encoded))
}

// Reasons for which settings cannot be decoded. They carry nothing of the
// settings' text, since that can hold a secret.
var (
	ErrSettingsNotJSON  = errors.New("settings are not a JSON object")
	ErrSettingsType     = errors.New(`settings have an unknown "_type"`)
	ErrSettingsVersion  = errors.New(`settings have an unknown "_version"`)
	ErrSettingsKeyID    = errors.New("settings are encrypted with a key that this worker does not have (settings_key_id)")
	ErrSettingsBadShape = errors.New("settings have a field that is not as it should be")
)

// DecodeSettings decodes the settings column. Absent settings (NULL, empty,
// JSON null or an empty object) give nil: the provider is not a Bedrock one.
// Anything else that is not Bedrock settings of version 1 in plain text is an
// error, one of the Err… values above, so that such a row is never taken for
// equal to the environment.
func DecodeSettings(settings secret.Text, keyID string) (*Bedrock, error) {
	if keyID != "" {
		return nil, ErrSettingsKeyID
	}
	return ParseSettings([]byte(settings.Reveal()))
}

// ParseSettings is [DecodeSettings] of settings that were decrypted. It does not
// keep the text, which the caller can clear.
func ParseSettings(text []byte) (*Bedrock, error) {
	stored, err := parseSettings(text)
	if stored == nil {
		return nil, err
	}
	return &Bedrock{
		Region:          stored.Region,
		Model:           stored.Model,
		SmallFastModel:  stored.SmallFastModel,
		AccessKey:       stored.AccessKey.take(),
		AccessKeySecret: stored.AccessKeySecret.take(),
		AssumesRole:     stored.assumesRole(),
	}, nil
}

func parseSettings(text []byte) (*storedSettings, error) {
	text = bytes.TrimSpace(text)
	if len(text) == 0 || bytes.Equal(text, []byte("null")) {
		return nil, nil
	}
	var members map[string]json.RawMessage
	defer func() {
		for _, member := range members {
			clear(member)
		}
	}()
	if json.Unmarshal(text, &members) != nil {
		return nil, ErrSettingsNotJSON
	}
	if len(members) == 0 {
		return nil, nil
	}
	// The discriminators come first: of another type or version nothing else
	// is known, not even that its fields have the types expected here.
	var kind string
	if json.Unmarshal(members["_type"], &kind) != nil || kind != bedrockSettingsType {
		return nil, ErrSettingsType
	}
	var version json.Number
	if json.Unmarshal(members["_version"], &version) != nil || version.String() != fmt.Sprint(bedrockSettingsVersion) {
		return nil, ErrSettingsVersion
	}
	var stored storedSettings
	// A region with a NUL can be written in JSON, and neither in jsonb nor in text.
	if json.Unmarshal(text, &stored) != nil || strings.ContainsRune(stored.Region, 0) {
		stored.AccessKey.clear()
		stored.AccessKeySecret.clear()
		return nil, ErrSettingsBadShape
	}
	return &stored, nil
}

// DecodeRegion decodes the settings column and keeps only what the canonical
// hash needs of it.
func DecodeRegion(settings secret.Text, keyID string) *DecodedSettings {
	if keyID != "" {
		return &DecodedSettings{Err: ErrSettingsKeyID}
	}
	return ParseRegion([]byte(settings.Reveal()))
}

// ParseRegion is [DecodeRegion] of settings that were decrypted. It does not
// keep the text, which the caller can clear, and copies no credential of it into
// a string.
func ParseRegion(text []byte) *DecodedSettings {
	stored, err := parseSettings(text)
	switch {
	case err != nil:
		return &DecodedSettings{IsBedrock: ofBedrock(err), Err: err}
	case stored == nil:
		return &DecodedSettings{}
	default:
		stored.AccessKey.clear()
		stored.AccessKeySecret.clear()
		return &DecodedSettings{IsBedrock: true, BedrockRegion: stored.Region}
	}
}

// ofBedrock reports whether settings that cannot be decoded are of "_type"
// bedrock all the same.
func ofBedrock(err error) bool {
	return errors.Is(err, ErrSettingsVersion) || errors.Is(err, ErrSettingsBadShape)
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
