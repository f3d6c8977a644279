package seed

import "provwatch/internal/dbcrypt"

// Option is how a seed or a plan differs from the usual.
type Option func(*options)

type options struct {
	keys *dbcrypt.Ring
	// credentials must agree as well.
	credentials bool
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
// cannot be decrypted make the row not comparable.
func RequireCredentials() Option { return func(o *options) { o.credentials = true } }

func optionsOf(list []Option) options {
	var o options
	for _, option := range list {
		option(&o)
	}
	return o
}
