package drift_test

import (
	"encoding/json"
	"net/url"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"provwatch/internal/drift"
	"provwatch/internal/provider"
	"provwatch/internal/secret"
)

// mark is part of every secret of the target.
const mark = "q7zleak"

// FuzzCompare compares a row that anybody may have written with an environment:
// what differs is told without a secret of either side.
func FuzzCompare(f *testing.F) {
	f.Add("openai", "https://h/", `{"_type":"bedrock","_version":1,"region":"eu-west-1"}`, "", "k", "https://h/", "us-east-1", true, false, true)
	f.Add("anthropic", "", "", "", "", "", "", true, false, false)
	f.Add("x\xff", "https://u:p@h/?q", "broken", "k", "", "https://u:p@h/?q", "", false, true, true)
	f.Fuzz(func(t *testing.T, kind, baseURL, settings, keyID, key, envURL, envRegion string, enabled, deleted, credentials bool) {
		for _, s := range []string{kind, baseURL, settings, envURL, envRegion} {
			if strings.Contains(strings.ToLower(s), mark) {
				t.Skip("that can be shown")
			}
		}
		desired := provider.Desired{
			Name: "a", Type: provider.Anthropic, BaseURL: envURL, Keys: []secret.Text{secret.New(mark + key)},
			Bedrock: &provider.Bedrock{Region: envRegion, AccessKey: secret.New(mark), AccessKeySecret: secret.New(mark + "2")},
		}
		row := &provider.Row{
			ID: uuid.UUID{1}, Name: "a", Type: provider.Type(kind), BaseURL: baseURL, Enabled: enabled, Deleted: deleted,
			Settings: secret.New(settings), SettingsKeyID: keyID,
			Keys: []provider.StoredKey{{Key: secret.New(key + mark), KeyID: keyID}},
		}
		// The credentials of the row are secret as well.
		var members map[string]any
		if json.Unmarshal([]byte(settings), &members) == nil && members != nil {
			members["access_key"], members["access_key_secret"] = mark, mark
			encoded, err := json.Marshal(members)
			require.NoError(t, err)
			row.Settings = secret.New(string(encoded))
		}
		for _, u := range []*string{&desired.BaseURL, &row.BaseURL} {
			if parsed, err := url.Parse(*u); err == nil && parsed.Host != "" {
				parsed.User, parsed.RawQuery, parsed.Fragment = url.UserPassword("u", mark), mark, mark
				*u = parsed.String()
			}
		}

		o := drift.Compare(hasher, desired, row, credentials)
		encoded, err := json.Marshal(o.Fields)
		require.NoError(t, err)
		require.NotContains(t, strings.ToLower(string(encoded)+o.Credentials), mark)
		require.True(t, utf8.Valid(encoded))

		_, err = row.Canonical()
		require.Equal(t, err, o.Unreadable)
		require.Equal(t, err != nil, o.DBHash == "")
		require.Equal(t, o.EnvHash != o.DBHash, o.HashDiffers())
		same := o.EnvHash == o.DBHash
		require.Equal(t, same && enabled && !deleted, drift.IsInSync(desired, row))
		switch {
		case deleted:
			require.Equal(t, drift.Deleted, o.Kind)
		case o.Unreadable != nil:
			require.Equal(t, drift.NotComparable, o.Kind)
		case !enabled:
			require.Equal(t, drift.Disabled, o.Kind)
		case same && o.UnreadableCredentials != nil:
			require.Equal(t, drift.NotComparable, o.Kind)
		case same && o.Credentials == "":
			require.Equal(t, drift.InSync, o.Kind)
		default:
			require.Equal(t, drift.Changed, o.Kind)
		}
		require.Equal(t, o.Kind == drift.InSync, len(o.Fields) == 0)
		without := o.WithoutCredentials()
		require.Empty(t, without.Credentials)
		require.Equal(t, drift.Compare(hasher, desired, row, false), without, "as if they had not been compared")
	})
}
