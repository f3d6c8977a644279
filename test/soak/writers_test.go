//go:build soak

package soak

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
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
			if byName[o.provider].late && !w.joined(o.provider) {
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
	insert := func() {
		inserted := exec(`INSERT INTO ai_providers (id, type, name, base_url, settings)
			SELECT gen_random_uuid(), ($2::text)::ai_provider_type, $1::text, $3::text, nullif($4::text, '')
			WHERE NOT EXISTS (SELECT FROM ai_providers`+live+`)`, p.name, p.kind, p.baseURL, p.settings(p.region))
		if inserted > 0 {
			exec(`INSERT INTO ai_provider_keys (id, provider_id, api_key) SELECT gen_random_uuid(), id, $2 FROM ai_providers`+live,
				p.name, fmt.Sprintf("sk-%s-writer-0123456789-%d", secretMark, o.n))
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
		set(p.name, "settings = $2", p.settings([]string{"us-west-2", "eu-central-1"}[o.n%2]))
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
		set(p.name, "enabled = true, type = ($2::text)::ai_provider_type, base_url = $3, settings = nullif($4::text, '')", p.kind, p.baseURL, p.settings(p.region))
	case "rename":
		set(p.name, "name = $1 || '-away'")
	case "rename-back":
		exec(`UPDATE ai_providers SET name = $1::text, updated_at = clock_timestamp() WHERE name = $1::text || '-away' AND NOT deleted
			AND NOT EXISTS (SELECT FROM ai_providers`+live+`)`, p.name)
	case "rotate":
		exec("DELETE FROM ai_provider_keys WHERE provider_id IN (SELECT id FROM ai_providers"+live+") AND random() < 0.5", p.name)
		exec("UPDATE ai_provider_keys SET api_key = $2, updated_at = now() WHERE provider_id IN (SELECT id FROM ai_providers"+live+")", p.name, fmt.Sprintf("sk-%s-rotated-%d", secretMark, o.n))
		exec("INSERT INTO ai_provider_keys (id, provider_id, api_key) SELECT gen_random_uuid(), id, $2 FROM ai_providers"+live, p.name, fmt.Sprintf("sk-%s-added-%d", secretMark, o.n))
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

// remove deletes a provider for good, after the writers have ended.
func (w *world) remove(name string) error {
	return w.note("delete", name, "DELETE FROM ai_providers WHERE name = '"+name+"'")
}

// note puts a row into the history, in the transaction of the statements.
func (w *world) note(op, providers string, statements ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, w.url)
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
