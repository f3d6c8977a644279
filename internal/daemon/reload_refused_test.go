package daemon

import (
	"context"
	"errors"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"

	"provwatch/internal/environment"
	"provwatch/internal/observe"
	"provwatch/internal/web"
)

// unreadable is an environment that cannot be read.
type unreadable struct{}

func (unreadable) ReadEnvironment() (environment.Environment, error) {
	return environment.Environment{}, errors.New("no such file")
}

// logging is called for each line of the log.
type logging func(line slog.Record)

func (l logging) Enabled(context.Context, slog.Level) bool { return true }
func (l logging) WithAttrs([]slog.Attr) slog.Handler       { return l }
func (l logging) WithGroup(string) slog.Handler            { return l }

func (l logging) Handle(_ context.Context, line slog.Record) error {
	l(line)
	return nil
}

// showing is called for each change that is shown.
type showing func(web.Change)

func (s showing) Changed(change web.Change) { s(change) }

// TestRefusedReload reads an environment that cannot be read. By the line of the log, the status
// page shows why.
func TestRefusedReload(t *testing.T) {
	t.Parallel()
	h := &health{}
	var seen []string
	log := slog.New(logging(func(line slog.Record) { seen = append(seen, line.Message, h.worker().ReloadRefused) }))
	page := &statusPage{displays: []Display{showing(func(web.Change) { seen = append(seen, "shown", h.worker().ReloadRefused) })}}
	r := &reloader{
		options: Options{Reader: unreadable{}, Logger: log}, files: newFiles(nil, nil, h, log, nil),
		metrics: &instruments{Metrics: observe.NewMetrics("test"), page: page, health: h},
	}
	require.True(t, r.reload(t.Context()), "it is not retried")
	require.Equal(t, []string{"shown", "no such file", "the environment cannot be used, keeping the one in use", "no such file"}, seen)
	require.Len(t, r.files.woken, 1, "the files on disk are looked at")
}
