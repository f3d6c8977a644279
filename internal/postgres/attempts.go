package postgres

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// refusedTLS is how an attempt to connect to a server without TLS ends. With
// sslmode=prefer the next attempt is one without it.
const refusedTLS = "server refused TLS connection"

// connectError is an error whose attempts to connect are in the order of how much they
// tell.
type connectError struct {
	error
	text string
}

func (e *connectError) Error() string { return e.text }

func (e *connectError) Unwrap() error { return e.error }

// Brief returns err with a text of one line, in which the attempts to connect that it is
// about are in the order of how much they tell, each once: those that the server has
// answered come first. That a server refused TLS is left out where another attempt
// followed. Other errors are returned as they are.
func Brief(err error) error {
	var connect *pgconn.ConnectError
	var brief *connectError
	if errors.As(err, &brief) || !errors.As(err, &connect) {
		return err
	}
	joined, several := connect.Unwrap().(interface{ Unwrap() []error })
	if !several {
		return err
	}
	text := fmt.Sprintf("failed to connect to `user=%s database=%s`: %s", connect.Config.User, connect.Config.Database, attempts(joined.Unwrap()))
	return &connectError{err, strings.Replace(err.Error(), connect.Error(), text, 1)}
}

func attempts(all []error) string {
	tells := func(err error) int {
		var pg *pgconn.PgError
		switch {
		case errors.As(err, &pg):
			return 0
		case strings.Contains(err.Error(), refusedTLS):
			return 2
		}
		return 1
	}
	all = slices.Clone(all)
	slices.SortStableFunc(all, func(a, b error) int { return tells(a) - tells(b) })
	if tells(all[0]) < 2 {
		all = slices.DeleteFunc(all, func(err error) bool { return tells(err) == 2 })
	}
	var texts []string
	for _, err := range all {
		if text := err.Error(); !slices.Contains(texts, text) {
			texts = append(texts, text)
		}
	}
	return strings.Join(texts, "; ")
}

// differing are the parts in which errors about the same matter differ: processes, times, durations and ports.
var differing = regexp.MustCompile(`([0-9]+[hms]?)+`)

// Matter is what an error is about, so that it is logged once: whatever was being done, an
// error of the server's is the same.
func Matter(err error) string {
	text := Brief(err).Error()
	var refused *pgconn.PgError
	switch {
	case IsPooling(err):
		text = "a pooler"
	case errors.As(err, &refused):
		text = refused.Code + " " + refused.Message
	}
	return differing.ReplaceAllString(text, "0")
}
