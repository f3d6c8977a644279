package verify

import (
	"provwatch/internal/dbcrypt"
	"provwatch/internal/provider"
	"provwatch/internal/secret"
)

// secrets is what a verifier needs to compare credentials without keeping any:
// it compares digests of them, made with a key that only this process has.
type secrets struct {
	keys   *dbcrypt.Ring // nil: what is encrypted cannot be decoded
	digest secret.Digester
}

func newSecrets() secrets { return secrets{digest: secret.NewDigester()} }

// Decrypt makes the verifier decode encrypted rows with the keys given. It is to
// be called before the first verification.
func (v *Verifier) Decrypt(keys *dbcrypt.Ring) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.secrets.keys = keys
}

// compared returns of a desired provider what is compared, and no credential.
func (v *Verifier) compared(desired provider.Desired) provider.Desired {
	compared := desired.WithoutCredentials()
	if !v.credentials.Compares() {
		return compared
	}
	for _, key := range desired.Keys {
		compared.Keys = append(compared.Keys, v.secrets.digest.Of(key))
	}
	if b := desired.Bedrock; b != nil {
		compared.Bedrock.AccessKey, compared.Bedrock.AccessKeySecret = v.secrets.digest.Of(b.AccessKey), v.secrets.digest.Of(b.AccessKeySecret)
	}
	return compared
}

// digestOf decodes a row and puts digests in place of its credentials.
func (s secrets) digestOf(row *provider.Row) {
	if !row.Type.HashNeedsSettings() {
		row.Decoded = &provider.DecodedSettings{}
	} else if row.Decoded == nil {
		row.Decoded = provider.DecodedWithCredentials(provider.DecodeSettings(row.Settings, row.SettingsKeyID))
	}
	row.Decoded.AccessKey, row.Decoded.AccessKeySecret = s.digest.Of(row.Decoded.AccessKey), s.digest.Of(row.Decoded.AccessKeySecret)
	for i := range row.Keys {
		if row.Keys[i].KeyID == "" {
			row.Keys[i].Key = s.digest.Of(row.Keys[i].Key)
		}
	}
}
