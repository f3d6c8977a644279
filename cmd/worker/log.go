package main

import (
	"context"
	"log/slog"
	"os"

	"provwatch/internal/remedy"
)

// logger returns a logger of these flags.
func (f *flags) logger() *slog.Logger { return f.loggerOf(nil) }

// loggerOf returns a logger that renders the remedies in lines of a target for that target.
func (f *flags) loggerOf(targets []*flags) *slog.Logger {
	h := siteHandler{flags: f, targets: map[string]*flags{}}
	for _, t := range targets {
		h.targets[t.target.Name] = t
	}
	var level slog.Level
	// check has verified the value.
	_ = level.UnmarshalText([]byte(f.logLevel))
	options := &slog.HandlerOptions{Level: level}
	if f.logFormat == jsonFormat {
		h.Handler = slog.NewJSONHandler(os.Stderr, options)
	} else {
		h.Handler = slog.NewTextHandler(os.Stderr, options)
	}
	return slog.New(h)
}

// siteHandler renders the remedies in attributes and errors.
type siteHandler struct {
	slog.Handler

	flags   *flags            // that the lines are of
	targets map[string]*flags // by name
}

// Handle implements [slog.Handler].
func (h siteHandler) Handle(ctx context.Context, line slog.Record) error {
	rendered := slog.NewRecord(line.Time, line.Level, line.Message, line.PC)
	line.Attrs(func(a slog.Attr) bool {
		rendered.AddAttrs(h.render(a))
		return true
	})
	return h.Handler.Handle(ctx, rendered)
}

// WithAttrs implements [slog.Handler]. The attribute "target" selects the target.
func (h siteHandler) WithAttrs(attributes []slog.Attr) slog.Handler {
	for _, a := range attributes {
		if target, known := h.targets[a.Value.String()]; known && a.Key == "target" {
			h.flags = target
		}
	}
	rendered := make([]slog.Attr, len(attributes))
	for i, a := range attributes {
		rendered[i] = h.render(a)
	}
	h.Handler = h.Handler.WithAttrs(rendered)
	return h
}

// WithGroup implements [slog.Handler].
func (h siteHandler) WithGroup(name string) slog.Handler {
	h.Handler = h.Handler.WithGroup(name)
	return h
}

func (h siteHandler) render(a slog.Attr) slog.Attr {
	switch value := a.Value.Any().(type) {
	case remedy.Remedy:
		a.Value = slog.StringValue(h.flags.site().Render(value))
	case remedy.Advice:
		a.Value = slog.StringValue(h.flags.site().Advice(value))
	case error:
		if len(remedy.Of(value)) > 0 {
			a.Value = slog.StringValue(h.flags.site().Text(value))
		}
	}
	return a
}
