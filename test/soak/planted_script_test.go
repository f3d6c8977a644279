package soak

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// script plants a history for the checker, in the form that the server's decoder
// gives, with one provider, alpha.
type script struct {
	t       *testing.T
	c       *checker
	decoder decoder
	now     position
	xid     int64
	seq     int64
	lasting int64 // seq of the latest alert of the drift that lasts, 0 for none
	wanted  wanted
	at      string // when transactions end, and alerts are detected
}

// newScript begins with alpha seeded and, for the WAL source, with its slot.
func newScript(t *testing.T, source string) *script {
	w := environment()[0][0]
	s := &script{t: t, c: newChecker([][]wanted{{w}}), wanted: w, now: 0x1000, at: stamp}
	s.commit(s.seed("11111111-0000-0000-0000-000000000001")...)
	if source == "wal" {
		s.commit(s.position("INSERT", s.now, ""))
	}
	return s
}

const stamp = "2026-07-01 12:00:00.5+00"

// commit feeds a transaction and returns its position.
func (s *script) commit(lines ...string) position {
	s.t.Helper()
	s.xid++
	all := append([]string{fmt.Sprintf("BEGIN %d", s.xid)}, lines...)
	all = append(all, fmt.Sprintf("COMMIT %d (at %s)", s.xid, s.at))
	for _, line := range all {
		s.now += 0x10
		tx, err := s.decoder.decode(s.now, line)
		require.NoError(s.t, err)
		if tx != nil {
			s.c.add(*tx)
		}
	}
	return s.now
}

func (s *script) seed(id string) []string {
	key := strings.Replace(id, "11111111", "22222222", 1)
	return []string{
		fmt.Sprintf("table public.ai_providers: INSERT: id[uuid]:'%s' type[ai_provider_type]:'openai' name[text]:'alpha' display_name[text]:null enabled[boolean]:true deleted[boolean]:false base_url[text]:'%s' settings[text]:null settings_key_id[text]:null updated_at[timestamp with time zone]:'%s'", id, s.wanted.baseURL, stamp),
		fmt.Sprintf("table public.ai_provider_keys: INSERT: id[uuid]:'%s' provider_id[uuid]:'%s' api_key[text]:'k'", key, id),
		s.entry("audit_outbox", 1, "provider.create", id, `{}`),
		s.entry("audit_outbox", 2, "provider_key.create", id, fmt.Sprintf(`{"key_id": "%s", "masked_key": "****0000"}`, key)),
	}
}

func (s *script) entry(table string, seq int, action, id, details string) string {
	return fmt.Sprintf("table provwatch.%s: INSERT: seq[bigint]:%d id[uuid]:'entry-%s-%d' action[text]:'%s' provider[text]:'alpha' provider_id[uuid]:'%s' details[jsonb]:'%s'",
		table, seq, id[len(id)-1:], seq, action, id, details)
}

func (s *script) update(enabled bool) []string {
	return []string{
		fmt.Sprintf("table soak.history: INSERT: id[uuid]:'%d' op[text]:'flip' providers[text]:'alpha'", s.xid),
		fmt.Sprintf("table public.ai_providers: UPDATE: id[uuid]:'11111111-0000-0000-0000-000000000001' type[ai_provider_type]:'openai' name[text]:'alpha' enabled[boolean]:%v deleted[boolean]:false base_url[text]:unchanged-toast-datum settings[text]:null settings_key_id[text]:null updated_at[timestamp with time zone]:'%s'", enabled, stamp),
	}
}

func (s *script) position(action string, at position, gap string) string {
	return fmt.Sprintf("table provwatch.wal_position: %s: singleton[boolean]:true slot[text]:'s' applied_lsn[pg_lsn]:'%s' gap[text]:'%s'", action, at, gap)
}

// alert writes an alert of the latest transaction, from the WAL if of is not 0.
func (s *script) alert(kind string, of position) []string {
	s.seq++
	fields, lsn, source := `[]`, "lsn[pg_lsn]:null xid[bigint]:null committed_at[timestamp with time zone]:null", "notify"
	if kind == disabled {
		fields = `[{"name": "enabled"}]`
	}
	if of != 0 {
		m := s.c.tracks["alpha"].moments
		lsn = fmt.Sprintf("lsn[pg_lsn]:'%s' xid[bigint]:%d committed_at[timestamp with time zone]:'%s'", of, m[s.c.tracks["alpha"].at(of)].xid, stamp)
		source = "wal"
	}
	hash, resolves := s.wanted.hash(), "null"
	switch {
	case kind != resolved:
		s.lasting = s.seq
	case s.lasting != 0:
		resolves, s.lasting = fmt.Sprint(s.lasting), 0
	}
	return []string{fmt.Sprintf("table provwatch.drift_alerts: INSERT: seq[bigint]:%d id[uuid]:'alert-%d' kind[text]:'%s' provider[text]:'alpha' provider_id[uuid]:'11111111-0000-0000-0000-000000000001' fields[jsonb]:'%s' env_hash[text]:'%s' db_hash[text]:'%s' source[text]:'%s' detected_at[timestamp with time zone]:'%s' %s resolves[bigint]:%s",
		s.seq, s.seq, kind, fields, hash, hash, source, s.at, lsn, resolves)}
}

// restart is the WAL source's transaction that begins anew after a gap, here and now.
func (s *script) restart() []string {
	s.seq++
	return []string{s.position("UPDATE", s.now, ""), fmt.Sprintf(
		"table provwatch.drift_alerts: INSERT: seq[bigint]:%d id[uuid]:'alert-%d' kind[text]:'gap' provider[text]:'' provider_id[uuid]:null fields[jsonb]:'[]' env_hash[text]:'' db_hash[text]:'' source[text]:'wal' detected_at[timestamp with time zone]:'%s' lsn[pg_lsn]:null xid[bigint]:null committed_at[timestamp with time zone]:null",
		s.seq, s.seq, stamp)}
}

// rewind is the transaction that begins another epoch.
func (s *script) rewind(certain bool) string {
	s.seq++
	return fmt.Sprintf(
		"table provwatch.drift_alerts: INSERT: seq[bigint]:%d id[uuid]:'alert-%d' kind[text]:'rewound' provider[text]:'' provider_id[uuid]:null fields[jsonb]:'[]' env_hash[text]:'' db_hash[text]:'' source[text]:'resync' detected_at[timestamp with time zone]:'%s' lsn[pg_lsn]:null xid[bigint]:null committed_at[timestamp with time zone]:null reason[text]:'another timeline' certain[boolean]:%t",
		s.seq, s.seq, stamp, certain)
}

// streamed is a transaction of the WAL source that has handled everything.
func (s *script) streamed(to position, alerts ...string) {
	s.t.Helper()
	s.commit(append(alerts, s.position("UPDATE", to, ""))...)
}

func (s *script) deliver() {
	id := "11111111-0000-0000-0000-000000000001"
	s.commit(
		"table provwatch.audit_outbox: DELETE: seq[bigint]:1", "table provwatch.audit_outbox: DELETE: seq[bigint]:2",
		s.entry("audit_log", 1, "provider.create", id, `{}`),
		s.entry("audit_log", 2, "provider_key.create", id, `{"key_id": "22222222-0000-0000-0000-000000000001", "masked_key": "****0000"}`))
}

// rules finishes the check and returns which rules were broken.
func (s *script) rules() []string {
	s.c.finish()
	return rulesOf(s.c.violations)
}

func rulesOf(violations []violation) (rules []string) {
	for _, v := range violations {
		rules = append(rules, v.Rule)
	}
	return rules
}

// settings returns a transaction that gives alpha settings, another region's.
func (s *script) settings(with sealed) []string {
	rows := s.update(true)
	key := "null"
	if with.keyID != "" {
		key = "'" + with.keyID + "'"
	}
	rows[1] = strings.NewReplacer("settings[text]:null", "settings[text]:'"+with.text+"'", "]:'openai'", "]:'anthropic'", "settings_key_id[text]:null", "settings_key_id[text]:"+key).Replace(rows[1])
	return rows
}
