package soak

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"provwatch/internal/dbcrypt/dbcrypttest"
)

func TestCheckHistory(t *testing.T) {
	t.Parallel()
	t.Run("Right", testCheckHistoryRight)
	t.Run("NotComparable", testCheckHistoryNotComparable)
	t.Run("OrdinaryGap", testCheckHistoryOrdinaryGap)
	t.Run("PlantedAlert", testCheckHistoryPlantedAlert)
	t.Run("PlantedSeedOrAudit", testCheckHistoryPlantedSeedOrAudit)
	t.Run("TwoLeaders", testCheckHistoryTwoLeaders)
	t.Run("Notifications", testCheckHistoryNotifications)
	t.Run("Pruned", testCheckHistoryPruned)
	t.Run("Unmanaged", testCheckHistoryUnmanaged)
	t.Run("Silences", testCheckHistorySilences)
	t.Run("AlertAfter", testCheckHistoryAlertAfter)
	t.Run("Applied", testCheckHistoryApplied)
}

func testCheckHistoryRight(t *testing.T) {
	t.Parallel()
	for _, source := range []string{"wal", "notify"} {
		s := newScript(t, source)
		s.deliver()
		s.commit(s.rewind(false))
		require.Equal(t, 1, s.c.rewinds)
		first := s.commit(s.update(false)...)
		second := s.commit(s.update(true)...)
		if source == "wal" {
			s.streamed(second, append(s.alert(disabled, first), s.alert(resolved, second)...)...)
			third := s.commit(s.update(false)...)
			s.streamed(third, s.alert(disabled, third)...)
			// In a gap it is enabled: one look after it says so.
			s.commit(s.update(true)...)
			s.commit(s.position("UPDATE", third, "the replication slot no longer exists"))
			s.commit(s.restart()...)
			s.streamed(s.now, s.alert(resolved, 0)...)
			// In another it is disabled; then a transaction changes nothing of it, and
			// the next one enables it before anything has looked.
			s.commit(s.update(false)...)
			s.commit(s.position("UPDATE", s.now, "the replication slot no longer exists"))
			s.commit(s.restart()...)
			s.streamed(s.commit(s.update(false)...))
			s.streamed(s.commit(s.update(true)...))
			require.Len(t, s.c.resets, 3)
			// The stream does not hold all of a row, and the position that passes it says so.
			last := s.now
			fourth := s.commit(s.update(false)...)
			const unread = "the WAL does not hold all of row 1"
			s.commit(s.position("UPDATE", last, unread), s.position("UPDATE", fourth, unread))
			s.commit(s.restart()...)
			s.streamed(s.now, s.alert(disabled, 0)...)
			fifth := s.commit(s.update(true)...)
			s.streamed(fifth, s.alert(resolved, fifth)...)
		} else {
			// Between two looks it was disabled and enabled, which needs no alert.
			s.commit(s.update(false)...)
			s.commit(s.alert(disabled, 0)...)
			s.commit(s.update(true)...)
			s.commit(s.alert(resolved, 0)...)
		}
		require.Empty(t, s.rules(), "%v", s.c.violations)
	}
}

func testCheckHistoryNotComparable(t *testing.T) {
	t.Parallel()
	const bedrock = `{"_type":"bedrock","_version":1,"region":"us-east-1"}`
	with := func(key dbcrypttest.Key) sealed { return sealed{key.Encrypt(bedrock), key.Digest()} }
	damaged := with(firstKey)
	damaged.keyID = secondKey.Digest()
	tests := map[string]struct {
		settings sealed
		alerted  bool
		want     []string
	}{
		"plain text, alerted":            {sealed{bedrock, ""}, true, nil},
		"plain text, not alerted":        {sealed{bedrock, ""}, false, []string{ruleLost}},
		"encrypted, alerted":             {with(secondKey), true, nil},
		"encrypted, not alerted":         {with(secondKey), false, []string{ruleLost}},
		"with the lent key, alerted":     {with(lentKey), true, nil},
		"with a foreign key, alerted":    {with(foreignKey), true, []string{rulePhantom}},
		"with a foreign key":             {with(foreignKey), false, nil},
		"damaged":                        {damaged, false, nil},
		"damaged, alerted":               {damaged, true, []string{rulePhantom}},
		"no settings at all":             {sealed{"no json", ""}, false, nil},
		"of another version":             {sealed{strings.Replace(bedrock, "1,", "2,", 1), ""}, false, nil},
		"of another version, alerted":    {sealed{strings.Replace(bedrock, "1,", "2,", 1), ""}, true, []string{rulePhantom}},
		"with the lent key, not alerted": {with(lentKey), false, []string{ruleLost}}, // at the end all have it
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScript(t, "wal")
			s.deliver()
			at := s.commit(s.settings(test.settings)...)
			var alerts []string
			if test.alerted {
				a := s.alert(changed, at)
				m := s.c.tracks["alpha"].now()
				hash := canonicalHash("bedrock", s.wanted.baseURL, "us-east-1")
				a[0] = strings.NewReplacer("fields[jsonb]:'[]'", `fields[jsonb]:'[{"name": "type"}, {"name": "bedrock_region"}]'`, "db_hash[text]:'"+s.wanted.hash()+"'", "db_hash[text]:'"+hash+"'").Replace(a[0])
				require.Contains(t, []string{"", hash}, m.hash)
				alerts = a
			}
			s.streamed(at, alerts...)
			require.Equal(t, test.want, s.rules(), "%v", s.c.violations)
		})
	}
}

func testCheckHistoryOrdinaryGap(t *testing.T) {
	t.Parallel()
	s := newScript(t, "wal")
	const id = "11111111-0000-0000-0000-000000000001"
	unread := func(id string) reset {
		return reset{reason: "the WAL does not hold all of row " + id + ", and neither does the mirror"}
	}
	require.False(t, s.c.hasCause(unread(id)))
	rows := s.update(true)
	rows[1] = strings.Replace(rows[1], "unchanged-toast-datum", "'https://large.example/"+strings.Repeat("x", inLine)+"'", 1)
	s.commit(rows...)
	require.True(t, s.c.hasCause(unread(id)))
	require.False(t, s.c.hasCause(unread("11111111-0000-0000-0000-000000000002")))
	require.False(t, s.c.hasCause(reset{reason: "the replication slot no longer exists"}))
}

func testCheckHistoryPlantedAlert(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		source string
		plant  func(s *script, first, second position)
		want   string
	}{
		"doubled, wal": {"wal", func(s *script, first, second position) {
			s.streamed(second, append(append(s.alert(disabled, first), s.alert(disabled, first)...), s.alert(resolved, second)...)...)
		}, ruleLost},
		"doubled after a takeover, wal": {"wal", func(s *script, first, second position) {
			s.streamed(first, s.alert(disabled, first)...)
			s.streamed(first, s.alert(disabled, first)...)
			s.streamed(second, s.alert(resolved, second)...)
		}, ruleDoubled},
		"lost pair, wal":     {"wal", func(s *script, _, second position) { s.streamed(second) }, ruleLost},
		"never handled, wal": {"wal", func(*script, position, position) {}, ruleLost},
		"out of order, wal": {"wal", func(s *script, first, second position) {
			s.streamed(second, append(s.alert(resolved, second), s.alert(disabled, first)...)...)
		}, ruleLost},
		"a look that repeats, wal": {"wal", func(s *script, first, second position) {
			s.streamed(second, append(s.alert(disabled, first), s.alert(resolved, second)...)...)
			s.streamed(second, s.alert(resolved, 0)...)
		}, ruleDoubled},
		"a gap that is not a row": {"wal", func(s *script, _, second position) {
			s.commit(s.position("UPDATE", second, "the replication slot no longer exists"))
			s.commit(s.position("UPDATE", s.now, ""))
		}, ruleGap},
		"a certain rewind":     {"wal", func(s *script, _, second position) { s.commit(s.rewind(true)) }, ruleRewind},
		"a row that is no gap": {"wal", func(s *script, _, second position) { s.commit(s.restart()[1]) }, ruleGap},
		"with another transaction's id": {"wal", func(s *script, first, second position) {
			a := append(s.alert(disabled, first), s.alert(resolved, second)...)
			a[0] = strings.Replace(a[0], " xid[bigint]:", " xid[bigint]:9", 1)
			s.streamed(second, a...)
		}, ruleContent},
		"the position goes back": {"wal", func(s *script, first, second position) {
			s.streamed(second, append(s.alert(disabled, first), s.alert(resolved, second)...)...)
			s.streamed(first)
		}, ruleOrder},
		"doubled, notify": {"notify", func(s *script, _, _ position) {
			s.commit(s.alert(disabled, 0)...)
			s.commit(s.alert(disabled, 0)...)
			s.commit(s.alert(resolved, 0)...)
		}, ruleDoubled},
		"lost at the end, notify": {"notify", func(s *script, _, _ position) { s.commit(s.alert(disabled, 0)...) }, ruleLost},
		"of an earlier state, notify": {"notify", func(s *script, _, _ position) {
			s.commit(s.alert(disabled, 0)...)
			s.commit(s.alert(resolved, 0)...)
			s.commit(s.alert(disabled, 0)...)
			s.commit(s.alert(resolved, 0)...)
		}, ruleOrder},
		"of a drift that never was": {"notify", func(s *script, _, _ position) {
			s.commit(s.alert(changed, 0)...)
			s.commit(s.alert(resolved, 0)...)
		}, rulePhantom},
		"seq with a gap": {"notify", func(s *script, _, _ position) {
			s.seq++
			s.commit(s.alert(disabled, 0)...)
			s.commit(s.alert(resolved, 0)...)
		}, ruleSeq},
		"a state that was not alerted": {"notify", func(s *script, _, _ position) {
			s.commit("table provwatch.drift_state: UPDATE: provider[text]:'alpha' kind[text]:'disabled' db_hash[text]:'x' observed_at[timestamp with time zone]:'" + stamp + "'")
		}, ruleState},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScript(t, test.source)
			s.deliver()
			first := s.commit(s.update(false)...)
			second := s.commit(s.update(true)...)
			test.plant(s, first, second)
			require.Contains(t, s.rules(), test.want)
		})
	}
}

func testCheckHistoryPlantedSeedOrAudit(t *testing.T) {
	t.Parallel()
	const id, other = "11111111-0000-0000-0000-000000000001", "11111111-0000-0000-0000-000000000002"
	tests := map[string]struct {
		plant func(s *script)
		want  string
	}{
		"an entry that was not delivered": {func(*script) {}, ruleAuditLost},
		"an entry without its row": {func(s *script) {
			s.deliver()
			s.commit(s.entry("audit_outbox", 3, "provider.create", other, `{}`))
		}, ruleAudit},
		"an entry in the log alone": {func(s *script) {
			s.deliver()
			s.commit(s.entry("audit_log", 3, "provider.create", other, `{}`))
		}, ruleAudit},
		"an entry that left the outbox too early": {func(s *script) {
			s.commit("table provwatch.audit_outbox: DELETE: seq[bigint]:1")
			s.deliver()
		}, ruleAuditLost},
		"delivered out of order": {func(s *script) {
			key := s.entry("audit_log", 2, "provider_key.create", id, `{"key_id": "22222222-0000-0000-0000-000000000001", "masked_key": "****0000"}`)
			s.commit(strings.Replace(key, "seq[bigint]:2", "seq[bigint]:1", 1))
			s.commit(strings.Replace(s.entry("audit_log", 1, "provider.create", id, `{}`), "seq[bigint]:1", "seq[bigint]:2", 1))
		}, ruleAuditSeq},
		"delivered with a gap": {func(s *script) {
			s.commit(s.entry("audit_log", 1, "provider.create", id, `{}`))
			key := s.entry("audit_log", 2, "provider_key.create", id, `{"key_id": "22222222-0000-0000-0000-000000000001", "masked_key": "****0000"}`)
			s.commit(strings.Replace(key, "seq[bigint]:2", "seq[bigint]:3", 1))
		}, ruleAuditGap},
		"a row without its entries": {func(s *script) {
			s.deliver()
			s.commit(s.update(true)[0], "table public.ai_providers: DELETE: id[uuid]:'"+id+"'")
			s.commit(s.seed(other)[:2]...)
		}, ruleAuditLost},
		"seeded twice": {func(s *script) {
			s.deliver()
			s.commit(s.seed(other)...)
		}, ruleSeed},
		"a key that is added to a provider": {func(s *script) {
			s.deliver()
			s.commit("table public.ai_provider_keys: INSERT: id[uuid]:'k' provider_id[uuid]:'" + id + "' api_key[text]:'k'")
		}, ruleSeed},
		"a row that the worker changes": {func(s *script) {
			s.deliver()
			s.commit(s.update(true)[1])
		}, ruleSeedWrite},
		"a seed in plain text": {func(s *script) {
			s.deliver()
			s.commit(s.update(true)[0], "table public.ai_providers: DELETE: id[uuid]:'"+id+"'")
			s.commit("table public.dbcrypt_keys: INSERT: number[integer]:1 active_key_digest[text]:'" + firstKey.Digest() + "'")
			s.commit(s.seed(other)...)
		}, ruleSeedPlain},
		"a seed with other keys": {func(s *script) {
			s.deliver()
			s.commit(s.update(true)[0], "table public.ai_providers: DELETE: id[uuid]:'"+id+"'")
			s.commit("table public.dbcrypt_keys: INSERT: number[integer]:1 active_key_digest[text]:'" + firstKey.Digest() + "'")
			lines := s.seed(other)
			lines[1] = strings.Replace(lines[1], "api_key[text]:'k'", "api_key[text]:'"+firstKey.Encrypt("k")+"' api_key_key_id[text]:'"+firstKey.Digest()+"'", 1)
			s.commit(lines...)
		}, ruleSeedPart},
		"a seed with other values": {func(s *script) {
			s.deliver()
			s.commit(s.update(true)[0], "table public.ai_providers: DELETE: id[uuid]:'"+id+"'")
			lines := s.seed(other)
			lines[0] = strings.Replace(lines[0], "alpha.example", "other.example", 1)
			s.commit(lines...)
		}, ruleSeedPart},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScript(t, "notify")
			test.plant(s)
			require.Contains(t, s.rules(), test.want)
		})
	}
}

func testCheckHistoryTwoLeaders(t *testing.T) {
	t.Parallel()
	at := func(s float64) time.Time { return time.Unix(1000, 0).Add(time.Duration(s * float64(time.Second))) }
	var l leaderSamples
	for s := 0.0; s < 10; s++ {
		l.sample(at(s), map[int]string{1: "w0"})
	}
	for s := 10.0; s < 20; s++ {
		l.sample(at(s), map[int]string{2: "w1"})
	}
	alerts := []alert{{seq: 1, began: at(5)}, {seq: 2, began: at(10.5)}, {seq: 3, began: at(15)}, {seq: 4, began: at(15)}}
	authors := map[int64]string{1: "w0", 2: "w0", 3: "w1"} // nobody logged the fourth
	require.Empty(t, l.interlopers(alerts, authors))
	authors[4] = "w0"
	require.Equal(t, []string{ruleLeaders}, rulesOf(l.interlopers(alerts, authors)))
	require.Empty(t, l.violations)
	l.sample(at(20), map[int]string{2: "w1", 3: "w2"})
	require.Equal(t, []string{ruleLeaders}, rulesOf(l.violations))
}

func testCheckHistoryNotifications(t *testing.T) {
	t.Parallel()
	s := newScript(t, "wal")
	first := s.commit(s.update(false)...)
	second := s.commit(s.update(true)...)
	third := s.commit(s.update(false)...)
	s.streamed(third, append(append(s.alert(disabled, first), s.alert(resolved, second)...), s.alert(disabled, third)...)...)
	s.commit(s.position("UPDATE", third, "gone"))
	s.commit(s.restart()...)
	note := func(seq int) notice {
		a := s.c.alerts[seq-1]
		return notice{driftChannel, fmt.Sprintf(`{"id":%q,"seq":%d,"kind":%q,"provider":%q,"provider_id":%q,"db_hash":%q,"resolves":%d}`,
			a.id, a.seq, a.kind, a.provider, a.providerID, a.dbHash, a.resolves)}
	}
	forged := note(1)
	forged.payload = strings.Replace(forged.payload, disabled, deleted, 1)
	gap := note(4)
	tests := map[string]struct {
		notices []notice
		last    bool
		want    string
	}{
		"all":                 {[]notice{note(1), note(2), note(3), gap}, true, ""},
		"cut off at the end":  {[]notice{note(1), note(2)}, false, ""},
		"one is missing":      {[]notice{note(1), note(3), gap}, true, ruleNotify},
		"the first is":        {[]notice{note(2), note(3), gap}, true, ruleNotify},
		"the last is":         {[]notice{note(1), note(2), gap}, true, ruleNotify},
		"one is doubled":      {[]notice{note(1), note(2), note(2), note(3), gap}, true, ruleNotify},
		"one is forged":       {[]notice{forged, note(2), note(3), gap}, true, ruleNotify},
		"the gap is missing":  {[]notice{note(1), note(2), note(3)}, true, ruleNotify},
		"garbage is reported": {[]notice{{driftChannel, "x"}, note(1), note(2), note(3), gap}, true, ruleNotify},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			found := rulesOf(s.c.checkNotices([]epoch{{notices: test.notices, last: test.last}}))
			if test.want == "" {
				require.Empty(t, found)
			} else {
				require.Contains(t, found, test.want)
			}
		})
	}
}

func TestModelHashes(t *testing.T) {
	t.Parallel()
	require.Equal(t, "cabd847272bab8fade7606c5259fb29ed03a0da450c7dfb684b5c0fb84010a07", canonicalHash("openai", "https://api.openai.com/v1/", ""))
	require.Equal(t, "59c8fadf820004492d9dd9f85d704e452e251c143cd0fc7a66a111288f8f739b", canonicalHash("anthropic", "", "us-east-1"))
	require.Equal(t, "hmac:", canonicalHash("openai", "https://h/?a=1&b=<2>", "")[:5])
}
