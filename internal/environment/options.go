package environment

// Option is how what is read of an environment differs from the usual.
type Option func(*options)

type options struct {
	prefixes prefixes
	// credentials of entries of one name must agree.
	credentials bool
	// Where the keys of an environment come from: see [KeysFrom].
	keysEnviron []string
	keysFile    string
	// files reads and records the files of the environment.
	files *files
}

// RequireCredentials makes it an error that entries of one name have different
// credentials (--compat=upstream-credentials).
func RequireCredentials() Option { return func(o *options) { o.credentials = true } }

// Prefix makes begins the only prefix of provider variables, instead of
// CODER_AIBRIDGE_ and its alias: one of several environments in one process. [Read]
// warns when no variable that begins so names a provider.
func Prefix(begins string) Option { return func(o *options) { o.prefixes = prefixes{begins} } }

// KeysFrom sets where the keys that encrypt secrets come from: file, which holds the value
// of [dbcrypt.KeysVariable]. Without a file, they come from environ, in the form of
// [os.Environ], unless the environment file sets them. It is for an environment that is
// read without the process's variables.
func KeysFrom(environ []string, file string) Option {
	return func(o *options) { o.keysEnviron, o.keysFile = environ, file }
}

func optionsOf(list []Option) options {
	o := options{prefixes: defaultPrefixes, files: &files{}}
	for _, option := range list {
		option(&o)
	}
	return o
}
