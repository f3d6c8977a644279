//go:build soak

package soak

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"

	"provwatch/internal/dbcrypt/dbcrypttest"
)

// write does a writer's operations, one after the other. Nobody else but seeds
// writes to its providers.
func (w *world) write(ctx context.Context, index int, ops []op) {
	byName := map[string]wanted{}
	for _, p := range w.groups[index] {
		byName[p.name] = p
	}
	r := rand.New(rand.NewPCG(uint64(index), uint64(len(ops))))
	next := 0
	w.connected(ctx, fmt.Sprintf("soak-writer-%d", index), func(conn *pgx.Conn) error {
		if _, err := conn.Exec(ctx, "SET statement_timeout = '20s'; SET timezone = 'UTC'"); err != nil {
			return err
		}
		for next < len(ops) {
			o := ops[next]
			next++
			if !pause(ctx, o.pause) {
				return ctx.Err()
			}
			// A TRUNCATE would take the late providers away again while they join.
			if late := w.groups[len(w.groups)-1][0].name; (byName[o.provider].late || o.kind == "truncate") && !w.joined(late) {
				continue
			}
			times := 1
			if o.kind == "flicker" {
				times = 8
			}
			for i := range times {
				if err := w.transact(ctx, conn, r, o, i, byName); conn.IsClosed() {
					return err
				}
			}
		}
		<-ctx.Done()
		return ctx.Err()
	})
}

func (w *world) joined(name string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.checker.tracks[name].named
}

// transact does one operation in a transaction that says so in the history. What
// the operation finds does not change what it does: one that does not apply
// commits nothing but its history.
func (w *world) transact(ctx context.Context, conn *pgx.Conn, r *rand.Rand, o op, i int, byName map[string]wanted) error {
	id := uuidOf(r)
	w.moving.RLock()
	defer w.moving.RUnlock()
	// A transaction that was begun is ended, also when the run is.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
	defer cancel()
	tx, err := conn.Begin(ctx)
	if err != nil {
		return err
	}
	providers := o.provider
	if o.kind == "several" || o.kind == "swap" {
		providers += " " + o.other
	}
	_, err = tx.Exec(ctx, "INSERT INTO soak.history (id, op, providers) VALUES ($1, $2, $3)", id, o.kind, providers)
	if err == nil {
		err = w.operate(ctx, tx, o, i, byName)
	}
	if err != nil || o.kind == "rollback" {
		if err != nil {
			w.mu.Lock()
			w.refused++
			w.mu.Unlock()
		}
		_ = tx.Rollback(ctx)
		return err
	}
	if o.patience > 0 {
		var hangUp context.CancelFunc
		ctx, hangUp = context.WithTimeout(ctx, o.patience)
		defer hangUp()
	}
	err = tx.Commit(ctx)
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case err == nil:
		w.commits++
		w.finished[id] = true
	case conn.IsClosed():
		w.unknown++ // the history tells
	default:
		w.refused++
	}
	return err
}

// live is the row that stands for a provider that has one.
const live = " WHERE name = $1 AND NOT deleted"

func (w *world) operate(ctx context.Context, tx pgx.Tx, o op, i int, byName map[string]wanted) error {
	p := byName[o.provider]
	var failed error
	exec := func(sql string, args ...any) int64 {
		if failed != nil {
			return 0
		}
		tag, err := tx.Exec(ctx, sql, args...)
		failed = err
		return tag.RowsAffected()
	}
	set := func(name, what string, args ...any) int64 {
		return exec("UPDATE ai_providers SET updated_at = clock_timestamp(), "+what+live, append([]any{name}, args...)...)
	}
	setSettings := func(name string, s sealed) {
		set(name, "settings = nullif($2, ''), settings_key_id = nullif($3, '')", s.text, s.keyID)
	}
	insert := func() {
		settings, key := seal(p.settings(p.region), o.n), seal(fmt.Sprintf("sk-%s-writer-0123456789-%d", secretMark, o.n), o.n)
		inserted := exec(`INSERT INTO ai_providers (id, type, name, base_url, settings, settings_key_id)
			SELECT gen_random_uuid(), ($2::text)::ai_provider_type, $1::text, $3::text, nullif($4::text, ''), nullif($5::text, '')
			WHERE NOT EXISTS (SELECT FROM ai_providers`+live+`)`, p.name, p.kind, p.baseURL, settings.text, settings.keyID)
		if inserted > 0 {
			exec(`INSERT INTO ai_provider_keys (id, provider_id, api_key, api_key_key_id) SELECT gen_random_uuid(), id, $2, nullif($3::text, '') FROM ai_providers`+live,
				p.name, key.text, key.keyID)
		}
	}
	undelete := func() {
		exec(`UPDATE ai_providers SET deleted = false, updated_at = clock_timestamp()
			WHERE NOT EXISTS (SELECT FROM ai_providers`+live+`)
			AND id = (SELECT id FROM ai_providers WHERE name = $1 AND deleted ORDER BY updated_at DESC, id DESC LIMIT 1)`, p.name)
	}
	address := fmt.Sprintf("https://changed.example/%d", o.n%4)
	switch o.kind {
	case "url", "rollback":
		set(p.name, "base_url = $2", address)
	case "type":
		set(p.name, "type = CASE type WHEN 'openai' THEN 'anthropic' ELSE 'openai' END::ai_provider_type")
	case "region":
		setSettings(p.name, seal(p.settings([]string{"us-west-2", "eu-central-1"}[o.n%2]), o.n))
	case "several":
		set(p.name, "base_url = $2", address)
		set(o.other, "enabled = NOT enabled")
		set(p.name, "enabled = true")
	case "reverse":
		set(p.name, "base_url = base_url || 'x', enabled = NOT enabled")
		set(p.name, "base_url = left(base_url, -1), enabled = NOT enabled")
	case "disable":
		set(p.name, "enabled = false")
	case "enable":
		set(p.name, "enabled = true")
	case "flicker":
		set(p.name, "enabled = $2", i%2 == 1)
	case "soft-delete":
		set(p.name, "deleted = true")
	case "undelete":
		undelete()
	case "delete":
		exec("DELETE FROM ai_providers WHERE name = $1", p.name)
	case "insert":
		insert()
	case "restore":
		undelete()
		insert()
		settings := seal(p.settings(p.region), o.n%4) // with a key that all workers have
		set(p.name, "enabled = true, type = ($2::text)::ai_provider_type, base_url = $3, settings = nullif($4::text, ''), settings_key_id = nullif($5::text, '')",
			p.kind, p.baseURL, settings.text, settings.keyID)
	case "rename":
		set(p.name, "name = $1 || '-away'")
	case "rename-back":
		exec(`UPDATE ai_providers SET name = $1::text, updated_at = clock_timestamp() WHERE name = $1::text || '-away' AND NOT deleted
			AND NOT EXISTS (SELECT FROM ai_providers`+live+`)`, p.name)
	case "rogue":
		// A row that the environment does not name.
		exec([]string{
			`INSERT INTO ai_providers (id, type, name, base_url) SELECT gen_random_uuid(), 'openai', $1::text || '-rogue', 'https://rogue.example/'
				WHERE NOT EXISTS (SELECT FROM ai_providers WHERE name = $1::text || '-rogue')`,
			`UPDATE ai_providers SET enabled = NOT enabled, updated_at = clock_timestamp() WHERE name = $1::text || '-rogue'`,
			`UPDATE ai_providers SET base_url = base_url || '/', updated_at = clock_timestamp() WHERE name = $1::text || '-rogue'`,
			`UPDATE ai_providers SET deleted = NOT deleted, updated_at = clock_timestamp() WHERE name = $1::text || '-rogue'`,
			`DELETE FROM ai_providers WHERE name = $1::text || '-rogue'`,
		}[o.n%5], p.name)
	case "rotate":
		exec("DELETE FROM ai_provider_keys WHERE provider_id IN (SELECT id FROM ai_providers"+live+") AND random() < 0.5", p.name)
		exec("UPDATE ai_provider_keys SET api_key = $2, api_key_key_id = NULL, updated_at = now() WHERE provider_id IN (SELECT id FROM ai_providers"+live+")", p.name, fmt.Sprintf("sk-%s-rotated-%d", secretMark, o.n))
		exec("INSERT INTO ai_provider_keys (id, provider_id, api_key) SELECT gen_random_uuid(), id, $2 FROM ai_providers"+live, p.name, fmt.Sprintf("sk-%s-added-%d", secretMark, o.n))
	case "encrypt":
		return w.encrypt(ctx, tx, p.name, o.n)
	case "damage":
		damaged := seal(p.settings("us-west-2"), 1)
		setSettings(p.name, []sealed{
			{"no json", ""}, {`{"_type":"upstream-headers","_version":1}`, ""}, {`{"_type":"bedrock","_version":2,"region":"us-east-1"}`, ""},
			{"AAAA", firstKey.Digest()}, {damaged.text, secondKey.Digest()}, {damaged.text, ""},
		}[o.n%6])
	case "bedrock":
		set(p.name, "type = 'bedrock'")
	case "large":
		// More than is handled at once, with what it does to the provider in several parts.
		set(p.name, "enabled = NOT enabled")
		exec(`INSERT INTO ai_providers (id, type, name, base_url) SELECT gen_random_uuid(), 'openai', $1 || '-' || n, 'https://filler.example/' || repeat(md5(n::text), 15)
			FROM generate_series(1, 1500) n`, p.name)
		set(p.name, "base_url = $2", []string{address, p.baseURL, fmt.Sprintf("https://user:%s@secret.example/v1", secretMark)}[o.n%3])
		exec(`UPDATE ai_providers SET base_url = base_url || 'x' WHERE name LIKE $1 || '-%' AND base_url LIKE 'https://filler%'`, p.name)
		if o.n%2 == 0 {
			set(p.name, "enabled = NOT enabled")
		}
		exec(`DELETE FROM ai_providers WHERE name LIKE $1 || '-%' AND base_url LIKE 'https://filler%'`, p.name)
	case "truncate":
		exec("TRUNCATE ai_providers, ai_provider_keys")
	case "touch":
		set(p.name, "display_name = $2", fmt.Sprint(o.n))
	case "swap":
		if o.other != p.name {
			set(p.name, "name = 'soak-swap'")
			set(o.other, "name = $2", p.name)
			set("soak-swap", "name = $2", o.other)
		}
	case "new-id":
		exec("DELETE FROM ai_provider_keys WHERE provider_id IN (SELECT id FROM ai_providers"+live+")", p.name)
		set(p.name, "id = gen_random_uuid()")
	case "large-url":
		set(p.name, "base_url = 'https://large.example/' || (SELECT string_agg(md5(random()::text), '') FROM generate_series(1, 200))")
	case "secret-url":
		set(p.name, "base_url = $2", fmt.Sprintf("https://user:%s@secret.example/v1?key=%s%d", secretMark, secretMark, o.n%3))
	}
	return failed
}

// seal encrypts a secret as the number says: with one of the keys, or in plain text.
// With a number below 4 it is one that all workers have.
func seal(plain string, n int) sealed {
	with := []*dbcrypttest.Key{nil, &firstKey, &secondKey, &firstKey, &lentKey, &lentKey, &foreignKey, &secondKey}[n%8]
	if with == nil || plain == "" {
		return sealed{text: plain}
	}
	return sealed{with.Encrypt(plain), with.Digest()}
}

// encrypt encrypts all secrets of a provider anew, as the gateway does.
func (w *world) encrypt(ctx context.Context, tx pgx.Tx, name string, n int) error {
	anew := func(table, column, where string) error {
		rows, err := tx.Query(ctx, fmt.Sprintf("SELECT id::text, %[2]s, coalesce(%[2]s_key_id, '') FROM %[1]s WHERE %[2]s IS NOT NULL AND %[3]s FOR UPDATE", table, column, where), name)
		if err != nil {
			return err
		}
		type stored struct{ ID, Text, KeyID string }
		found, err := pgx.CollectRows(rows, pgx.RowToStructByPos[stored])
		for _, s := range found {
			plain, ok := sealed{s.Text, s.KeyID}.open(firstKey, secondKey, lentKey, foreignKey)
			if err == nil && ok {
				again := seal(plain, n)
				_, err = tx.Exec(ctx, fmt.Sprintf("UPDATE %[1]s SET %[2]s = $2, %[2]s_key_id = nullif($3::text, ''), updated_at = clock_timestamp() WHERE id::text = $1", table, column),
					s.ID, again.text, again.keyID)
			}
		}
		return err
	}
	if err := anew("ai_providers", "settings", "name = $1 AND NOT deleted"); err != nil {
		return err
	}
	return anew("ai_provider_keys", "api_key", "provider_id IN (SELECT id FROM ai_providers"+live+")")
}

// remove deletes a provider for good, after the writers have ended.
func (w *world) remove(name string) error {
	return w.note("delete", name, "DELETE FROM ai_providers WHERE name = '"+name+"'")
}

// note puts a row into the history, in the transaction of the statements.
func (w *world) note(op, providers string, statements ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, w.url())
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "INSERT INTO soak.history (id, op, providers) VALUES (gen_random_uuid(), $1, $2)", op, providers)
		for _, sql := range statements {
			if err == nil {
				_, err = tx.Exec(ctx, sql)
			}
		}
		return err
	})
}

// settings is what the settings column holds of the provider, empty for none.
func (w wanted) settings(region string) string {
	if w.accessKey == "" && region == "" {
		return ""
	}
	text, err := json.Marshal(map[string]any{
		"_type": "bedrock", "_version": 1, "region": region, "model": "m", "small_fast_model": "s",
		"access_key": w.accessKey, "access_key_secret": w.accessKeySecret,
	})
	if err != nil {
		panic(err)
	}
	return string(text)
}
