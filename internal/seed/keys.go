package seed

import (
	"github.com/google/uuid"

	"provwatch/internal/provider"
	"provwatch/internal/secret"
)

// Keys encrypts what is stored as a secret, and decodes what is stored so.
type Keys interface {
	// SealSettings and SealKey return a secret of the row with the id as it is to
	// be stored, and the id of the key that it is encrypted with, empty for plain
	// text.
	SealSettings(id uuid.UUID, plain secret.Text) (stored, keyID string, err error)
	SealKey(id uuid.UUID, plain secret.Text) (stored, keyID string, err error)
	// OpenRow decodes what the row holds encrypted, its credentials only when asked.
	OpenRow(row *provider.Row, credentials bool)
}

// Option is how a seed, a plan, or what is read of an environment differs from the
// usual.
type Option func(*options)

type options struct {
	keys Keys
	// credentials must agree as well.
	credentials bool
	// flags select a target of --config.
	flags    string
	remedies Remedies
	// announce what is inserted to whoever listens for changed providers.
	announce bool
}

// WithKeys encrypts and decrypts with the keys given. Without it everything is
// stored in plain text, and encrypted settings cannot be decoded.
func WithKeys(keys Keys) Option { return func(o *options) { o.keys = keys } }

// Announce makes a seed that inserts something send one empty notification on
// ai_providers_changed with its commit, for a gateway that runs already (spec section 4).
func Announce() Option { return func(o *options) { o.announce = true } }

// RequireCredentials makes it a drift that the credentials of a live row are
// other than the environment's, whatever their order, as the public gateway has
// it (--compat=upstream-credentials). No acceptance holds for such a drift, since
// nothing is stored of credentials that it could be tied to. Credentials that
// cannot be decrypted make the row one that cannot be compared. In an environment,
// entries of one name must have the same credentials.
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
	o := options{keys: plainText{}}
	for _, option := range list {
		option(&o)
	}
	return o
}

// plainText are the [Keys] of whoever has none.
type plainText struct{}

func (plainText) SealSettings(_ uuid.UUID, plain secret.Text) (stored, keyID string, err error) {
	return plain.Reveal(), "", nil
}

func (plainText) SealKey(_ uuid.UUID, plain secret.Text) (stored, keyID string, err error) {
	return plain.Reveal(), "", nil
}

func (plainText) OpenRow(*provider.Row, bool) {}
