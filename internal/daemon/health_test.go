package daemon

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestABootThatCannotListenNamesTheReason has a connection for the listener that cannot
// be made, as where a pooler has no more room.
func TestABootThatCannotListenNamesTheReason(t *testing.T) {
	h := &health{}
	require.EqualError(t, h.ready(), "booting")
	h.setListening(errors.New("not listening: query_wait_timeout"))
	require.EqualError(t, h.ready(), "booting: not listening: query_wait_timeout")
	h.setListening(nil)
	require.EqualError(t, h.ready(), "booting")
	h.setVerified(true, nil)
	require.NoError(t, h.ready())
}
