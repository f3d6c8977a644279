package drift

import (
	"fmt"
	"strings"

	"provwatch/internal/provider"
)

// CredentialMode is how credentials count that differ.
type CredentialMode string

// The modes of --credential-drift.
const (
	IgnoreCredentials CredentialMode = "ignore" // do not compare them
	WarnCredentials   CredentialMode = "warn"   // log it, once for each difference
	AlertCredentials  CredentialMode = "alert"  // it is a drift of kind changed
)

// RequireCredentials is the mode of a boot at which the credentials of a live row must be
// those of the environment, in any order (--compat=upstream-credentials). Credentials that
// differ are a drift. No acceptance holds for such a drift, since nothing is stored of
// credentials that it could be tied to. Credentials that cannot be decrypted make the row
// not comparable.
const RequireCredentials CredentialMode = "require"

// Compares reports whether credentials are compared.
func (m CredentialMode) Compares() bool { return m != IgnoreCredentials }

// Judged returns of an observation what is judged. With [WarnCredentials] that is
// everything but the credentials.
func (m CredentialMode) Judged(o Observation) Observation {
	if m == WarnCredentials {
		return o.WithoutCredentials()
	}
	return o
}

// compareCredentials compares the row's credentials, or sets why they cannot be compared.
func (o *Observation) compareCredentials(desired provider.Desired, row *provider.Row) {
	if o.UnreadableCredentials = unreadableKey(row.Keys); o.UnreadableCredentials != nil {
		return
	}
	differing := credentialFields(desired, row)
	o.Credentials = summary(differing)
	o.Fields = append(o.Fields, differing...)
}

// unreadableKey returns why one of the keys cannot be compared, nil if all can.
func unreadableKey(keys []provider.StoredKey) error {
	for _, key := range keys {
		switch {
		case key.Err != nil:
			return key.Err
		case key.KeyID != "":
			return provider.ErrAPIKeyID
		}
	}
	return nil
}

// credentialFields compares the key sets, regardless of order, and the Bedrock pair. All
// of them can be read. The fields hold counts only, never a key or the hash of one.
func credentialFields(desired provider.Desired, row *provider.Row) []Field {
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
			Name: APIKeysField,
			Env:  fmt.Sprintf("%d, of these %d not in the database", len(inEnv), onlyEnv),
			DB:   fmt.Sprintf("%d, of these %d not in the environment", len(inDB), onlyDB),
		})
	}

	var want provider.Bedrock
	if desired.Bedrock != nil {
		want = *desired.Bedrock
	}
	have := row.SettingsWithCredentials()
	differ := count(!want.AccessKey.Equal(have.AccessKey), !want.AccessKeySecret.Equal(have.AccessKeySecret))
	if differ > 0 {
		fields = append(fields, Field{
			Name: BedrockCredentialsField,
			Env:  fmt.Sprintf("%d of 2 set", count(!want.AccessKey.IsZero(), !want.AccessKeySecret.IsZero())),
			DB:   fmt.Sprintf("%d of 2 set, %d of 2 differ", count(!have.AccessKey.IsZero(), !have.AccessKeySecret.IsZero()), differ),
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

// count returns how many of the conditions are true.
func count(conditions ...bool) int {
	n := 0
	for _, is := range conditions {
		if is {
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
