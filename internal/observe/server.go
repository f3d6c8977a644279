package observe

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

const (
	readHeaderTimeout = 5 * time.Second
	// readTimeout is how long a client may take to send a request, with its body.
	readTimeout = 10 * time.Second
	// writeTimeout is how long a client may take to read an answer.
	writeTimeout = 30 * time.Second
	idleTimeout  = 2 * time.Minute
	// maxConnections is how many connections are open at a time. One more closes the one
	// that has been quiet for longest, so that clients which hold theirs keep no probe
	// from /healthz and /readyz.
	maxConnections = 256
)

// Health is what /healthz and /readyz report. Its methods may be called by several goroutines.
type Health interface {
	// Alive returns why the worker makes no progress, nil where it does. A database that is
	// away is a matter of readiness alone.
	Alive() error
	// Ready returns why the worker does not do its job, nil where it does. Each remark is a
	// line about a worker that does.
	Ready() (remarks []string, err error)
}

// Server serves /metrics, /healthz and /readyz, which need no authentication, and
// what [Server.Handle] adds.
type Server struct {
	listener net.Listener
	mux      *http.ServeMux
	server   *http.Server
}

// Listen binds the address, so that a bad one is known before the worker starts.
// What the HTTP library has to report goes to the logger.
func Listen(ctx context.Context, address string, metrics Exposed, health Health, logger *slog.Logger) (*Server, error) {
	listener, err := Bind(ctx, address)
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(metrics.exposed(), promhttp.HandlerOpts{Registry: metrics.exposed()}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		if err := health.Alive(); err != nil {
			http.Error(w, "not alive: "+err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		remarks, err := health.Ready()
		if err != nil {
			http.Error(w, "not ready: "+err.Error(), http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		fmt.Fprintln(w, strings.Join(append([]string{"ok"}, remarks...), "\n"))
	})
	return &Server{
		listener: listener,
		mux:      mux,
		server: &http.Server{
			Handler:           bounded(mux, writeTimeout),
			ReadHeaderTimeout: readHeaderTimeout,
			ReadTimeout:       readTimeout,
			IdleTimeout:       idleTimeout,
			ConnState:         newConnections(maxConnections).changed,
			ErrorLog:          slog.NewLogLogger(logger.Handler(), slog.LevelWarn),
		},
	}, nil
}

// bounded bounds how long a client may take to read an answer, and lets a request last
// that has no body to be read. A handler whose answer lasts sets a write deadline of its
// own.
func bounded(handler http.Handler, write time.Duration) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		connection := http.NewResponseController(w)
		if r.ContentLength == 0 {
			// All of it was read, and the deadline would end the request.
			_ = connection.SetReadDeadline(time.Time{})
		}
		_ = connection.SetWriteDeadline(time.Now().Add(write))
		handler.ServeHTTP(w, r)
	})
}

// Bind binds the address. The error shows no host that does not exist: something else
// can be given in its place.
func Bind(ctx context.Context, address string) (net.Listener, error) {
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", address)
	if _, unknown := errors.AsType[*net.DNSError](err); unknown {
		err = errors.New("its host cannot be looked up")
	}
	if err != nil {
		return nil, fmt.Errorf("serve HTTP on --http-addr: %w", err)
	}
	return listener, nil
}

// ProfilerPath is the pattern of what [Profiler] serves.
const ProfilerPath = "GET /debug/pprof/"

// Profiler serves the Go profiler. It shows the command line and whatever is in
// memory: only those who may see the status page may see it.
func Profiler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc(ProfilerPath, pprof.Index)
	mux.HandleFunc(ProfilerPath+"cmdline", pprof.Cmdline)
	mux.HandleFunc(ProfilerPath+"profile", pprof.Profile)
	mux.HandleFunc(ProfilerPath+"symbol", pprof.Symbol)
	mux.HandleFunc(ProfilerPath+"trace", pprof.Trace)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// The client says for how long a profile is taken.
		_ = http.NewResponseController(w).SetWriteDeadline(time.Time{})
		mux.ServeHTTP(w, r)
	})
}

// Handle serves the pattern, as [http.ServeMux.Handle] does. It is to be called
// before Serve.
func (s *Server) Handle(pattern string, handler http.Handler) { s.mux.Handle(pattern, handler) }

// AtShutdown has f called when the server begins to shut down, to end answers
// that last.
func (s *Server) AtShutdown(f func()) { s.server.RegisterOnShutdown(f) }

// BoundTo returns the address that the server is bound to.
func (s *Server) BoundTo() net.Addr { return s.listener.Addr() }

// Address returns the address that the server is bound to, with the port that
// was chosen when the configured one was 0.
func (s *Server) Address() string { return s.listener.Addr().String() }

// Serve serves until ctx ends, and then gives running requests a second.
func (s *Server) Serve(ctx context.Context) error {
	stopped := make(chan struct{})
	unregister := context.AfterFunc(ctx, func() {
		defer close(stopped)
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		if s.server.Shutdown(closing) != nil {
			_ = s.server.Close()
		}
	})
	err := s.server.Serve(s.listener)
	if !unregister() {
		<-stopped
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}
