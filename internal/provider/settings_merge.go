package provider

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"provwatch/internal/secret"
)

// The members of stored settings that provwatch knows. The gateway stores others
// beside them, which stay unchanged.
const (
	memberType            = "_type"
	memberVersion         = "_version"
	memberRegion          = "region"
	memberModel           = "model"
	memberSmallFastModel  = "small_fast_model"
	memberAccessKey       = "access_key"
	memberAccessKeySecret = "access_key_secret"
)

var knownMembers = []string{
	memberType, memberVersion, memberRegion, memberModel, memberSmallFastModel, memberAccessKey, memberAccessKeySecret,
}

// knownMember returns the known member that a name stands for, empty for none.
// The gateway decodes settings with encoding/json, which takes a name for a
// member's in any case.
func knownMember(name string) string {
	for _, known := range knownMembers {
		if strings.EqualFold(name, known) {
			return known
		}
	}
	return ""
}

// Merge returns stored settings, in plain text, with the region of b in the place
// of theirs and, with credentials set, the credentials that b has. Every other
// member stays unchanged, byte for byte and in its place; so do the models, which
// the gateway's administrators set. Absent settings become what b encodes to, with
// the models, and with the credentials only if asked for.
//
// It reports false, with the settings unchanged, when nothing differs. The errors
// are those of [DecodeSettings].
func (b Bedrock) Merge(stored []byte, credentials bool) (merged secret.Text, changed bool, err error) {
	have, err := ParseSettings(stored)
	if err != nil {
		return secret.Text{}, false, err
	}
	if have == nil {
		if !credentials {
			b.AccessKey, b.AccessKeySecret = secret.Text{}, secret.Text{}
		}
		return b.Encode(), true, nil
	}
	values := map[string]string{}
	if b.Region != have.Region {
		values[memberRegion] = b.Region
	}
	if credentials {
		if !b.AccessKey.IsZero() && !b.AccessKey.Equal(have.AccessKey) {
			values[memberAccessKey] = b.AccessKey.Reveal()
		}
		if !b.AccessKeySecret.IsZero() && !b.AccessKeySecret.Equal(have.AccessKeySecret) {
			values[memberAccessKeySecret] = b.AccessKeySecret.Reveal()
		}
	}
	if len(values) == 0 {
		return secret.New(string(stored)), false, nil
	}
	text, err := setMembers(stored, values)
	return secret.New(text), true, err
}

// UnknownMembers returns the names of the members of stored settings that
// provwatch does not know, each once, in their order.
func UnknownMembers(stored []byte) (names []string, err error) {
	err = eachMember(stored, func(name string, _ []byte, _ int) {
		if knownMember(name) == "" && !slices.Contains(names, name) {
			names = append(names, name)
		}
	})
	return names, err
}

// setMembers sets string members of a JSON object that has at least one member,
// and leaves the rest of its text unchanged. A repeated member gets the value in
// each place that has another one, so that a reader finds it whichever place it
// reads. A missing member is appended.
func setMembers(object []byte, values map[string]string) (string, error) {
	var out bytes.Buffer
	copied := 0 // up to here of object
	present := map[string]bool{}
	err := eachMember(object, func(name string, raw []byte, end int) {
		member := knownMember(name)
		if value, set := values[member]; set {
			present[member] = true
			if old := (*string)(nil); json.Unmarshal(raw, &old) != nil || old == nil || *old != value {
				out.Write(object[copied : end-len(raw)])
				out.Write(quoted(value))
				copied = end
			}
		}
		// What is appended goes after the last member.
		out.Write(object[copied:end])
		copied = end
	})
	if err != nil {
		return "", err
	}
	for _, member := range knownMembers {
		if value, set := values[member]; set && !present[member] {
			fmt.Fprintf(&out, ",%s:%s", quoted(member), quoted(value))
		}
	}
	out.Write(object[copied:])
	return out.String(), nil
}

func quoted(text string) []byte {
	encoded, err := json.Marshal(text)
	if err != nil {
		panic("provider: a string always marshals: " + err.Error())
	}
	return encoded
}

// eachMember visits the members of a JSON object in the order of its text: the
// name, the text of the value, and where in the object that text ends.
func eachMember(object []byte, visit func(name string, raw []byte, end int)) error {
	decoder := json.NewDecoder(bytes.NewReader(object))
	if opening, err := decoder.Token(); err != nil || opening != json.Delim('{') {
		return ErrSettingsNotJSON
	}
	for decoder.More() {
		name, err := decoder.Token()
		if err != nil {
			return ErrSettingsNotJSON
		}
		var raw json.RawMessage
		if decoder.Decode(&raw) != nil {
			return ErrSettingsNotJSON
		}
		visit(name.(string), raw, int(decoder.InputOffset()))
	}
	return nil
}
