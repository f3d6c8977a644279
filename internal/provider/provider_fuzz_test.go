package provider_test

import (
	"encoding/json"
	"errors"
	"io"
	"net/url"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"provwatch/internal/provider"
	"provwatch/internal/secret"
)

// mark is part of every secret of these targets.
const mark = "q7zleak"

var settingsErrors = []error{
	provider.ErrSettingsNotJSON, provider.ErrSettingsType, provider.ErrSettingsVersion, provider.ErrSettingsKeyID, provider.ErrSettingsBadShape,
}

// FuzzDecodeSettings decodes a settings column that anybody may have written, and
// compares with a decoder that reads member after member.
func FuzzDecodeSettings(f *testing.F) {
	for _, settings := range []string{
		"", "null", "{}", " {\n} ", `"` + mark + `"`, "[1]", "7", `{"_type":"bedrock","_version":1}`,
		`{"_type":"bedrock","_version":1,"region":"us-east-1","model":"m","small_fast_model":"s","access_key":"AK","access_key_secret":"` + mark + `"}`,
		`{"_version":1,"REGION":"a","region":"b","_type":"bedrock"}`, `{"_type":"bedrock","_version":1,"region":"a","region":null}`,
		`{"_type":"bedrock","_version":1,"region":"\ud800\u0000"}`, `{"_type":"bedrock","_version":1,"region":["` + mark + `"]}`,
		`{"_type":"bedrock","_version":1.0}`, `{"_type":"bedrock","_version":1e0}`, `{"_type":"bedrock","_version":"1"}`, `{"_type":"vertex"}`,
		`{"_type":"bedrock","_version":1,"acceſſ_key":"K"}`, `{"_type":"bedrock","_type":null,"_version":1}`, `{"_type":"bedrock","_version":1} ` + mark,
	} {
		f.Add(settings, "")
	}
	f.Add(mark, mark)
	f.Fuzz(func(t *testing.T, settings, keyID string) {
		decoded, err := provider.DecodeSettings(secret.New(settings), keyID)
		region := provider.DecodeRegion(secret.New(settings), keyID)
		require.Equal(t, err, region.Err)
		if err != nil {
			require.Nil(t, decoded)
			require.Contains(t, settingsErrors, err, "an error is one of those that hold nothing of the settings")
			require.Empty(t, region.BedrockRegion)
		}
		if keyID != "" {
			require.Equal(t, provider.ErrSettingsKeyID, err)
			return
		}
		want, errWant := decodeMembers(settings)
		require.Equal(t, errWant == nil, err == nil, "%v, %v", errWant, err)
		require.Equal(t, want == nil, decoded == nil)
		if decoded == nil {
			require.Empty(t, region.BedrockRegion)
			return
		}
		require.Equal(t, *want, plainBedrock(*decoded))
		require.Equal(t, decoded.Region, region.BedrockRegion)
		require.True(t, utf8.ValidString(region.BedrockRegion) && !strings.Contains(region.BedrockRegion, "\x00"), "PostgreSQL cannot store %q", region.BedrockRegion)
		// What was decoded is encoded to settings that are decoded to the same.
		again, err := provider.DecodeSettings(decoded.Encode(), "")
		require.NoError(t, err)
		require.Equal(t, plainBedrock(*decoded), plainBedrock(*again))
	})
}

// decodeMembers decodes settings with the rules of encoding/json, which the
// gateway uses: the last of several members counts, null leaves what was before
// it, and the case of names does not matter, but for those that begin with "_".
func decodeMembers(settings string) (*[5]string, error) {
	wrong := errors.New("wrong")
	if s := strings.Trim(settings, " \t\r\n\v\f\u0085\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000"); s == "" || s == "null" {
		return nil, nil
	} else {
		settings = s
	}
	d := json.NewDecoder(strings.NewReader(settings))
	if open, err := d.Token(); err != nil || open != json.Delim('{') {
		return nil, wrong
	}
	var b [5]string
	var kind, version string
	members, badShape := 0, false
	for d.More() {
		members++
		name, err := d.Token()
		if err != nil {
			return nil, wrong
		}
		var raw json.RawMessage
		if err := d.Decode(&raw); err != nil {
			return nil, wrong
		}
		text, isText := "", raw[0] == '"'
		if isText && json.Unmarshal(raw, &text) != nil {
			return nil, wrong
		}
		isNull := string(raw) == "null"
		for i, known := range []string{"region", "model", "small_fast_model", "access_key", "access_key_secret", "_type"} {
			switch {
			case !strings.EqualFold(name.(string), known) || isNull:
			case !isText:
				badShape = true
			case i < len(b):
				b[i] = text
			}
		}
		if strings.EqualFold(name.(string), "_version") && !isNull && string(raw) != "1" {
			// Of any other number it is not the version that is decoded here.
			var number int
			badShape = badShape || json.Unmarshal(raw, &number) != nil
		}
		switch name {
		case "_type":
			kind = text
		case "_version":
			version = string(raw)
		}
	}
	if _, err := d.Token(); err != nil {
		return nil, wrong
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, wrong
	}
	switch {
	case members == 0:
		return nil, nil
	case kind != "bedrock" || version != "1" || badShape || strings.Contains(b[0], "\x00"):
		return nil, wrong
	}
	return &b, nil
}

// FuzzEncodeSettings encodes any settings that the database can hold.
func FuzzEncodeSettings(f *testing.F) {
	f.Add("us-east-1", "m", "s", "AK", mark)
	f.Add("", "<&>\u2028", `"\`, "", "\x7f\u0085")
	f.Fuzz(func(t *testing.T, region, model, small, key, keySecret string) {
		for _, s := range []string{region, model, small, key, keySecret} {
			if !utf8.ValidString(s) || strings.Contains(s, "\x00") {
				t.Skip("the environment's parser refuses it")
			}
		}
		b := provider.Bedrock{Region: region, Model: model, SmallFastModel: small, AccessKey: secret.New(key), AccessKeySecret: secret.New(keySecret)}
		encoded := b.Encode().Reveal()
		require.True(t, json.Valid([]byte(encoded)))
		require.True(t, utf8.ValidString(encoded) && !strings.Contains(encoded, "\x00"), "PostgreSQL can store it")
		decoded, err := provider.DecodeSettings(b.Encode(), "")
		require.NoError(t, err)
		require.Equal(t, plainBedrock(b), plainBedrock(*decoded))
	})
}

// FuzzDisplayURL shows any text that a base URL can be.
func FuzzDisplayURL(f *testing.F) {
	for _, raw := range []string{
		"", "https://h/", "https://user:pw@h:8/p?q#f", "//u@h", "user:pw@h", "https:pw@h", "https:///pw", "https://u:p/w@h/", "https://h/a%40b", "http://[::1%25z]:8/",
		"https://h?", "https://h/%", "\xff", "https://\u00e9/\u00e9", "https://h/\u202e", "https://h\\@x/", "https://h/ a", "a://b//c@d",
		"https://h/a%40" + strings.Repeat("n", 2100), "https://h/" + strings.Repeat("%20", 2100), "https://h/" + strings.Repeat("\u00e9", 1100),
		"http://[::1%25" + strings.Repeat("z", 2100) + "]/", "https://h/" + strings.Repeat("n", 5000), "https://h/n… (cut, 9999 bytes in all)", "… (cut, 9999 bytes in all)", "(not a URL, withheld)… (cut, 9999 bytes in all)",
		"https://u:p@h/" + strings.Repeat("n", 2000) + "… (cut, 9999 bytes in all)",
	} {
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		shown := provider.DisplayURL(raw)
		require.Equal(t, raw == "", shown == "")
		if shown == "" || shown == "(not a URL, withheld)" {
			return
		}
		require.NotContains(t, shown, "@")
		require.NotContains(t, shown, "?")
		require.NotContains(t, shown, "#")
		kept, mark, cut := strings.Cut(shown, "… (cut, ")
		if cut {
			require.LessOrEqual(t, len(shown), provider.MaxShown)
			require.Regexp(t, `^[0-9]+ bytes in all\)$`, mark)
		}
		for i := range len(kept) {
			if kept[i] <= ' ' || kept[i] >= 0x7f {
				t.Fatalf("%q is shown as %q", raw, shown)
			}
		}
		if cut && raw == shown {
			return
		}
		// It is the same host and path.
		whole, err := url.Parse(raw)
		if err != nil {
			// Of a very long one the beginning alone is parsed.
			require.True(t, len(raw) > 2*provider.MaxShown && !strings.Contains(raw, "@"), "%q is shown as %q", raw, shown)
			return
		}
		u, err := url.Parse(kept)
		if strings.Contains(whole.Host, "%") {
			return // net/url writes zones that it does not read
		}
		require.NoError(t, err)
		require.Nil(t, u.User)
		require.NotEmpty(t, u.Host)
		require.Equal(t, shown, provider.DisplayURL(shown), "what is shown is shown as it is")
		if cut {
			require.True(t, strings.HasPrefix(whole.Host+whole.Path, u.Host+u.Path))
		} else {
			require.Equal(t, []string{whole.Host, whole.Path}, []string{u.Host, u.Path})
		}
	})
}

// FuzzDisplayURLOfParts shows URLs put together from parts, well and badly
// escaped: what is around host and path never shows.
func FuzzDisplayURLOfParts(f *testing.F) {
	f.Add("https", "user", "pw", "h:8", "/v1", "k=", "frag", true)
	f.Add("https", "", "a/b", "h", "/", "?", "#", false)
	f.Add("", "1", "@", "h", "//x@y", "", "", false)
	f.Fuzz(func(t *testing.T, scheme, user, password, host, path, query, fragment string, escape bool) {
		for _, s := range []string{scheme, host, path, user} {
			if strings.Contains(strings.ToLower(s), mark) {
				t.Skip("that is shown")
			}
		}
		var raw string
		if escape {
			raw = (&url.URL{
				Scheme: scheme, User: url.UserPassword(user, password+mark), Host: host, Path: path,
				RawQuery: query + mark, Fragment: fragment + mark,
			}).String()
		} else {
			raw = scheme + "://" + user + ":" + mark + password + "@" + host + path + "?" + mark + query + "#" + fragment + mark
		}
		shown := provider.DisplayURL(raw)
		require.NotContains(t, strings.ToLower(shown), mark, "%q", raw)
	})
}
