package main

import (
	"context"
	"log/slog"

	"provwatch/internal/environment"
	"provwatch/internal/regularfile"
)

const (
	readByOthers       = "every user of this machine can read the file, which can hold secrets"
	readByOthersRemedy = "chmod o-r "
)

// warnOfReaders warns of each file of secrets, empty for none, that every user of the
// machine can read. A file that others may write to is refused where it is read.
func warnOfReaders(ctx context.Context, logger *slog.Logger, files ...string) {
	for _, file := range files {
		if file != "" && regularfile.ReadableByOthers(file) {
			logger.WarnContext(ctx, readByOthers, "file", file, "remedy", readByOthersRemedy+quoted(file))
		}
	}
}

// withReaders reads an environment, at the start and at each reload, and warns when
// every user of the machine can read its file, empty for none, or the file of the keys
// that encrypt secrets.
func withReaders(read func() (environment.Environment, error), file string) func() (environment.Environment, error) {
	return func() (environment.Environment, error) {
		env, err := read()
		for _, file := range []string{file, env.KeysFile} {
			if err == nil && file != "" && regularfile.ReadableByOthers(file) {
				env.Warnings = append(env.Warnings, environment.Finding{
					Variable: file, Message: readByOthers + "; run: " + readByOthersRemedy + quoted(file),
				})
			}
		}
		return env, err
	}
}
