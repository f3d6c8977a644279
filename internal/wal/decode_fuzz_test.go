package wal

import (
	"bytes"
	"reflect"
	"regexp"
	"runtime/metrics"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"provwatch/internal/dbcrypt"
	"provwatch/internal/provider"
)

// FuzzDecodeStream decodes arbitrary messages, each after its length, as a server
// that is broken or hostile could send them.
func FuzzDecodeStream(f *testing.F) {
	f.Fuzz(func(t *testing.T, stream []byte) {
		checkDecoding(t, frames(stream))
	})
}

// decodingErrors are all errors of decoding: they hold nothing of a message.
var decodingErrors = regexp.MustCompile(`^(a message of the replication stream cannot be parsed` +
	`|the replication stream (has a change outside a transaction|begins a transaction inside another|commits another transaction than it began` +
	`|(changes|truncates) a table that it did not describe)` +
	`|the provider table in the WAL has an unexpected form: (it has no column [a-z_]+|an id is not a uuid|an? (name|type|base_url) is null` +
	`|(enabled|deleted) is not true or false))$`)

// checkDecoding decodes messages, applies what they complete to a mirror, and
// checks what holds for all of them.
func checkDecoding(t *testing.T, messages [][]byte) {
	var d decoder
	m := newMirror(hasher)
	total := 0
	for _, message := range messages {
		total += len(message)
		data := bytes.Clone(message)
		before := allocated()
		done, err := d.decode(data)
		if cost := allocated() - before; cost > uint64(1<<20+100*len(message)) {
			t.Fatalf("a message of %d bytes costs %d bytes", len(message), cost)
		}
		if parsed, err := parse(message); err == nil {
			if written := again(parsed, message); !bytes.Equal(message, written) {
				t.Fatalf("%q is read as if it were %q", message, written)
			}
		}
		if err != nil {
			require.Nil(t, done)
			require.Regexp(t, decodingErrors, err.Error())
			require.False(t, d.inTransaction())
			// What comes after it is not decoded, however right it is.
			for _, message := range messages {
				done, again := d.decode(message)
				require.Nil(t, done)
				require.Equal(t, err, again)
			}
			return
		}
		clear(data) // the connection uses the memory of a message again
		if kept := sizeOf(d.current) + sizeOf(done); kept > total {
			t.Fatalf("%d bytes are kept of %d", kept, total)
		}
		if done == nil {
			continue
		}
		require.Equal(t, done.more, done.end == 0)
		for _, c := range done.changes {
			_, reread := m.apply(c)
			if reread != uuid.Nil {
				require.Equal(t, c.put.id, reread)
			} else if c.put != nil {
				require.NotNil(t, m.rows[c.put.id])
			}
		}
		checkMirror(t, m)
	}
}

// allocated returns how many bytes have been allocated so far.
func allocated() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

// sizeOf returns how many bytes of text a transaction holds.
func sizeOf(tx *transaction) (size int) {
	if tx == nil {
		return 0
	}
	for _, marker := range tx.markers {
		size += len(marker)
	}
	for _, c := range tx.changes {
		if v := c.put; v != nil {
			size += len(v.name) + len(v.kind) + len(v.baseURL)
		}
	}
	return size
}

// checkMirror checks that a mirror agrees with itself, and can be stored.
func checkMirror(t *testing.T, m *mirror) {
	named := 0
	for name, ids := range m.byName {
		require.NotEmpty(t, ids)
		for id := range ids {
			require.Equal(t, name, m.rows[id].name)
			named++
		}
	}
	require.Equal(t, len(m.rows), named)
	for id, row := range m.rows {
		require.Equal(t, id, row.id)
		require.True(t, m.changed[id])
		require.True(t, utf8.ValidString(row.BedrockRegion) && !strings.Contains(row.BedrockRegion, "\x00"), "%q", row.BedrockRegion)
		if row.unreadable != "" {
			require.Empty(t, row.hashes)
			require.True(t, slices.Contains(settingsErrors, row.unreadable) || dbcrypt.SaysUnknownKey(row.unreadable), "it holds nothing of the settings: %s", row.unreadable)
		}
		if row.baseURLKnown {
			require.Equal(t, provider.DisplayURL(row.BaseURL), row.baseURLShown)
			if row.unreadable == "" && row.hashes != hasher.RowHashes(row.Canonical) {
				t.Fatalf("the hashes of %+v are %s", row.Canonical, row.hashes)
			}
		}
	}
}

var settingsErrors = []string{
	provider.ErrSettingsNotJSON.Error(), provider.ErrSettingsType.Error(), provider.ErrSettingsVersion.Error(),
	provider.ErrSettingsKeyID.Error(), provider.ErrSettingsBadShape.Error(),
}

// FuzzDecodeHistory makes a history of a provider table out of its input, and
// the stream that PostgreSQL would send of it: decoding gives that very history,
// and a mirror that is the table. Then it damages the stream, as the second part
// of the input says: what is left is an error or a history, and shows no secret.
func FuzzDecodeHistory(f *testing.F) {
	for i, script := range []string{
		"\x05\x00\x01https://h/\x05\x02\x09\x03\x00\x01",
		"\x00\x00\x00\x01\x01\x00\x02\x05\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f",
		strings.Repeat("\x01\x02\x03\x05\x08\x0d\x15\x22\x37", 30),
		strings.Repeat("\x07\x01\x00\x09\x02\x05\x03\x04\x01\x06", 20),
	} {
		f.Add([]byte(script), []byte{})
		f.Add([]byte(script), []byte{byte(i), 4, 9, 0xff})
	}
	f.Fuzz(func(t *testing.T, input, damage []byte) {
		h := newHistory(input)
		h.write()
		var d decoder
		m := newMirror(hasher)
		for _, message := range h.stream {
			done, err := d.decode(bytes.Clone(message))
			require.NoError(t, err)
			if done == nil {
				continue
			}
			require.NotEmpty(t, h.want)
			want := h.want[0]
			h.want = h.want[1:]
			if !reflect.DeepEqual(&want.transaction, done) {
				require.Equal(t, &want.transaction, done)
			}
			for _, c := range done.changes {
				touched, reread := m.apply(c)
				require.Zero(t, reread)
				if c.put != nil && len(touched) > 0 {
					require.Contains(t, touched, m.rows[c.put.id].name)
				}
			}
			checkMirror(t, m)
			want.table.requireMirrored(t, m)
		}
		require.Empty(t, h.want)
		require.False(t, d.inTransaction())
		if len(damage) > 0 {
			checkDecoding(t, damaged(h.stream, damage))
		}
	})
}

// damaged changes messages as the bytes of damage say, four for each change.
func damaged(messages [][]byte, damage []byte) [][]byte {
	list := slices.Clone(messages)
	for ; len(damage) >= 4 && len(list) > 0; damage = damage[4:] {
		i := int(damage[1]) % len(list)
		message := bytes.Clone(list[i])
		at := int(damage[2]) % (len(message) + 1)
		switch damage[0] % 6 {
		case 0:
			if at < len(message) {
				message[at] ^= damage[3]
			}
			list[i] = message
		case 1:
			list[i] = message[:at]
		case 2:
			list[i] = append(message, damage[3])
		case 3:
			list = slices.Delete(list, i, i+1)
		case 4:
			list = slices.Insert(list, i, message)
		case 5:
			j := int(damage[2]) % len(list)
			list[i], list[j] = list[j], list[i]
		}
	}
	return list
}
