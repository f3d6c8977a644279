package provider

import (
	"errors"

	"provwatch/internal/secret"
)

// ErrAPIKeyID is why an API key that nobody tried to decrypt cannot be compared.
var ErrAPIKeyID = errors.New("an API key is encrypted with a key that this worker does not have (api_key_key_id)")

// CredentialDigest returns a digest of all credentials of the provider: of the
// set of its keys, and of its Bedrock pair. It is equal to that of a row, made by
// the same digester, exactly when a comparison finds no difference of credentials.
// Unlike the canonical hash it is of use only in memory and to this process.
func (d Desired) CredentialDigest(by secret.Digester) secret.Text {
	var bedrock Bedrock
	if d.Bedrock != nil {
		bedrock = *d.Bedrock
	}
	return credentialDigest(by, d.Keys, bedrock)
}

// CredentialDigest is [Desired.CredentialDigest] of the row, whose Keys must be
// loaded. The error is why it cannot be made: settings that cannot be decoded, or
// a key that cannot be decrypted.
func (r Row) CredentialDigest(by secret.Digester) (secret.Text, error) {
	bedrock, err := r.bedrock()
	if err != nil {
		return secret.Text{}, err
	}
	if err := r.unreadableKey(); err != nil {
		return secret.Text{}, err
	}
	keys := make([]secret.Text, len(r.Keys))
	for i, key := range r.Keys {
		keys[i] = key.Key
	}
	return credentialDigest(by, keys, bedrock), nil
}

func credentialDigest(by secret.Digester, keys []secret.Text, bedrock Bedrock) secret.Text {
	return by.OfList(by.OfSet(keys), bedrock.AccessKey, bedrock.AccessKeySecret)
}

// bedrock returns the Bedrock settings that the row holds, as far as they were
// decoded; empty ones if there are none, or if its type has none.
func (r Row) bedrock() (Bedrock, error) {
	if !r.Type.HashNeedsSettings() {
		return Bedrock{}, nil
	}
	if d := r.Decoded; d != nil {
		return Bedrock{Region: d.BedrockRegion, AccessKey: d.AccessKey, AccessKeySecret: d.AccessKeySecret}, d.Err
	}
	stored, err := DecodeSettings(r.Settings, r.SettingsKeyID)
	if stored == nil {
		return Bedrock{}, err
	}
	return *stored, nil
}

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
