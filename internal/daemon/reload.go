package daemon

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"provwatch/internal/drift"
	"provwatch/internal/environment"
	"provwatch/internal/postgres"
	"provwatch/internal/provider"
	"provwatch/internal/pubsub"
	"provwatch/internal/reconcile"
	"provwatch/internal/remedy"
	"provwatch/internal/rollout"
	"provwatch/internal/schema"
	"provwatch/internal/seed"
	"provwatch/internal/status"
	"provwatch/internal/systemd"
	"provwatch/internal/verify"
)

const (
	// reloadPause is the wait before a reload is retried.
	reloadPause = time.Second
	// noticesTimeout bounds how long a start or a reload looks for providers that the gateway
	// does not serve. Nothing but the next reload waits for it.
	noticesTimeout = 10 * time.Second
)

// reloader reads the environment again. It has a goroutine of its own.
type reloader struct {
	options    Options
	pool       *pgxpool.Pool
	pending    *verify.Queue
	verifier   *verify.Verifier
	membership *membership
	files      *files
	privileges *privileges
	metrics    *instruments
	member     *systemd.Member
	// unsupported is [displayedRun.unsupported].
	unsupported *atomic.Pointer[[]string]

	// fileVariables is that of the environment in use.
	fileVariables int
	// applying is the environment that an apply has begun with, until it is in use; nil for none.
	applying *applying
}

// applying is an environment that is compared with already, while it is applied.
type applying struct {
	read        environment.Environment
	supported   []provider.Desired
	unsupported []string
}

// run reloads at each request, of SIGHUP or of the watch of files, until ctx ends. It retries while the database is away, since
// no second request comes for that.
func (r *reloader) run(ctx context.Context, reload <-chan struct{}) {
	// A reload that is retried when the run ends is over: the next run reads the environment.
	defer r.member.Reloaded()
	// Here, so that the start does not wait for it.
	r.warnOfUnserved(ctx)
	var retry <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-reload:
		case <-retry:
		}
		retry = nil
		r.member.Reloading()
		if !r.reload(ctx) {
			retry = time.After(reloadPause)
			continue
		}
		r.member.Reloaded()
	}
}

// reload reads the environment, and with it the keys that encrypt secrets. One that cannot
// be used is reported and changes nothing. It returns false when the caller must retry.
func (r *reloader) reload(ctx context.Context) (done bool) {
	read, err := r.options.Reader.ReadEnvironment()
	if err != nil {
		r.refuse(ctx, "the environment cannot be used, keeping the one in use", err)
		return true
	}
	if empty := r.asEmpty(read); empty != nil {
		r.refuse(ctx, "the environment cannot be used, keeping the one in use", empty,
			"remedy", remedy.Advice{remedy.NameProviders(), "; to watch nothing, restart the worker"})
		return true
	}
	supported, unsupported, err := seed.Supported(ctx, r.pool, read.Providers)
	if ctx.Err() != nil {
		return true
	}
	if postgres.IsConnectionLoss(err) {
		r.options.Logger.WarnContext(ctx, "could not reload the environment while the database is unreachable, retrying",
			"error", err, "retry_in", reloadPause)
		return false
	}
	if err != nil {
		err = schema.Explain(ctx, r.pool, r.privileges.use(), err)
		r.refuse(ctx, "the environment cannot be compared with the database, keeping the one in use", err)
		return true
	}
	for _, warning := range read.Warnings {
		r.options.Logger.WarnContext(ctx, warning.Message, "variable", warning.Variable)
	}
	seed.LogUnsupported(ctx, r.options.Logger, unsupported)
	seed.WarnOfNoProviders(ctx, r.options.Logger, len(read.Providers))
	names := provider.Names(unsupported)
	r.unsupported.Store(&names)
	names = slices.Concat(names, read.Skipped)
	if r.options.ApplyReloadDrift {
		if !r.apply(ctx, read, supported, names) {
			return false
		}
	}
	r.use(ctx, read, supported, names)
	r.pending.Add(verify.Everything(pubsub.SourceReload).After(verify.Reloaded))
	r.warnOfUnserved(ctx)
	return true
}

// apply writes to the rows what the environment has changed. Meanwhile the worker compares
// with it, and does not alert what the apply is about to end. The verification that follows alerts the
// refused providers. It returns false when the caller must retry.
func (r *reloader) apply(ctx context.Context, read environment.Environment, supported []provider.Desired, unsupported []string) (done bool) {
	credentials := drift.IgnoreCredentials
	if r.options.RequireCredentials {
		credentials = drift.RequireCredentials
	}
	r.applying = &applying{read, supported, unsupported}
	r.verifier.BeginApply(supported, unsupported...)
	r.options.Keys.Replace(read.Keys)
	outcomes, err := reconcile.Apply(ctx, r.pool, r.options.Keys, supported, reconcile.ApplyRequest{
		Credentials: credentials, Member: r.membership.member, Environment: supported,
	})
	var older *rollout.OlderError
	switch {
	case ctx.Err() != nil:
		return true
	case postgres.IsConnectionLoss(err):
		r.options.Logger.WarnContext(ctx, "could not apply the environment while the database is unreachable, retrying", "error", err, "retry_in", reloadPause)
		return false
	case errors.As(err, &older):
		r.options.Logger.WarnContext(ctx, "nothing is applied: the environment is older than that of another worker", older.Attributes()...)
		return true
	case err != nil:
		err = schema.Explain(ctx, r.pool, r.privileges.use(), err)
		r.options.Logger.ErrorContext(ctx, "the environment could not be applied; what differs is alerted", "error", err, "remedy", remedy.Advice{remedy.Run("apply")})
		return true
	}
	for _, o := range outcomes {
		logApplied(ctx, r.options.Logger, o)
	}
	return true
}

// logApplied logs what an apply did about a provider, if anything.
func logApplied(ctx context.Context, logger *slog.Logger, o reconcile.Applied) {
	about := []any{"provider", o.Provider, "provider_id", o.ProviderID.String()}
	switch o.Action {
	case drift.ApplyUpdate:
		seed.LogUpdated(ctx, logger, o.Provider, o.ProviderID, o.WrittenFields())
	case drift.ApplyInsert:
		logger.InfoContext(ctx, "provider seeded", about...)
	case drift.ApplyRefused:
		logger.WarnContext(ctx, "provider was not applied", append(about, "reason", o.Why,
			"remedy", remedy.Advice{remedy.Run("resolve", o.Provider, "--take", "env"), ", or ", remedy.Run("resolve", o.Provider, "--take", "db")})...)
	}
}

// asEmpty is the error of an environment that names nothing any more, nil for another. A
// file that was emptied, or is being written, must not end the watch of all, nor of what the
// process's own variables do not name.
func (r *reloader) asEmpty(read environment.Environment) error {
	switch {
	case len(read.Providers) == 0 && r.verifier.Providers() > 0:
		return seed.ErrNoProviders
	case read.FileVariables == 0 && r.fileVariables > 0:
		return errors.New("its file sets no provider variable any more")
	}
	return nil
}

// use has the worker compare with the environment from now on.
func (r *reloader) use(ctx context.Context, read environment.Environment, supported []provider.Desired, unsupported []string) {
	// First of all: a verification under way must not compare the former environment with what
	// the new keys alone decode. A row that needs them cannot be compared until they are there.
	r.verifier.SetDesired(supported, unsupported...)
	r.options.Keys.Replace(read.Keys)
	r.applying = nil
	r.membership.wake()
	r.fileVariables = read.FileVariables
	r.metrics.loaded(read.Files)
	r.files.wake()
	r.metrics.Watching(len(supported))
	r.options.Logger.InfoContext(ctx, "environment reloaded", "providers", len(supported))
}

// refuse reports a reload that changes nothing. When it is logged, it shows everywhere else. It can
// be the retry of an apply, which is given up: what differs from its environment is then alerted.
func (r *reloader) refuse(ctx context.Context, message string, err error, more ...any) {
	if begun := r.applying; begun != nil {
		r.options.Logger.WarnContext(ctx, "the environment that was read before is in use, and was not applied; what differs is alerted",
			"remedy", remedy.Advice{remedy.Run("apply")})
		r.use(ctx, begun.read, begun.supported, begun.unsupported)
		r.pending.Add(verify.Everything(pubsub.SourceReload).After(verify.Reloaded))
	}
	r.metrics.refused(err)
	r.files.wake()
	r.options.Logger.ErrorContext(ctx, message, append([]any{"error", err}, more...)...)
}

// warnOfUnserved warns of providers that the gateway does not serve as their rows suggest.
func (r *reloader) warnOfUnserved(ctx context.Context) {
	limited, cancel := context.WithTimeout(ctx, noticesTimeout)
	defer cancel()
	notices, err := status.NoticeUnserved(limited, r.pool, r.options.Keys)
	if err != nil && ctx.Err() == nil {
		r.options.Logger.WarnContext(ctx, "could not determine what the gateway serves", "error", err)
	}
	status.LogNotices(ctx, r.options.Logger, notices)
}
