package provider_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"provwatch/internal/provider"
	"provwatch/internal/secret"
)

func TestMergeSettings(t *testing.T) {
	t.Parallel()
	t.Run("Members", testMergeSettingsMembers)
	t.Run("Undecodable", testMergeSettingsUndecodable)
	t.Run("AsGatewayReads", testMergeSettingsAsGatewayReads)
}

func testMergeSettingsMembers(t *testing.T) {
	t.Parallel()
	const gateway = `{"_type":"bedrock","_version":1,"access_key":"AKIAX","access_key_secret":"SS","external_id":"ext-1","model":"arn:profile-a",` +
		`"protocol":"invoke-model","region":"us-east-1","role_arn":"arn:aws:iam::123456789012:role/B","small_fast_model":"arn:profile-b"}`
	env := provider.Bedrock{Region: "eu-west-1", Model: "m", SmallFastModel: "s"}
	withPair := env
	withPair.AccessKey, withPair.AccessKeySecret = secret.New("AK"), secret.New("S<")
	for name, c := range map[string]struct {
		env          provider.Bedrock
		credentials  bool
		stored, want string // want is empty where nothing changes
	}{
		"the region alone is written":    {withPair, false, gateway, strings.Replace(gateway, "us-east-1", "eu-west-1", 1)},
		"an equal region is not written": {provider.Bedrock{Region: "us-east-1", Model: "m"}, true, gateway, ""},
		"credentials are written when asked for": {withPair, true, gateway,
			strings.NewReplacer("us-east-1", "eu-west-1", "AKIAX", "AK", `"SS"`, `"S\u003c"`).Replace(gateway)},
		"credentials that the environment lacks stay": {env, true, gateway, strings.Replace(gateway, "us-east-1", "eu-west-1", 1)},
		"a member that is not there is appended": {withPair, true, "{ \"_type\":\"bedrock\" ,\"_version\" : 1 , \"n\":1e400 \n}\n",
			"{ \"_type\":\"bedrock\" ,\"_version\" : 1 , \"n\":1e400,\"region\":\"eu-west-1\",\"access_key\":\"AK\",\"access_key_secret\":\"S\\u003c\" \n}\n"},
		"a name in another case is the gateway's member": {env, false, `{"_type":"bedrock","_version":1,"Region":"us-east-1","\u0052EGIONS":1.0}`,
			`{"_type":"bedrock","_version":1,"Region":"eu-west-1","\u0052EGIONS":1.0}`},
		"so is one that folds to it": {withPair, true, `{"_type":"bedrock","_version":1,"region":"eu-west-1","acceſs_Key":"old","access_key_secret":"S<"}`,
			`{"_type":"bedrock","_version":1,"region":"eu-west-1","acceſs_Key":"AK","access_key_secret":"S<"}`},
		"a member that is there twice is written where it differs": {env, false,
			`{"region":"us-east-1","_type":"bedrock","REGION":"eu-west-1","a":1,"_version":1,"a":2,"Region":"ap-east-1","region":null}`,
			`{"region":"eu-west-1","_type":"bedrock","REGION":"eu-west-1","a":1,"_version":1,"a":2,"Region":"eu-west-1","region":"eu-west-1"}`},
		"an earlier one that another overrides does not matter": {env, false,
			`{"region":"us-east-1","_type":"bedrock","_version":1,"region":"eu-west-1","region":null}`, ""},
		"the region is emptied, not removed": {provider.Bedrock{}, false, `{"_type":"bedrock","_version":1,"region":"us-east-1"}`, `{"_type":"bedrock","_version":1,"region":""}`},
		"no region is an empty one":          {provider.Bedrock{Model: "m"}, false, `{"_type":"bedrock","_version":1,"role_arn":"r"}`, ""},
		"members of other objects stay": {env, false, `{"a":{"region":"us-east-1"},"_type":"bedrock","_version":1,"b":["region"],"region":"us-east-1","c":"\"region\":\"x\""}`,
			`{"a":{"region":"us-east-1"},"_type":"bedrock","_version":1,"b":["region"],"region":"eu-west-1","c":"\"region\":\"x\""}`},
		"absent settings are made with the models": {withPair, false, "", env.Encode().Reveal()},
		"null is absent":                             {env, true, " null ", env.Encode().Reveal()},
		"an empty object is absent":                  {withPair, true, "{ }", withPair.Encode().Reveal()},
		"an escaped value that is equal is not news": {provider.Bedrock{Region: "<é>"}, false, `{"_type":"bedrock","_version":1,"region":"\u003c\u00e9\u003e"}`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			merged, changed, err := c.env.Merge([]byte(c.stored), c.credentials)
			require.NoError(t, err)
			require.Equal(t, c.want != "", changed)
			if !changed {
				c.want = c.stored
			}
			require.Equal(t, c.want, merged.Reveal())
		})
	}
}

func testMergeSettingsUndecodable(t *testing.T) {
	for _, stored := range []string{"q7zleak", `["q7zleak"]`, `{"_type":"upstream-headers","q7zleak":1}`, `{"_type":"bedrock","_version":2,"q7zleak":1}`, `{"a":1}`} {
		_, changed, err := provider.Bedrock{Region: "r"}.Merge([]byte(stored), true)
		require.Error(t, err)
		require.False(t, changed)
		require.NotContains(t, err.Error(), "q7zleak")
	}
}

func TestUnknownMembers(t *testing.T) {
	names, err := provider.UnknownMembers([]byte(`{"_type":"bedrock","_VERSION":1,"Region":"r","model":"m","small_fast_model":"s","ACCESS_KEY":"a",
		"access_key_secret":"b","role_arn":"r","region ":1,"role_arn":2,"":0}`))
	require.NoError(t, err)
	require.Equal(t, []string{"role_arn", "region ", ""}, names)
}

// testMergeSettingsAsGatewayReads checks merged settings with
// encoding/json, which the gateway reads them with.
func testMergeSettingsAsGatewayReads(t *testing.T) {
	type member struct{ name, raw string }
	read := func(t *rapid.T, text string) (known map[string]string, others []member) {
		known = map[string]string{}
		// The members one by one, in their order: a map would lose members
		// that are there more than once.
		decoder := json.NewDecoder(strings.NewReader(text))
		_, err := decoder.Token()
		require.NoError(t, err)
		for decoder.More() {
			name, err := decoder.Token()
			require.NoError(t, err)
			var raw json.RawMessage
			require.NoError(t, decoder.Decode(&raw))
			one, err := json.Marshal(map[string]json.RawMessage{name.(string): raw})
			require.NoError(t, err)
			ours := struct {
				Region *string `json:"region"`
				Key    *string `json:"access_key"`
				Secret *string `json:"access_key_secret"`
			}{}
			blank := ours
			_ = json.Unmarshal(one, &ours)
			for name, value := range map[string]*string{"region": ours.Region, "key": ours.Key, "secret": ours.Secret} {
				if value != nil {
					known[name] = *value
				}
			}
			if ours == blank && string(raw) != "null" {
				others = append(others, member{name.(string), string(raw)})
			}
		}
		return known, others
	}
	rapid.Check(t, func(t *rapid.T) {
		members := []string{`"_type":"bedrock"`, `"_version":1`}
		for range rapid.IntRange(0, 6).Draw(t, "members") {
			name := rapid.OneOf(rapid.SampledFrom([]string{"region", "Region", "access_key", "ACCESS_KEY", "access_key_secret", "model", "role_arn"}), text()).Draw(t, "name")
			encoded, err := json.Marshal(name)
			require.NoError(t, err)
			value := rapid.SampledFrom([]string{`"a"`, `""`, `"b"`, `"\u0061"`}).Draw(t, "value")
			if !strings.EqualFold(name, "region") && !strings.HasPrefix(strings.ToLower(name), "access_key") && !strings.Contains(strings.ToLower(name), "model") &&
				!strings.HasPrefix(strings.ToLower(name), "_") {
				value = rapid.SampledFrom([]string{`1.0`, `1e400`, `[ 1,{ "region":"a"} ]`, `"\ud83d\ude00"`, `12345678901234567890123`, `false`}).Draw(t, "other value")
			}
			members = append(members, fmt.Sprintf("%s:%s", encoded, value))
		}
		stored := "{" + strings.Join(rapid.Permutation(members).Draw(t, "order"), rapid.SampledFrom([]string{",", " ,\n"}).Draw(t, "comma")) + "}"
		b := provider.Bedrock{
			Region: rapid.SampledFrom([]string{"", "a", "c"}).Draw(t, "region"), Model: "another",
			AccessKey: secret.New(rapid.SampledFrom([]string{"", "a", "c"}).Draw(t, "key")), AccessKeySecret: secret.New("a"),
		}
		if _, err := provider.ParseSettings([]byte(stored)); err != nil {
			t.Skip("not to be decoded")
		}
		credentials := rapid.Bool().Draw(t, "credentials")
		merged, changed, err := b.Merge([]byte(stored), credentials)
		require.NoError(t, err)
		before, othersBefore := read(t, stored)
		after, othersAfter := read(t, merged.Reveal())
		require.Equal(t, othersBefore, othersAfter)
		require.Equal(t, b.Region, after["region"])
		if !credentials || b.AccessKey.IsZero() {
			require.Equal(t, before["key"], after["key"])
		} else {
			require.Equal(t, b.AccessKey.Reveal(), after["key"])
		}
		if credentials {
			require.Equal(t, "a", after["secret"])
		} else {
			require.Equal(t, before["secret"], after["secret"])
		}
		require.Equal(t, changed, merged.Reveal() != stored)
		_, changed, err = b.Merge([]byte(merged.Reveal()), credentials)
		require.NoError(t, err)
		require.False(t, changed, "there is nothing left to write")
	})
}
