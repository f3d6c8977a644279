package soak

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

// The kinds of drift, and what ends one (docs of the worker, "What counts as a
// drift").
const (
	inSync   = "in_sync"
	missing  = "missing"
	deleted  = "deleted"
	disabled = "disabled"
	changed  = "changed"
	resolved = "resolved"
)

// wanted is a provider as the environment names it.
type wanted struct {
	name, kind, baseURL, region string
	keys                        []string
	accessKey, accessKeySecret  string // of a Bedrock provider
	late                        bool   // joins the environment during the run
}

// environment names the providers of every run. Writers share them out by
// group, and the late ones belong to the last.
func environment() (groups [][]wanted) {
	key := func(name string, n int) string { return fmt.Sprintf("sk-soak-%s-0123456789-secret-%04d", name, n) }
	bearer := func(name, kind, url string, keys int) wanted {
		w := wanted{name: name, kind: kind, baseURL: url}
		for n := range keys {
			w.keys = append(w.keys, key(name, n))
		}
		return w
	}
	bedrock := func(name, region string) wanted {
		return wanted{
			name: name, kind: "anthropic", region: region,
			accessKey: "AKIASOAK" + strings.ToUpper(name), accessKeySecret: "aws-secret-of-" + name + "-0123456789",
		}
	}
	groups = [][]wanted{
		{bearer("alpha", "openai", "https://alpha.example/v1/", 1), bearer("beta", "anthropic", "https://beta.example/?a=1&b=<2>", 2), bedrock("gamma", "us-east-1")},
		{bearer("delta", "openai", "", 3), bearer("epsilon", "anthropic", "https://epsilon.example/", 1), bedrock("zeta", "eu-west-1")},
		{bearer("eta", "openai", "https://eta.example/v1/", 1), bearer("theta", "openai", "https://theta.example/v1/", 5), bedrock("iota", "ap-south-1")},
		{bearer("late-0", "openai", "https://late.example/0", 1), bearer("late-1", "anthropic", "https://late.example/1", 2)},
	}
	for i := range groups[3] {
		groups[3][i].late = true
	}
	return groups
}

func (w wanted) isBedrock() bool { return w.region != "" || w.accessKey != "" }

func (w wanted) hash() string { return canonicalHash(w.kind, w.baseURL, w.region) }

// hashKey is the key that each world gives provwatch for its digests.
const hashKey = "made-up-key-of-the-soak-32-bytes"

// canonicalHash is that of the specification, section 2, or of a base URL that can hold
// credentials the digest in its place.
func canonicalHash(kind, baseURL, region string) string {
	text, err := json.Marshal(struct {
		Type    string `json:"type"`
		BaseURL string `json:"base_url"`
		Region  string `json:"bedrock_region"`
	}{kind, baseURL, region})
	if err != nil {
		panic(err)
	}
	if strings.ContainsAny(baseURL, "@?#") {
		mac := hmac.New(sha256.New, []byte(hashKey))
		mac.Write(text)
		return "hmac:" + hex.EncodeToString(mac.Sum(nil))
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// row is a row of ai_providers.
type row struct {
	id, name, kind, baseURL string
	settings, settingsKeyID string
	enabled, deleted        bool
	updatedAt               time.Time
}

// with returns the row after an INSERT or UPDATE: what did not travel is as it
// was.
func (r row) with(t tuple) (row, error) {
	set := func(into *string, column string) {
		if v := t[column]; !v.unchanged {
			*into = v.text
		}
	}
	set(&r.id, "id")
	set(&r.name, "name")
	set(&r.kind, "type")
	set(&r.baseURL, "base_url")
	set(&r.settings, "settings")
	set(&r.settingsKeyID, "settings_key_id")
	r.enabled, r.deleted = t.text("enabled") == "true", t.text("deleted") == "true"
	var err error
	r.updatedAt, err = time.Parse("2006-01-02 15:04:05.999999-07", t.text("updated_at"))
	return r, err
}

// ofBedrock reports whether the settings say that they are a Bedrock provider's, also
// where they cannot be decoded.
func (r row) ofBedrock() bool {
	var s struct {
		Type string `json:"_type"`
	}
	return r.settingsKeyID == "" && json.Unmarshal([]byte(r.settings), &s) == nil && s.Type == "bedrock"
}

// comparedType is the type of the row as section 2 of the specification compares
// it: the types of two Bedrock sides are equal, and they differ where one side
// alone is Bedrock.
func (r row) comparedType(w wanted) string {
	isBedrock := r.kind == "bedrock" || r.kind == "anthropic" && r.ofBedrock()
	switch {
	case isBedrock && w.isBedrock():
		return w.kind
	case isBedrock:
		return "bedrock"
	case w.isBedrock() && r.kind == w.kind:
		return "anthropic (not Bedrock)"
	default:
		return r.kind
	}
}

// region decodes the settings; ok is false where they cannot be. Those of other types
// are not looked at.
func (r row) region() (region string, ok bool) {
	if r.kind != "anthropic" && r.kind != "bedrock" {
		return "", true
	}
	if r.settingsKeyID != "" {
		return "", false
	}
	text := strings.TrimSpace(r.settings)
	if text == "" || text == "null" {
		return "", true
	}
	var s struct {
		Type    *string `json:"_type"`
		Version *int    `json:"_version"`
		Region  string  `json:"region"`
	}
	if json.Unmarshal([]byte(text), &s) != nil {
		return "", false
	}
	if s.Type == nil && s.Version == nil {
		return "", text == "{}"
	}
	return s.Region, s.Type != nil && *s.Type == "bedrock" && s.Version != nil && *s.Version == 1
}

// state is how a provider stands.
type state struct {
	kind   string
	hash   string // of the row; empty without one, or if it cannot be decoded
	id     string // of the row; empty without one
	fields []string
}

func (s state) String() string {
	if s.hash == "" {
		return s.kind
	}
	return s.kind + " " + s.hash[:6]
}

// compare says how a provider stands, given all rows of its name: a live one
// stands for it, else the one that was soft-deleted last.
func compare(w wanted, rows []row) state {
	if len(rows) == 0 {
		return state{kind: missing}
	}
	r := slices.MaxFunc(rows, func(a, b row) int {
		if a.deleted != b.deleted {
			if b.deleted {
				return 1
			}
			return -1
		}
		if c := a.updatedAt.Compare(b.updatedAt); c != 0 {
			return c
		}
		return strings.Compare(a.id, b.id)
	})
	s := state{kind: inSync, id: r.id}
	switch {
	case r.deleted:
		s.kind, s.fields = deleted, append(s.fields, "deleted")
	case !r.enabled:
		s.kind, s.fields = disabled, append(s.fields, "enabled")
	}
	region, ok := r.region()
	kind := r.comparedType(w)
	if ok {
		s.hash = canonicalHash(kind, r.baseURL, region)
	} else {
		s.fields = append(s.fields, "settings")
		if w.isBedrock() && r.kind == "anthropic" {
			kind = w.kind // the settings would say whether it is a Bedrock row
		}
	}
	if kind != w.kind {
		s.fields = append(s.fields, "type")
	}
	if r.baseURL != w.baseURL {
		s.fields = append(s.fields, "base_url")
	}
	if ok && region != w.region {
		s.fields = append(s.fields, "bedrock_region")
	}
	if s.kind == inSync && len(s.fields) > 0 {
		s.kind = changed
	}
	return s
}

// sameDrift says whether going from one state to the other is no drift of its
// own: of a provider that is gone the values do not matter.
func sameDrift(a, b state) bool {
	if a.kind != b.kind {
		return false
	}
	return a.kind == inSync || a.kind == missing || a.kind == deleted || a.hash == b.hash
}

// transition is the kind of the alert that going from one state to another
// asks for, empty for none.
func transition(before, now state) string {
	switch {
	case sameDrift(before, now):
		return ""
	case now.kind == inSync:
		return resolved
	default:
		return now.kind
	}
}
