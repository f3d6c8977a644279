package main

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"

	"provwatch/internal/config"
	"provwatch/internal/remedy"
)

// TestLogRemedies has lines of no target, of a target, and of an unknown target.
func TestLogRemedies(t *testing.T) {
	t.Setenv("DATABASE_URL", "")
	f := newFlags()
	f.envFile = "my providers.env"
	ofTarget := newFlags()
	ofTarget.config = "t.yaml"
	ofTarget.target = &config.Target{Name: "billing"}
	var out bytes.Buffer
	plain := slog.New(siteHandler{
		Handler: slog.NewTextHandler(&out, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey || a.Key == slog.LevelKey {
				return slog.Attr{}
			}
			return a
		}}),
		flags: f, targets: map[string]*flags{"billing": ofTarget},
	})
	lines := func(logger *slog.Logger) string {
		out.Reset()
		migrate, resolve := remedy.Run("migrate"), remedy.Run("resolve", "a", "--take", "db")
		logger.Info("m", "remedy", resolve)
		logger.Info("m", "remedy", remedy.Advice{migrate, "; or ", resolve})
		logger.Info("m", "error", fmt.Errorf("boot: %w", remedy.Problem("it is old; run ", migrate)), "other", errors.New("e"), "n", 1)
		return out.String()
	}
	require.Equal(t, `msg=m remedy="worker resolve a --take db --env-file 'my providers.env'"
msg=m remedy="worker migrate; or worker resolve a --take db --env-file 'my providers.env'"
msg=m error="boot: it is old; run \"worker migrate\"" other=e n=1
`, lines(plain))
	const billing = "--config t.yaml --target billing"
	require.Equal(t, `msg=m target=billing remedy="worker resolve a --take db `+billing+`"
msg=m target=billing remedy="worker migrate `+billing+`; or worker resolve a --take db `+billing+`"
msg=m target=billing error="boot: it is old; run \"worker migrate `+billing+`\"" other=e n=1
`, lines(plain.With("target", "billing")))
	require.Contains(t, lines(plain.With("target", "another")), "worker migrate;", "a target of no such name")
}
