package seed

import "provwatch/internal/dbcrypt"

// Option is how a seed or a plan differs from the usual.
type Option func(*options)

type options struct {
	keys *dbcrypt.Ring
	// credentials must agree as well.
	credentials bool
	// flags select a target of --config.
	flags    string
	remedies Remedies
	// announce what is inserted to whoever listens for changed providers.
	announce bool
}

// WithKeys encrypts and decrypts with the keys given. Without it no key is configured.
func WithKeys(keys *dbcrypt.Ring) Option { return func(o *options) { o.keys = keys } }

// Announce makes a seed that inserts something send one empty notification on
// ai_providers_changed with its commit, for a gateway that runs already
// (docs/specification.md, section 4).
func Announce() Option { return func(o *options) { o.announce = true } }

// RequireCredentials makes it a drift that the credentials of a live row are
// other than the environment's, whatever their order, as the public gateway has
// it (--compat=upstream-credentials). No acceptance holds for such a drift, since
// nothing is stored of credentials that it could be tied to. Credentials that
// cannot be decrypted make the row one that cannot be compared.
func RequireCredentials() Option { return func(o *options) { o.credentials = true } }

// ForTarget makes messages those of a target of --config, which the flags given
// select. They begin with a space.
func ForTarget(flags string) Option { return func(o *options) { o.flags = flags } }

// Remedies are the ways out of a drift as messages name them: commands that work as
// they are printed.
type Remedies struct {
	// Command is how this program is called; empty for "worker".
	Command string
	// Flags follow "resolve NAME --take …", each after a space.
	Flags string
	// Tolerate is how the worker starts in spite of a drift; empty for no such way.
	Tolerate string
}

// WithRemedies names these ways out.
func WithRemedies(r Remedies) Option { return func(o *options) { o.remedies = r } }

func optionsOf(list []Option) options {
	var o options
	for _, option := range list {
		option(&o)
	}
	return o
}
