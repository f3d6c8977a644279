package secret_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"

	"provwatch/internal/secret"
)

func TestPrinting(t *testing.T) {
	t.Run("Redacts", testPrintingRedacts)
	t.Run("Mask", testPrintingMask)
}

func testPrintingRedacts(t *testing.T) {
	const plain = "sk-very-secret-0123456789"
	s := secret.New(plain)
	wrapped := struct {
		Key  secret.Text
		List []secret.Text
	}{s, []secret.Text{s}}

	var logged bytes.Buffer
	slog.New(slog.NewJSONHandler(&logged, nil)).Info("x", "key", s, "wrapped", wrapped, "list", []secret.Text{s})
	slog.New(slog.NewTextHandler(&logged, nil)).Info("x", "key", s, "wrapped", wrapped, "list", []secret.Text{s})
	encoded, err := json.Marshal(wrapped)
	require.NoError(t, err)

	outputs := []string{
		logged.String(), string(encoded),
		fmt.Sprint(s), fmt.Sprintf("%v %+v %#v %s %q %x", s, s, s, s, s, s),
		fmt.Sprintf("%v %+v %#v", wrapped, wrapped, wrapped),
		fmt.Errorf("oops: %v", s).Error(),
	}
	hexed := fmt.Sprintf("%x", plain)
	for _, output := range outputs {
		require.NotContains(t, output, plain)
		require.NotContains(t, output, hexed)
	}
	require.Equal(t, plain, s.Reveal())
}

func testPrintingMask(t *testing.T) {
	for plain, want := range map[string]string{
		"":                      "****",
		"short":                 "****",
		"exactly-19-characte":   "****",
		"exactly-20-character":  "****cter",
		"sk-ant-0123456789abcd": "****abcd",
		"ключ-ключ-ключ-ключ":   "****",
	} {
		require.Equal(t, want, secret.New(plain).Mask(), "mask of %d bytes", len(plain))
	}
}

func TestEmpty(t *testing.T) {
	require.True(t, secret.New("").IsZero())
	require.True(t, secret.New("").Equal(secret.Text{}))
	require.False(t, secret.New("a").IsZero())
	require.True(t, secret.New("a").Equal(secret.New("a")))
	require.False(t, secret.New("a").Equal(secret.New("b")))
}
