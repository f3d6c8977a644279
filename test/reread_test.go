//go:build e2e

package test

import "testing"

// testWALRowNotInTheStreamIsReadAgain changes the type of a row
// whose settings are stored out of line, and so do not travel: while it was of a type
// whose hash needs none, they were not known.
func testWALRowNotInTheStreamIsReadAgain(t *testing.T) {
	t.Parallel()
	w := newWorldOf(t, "wal")
	p := w.start(environ{"CODER_AIBRIDGE_BEDROCK_REGION": "us-east-1"}, "run", "--resync=24h").ready()
	w.exec(`UPDATE ai_providers SET type = 'openai', settings = jsonb_build_object('_type', 'bedrock', '_version', 1, 'region', 'us-east-1',
		'unknown', (SELECT string_agg(md5(n::text), '') FROM generate_series(1, 1000) n))::text`)
	w.expectAlerts("changed anthropic")
	w.exec(`UPDATE ai_providers SET type = 'anthropic'`)
	w.expectAlerts("changed anthropic", "gap", "resolved anthropic")
	p.stop()
}
