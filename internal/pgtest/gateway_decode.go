package pgtest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"regexp"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"

	"provwatch/internal/dbcrypt/dbcrypttest"
)

// Querier runs queries: a connection, a pool or a transaction.
type Querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// DecodeGatewayRows reads the live rows of the provider tables as the gateway does,
// which fails for all of them when one cannot be decoded, and returns what it could
// not read or would not have written, nil for nothing. It shares nothing with
// the code that writes. made says of which rows provwatch has made all itself; nil
// for all. keys are the gateway's, which decrypt.
func DecodeGatewayRows(ctx context.Context, db Querier, made func(name string) bool, keys ...dbcrypttest.Key) error {
	digests, err := activeDigests(ctx, db)
	if err != nil {
		return err
	}
	rows, err := loadGatewayRows(ctx, db)
	if err != nil {
		return err
	}
	var problems []error
	for _, row := range rows {
		open := opener{digests: digests, keys: keys}
		if err := row.check(open, made == nil || made(row.name)); err != nil {
			problems = append(problems, fmt.Errorf("provider %q of type %s: %w", row.name, row.kind, err))
		}
	}
	return errors.Join(problems...)
}

// RequireGatewayDecodes fails the test where [DecodeGatewayRows] has an error.
func RequireGatewayDecodes(t testing.TB, db Querier, made func(name string) bool, keys ...dbcrypttest.Key) {
	t.Helper()
	if err := DecodeGatewayRows(t.Context(), db, made, keys...); err != nil {
		t.Errorf("the gateway cannot decode what is stored: %v", err)
	}
}

// activeDigests returns nil for a database without dbcrypt_keys.
func activeDigests(ctx context.Context, db Querier) ([]string, error) {
	const table = `FROM pg_catalog.pg_class c JOIN pg_catalog.pg_class p ON p.relnamespace = c.relnamespace
		WHERE c.relname = 'dbcrypt_keys' AND p.relname = 'ai_providers' AND c.relkind = 'r' AND p.relkind = 'r'`
	found, err := queryTexts(ctx, db, `SELECT c.oid::regclass::text `+table)
	if err != nil || len(found) == 0 {
		return nil, err
	}
	return queryTexts(ctx, db, `SELECT active_key_digest FROM `+found[0]+` WHERE active_key_digest IS NOT NULL`)
}

func queryTexts(ctx context.Context, db Querier, query string) ([]string, error) {
	rows, err := db.Query(ctx, query)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

// gatewayRow is a row as the gateway selects it.
type gatewayRow struct {
	kind, name, baseURL, icon string
	settings, settingsKey     *string
	apiKeys                   []string
	apiKeyKeys                []*string
}

func loadGatewayRows(ctx context.Context, db Querier) ([]gatewayRow, error) {
	// Tables without the column icon, as provwatch makes them, have none to fill.
	rows, err := db.Query(ctx, `SELECT p.type::text, p.name, p.base_url, coalesce(to_jsonb(p) ->> 'icon', ''), p.settings, p.settings_key_id,
			ARRAY(SELECT k.api_key FROM public.ai_provider_keys k WHERE k.provider_id = p.id ORDER BY k.created_at, k.id),
			ARRAY(SELECT k.api_key_key_id FROM public.ai_provider_keys k WHERE k.provider_id = p.id ORDER BY k.created_at, k.id)
		FROM public.ai_providers p WHERE NOT p.deleted ORDER BY p.name`)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (r gatewayRow, err error) {
		err = row.Scan(&r.kind, &r.name, &r.baseURL, &r.icon, &r.settings, &r.settingsKey, &r.apiKeys, &r.apiKeyKeys)
		return r, err
	})
}

var gatewayName = regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`)

func (r gatewayRow) check(open opener, made bool) error {
	problems := []error{r.checkBaseURL()}
	if !gatewayName.MatchString(r.name) {
		problems = append(problems, errors.New("its name does not match"))
	}
	if made && r.icon != "" {
		problems = append(problems, errors.New("its icon is not left to its default"))
	}
	var settings decodedSettings
	if r.settings != nil {
		text, err := open.text(*r.settings, r.settingsKey)
		if err == nil {
			settings, err = decodeGatewaySettings(text, made)
		}
		problems = append(problems, err)
	} else if r.settingsKey != nil {
		problems = append(problems, errors.New("it has a key id for settings and no settings"))
	}
	bedrock := r.kind == "bedrock" || settings.kind == "bedrock"
	if settings.kind == "bedrock" && r.kind != "bedrock" && r.kind != "anthropic" {
		problems = append(problems, errors.New("it has Bedrock settings"))
	}
	switch {
	case (bedrock || r.kind == "copilot") && len(r.apiKeys) > 0:
		problems = append(problems, fmt.Errorf("it has %d API keys, and such a provider has none", len(r.apiKeys)))
	case len(r.apiKeys) > 5:
		problems = append(problems, fmt.Errorf("it has %d API keys", len(r.apiKeys)))
	}
	for i, key := range r.apiKeys {
		text, err := open.text(key, r.apiKeyKeys[i])
		if err == nil && text == "" {
			err = errors.New("an API key is empty")
		}
		problems = append(problems, err)
	}
	return errors.Join(problems...)
}

// checkBaseURL allows an empty base URL to the types that the gateway gives one.
func (r gatewayRow) checkBaseURL() error {
	if r.baseURL == "" && slices.Contains([]string{"openai", "anthropic", "bedrock"}, r.kind) {
		return nil
	}
	u, err := url.Parse(r.baseURL)
	if err != nil || !slices.Contains([]string{"http", "https"}, u.Scheme) || u.Host == "" || u.Hostname() == "" {
		return errors.New("its base URL is not an absolute http or https URL")
	}
	return nil
}

// opener reads values that may be encrypted.
type opener struct {
	digests []string
	keys    []dbcrypttest.Key
}

func (o opener) text(stored string, keyID *string) (string, error) {
	if keyID == nil {
		return stored, nil
	}
	if !slices.Contains(o.digests, *keyID) {
		return "", fmt.Errorf("the key id %q is no active digest", *keyID)
	}
	for _, key := range o.keys {
		if key.Digest() == *keyID {
			return key.Decrypt(stored)
		}
	}
	return "", fmt.Errorf("the test has no key of the digest %q", *keyID)
}

type decodedSettings struct{ kind string }

// settingsMembers are the members of each kind of settings, all but the
// discriminators: strings of Bedrock, an object of strings of upstream headers.
var settingsMembers = map[string][]string{
	"bedrock":          {"region", "model", "small_fast_model", "access_key", "access_key_secret", "role_arn", "external_id", "protocol"},
	"upstream-headers": {"headers"},
}

// madeMembers are what provwatch itself fills.
var madeMembers = settingsMembers["bedrock"][:5]

func decodeGatewaySettings(text string, made bool) (decodedSettings, error) {
	if text == "" || text == "null" {
		return decodedSettings{}, nil
	}
	names, members, err := decodeMembers(text)
	if err != nil {
		return decodedSettings{}, err
	}
	var s decodedSettings
	if err := json.Unmarshal(members["_type"], &s.kind); err != nil || settingsMembers[s.kind] == nil {
		return s, errors.New("its settings have no known _type")
	}
	if string(members["_version"]) != "1" {
		return s, errors.New("its settings have no _version that is the integer 1")
	}
	for _, name := range names {
		switch {
		case name == "_type" || name == "_version":
		case !slices.Contains(settingsMembers[s.kind], name):
			return s, fmt.Errorf("its settings have an unknown member %q", name)
		case made && !slices.Contains(madeMembers, name):
			return s, fmt.Errorf("its settings have a member %q that is the gateway's", name)
		case name == "headers":
			err = json.Unmarshal(members[name], &map[string]string{})
		default:
			err = requireString(members[name])
		}
		if err != nil {
			return s, fmt.Errorf("the member %q of its settings has another type", name)
		}
	}
	return s, nil
}

func requireString(raw json.RawMessage) error {
	var text *string
	if err := json.Unmarshal(raw, &text); err != nil || text == nil {
		return errors.New("not a string")
	}
	return nil
}

// decodeMembers decodes one object, in which no member is there twice.
func decodeMembers(text string) (names []string, members map[string]json.RawMessage, err error) {
	decoder := json.NewDecoder(bytes.NewReader([]byte(text)))
	members = map[string]json.RawMessage{}
	if opening, err := decoder.Token(); err != nil || opening != json.Delim('{') {
		return nil, nil, errors.New("its settings are no JSON object")
	}
	for decoder.More() {
		name, err := decoder.Token()
		if err != nil {
			return nil, nil, errors.New("its settings are no JSON object")
		}
		var raw json.RawMessage
		if err := decoder.Decode(&raw); err != nil {
			return nil, nil, errors.New("its settings are no JSON object")
		}
		if _, twice := members[name.(string)]; twice {
			return nil, nil, fmt.Errorf("its settings have the member %q twice", name)
		}
		names, members[name.(string)] = append(names, name.(string)), raw
	}
	if _, err := decoder.Token(); err != nil { // the closing brace
		return nil, nil, errors.New("its settings are no JSON object")
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, nil, errors.New("something follows its settings")
	}
	return names, members, nil
}
