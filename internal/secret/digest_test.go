package secret_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"provwatch/internal/secret"
)

func texts(plain ...string) []secret.Text {
	var all []secret.Text
	for _, p := range plain {
		all = append(all, secret.New(p))
	}
	return all
}

func TestDigestsAreEqualExactlyWhenTheSecretsAre(t *testing.T) {
	d := secret.NewDigester()
	require.True(t, d.Of(secret.New("a")).Equal(d.Of(secret.New("a"))))
	require.False(t, d.Of(secret.New("a")).Equal(d.Of(secret.New("b"))))
	require.True(t, d.Of(secret.Text{}).IsZero())

	set := d.OfSet(texts("a", "b"))
	require.True(t, set.Equal(d.OfSet(texts("b", "a", "b"))), "neither order nor repetition counts")
	for _, other := range [][]secret.Text{nil, texts("a"), texts("ab"), texts("a", "b", "c"), texts("a", "b", "")} {
		require.False(t, set.Equal(d.OfSet(other)))
	}
	require.False(t, d.OfSet(nil).IsZero())

	list := d.OfList(texts("a", "b")...)
	require.True(t, list.Equal(d.OfList(texts("a", "b")...)))
	for _, other := range [][]secret.Text{texts("b", "a"), texts("ab", ""), texts("a", "b", ""), texts("a")} {
		require.False(t, list.Equal(d.OfList(other...)))
	}
}

func TestADigestIsOfUseToItsDigesterAloneAndNeverPrinted(t *testing.T) {
	a, b := secret.NewDigester(), secret.NewDigester()
	require.False(t, a.Of(secret.New("a")).Equal(b.Of(secret.New("a"))))
	require.False(t, a.OfSet(texts("a")).Equal(b.OfSet(texts("a"))))
	require.Equal(t, secret.Redacted, fmt.Sprint(a.OfSet(texts("a"))))
}
