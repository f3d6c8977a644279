package soak

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"provwatch/internal/dbcrypt/dbcrypttest"
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
	// unmanaged is a drift of a row that the environment does not name.
	unmanaged = "unmanaged"

	// notComparable is no drift: what was recorded stays.
	notComparable = "not_comparable"
)

// The keys that secrets are encrypted with, all of them active in dbcrypt_keys. The
// workers have the first two all the time, in either order; the third is lent to them at
// times, and the fourth never.
var firstKey, secondKey, lentKey, foreignKey = soakKey(1), soakKey(2), soakKey(3), soakKey(4)

func soakKey(n byte) (k dbcrypttest.Key) {
	for i := range k {
		k[i] = n*16 + byte(i)
	}
	return k
}

// sealed is a secret as a column holds it, in plain text where there is no id of a key.
type sealed struct{ text, keyID string }

// open decrypts it; with any of the keys given.
func (s sealed) open(keys ...dbcrypttest.Key) (plain string, ok bool) {
	if s.keyID == "" {
		return s.text, true
	}
	for _, key := range keys {
		if key.Digest() == s.keyID {
			plain, err := key.Decrypt(s.text)
			return plain, err == nil
		}
	}
	return "", false
}

// wanted is a provider as the environment names it.
type wanted struct {
	name, kind, baseURL, region string
	keys                        []string
	accessKey, accessKeySecret  string // of a Bedrock provider
	late                        bool   // joins the environment during the run
	moving                      bool   // the environment changes its base URL during the run
}

// movingProvider is the provider whose base URL the environment changes: first it has version 0.
func movingProvider() wanted {
	return wanted{name: "applied", kind: "openai", baseURL: movingURL(0), keys: []string{"sk-soak-applied-0123456789-secret-0000"}, moving: true}
}

const movingHost = "https://applied.example/v"

// movingURL is a version of its base URL.
func movingURL(version int) string { return movingHost + strconv.Itoa(version) }

// versionOf returns the version of a base URL, and false for another one.
func versionOf(baseURL string) (version int, ok bool) {
	text, found := strings.CutPrefix(baseURL, movingHost)
	version, err := strconv.Atoi(text)
	return version, found && err == nil
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

// canonicalHash is that of docs/specification.md, section 2, or of a base URL that can
// hold credentials, as what is no URL can, the digest in its place.
func canonicalHash(kind, baseURL, region string) string {
	text := canonicalText(kind, baseURL, region)
	if isURL := strings.HasPrefix(baseURL, "https://"); strings.ContainsAny(baseURL, "@?#") || baseURL != "" && !isURL {
		return keyedDigest(text)
	}
	return plainHash(text)
}

func canonicalText(kind, baseURL, region string) []byte {
	text, err := json.Marshal(struct {
		Type    string `json:"type"`
		BaseURL string `json:"base_url"`
		Region  string `json:"bedrock_region"`
	}{kind, baseURL, region})
	if err != nil {
		panic(err)
	}
	return text
}

func plainHash(text []byte) string {
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

func keyedDigest(text []byte) string {
	mac := hmac.New(sha256.New, []byte(hashKey))
	mac.Write(text)
	return "hmac:" + hex.EncodeToString(mac.Sum(nil))
}

// environmentDigest is the digest of an environment (docs/specification.md, section 4): the one of
// all runs, with a version of the moving provider, and with the late providers or without.
func environmentDigest(version int, late bool) string {
	moving := movingProvider()
	moving.baseURL = movingURL(version)
	var pairs [][2]string
	for _, w := range append(slices.Concat(environment()...), moving) {
		if !w.late || late {
			pairs = append(pairs, [2]string{w.name, plainHash(canonicalText(w.kind, w.baseURL, w.region))})
		}
	}
	slices.SortFunc(pairs, func(a, b [2]string) int { return strings.Compare(a[0], b[0]) })
	text, err := json.Marshal(pairs)
	if err != nil {
		panic(err)
	}
	return keyedDigest(append([]byte("provwatch environment "), text...))
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

// comparedType is the type of the row as section 2 compares it: the types of two
// Bedrock sides are equal, and they differ where one side alone is Bedrock.
func (r row) comparedType(w wanted, settings decoded) string {
	isBedrock := r.kind == "bedrock" || r.kind == "anthropic" && settings.ofBedrock
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

// decoded is what the settings of a row come to.
type decoded struct {
	ofBedrock bool
	region    string
	ok        bool // they can be decoded
	maybe     bool // by a worker that has the lent key, and by no other
}

// decode decodes the settings. Those of other types are not looked at.
func (r row) decode() (d decoded) {
	if r.kind != "anthropic" && r.kind != "bedrock" {
		return decoded{ok: true}
	}
	text, ok := sealed{r.settings, r.settingsKeyID}.open(firstKey, secondKey, lentKey)
	if !ok {
		return d
	}
	text = strings.TrimSpace(text)
	var s struct {
		Type    *string `json:"_type"`
		Version *int    `json:"_version"`
		Region  string  `json:"region"`
	}
	switch {
	case text == "", text == "null", text == "{}":
		d.ok = true
	case json.Unmarshal([]byte(text), &s) != nil, s.Type == nil, s.Version == nil:
	default:
		d.ok = *s.Type == "bedrock" && *s.Version == 1
		d.ofBedrock, d.region = d.ok, s.Region
	}
	d.maybe = d.ok && r.settingsKeyID == lentKey.Digest()
	return d
}

// state is how a provider stands.
type state struct {
	kind   string
	hash   string // of the row; empty without one, or if it cannot be decoded
	id     string // of the row; empty without one
	fields []string
	maybe  bool // a worker that lacks the lent key cannot compare it
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
	settings := r.decode()
	switch {
	case r.deleted:
		return state{kind: deleted, id: r.id}
	case !settings.ok:
		return state{kind: notComparable, id: r.id}
	case !r.enabled:
		s.kind, s.fields = disabled, append(s.fields, "enabled")
	}
	s.maybe = settings.maybe
	kind := r.comparedType(w, settings)
	s.hash = canonicalHash(kind, r.baseURL, settings.region)
	if kind != w.kind {
		s.fields = append(s.fields, "type")
	}
	if r.baseURL != w.baseURL {
		s.fields = append(s.fields, "base_url")
	}
	if settings.region != w.region {
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
	case sameDrift(before, now), now.kind == notComparable:
		return ""
	case now.kind == inSync:
		return resolved
	default:
		return now.kind
	}
}
