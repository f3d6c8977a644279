package time

import "sync/atomic"

// WallMoved points to the seconds by which the wall clock is moved, nil for none.
var WallMoved atomic.Pointer[int64]

func moved() int64 {
	if seconds := WallMoved.Load(); seconds != nil {
		return atomic.LoadInt64(seconds)
	}
	return 0
}
