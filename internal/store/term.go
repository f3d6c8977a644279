package store

import "errors"

// ErrLaterTerm reports that another worker leads in a later term than the caller's.
var ErrLaterTerm = errors.New("another worker leads in a later term")
