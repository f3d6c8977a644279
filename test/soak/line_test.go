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
	plug  sync.Mutex // held while the proxy is started, stopped or replaced
}

func newLine(w *world, name, to string) *line {
	l := &line{w: w, name: name, proxy: newProxy(name, "127.0.0.1:0", to)}
	require.NoError(w.t, l.proxy.Start())
	return l
}

// toxic adds a toxic to the proxy and returns what removes it.
func (l *line) toxic(name, kind, stream, attributes string) (remove func()) {
	proxy := l.current()
	l.unstuck(proxy, func() {
		_, err := proxy.Toxics.AddToxicJson(strings.NewReader(fmt.Sprintf(
			`{"name": %q, "type": %q, "stream": %q, "toxicity": 1, "attributes": %s}`, name, kind, stream, attributes)))
		if err != nil {
			l.w.violate(ruleHistory, "add a toxic: %v", err)
		}
	})
	return func() { l.unstuck(proxy, func() { _ = proxy.Toxics.RemoveToxic(context.Background(), name) }) }
}

// current returns the proxy.
func (l *line) current() *toxiproxy.Proxy {
	l.plug.Lock()
	defer l.plug.Unlock()
	return l.proxy
}

// unstuck changes the toxics of a proxy, which waits for each of its streams. One that
// nobody reads is closed after a while, with all others; where that does not help either,
// a new proxy takes the place of this one.
func (l *line) unstuck(proxy *toxiproxy.Proxy, change func()) {
	changed := make(chan struct{})
	go func() {
		defer close(changed)
		change()
	}()
	within := func(d time.Duration) bool {
		select {
		case <-changed:
			return true
		case <-time.After(d):
			return false
		}
	}
	if within(3 * time.Second) {
		return
	}
	l.unplug()
	if !within(3 * time.Second) {
		l.plug.Lock()
		if l.proxy == proxy {
			l.proxy = newProxy(l.name, proxy.Listen, proxy.Upstream)
		}
		l.plug.Unlock()
	}
	l.replug()
}

func newProxy(name, listen, upstream string) *toxiproxy.Proxy {
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	return toxiproxy.NewProxy(server, strings.ReplaceAll(name, " ", "-"), listen, upstream)
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
