package secret_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"provwatch/internal/secret"
)

func TestDigest(t *testing.T) {
	t.Run("Equality", testDigestEquality)
	t.Run("OneDigesterAndNoPrinting", testDigestOneDigesterAndNoPrinting)
}

func testDigestEquality(t *testing.T) {
	d := secret.NewDigester()
	require.True(t, d.Of(secret.New("a")).Equal(d.Of(secret.New("a"))))
	require.False(t, d.Of(secret.New("a")).Equal(d.Of(secret.New("b"))))
	require.True(t, d.Of(secret.Text{}).IsZero())
}

// testDigestOneDigesterAndNoPrinting checks that a digest is of use to its digester alone,
// and never printed.
func testDigestOneDigesterAndNoPrinting(t *testing.T) {
	a, b := secret.NewDigester(), secret.NewDigester()
	require.False(t, a.Of(secret.New("a")).Equal(b.Of(secret.New("a"))))
	require.Equal(t, secret.Redacted, fmt.Sprint(a.Of(secret.New("a"))))
}
