package daemon

import (
	"fmt"
	"log/slog"
	"runtime"
	"testing"

	"github.com/sourcegraph/conc"
	"github.com/stretchr/testify/require"

	"provwatch/internal/dbcrypt/dbcrypttest"
	"provwatch/internal/drift"
	"provwatch/internal/environment"
	"provwatch/internal/observe"
	"provwatch/internal/provider"
	"provwatch/internal/secret"
	"provwatch/internal/verify"
)

// TestReloadedKeys requires that new keys are in use only once the environment is that they were
// read with: what they alone decode would differ from the former one. The environment is so
// large that it takes a while until it is in use.
func TestReloadedKeys(t *testing.T) {
	t.Parallel()
	desired := make([]provider.Desired, 50_000)
	for i := range desired {
		name := fmt.Sprintf("p%05d", i)
		desired[i] = provider.Desired{Name: name, Type: provider.OpenAI, BaseURL: "https://h/", Keys: []secret.Text{secret.New("sk-" + name)}}
	}
	former, key := dbcrypttest.NewKey(), dbcrypttest.NewKey()
	logger := slog.New(slog.DiscardHandler)
	metrics := &instruments{Metrics: observe.NewMetrics("test"), page: &statusPage{}, health: &health{}}
	verifier := verify.New(nil, nil, drift.AlertCredentials, logger, metrics)
	r := &reloader{options: Options{Keys: dbcrypttest.NewRing(t, former), Logger: logger}, verifier: verifier, metrics: metrics}
	var named bool
	var watch conc.WaitGroup
	watch.Go(func() {
		for !r.options.Keys.Has(key.Digest()) {
			runtime.Gosched()
		}
		_, named = verifier.Named("p00000")
	})
	r.use(t.Context(), environment.Environment{Keys: dbcrypttest.NewRing(t, key).Keys()}, desired)
	watch.Wait()
	require.True(t, named)
}
