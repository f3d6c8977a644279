package pgtest

import (
	"context"
	_ "embed"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"
)

//go:embed gateway.sql
var gatewayTables string

// NewGatewayDatabase creates a database as [NewDatabase] does, with the gateway's
// tables in it and no rows.
func NewGatewayDatabase(t testing.TB) string {
	t.Helper()
	return NewDatabaseFrom(t, "gateway", FillWithGatewayTables)
}

// FillWithGatewayTables creates the gateway's tables as [CreateGatewayTables] does, for
// [NewDatabaseFrom].
func FillWithGatewayTables(databaseURL string) error {
	return onDatabase(databaseURL, func(ctx context.Context, conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, gatewayTables)
		return err
	})
}

// CreateGatewayTables creates the gateway's tables in a database, owned by the role
// of the URL and in the first schema of its search path.
func CreateGatewayTables(t testing.TB, databaseURL string) {
	t.Helper()
	if err := FillWithGatewayTables(databaseURL); err != nil {
		t.Fatal(err)
	}
}

// GatewayProvider is a row of the gateway's ai_providers and its API keys, as the
// gateway writes them.
type GatewayProvider struct {
	Type, Name string
	// DisplayName and Settings are NULL where they are empty.
	DisplayName, Settings string
	Icon, BaseURL         string
	Disabled, Deleted     bool
	Keys                  []string
}

// Secrets of [GatewayProviders].
const (
	GatewayAccessKey       = "AKIAMADEUP0123456789"
	GatewayAccessKeySecret = "made-up/aws+secret/0123456789abcdef"
	GatewayAPIKey          = "sk-made-up-of-the-gateway-0123456789"
)

// GatewayProviders returns rows as an administrator of the gateway leaves them:
// types, settings and members of settings that provwatch does not know among them.
// The gateway sorts the members of what it stores. None is called openai, anthropic
// or as a test would, so that no environment names one by accident.
func GatewayProviders() []GatewayProvider {
	return []GatewayProvider{
		{
			Type: "bedrock", Name: "gw-aws", DisplayName: "Claude on AWS", Icon: "/icon/aws.svg",
			Settings: `{"_type":"bedrock","_version":1,"access_key":"` + GatewayAccessKey + `","access_key_secret":"` + GatewayAccessKeySecret + `",` +
				`"external_id":"ext-1","model":"arn:profile-a","protocol":"invoke-model","region":"us-east-1",` +
				`"role_arn":"arn:aws:iam::123456789012:role/B","small_fast_model":"arn:profile-b"}`,
		},
		{
			// Of before the type bedrock: the gateway rewrites it at its next start.
			Type: "anthropic", Name: "gw-aws-old", BaseURL: "https://bedrock.invalid/",
			Settings: `{"_type":"bedrock","_version":1,"model":"arn:profile-c","region":"eu-west-1","small_fast_model":"arn:profile-d"}`,
		},
		{
			Type: "openai-compat", Name: "gw-compat", DisplayName: "Zen", Icon: "/emojis/1f9d8.png", BaseURL: "https://compat.invalid/v1",
			Settings: `{"_type":"upstream-headers","_version":1,"headers":{"x-session":"{{chat_id}}"}}`,
			Keys:     []string{GatewayAPIKey + "-1", GatewayAPIKey + "-2"},
		},
		{Type: "azure", Name: "gw-azure", Icon: "/icon/azure.svg", BaseURL: "https://resource.invalid/openai/v1", Keys: []string{GatewayAPIKey + "-3"}},
		{Type: "copilot", Name: "gw-copilot", Icon: "/icon/github.svg", BaseURL: "https://copilot.invalid"},
		{Type: "google", Name: "gw-google", BaseURL: "https://google.invalid/v1beta/openai/", Disabled: true, Keys: []string{GatewayAPIKey + "-4"}},
		// The gateway disables what it deletes.
		{Type: "vercel", Name: "gw-vercel", BaseURL: "https://vercel.invalid/v1", Disabled: true, Deleted: true, Keys: []string{GatewayAPIKey + "-5"}},
	}
}

// InsertGatewayProviders inserts rows into the gateway's tables, as the gateway does.
func InsertGatewayProviders(databaseURL string, providers []GatewayProvider) error {
	return onDatabase(databaseURL, func(ctx context.Context, conn *pgx.Conn) error {
		for _, p := range providers {
			var id string
			err := conn.QueryRow(ctx, `INSERT INTO ai_providers (id, type, name, display_name, icon, enabled, base_url, settings)
				VALUES (gen_random_uuid(), $1::text::ai_provider_type, $2, nullif($3, ''), $4, $5, $6, nullif($7, '')) RETURNING id::text`,
				p.Type, p.Name, p.DisplayName, p.Icon, !p.Disabled, p.BaseURL, p.Settings).Scan(&id)
			if err != nil {
				return err
			}
			for _, key := range p.Keys {
				_, err := conn.Exec(ctx, `INSERT INTO ai_provider_keys (id, provider_id, api_key, created_at, updated_at)
					VALUES (gen_random_uuid(), $1::text::uuid, $2, now(), now())`, id, key)
				if err != nil {
					return err
				}
			}
			if _, err := conn.Exec(ctx, `UPDATE ai_providers SET deleted = $2 WHERE id = $1::text::uuid AND $2`, id, p.Deleted); err != nil {
				return err
			}
		}
		return nil
	})
}

func onDatabase(databaseURL string, do func(context.Context, *pgx.Conn) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	conn, err := pgx.Connect(ctx, databaseURL)
	if err != nil {
		return fmt.Errorf("connecting to a test database: %w", err)
	}
	defer func() { _ = conn.Close(ctx) }()
	if err := do(ctx, conn); err != nil {
		return fmt.Errorf("writing to the gateway's tables: %w", err)
	}
	return nil
}
