package reconcile_test

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"provwatch/internal/dbcrypt"
	"provwatch/internal/drift"
	"provwatch/internal/provider"
	"provwatch/internal/reconcile"
	"provwatch/internal/rollout"
	"provwatch/internal/secret"
)

// planned is a provider whose environment and row change over time.
type planned struct {
	*rapid.T
	pool *pgxpool.Pool
	env  provider.Desired

	agreed map[string]any // the canonical fields of the row when both sides last agreed
}

func (p *planned) exec(query string, args ...any) {
	_, err := p.pool.Exec(context.Background(), query, args...)
	require.NoError(p, err)
}

// row returns the columns of the row, and its settings' members.
func (p *planned) row() (columns, settings map[string]any) {
	var row string
	require.NoError(p, p.pool.QueryRow(context.Background(), `SELECT to_jsonb(a)::text FROM public.ai_providers a WHERE name = $1`, p.env.Name).Scan(&row))
	require.NoError(p, json.Unmarshal([]byte(row), &columns))
	require.NoError(p, json.Unmarshal([]byte(columns["settings"].(string)), &settings))
	return columns, settings
}

// canonical returns the canonical fields of the row.
func (p *planned) canonical() map[string]any {
	columns, settings := p.row()
	return map[string]any{"type": columns["type"], "base_url": columns["base_url"], "region": settings["region"]}
}

func (p *planned) apply(dryRun bool) reconcile.Applied {
	outcomes, err := reconcile.Apply(context.Background(), p.pool, dbcrypt.NewRing(dbcrypt.Keys{}), []provider.Desired{p.env}, reconcile.ApplyRequest{
		DryRun: dryRun, Member: rollout.NewMember(uuid.New(), rollout.Window, rollout.Applies), Environment: []provider.Desired{p.env},
	})
	require.NoError(p, err)
	require.Len(p, outcomes, 1)
	return outcomes[0]
}

func (p *planned) changeEnvironment() {
	p.env.BaseURL = rapid.SampledFrom([]string{"https://a/", "https://u:1@b/", ""}).Draw(p.T, "base URL")
	b := *p.env.Bedrock
	b.Region = rapid.SampledFrom([]string{"us-east-1", "eu-west-1"}).Draw(p.T, "region")
	b.AccessKey = secret.New(rapid.SampledFrom([]string{"k1", "k2"}).Draw(p.T, "access key"))
	p.env.Bedrock = &b
}

func (p *planned) changeRow() {
	switch rapid.IntRange(0, 3).Draw(p.T, "what changes") {
	case 0:
		p.exec(`UPDATE public.ai_providers SET base_url = $2 WHERE name = $1`, p.env.Name, rapid.SampledFrom([]string{"https://a/", "https://c/"}).Draw(p.T, "row's URL"))
	case 1:
		p.exec(`UPDATE public.ai_providers SET settings = jsonb_set(settings::jsonb, '{region}', to_jsonb($2::text))::text WHERE name = $1`,
			p.env.Name, rapid.SampledFrom([]string{"us-east-1", "ap-south-1"}).Draw(p.T, "row's region"))
	case 2:
		p.exec(`UPDATE public.ai_providers SET enabled = NOT enabled WHERE name = $1`, p.env.Name)
	case 3:
		p.exec(`UPDATE public.ai_providers SET settings = jsonb_set(settings::jsonb, '{access_key}', '"rotated"')::text WHERE name = $1`, p.env.Name)
	}
}

// TestApply changes the environment and the row in any order, and applies. An apply never
// writes to a row that has moved, and never more of a row than the canonical fields.
func TestApply(t *testing.T) {
	t.Parallel()
	pool := newGateway(t)
	n := 0
	rapid.Check(t, func(t *rapid.T) {
		n++
		p := &planned{T: t, pool: pool, env: provider.Desired{
			Name: fmt.Sprintf("p%d", n), Type: provider.AmazonBedrock, BaseURL: "https://a/", Variables: "X",
			Bedrock: &provider.Bedrock{Region: "us-east-1", Model: "m", SmallFastModel: "s", AccessKey: secret.New("k1"), AccessKeySecret: secret.New("k1")},
		}}
		require.Equal(t, drift.ApplyInsert, p.apply(false).Action)
		p.exec(`UPDATE public.ai_providers SET settings = jsonb_set(settings::jsonb, '{role_arn}', '"theirs"')::text WHERE name = $1`, p.env.Name)
		p.agreed = p.canonical()
		t.Repeat(map[string]func(*rapid.T){
			"environment": func(*rapid.T) { p.changeEnvironment() },
			"row":         func(*rapid.T) { p.changeRow() },
			"accept":      func(*rapid.T) { p.accept() },
			"apply":       func(*rapid.T) { p.applyAndCheck() },
		})
	})
}

// accept accepts the database's side, if it differs.
func (p *planned) accept() {
	outcome, err := resolveOne(context.Background(), p.pool, dbcrypt.NewRing(dbcrypt.Keys{}), p.env, reconcile.Request{Side: reconcile.Database, Credentials: drift.IgnoreCredentials})
	require.NoError(p, err)
	if outcome.Written() {
		p.agreed = p.canonical()
	}
}

func (p *planned) applyAndCheck() {
	columns, settings := p.row()
	moved := !jsonEqual(p, p.canonical(), p.agreed)
	foretold := p.apply(true)
	unchanged, _ := p.row()
	require.Equal(p, columns, unchanged, "a dry run writes nothing")
	outcome := p.apply(false)
	require.Equal(p, foretold, outcome)
	after, settingsAfter := p.row()
	if outcome.Action != drift.ApplyUpdate {
		require.Equal(p, columns, after)
		if outcome.AcceptanceRenewed {
			p.agreed = p.canonical()
		}
		return
	}
	require.False(p, moved, "a row that has moved is not written")
	for column, value := range after {
		if !jsonEqual(p, value, columns[column]) {
			require.Contains(p, []string{"base_url", "settings", "updated_at"}, column)
		}
	}
	delete(settings, "region")
	delete(settingsAfter, "region")
	require.Equal(p, settings, settingsAfter, "credentials, models and what is not known stay")
	p.agreed = p.canonical()
	require.Equal(p, drift.ApplyNothing, p.apply(false).Action)
}
