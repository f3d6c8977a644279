package environment

// Option is how what is read of an environment differs from the usual.
type Option func(*options)

type options struct {
	// credentials of entries of one name must agree.
	credentials bool
	// Where the keys of an environment come from: see [KeysFrom].
	keysEnviron []string
	keysFile    string
}

// RequireCredentials makes it an error that entries of one name have different
// credentials (--compat=upstream-credentials).
func RequireCredentials() Option { return func(o *options) { o.credentials = true } }

func optionsOf(list []Option) options {
	var o options
	for _, option := range list {
		option(&o)
	}
	return o
}
