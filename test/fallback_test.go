//go:build e2e

package test

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestFallback(t *testing.T) {
	t.Parallel()
	t.Run("StatesOfTheWAL", testFallbackStatesOfTheWAL)
	t.Run("SlotHolderDoesNotEnd", testFallbackSlotHolderDoesNotEnd)
	t.Run("UnreadWALIsAGap", testFallbackUnreadWALIsAGap)
	t.Run("StaysReady", testFallbackStaysReady)
	t.Run("ReturnsToTheWAL", testFallbackReturnsToTheWAL)
}

// testFallbackStatesOfTheWAL makes each state of docs/readiness.md in which no
// alert comes from the WAL alone. With --source=auto it comes from notifications while the
// state lasts, or the worker stays with the WAL and is not ready.
func testFallbackStatesOfTheWAL(t *testing.T) {
	t.Parallel()
	for _, u := range unreadyStates {
		if len(u.sources) != 1 || u.sources[0] != "wal" {
			continue
		}
		t.Run(u.state, func(t *testing.T) {
			t.Parallel()
			// On a server of its own: a transaction of another test would hold up the creation
			// of the slot, and the worker would not begin with the WAL.
			u.server = true
			if u.stays {
				u.flags = []string{"--source=auto"}
				require.Zero(t, u.run(t, "wal").logged("alerts come from this source instead"))
				return
			}
			s, start := u.arrange(t, "auto")
			end := u.begin(s)
			if u.boot {
				start()
			}
			change := u.change
			if change == nil {
				change = (*stated).disable
			}
			alert := change(s)
			s.p.waitFor("alerts come from this source instead", "source=notify")
			eventually(t, func() bool {
				return s.count(`SELECT count(*) FROM provwatch.drift_alerts WHERE rtrim(kind || ' ' || provider) = $1 AND source <> 'wal'`, alert) == 1
			}, "the alert comes, have %s", lazily(s.alerts))
			s.waitUntilReady()
			end()
			s.p.stop()
		})
	}
}

// noticed is a change that the worker has noticed within seconds when the alert of another
// one has just come: it then measures the slot twice, and looks at the publication with it.
const noticed = `ALTER PUBLICATION provwatch DROP TABLE ai_provider_keys`

// testFallbackSlotHolderDoesNotEnd stops the server's process of the stream, which the server
// cannot end then, and has the worker give the slot up. The worker owns the tables.
func testFallbackSlotHolderDoesNotEnd(t *testing.T) {
	t.Parallel()
	arrange := func(t *testing.T, source string) (s *stated, thaw func()) {
		s = &stated{world: newWorldOf(t, source)}
		s.login = map[string]string{}
		s.p = s.start(s.twoProviders(), append([]string{"run", "--http-addr=127.0.0.1:0", "--resync=24h"}, shortLimits...)...).ready()
		s.p.waitFor("alerts come from this source now", "source=wal")
		s.waitUntilReady()
		s.exec(`UPDATE ai_providers SET enabled = false WHERE name = 'openai'`)
		s.expectAlerts("disabled openai")
		thaw = s.freeze(`backend_type = 'walsender'`)
		s.exec(noticed)
		s.p.waitFor("replication slot given up", "no longer published")
		s.exec(`UPDATE ai_providers SET enabled = true WHERE name = 'openai'`)
		return s, thaw
	}
	t.Run("wal", func(t *testing.T) {
		t.Parallel()
		s, thaw := arrange(t, "wal")
		s.waitUntilUnready(`session \d+ \(role "provwatch", application "provwatch-wal".*\), which holds replication slot provwatch_\d+ and must end, has not ended since `)
		s.waitUntilUnready(`the last verification failed: replication slot provwatch_\d+ is held by session \d+ \(role "provwatch", application "provwatch-wal".*\), which did not end after pg_terminate_backend`)
		require.Equal(t, []string{"disabled openai"}, s.alerts())
		thaw()
		s.expectAlerts("disabled openai", "gap", "resolved openai")
		s.waitUntilReady()
		s.p.stop()
	})
	t.Run("auto", func(t *testing.T) {
		t.Parallel()
		s, thaw := arrange(t, "auto")
		s.p.waitFor("alerts come from this source instead", "source=notify", "is held by session")
		s.expectAlerts("disabled openai", "gap", "resolved openai")
		s.exec(`UPDATE ai_providers SET enabled = false WHERE name = 'openai'`)
		s.expectAlerts("disabled openai", "gap", "resolved openai", "disabled openai")
		s.waitUntilReady()
		dropped := s.run(nil, "slot", "drop")
		require.Equal(t, 1, dropped.Code)
		require.Regexp(t, `replication slot provwatch_\d+ is held by session \d+ \(role "provwatch", application "provwatch-wal"`, dropped.Stderr)
		// The WAL is tried again in vain, and nobody need know.
		unready := s.p.logged("level=WARN", "not ready")
		before := s.p.logged("the replication slot is not dropped", "is held by session")
		require.NotZero(t, before)
		eventually(t, func() bool { return s.p.logged("the replication slot is not dropped") > before }, "the WAL is tried again")
		require.Equal(t, unready, s.p.logged("level=WARN", "not ready"))
		reads := s.p.logged("alerts come from this source now", "source=wal")
		thaw()
		eventually(t, func() bool { return s.p.logged("alerts come from this source now", "source=wal") > reads }, "the WAL is read again")
		s.exec(`UPDATE ai_providers SET enabled = true WHERE name = 'openai'`)
		s.expectAlerts("disabled openai", "gap", "resolved openai", "disabled openai", "resolved openai")
		s.p.stop()
	})
}
