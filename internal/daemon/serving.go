package daemon

import (
	"context"
	"log/slog"
	"net/http"

	"github.com/sourcegraph/conc"

	"provwatch/internal/observe"
	"provwatch/internal/remedy"
	"provwatch/internal/secret"
	"provwatch/internal/systemd"
	"provwatch/internal/web"
)

// Serving is what a process has once, however many databases it watches.
type Serving struct {
	HTTPAddress string // empty: no HTTP
	// HTTPToken is the token of the status page and the profiler (--http-token-file);
	// without one, they are served on loopback addresses alone.
	HTTPToken secret.Text
	Debug     bool
	// Systemd gets how the daemons do; nil for nobody.
	Systemd *systemd.Service
}

// Server is the HTTP server of a process. It serves beside the boot, the run and the stop of
// its daemons. A nil one serves nothing.
type Server struct {
	// Access decides who can see pages and the profiler.
	Access web.Access

	server *observe.Server
	pages  []Pages
	logger *slog.Logger
}

// Pages are pages that a [Server] serves.
type Pages interface {
	http.Handler
	// Close ends the answers that last. It may be called twice.
	Close()
}

// Listen binds the address of the process, and returns nil where HTTP is off.
func (s Serving) Listen(ctx context.Context, metrics observe.Exposed, health observe.Health, logger *slog.Logger) (*Server, error) {
	if s.HTTPAddress == "" {
		return nil, nil
	}
	server, err := observe.Listen(ctx, s.HTTPAddress, metrics, health, logger)
	if err != nil {
		return nil, err
	}
	loopback := web.IsLoopback(server.BoundTo())
	if !loopback && s.HTTPToken.IsZero() {
		logger.WarnContext(ctx, "the status page is not served on this address without a token", "address", server.Address(),
			"remedy", remedy.Advice{remedy.Set("--http-token-file"), ", or an address of loopback"})
	}
	access := web.Access{Token: s.HTTPToken, Loopback: loopback}
	if s.Debug {
		server.Handle(observe.ProfilerPath, access.Guard(observe.Profiler()))
	}
	return &Server{Access: access, server: server, logger: logger}, nil
}

// Mount adds pages at the paths. The caller calls it before [Server.Start].
func (s *Server) Mount(paths []string, pages Pages) {
	for _, path := range paths {
		s.server.Handle("GET "+path, pages)
	}
	s.server.AtShutdown(pages.Close)
	s.pages = append(s.pages, pages)
}

// Start serves until the caller calls stop, whether or not ctx has ended.
func (s *Server) Start(ctx context.Context) (stop func()) {
	if s == nil {
		return func() {}
	}
	s.logger.InfoContext(ctx, "serving HTTP", "address", s.server.Address())
	serving, stopServing := context.WithCancel(context.WithoutCancel(ctx))
	var servers conc.WaitGroup
	servers.Go(func() {
		if err := s.server.Serve(serving); err != nil {
			s.logger.ErrorContext(serving, "HTTP server failed", "error", err)
		}
	})
	return func() {
		stopServing()
		servers.Wait()
		for _, p := range s.pages {
			p.Close()
		}
	}
}
