//go:build soak

package soak

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"
)

// line is the way to a server, by a proxy that can spoil it.
type line struct {
	w     *world
	name  string
	proxy *toxiproxy.Proxy
	plug  sync.Mutex // held while the proxy is started or stopped
}

func newLine(w *world, name, to string) *line {
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	l := &line{w: w, name: name, proxy: toxiproxy.NewProxy(server, strings.ReplaceAll(name, " ", "-"), "127.0.0.1:0", to)}
	require.NoError(w.t, l.proxy.Start())
	return l
}

// toxic adds a toxic to the proxy and returns what removes it.
func (l *line) toxic(name, kind, stream, attributes string) (remove func()) {
	l.unstuck(func() {
		_, err := l.proxy.Toxics.AddToxicJson(strings.NewReader(fmt.Sprintf(
			`{"name": %q, "type": %q, "stream": %q, "toxicity": 1, "attributes": %s}`, name, kind, stream, attributes)))
		if err != nil {
			l.w.violate(ruleHistory, "add a toxic: %v", err)
		}
	})
	return func() { l.unstuck(func() { _ = l.proxy.Toxics.RemoveToxic(context.Background(), name) }) }
}

// unstuck changes the toxics of the proxy, which waits for each of its streams: one that
// nobody reads is closed, with all others, after a while.
func (l *line) unstuck(change func()) {
	changed := make(chan struct{})
	go func() {
		defer close(changed)
		change()
	}()
	select {
	case <-changed:
	case <-time.After(3 * time.Second):
		l.unplug()
		<-changed
		l.replug()
	}
}

func (l *line) unplug() {
	l.plug.Lock()
	defer l.plug.Unlock()
	l.proxy.Stop()
}

func (l *line) replug() {
	l.plug.Lock()
	defer l.plug.Unlock()
	for range 50 {
		err := l.proxy.Start()
		if err == nil || errors.Is(err, toxiproxy.ErrProxyAlreadyStarted) {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	l.w.violate(ruleHistory, "the proxy of %s does not start again", l.name)
}
