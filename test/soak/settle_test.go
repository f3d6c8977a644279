//go:build soak

package soak

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// settle waits until everything is as it should be, and also holds, and returns how long it took,
// empty when it took too long.
func (w *world) settle(after string, also func() bool) string {
	began := time.Now()
	for why, said := "", ""; ; time.Sleep(200 * time.Millisecond) {
		if why = w.unsettled(also); *keep != "" && why != said {
			fmt.Printf("%s soak %s: %s\n", time.Now().Format("15:04:05.000"), w.source, why)
			said = why
		}
		if why == "" {
			return time.Since(began).Round(100 * time.Millisecond).String()
		}
		if time.Since(began) > settleTime {
			w.violate(ruleConverge, "%s after %s: %s", settleTime, after, why)
			return ""
		}
	}
}

func (w *world) allReady() string {
	for _, p := range w.workers {
		if err := p.ready(); err != nil {
			return fmt.Sprintf("worker %d: %v", p.index, err)
		}
	}
	return ""
}

// stored says whether a state is recorded of every provider that is named.
func (w *world) stored() bool {
	recorded := w.recorded()
	w.mu.Lock()
	defer w.mu.Unlock()
	for name, p := range w.checker.tracks {
		if p.named && recorded[name] == "" {
			return false
		}
	}
	return true
}

// recorded reads the kind recorded of each provider; nil when it cannot.
func (w *world) recorded() map[string]string {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, w.url())
	if err != nil {
		return nil
	}
	defer func() { _ = conn.Close(ctx) }()
	rows, err := conn.Query(ctx, "SELECT provider, kind FROM provwatch.drift_state")
	if err != nil {
		return nil
	}
	kinds := map[string]string{}
	var name, kind string
	if _, err := pgx.ForEachRow(rows, []any{&name, &kind}, func() error {
		kinds[name] = kind
		return nil
	}); err != nil {
		return nil
	}
	return kinds
}

// notCompared reads which providers are listed as not comparable; nil when it cannot.
func (w *world) notCompared() map[string]bool {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, w.url())
	if err != nil {
		return nil
	}
	defer func() { _ = conn.Close(ctx) }()
	rows, err := conn.Query(ctx, "SELECT provider FROM provwatch.not_comparable WHERE reason <> ''")
	if err != nil {
		return nil
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil
	}
	listed := map[string]bool{}
	for _, name := range names {
		listed[name] = true
	}
	return listed
}

// unsettled says what is not yet as it should be, empty when all is.
func (w *world) unsettled(also func() bool) string {
	if why := w.allReady(); why != "" {
		return why
	}
	if why := w.sinksBehind(); why != "" {
		return why
	}
	recorded, notCompared := w.recorded(), w.notCompared()
	w.mu.Lock()
	defer w.mu.Unlock()
	if !also() {
		return "what was written or seeded is not there"
	}
	if waiting := w.checker.settled(); len(waiting) > 0 {
		return strings.Join(waiting, "; ")
	}
	for name, p := range w.checker.tracks {
		now := p.now().kind
		switch {
		case !p.named:
		case (now == notComparable) != notCompared[name]:
			return fmt.Sprintf("%s is %s, and listed among those that cannot be compared: %t", name, now, notCompared[name])
		case now != notComparable && recorded[name] != now, now == notComparable && recorded[name] != p.recorded.kind:
			return fmt.Sprintf("%s is %s and recorded as %q", name, now, recorded[name])
		}
	}
	return ""
}

// settled says of which providers something is left to be alerted.
func (c *checker) settled() (waiting []string) {
	for _, name := range slices.Sorted(maps.Keys(c.tracks)) {
		p := c.tracks[name]
		if p.named && p.now().kind != notComparable && !sameDrift(p.recorded, p.now()) {
			waiting = append(waiting, fmt.Sprintf("%s is %s and was last alerted as %s", name, p.now(), p.recorded))
		}
	}
	waiting = append(waiting, c.unsettledRows()...)
	for _, subject := range slices.Sorted(maps.Keys(c.silences.outlived())) {
		waiting = append(waiting, subject+" drifts, and its last alert is silenced")
	}
	if len(c.staged) > 0 {
		waiting = append(waiting, fmt.Sprintf("%d audit entries in the outbox", len(c.staged)))
	}
	return waiting
}
