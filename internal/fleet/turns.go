package fleet

import (
	"context"
	"sync"
	"time"
)

const (
	// bootsAtOnce is how many targets of one server boot at a time, each of which
	// may open three connections, and bootTurn how long one can keep others waiting.
	bootsAtOnce = 8
	bootTurn    = 5 * time.Second
)

// turns let a few targets of one server boot at a time. The servers are added before any
// target runs; afterwards several goroutines take turns.
type turns struct {
	byServer map[string]chan struct{} // a value in the channel is a turn that is taken
	limit    time.Duration            // how long a turn is at most
}

func newTurns() *turns { return &turns{byServer: map[string]chan struct{}{}, limit: bootTurn} }

// add adds a server, which may be known.
func (t *turns) add(server string) {
	if t.byServer[server] == nil {
		t.byServer[server] = make(chan struct{}, bootsAtOnce)
	}
}

// take waits for a turn to boot, which ends by itself after a while, so that those
// that hang do not keep the others waiting for ever.
func (t *turns) take(ctx context.Context, server string) (done func(), err error) {
	taken := t.byServer[server]
	select {
	case taken <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	giveBack := sync.OnceFunc(func() { <-taken })
	timer := time.AfterFunc(t.limit, giveBack)
	return func() {
		timer.Stop()
		giveBack()
	}, nil
}
