package main

import (
	"context"
	"log/slog"

	"provwatch/internal/regularfile"
	"provwatch/internal/seed"
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
func withReaders(read func() (seed.Environment, error), file string) func() (seed.Environment, error) {
	return func() (seed.Environment, error) {
		environment, err := read()
		for _, file := range []string{file, environment.KeysFile} {
			if err == nil && file != "" && regularfile.ReadableByOthers(file) {
				environment.Warnings = append(environment.Warnings, seed.Finding{
					Variable: file, Message: readByOthers + "; run: " + readByOthersRemedy + quoted(file),
				})
			}
		}
		return environment, err
	}
}
