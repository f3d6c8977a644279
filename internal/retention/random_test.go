package retention

import (
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// recorded is an alert of the model, which knows all that there ever was.
type recorded struct {
	seq            int64
	kind, provider string
	old, dead      bool
}

func (r recorded) String() string { return fmt.Sprint(r.seq, " ", r.kind, " ", r.provider) }

// model is the sequence of alerts with nothing pruned, and how far two sinks are. Its
// methods are the steps of a random history.
type model struct {
	h       *history
	alerts  []recorded
	cursors map[string]int64
	old     int    // how many of the alerts are old
	slow    *round // that prunes a page at a time, between the other steps
}

// isFiring reports whether a provider drifts, by its last alert up to a seq.
func isFiring(alerts []recorded, provider string, seq int64) (kind string) {
	for _, a := range alerts {
		if a.provider == provider && a.seq <= seq {
			kind = a.kind
		}
	}
	if kind == "resolved" {
		return ""
	}
	return kind
}

// Record records an alert, as a worker does.
func (m *model) Record(t *rapid.T) {
	provider := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "provider")
	kind := rapid.SampledFrom([]string{"changed", "disabled"}).Draw(t, "kind")
	if isFiring(m.alerts, provider, math.MaxInt64) != "" && rapid.Bool().Draw(t, "ends") {
		kind = "resolved"
	}
	m.h.alert(time.Hour, kind+" "+provider)
	m.alerts = append(m.alerts, recorded{seq: int64(len(m.alerts) + 1), kind: kind, provider: provider})
}

// Age makes more alerts old.
func (m *model) Age(t *rapid.T) {
	m.old = min(m.old+rapid.IntRange(1, 9).Draw(t, "alerts"), len(m.alerts))
	for i := range m.old {
		m.alerts[i].old = true
	}
	m.h.exec(`UPDATE provwatch.drift_alerts SET detected_at = now() - interval '100 days' WHERE seq <= $1`, m.old)
}

// Deliver moves the cursor of a sink: events were acknowledged, or are dead letters.
func (m *model) Deliver(t *rapid.T) {
	sink := rapid.SampledFrom([]string{"webhook", "alertmanager"}).Draw(t, "sink")
	for range rapid.IntRange(1, 6).Draw(t, "events") {
		next := m.cursors[sink]
		if next == int64(len(m.alerts)) {
			break
		}
		if rapid.IntRange(0, 9).Draw(t, "refuses") == 0 && sink == "webhook" {
			m.h.letter("drift", next+1)
			m.alerts[next].dead = true
		}
		m.cursors[sink]++
	}
	m.h.cursor(sink, "drift", m.cursors[sink])
}

// Retry has the dead letters delivered.
func (m *model) Retry(*rapid.T) {
	m.h.exec(`DELETE FROM provwatch.sink_dead_letters`)
	for i := range m.alerts {
		m.alerts[i].dead = false
	}
}

// Step prunes a page.
func (m *model) Step(t *rapid.T) {
	if m.slow == nil {
		m.slow = &round{pool: m.h.pool, keep: keep, pageSize: rapid.IntRange(1, 4).Draw(t, "page")}
	}
	_, more, err := m.slow.step(t.Context())
	require.NoError(t, err)
	if !more {
		m.slow = nil
	}
}

// Prune prunes. All that is not needed goes.
func (m *model) Prune(t *rapid.T) {
	r := round{pool: m.h.pool, keep: keep, pageSize: rapid.IntRange(1, 8).Draw(t, "page")}
	for more := true; more; {
		var err error
		_, more, err = r.step(t.Context())
		require.NoError(t, err)
	}
	var want []string
	for _, a := range m.alerts {
		if m.isNeeded(a) {
			want = append(want, a.String())
		}
	}
	require.Equal(t, want, m.left(t), "of %v, cursors %v", m.alerts, m.cursors)
}

// isNeeded reports, without a statement of the product's, whether an alert must stay.
func (m *model) isNeeded(a recorded) bool {
	had := min(m.cursors["webhook"], m.cursors["alertmanager"])
	if !a.old || a.dead || a.seq > had || a.seq == int64(len(m.alerts)) {
		return true
	}
	last := true
	for _, other := range m.alerts {
		if other.provider != a.provider {
			continue
		}
		if other.dead && other.seq < a.seq {
			return true
		}
		if other.seq > a.seq && other.seq <= had {
			last = false
		}
	}
	return last && a.kind != "resolved"
}

// left returns the alerts that are in the table.
func (m *model) left(t *rapid.T) []string {
	t.Helper()
	rows := m.h.alerts()
	if len(rows) == 0 {
		return nil
	}
	return rows
}

// Check holds what must be at any time.
func (m *model) Check(t *rapid.T) {
	left := m.left(t)
	var there []recorded
	for _, a := range m.alerts {
		switch {
		case slices.Contains(left, a.String()):
			there = append(there, a)
		case m.isNeeded(a):
			t.Fatalf("%s was pruned and is needed, of %v, cursors %v", a, m.alerts, m.cursors)
		case a.seq > m.h.pruned("drift"):
			t.Fatalf("%s was pruned, and only those up to %d count as pruned", a, m.h.pruned("drift"))
		}
	}
	require.Len(t, left, len(there), "nothing else is there")
	for _, provider := range []string{"a", "b", "c"} {
		for _, seq := range []int64{m.cursors["webhook"], m.cursors["alertmanager"], math.MaxInt64} {
			require.Equal(t, isFiring(m.alerts, provider, seq), isFiring(there, provider, seq), "%s, as of %d", provider, seq)
		}
	}
}

// TestRandom prunes between records and deliveries at random. The alerts that a model of the
// whole history needs stay, and all others are deleted. The model needs the last alert, dead
// letters, and the alerts that a sink has not had. It also needs the alerts that show how each
// provider is, and how it was when each sink was last sent it.
func TestRandom(t *testing.T) {
	t.Parallel()
	h := newHistory(t)
	rapid.Check(t, func(t *rapid.T) {
		h.exec(`TRUNCATE provwatch.drift_alerts, provwatch.sink_cursors, provwatch.sink_dead_letters, provwatch.pruned`)
		h.exec(`UPDATE provwatch.alert_counter SET last_seq = 0`)
		m := &model{h: h, cursors: map[string]int64{"webhook": 0, "alertmanager": 0}}
		h.cursor("webhook", "drift", 0)
		h.cursor("alertmanager", "drift", 0)
		t.Repeat(map[string]func(*rapid.T){
			"record": m.Record, "record another": m.Record, "age": m.Age, "deliver": m.Deliver, "deliver another": m.Deliver,
			"retry": m.Retry, "prune a page": m.Step, "prune another page": m.Step, "prune": m.Prune, "": m.Check,
		})
	})
}
