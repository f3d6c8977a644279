package main

import (
	"context"
	"log/slog"
	"os"

	"provwatch/internal/dbcrypt"
	"provwatch/internal/environment"
	"provwatch/internal/filewatch"
	"provwatch/internal/regularfile"
	"provwatch/internal/remedy"
)

// readEnvironment reads the environment of the target, or that of the process.
func (f *flags) readEnvironment() (environment.Environment, error) {
	switch t := f.target; {
	case t != nil && t.EnvFile != "":
		return environment.Read(nil, t.EnvFile, f.reading()...)
	case t != nil:
		return environment.Read(os.Environ(), "", append(f.reading(), environment.Prefix(t.EnvPrefix))...)
	}
	if err := f.needTarget(); err != nil {
		return environment.Environment{}, err
	}
	return environment.Read(os.Environ(), f.envFile, f.reading()...)
}

// environment reads the environment and logs what it warns of. Commands call it
// before they open the database: it is checked before anything connects.
func (f *flags) environment(ctx context.Context, logger *slog.Logger) (environment.Environment, error) {
	environment, err := f.readEnvironment()
	if err == nil {
		logWarnings(ctx, logger, environment)
	}
	return environment, err
}

func logWarnings(ctx context.Context, logger *slog.Logger, environment environment.Environment) {
	for _, warning := range environment.Warnings {
		logger.WarnContext(ctx, warning.Message, "variable", warning.Variable)
	}
}

// readKeys reads the keys that encrypt secrets, and nothing else of the environment.
func (f *flags) readKeys() (*dbcrypt.Ring, error) {
	environ, file := os.Environ(), f.envFile
	if f.target != nil {
		environ, file = nil, f.target.EnvFile
	} else if err := f.needTarget(); err != nil {
		return nil, err
	}
	keys, err := environment.ReadKeys(environ, file, f.reading()...)
	return dbcrypt.NewRing(keys), err
}

// reading is how the environment is read: the keys that encrypt secrets are the process's
// where a target has none of its own.
func (f *flags) reading() (options []environment.Option) {
	if f.requiresCredentials() {
		options = append(options, environment.RequireCredentials())
	}
	if f.target != nil {
		options = append(options, environment.KeysFrom(os.Environ(), f.target.EncryptionKeysFile))
	}
	return options
}

const (
	readByOthers       = "every user of this machine can read the file, which can hold secrets"
	readByOthersRemedy = "chmod o-r "
)

// warnOfReaders warns of each file of secrets, empty for none, that every user of the
// machine can read. A file that others may write to is refused where it is read.
func warnOfReaders(ctx context.Context, logger *slog.Logger, files ...string) {
	for _, file := range files {
		if file != "" && regularfile.ReadableByOthers(file) {
			logger.WarnContext(ctx, readByOthers, "file", file, "remedy", readByOthersRemedy+remedy.Quote(file))
		}
	}
}

// environmentReader is the [daemon.EnvironmentReader] of flags.
type environmentReader struct {
	flags *flags
	// files are watched from each read on; nil with --env-reload=signal.
	files *filewatch.Files
}

// ReadEnvironment implements [daemon.EnvironmentReader]. It warns of each file of the
// environment that every user of the machine can read.
func (r environmentReader) ReadEnvironment() (environment.Environment, error) {
	env, err := r.flags.readEnvironment()
	if r.files != nil {
		r.files.Read(env.Files)
	}
	if err != nil {
		return env, err
	}
	for _, file := range env.Files {
		if regularfile.ReadableByOthers(file.Path) {
			env.Warnings = append(env.Warnings, environment.Finding{
				Variable: file.Path, Message: readByOthers + "; run: " + readByOthersRemedy + remedy.Quote(file.Path),
			})
		}
	}
	return env, nil
}
