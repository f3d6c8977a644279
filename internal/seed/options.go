package seed

import (
	"context"

	"provwatch/internal/dbcrypt"
	"provwatch/internal/drift"
	"provwatch/internal/provider"
	"provwatch/internal/rollout"
	"provwatch/internal/store"
)

// Option is how a seed differs from the usual.
type Option func(*options)

type options struct {
	keys *dbcrypt.Ring
	// credentials is [drift.RequireCredentials] where they must agree as well.
	credentials drift.CredentialMode
	// announce what is inserted to whoever listens for changed providers.
	announce bool
	// apply what the environment has changed.
	apply  bool
	member *rollout.Member // nil where other environments do not matter
}

// WithKeys encrypts and decrypts with the keys given. Without it no key is configured.
func WithKeys(keys *dbcrypt.Ring) Option { return func(o *options) { o.keys = keys } }

// Announce makes a seed that inserts something send one empty notification on
// ai_providers_changed with its commit, for a gateway that runs already
// (docs/specification.md, section 4).
func Announce() Option { return func(o *options) { o.announce = true } }

// Apply makes a seed write to the rows what the environment has changed since both sides last
// agreed ([drift.Step.Apply]). Where one provider is refused, nothing is written.
func Apply() Option { return func(o *options) { o.apply = true } }

// RequireCredentials makes credentials that differ a drift: see
// [drift.RequireCredentials]. Without it a seed ignores them.
func RequireCredentials() Option {
	return func(o *options) { o.credentials = drift.RequireCredentials }
}

// As records the environment of a seed as that of a worker, with the next generation. The seed
// fails with a [*rollout.OlderError], and writes nothing, where the environment is older than
// that of another worker. Without it other environments do not matter.
func As(member *rollout.Member) Option { return func(o *options) { o.member = member } }

// takeGeneration has the environment recorded in the transaction tx.
func (o options) takeGeneration(ctx context.Context, tx store.DBTX, h provider.Hasher, supported []provider.Desired) error {
	if o.member == nil {
		return nil
	}
	_, err := o.member.Take(ctx, tx, h, supported)
	return err
}

// refuseOlder fails with a [*rollout.OlderError] where the environment is older than that of
// another worker, and gives it no generation.
func (o options) refuseOlder(ctx context.Context, tx store.DBTX, h provider.Hasher, supported []provider.Desired) error {
	if o.member == nil {
		return nil
	}
	if err := o.member.See(ctx, tx, h, supported); err != nil {
		return err
	}
	if older := o.member.Older(); older != nil {
		return older
	}
	return nil
}

func optionsOf(list []Option) options {
	o := options{credentials: drift.IgnoreCredentials}
	for _, option := range list {
		option(&o)
	}
	return o
}
