package verify

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"

	"provwatch/internal/drift"
	"provwatch/internal/provider"
	"provwatch/internal/remedy"
)

// attributeHandler keeps the attributes of log lines unchanged. One goroutine uses it.
type attributeHandler struct {
	slog.Handler

	values map[string]any
}

func (h attributeHandler) Handle(_ context.Context, line slog.Record) error {
	line.Attrs(func(a slog.Attr) bool {
		h.values[a.Key] = a.Value.Any()
		return true
	})
	return nil
}

// TestNotComparableRemedy renders the logged remedy as the command does for a target.
func TestNotComparableRemedy(t *testing.T) {
	t.Parallel()
	site := remedy.Site{Target: &remedy.Target{Name: "billing", File: "/etc/provwatch.yaml"}, Settings: []string{"--compat", "none"}}
	const billing = "--config /etc/provwatch.yaml --target billing --compat none"
	for name, c := range map[string]struct {
		unreadable error // nil: the API keys are
		desired    provider.Desired
		want       string
	}{
		"APIKeys": {
			desired: provider.Desired{Name: "gpt", Variables: "GPT_*"},
			want:    `add the key that its API keys are encrypted with, or replace them with "worker resolve gpt --take env --with-keys ` + billing + `"`,
		},
		"Settings": {
			unreadable: errors.New("settings are not a JSON object"),
			desired:    provider.Desired{Name: "gpt", Variables: "GPT_*"},
			want:       "repair its settings, or remove its variables (GPT_*)",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := attributeHandler{slog.NewTextHandler(io.Discard, nil), map[string]any{}}
			j := drift.Judgement{Observation: drift.Observation{Provider: "gpt", Unreadable: c.unreadable}, Reason: "it is encrypted"}
			newConditions(slog.New(h)).judged(t.Context(), j, c.desired)
			require.Equal(t, "gpt", h.values["provider"])
			advice, ok := h.values["remedy"].(remedy.Advice)
			require.True(t, ok, "the remedy is data: %v", h.values["remedy"])
			require.Equal(t, c.want, site.Advice(advice))
		})
	}
}
