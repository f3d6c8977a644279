package wal

import (
	"sync/atomic"

	"github.com/jackc/pglogrepl"
)

// marks are the positions that the goroutines of one stream share.
type marks struct {
	// confirmed is up to where the server may forget the WAL: no more than is stored. The
	// handler writes it; the stream and the monitor read it.
	confirmed sharedLSN
	// end is how far the server has got, as of its last message. The stream writes it; the
	// monitor reads it.
	end sharedLSN
}

// sharedLSN is a position that one goroutine writes and others read.
type sharedLSN struct{ position atomic.Uint64 }

func (s *sharedLSN) load() pglogrepl.LSN { return pglogrepl.LSN(s.position.Load()) }

func (s *sharedLSN) store(position pglogrepl.LSN) { s.position.Store(uint64(position)) }
