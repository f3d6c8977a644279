package wal

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// recordings are what the server sent for some statements of
// [TestServerMessages], by name.
func recordings(t *testing.T) map[string][][]byte {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", "fuzz", "FuzzDecodeStream", "postgres*"))
	require.NoError(t, err)
	require.NotEmpty(t, files)
	list := map[string][][]byte{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		_, quoted, _ := strings.Cut(strings.TrimSpace(string(text)), "[]byte(")
		stream, err := strconv.Unquote(strings.TrimSuffix(quoted, ")"))
		require.NoError(t, err, file)
		list[filepath.Base(file)] = frames([]byte(stream))
	}
	return list
}

// transactions decodes messages into the transactions that they complete. It leaves out
// transactions that change nothing.
func transactions(t *testing.T, messages [][]byte) (list []*transaction) {
	t.Helper()
	var d decoder
	for _, message := range messages {
		done, err := d.decode(message)
		require.NoError(t, err)
		if done != nil && (event{transaction: done}).isNews() {
			list = append(list, done)
		}
	}
	return list
}
