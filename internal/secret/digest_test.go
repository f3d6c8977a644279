package secret_test

import (
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"provwatch/internal/secret"
)

func TestDigest(t *testing.T) {
	t.Run("Equality", testDigestEquality)
	t.Run("OneDigesterAndNoPrinting", testDigestOneDigesterAndNoPrinting)
	t.Run("AtOnce", testDigestAtOnce)
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

// testDigestAtOnce has several goroutines make digests of their own secrets.
func testDigestAtOnce(t *testing.T) {
	d := secret.NewDigester()
	var group sync.WaitGroup
	equal := make([]bool, 8)
	for i := range equal {
		text := secret.New(fmt.Sprint(i))
		want := d.Of(text)
		group.Go(func() {
			equal[i] = true
			for range 1000 {
				equal[i] = equal[i] && d.Of(text).Equal(want)
			}
		})
	}
	group.Wait()
	require.NotContains(t, equal, false)
}
