package main

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"provwatch/internal/reconcile"
)

func TestParseDuration(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	for text, want := range map[string]time.Duration{
		"30s": 30 * time.Second, "90d": 90 * day, "2w": 14 * day, "1w2d12h": 9*day + 12*time.Hour, "1d1h30m": day + 90*time.Minute, "0d": 0, "-1h": -time.Hour,
	} {
		got, err := parseDuration(text)
		require.NoError(t, err, text)
		require.Equal(t, want, got, text)
	}
	for _, text := range []string{"", "7", "d", "1.5d", "-1d", "1d2w", "1d-1h", "1h1d", "99999999999d", "200000d", "1 d", "soon"} {
		_, err := parseDuration(text)
		require.Error(t, err, text)
	}
}

func TestEnd(t *testing.T) {
	t.Parallel()
	at := time.Now().Add(time.Hour).Truncate(time.Second)
	for text, want := range map[string]reconcile.End{"": {}, "7d": {After: 7 * 24 * time.Hour}, at.Format(time.RFC3339): {At: at}} {
		e := end(text)
		got := e.of()
		require.Equal(t, want.After, got.After, text)
		require.True(t, want.At.Equal(got.At), text)
	}
	for text, usable := range map[string]bool{
		"7d": true, at.Format(time.RFC3339): true, at.UTC().Format(time.RFC3339Nano): true, at.In(time.FixedZone("", -3*60*60)).Format(time.RFC3339): true,
		"0s": false, "-7d": false, "2100-01-01": false, "2100-01-01T00:00:00": false, "2020-01-01T00:00:00Z": false, "never": false,
	} {
		e := end(text)
		require.Equal(t, usable, e.problem() == "", text)
	}
}

func TestReason(t *testing.T) {
	t.Parallel()
	for text, usable := range map[string]bool{
		"ticket 12: planned, until Monday": true, "größer": true, strings.Repeat("é", maxReason): true,
		strings.Repeat("é", maxReason+1): false, "two\nlines": false, "\x1b[31m": false, "\u0085": false, "\xff": false, " ": false,
	} {
		r := reason(text)
		require.Equal(t, usable, r.problem() == "", "%q", text)
	}
}

// TestStandardDurations compares durations without days and weeks with the standard library.
func TestStandardDurations(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.OneOf(rapid.StringMatching(`-?[0-9]{0,4}(\.[0-9]{1,2})?(ns|us|ms|s|m|h)?([0-9]{1,3}(s|m))?`), rapid.StringOf(rapid.RuneFrom([]rune("0123456789.-+hmsuµn ")))).Draw(t, "text")
		want, wantErr := time.ParseDuration(text)
		got, err := parseDuration(text)
		require.Equal(t, wantErr == nil, err == nil, text)
		if err == nil {
			require.Equal(t, want, got)
		}
	})
}

func TestAges(t *testing.T) {
	for text, usable := range map[string]bool{"90d": true, "1s": true, "999ms": false, "0": false, "-3h": false, "forever": false, "90": false} {
		a := age(text)
		require.Equal(t, usable, a.problem() == "", text)
		require.Equal(t, usable || text == "forever", lifetime{&a}.problem() == "", text)
	}
	never := age(forever)
	require.Zero(t, never.duration())
}
