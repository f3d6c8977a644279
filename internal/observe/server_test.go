package observe

import (
	"context"
	"errors"
	"io"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestLivenessAndReadinessAreToldApart(t *testing.T) {
	var alive, ready error
	var remarks []string
	server, err := Listen(t.Context(), "127.0.0.1:0", NewMetrics("test"), func() error { return alive }, func() ([]string, error) { return remarks, ready })
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error)
	go func() { served <- server.Serve(ctx) }()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	get := func(path string) (int, string) {
		t.Helper()
		response, err := client.Get("http://" + server.Address() + path)
		require.NoError(t, err)
		defer func() { _ = response.Body.Close() }()
		body, err := io.ReadAll(response.Body)
		require.NoError(t, err)
		return response.StatusCode, string(body)
	}
	expect := func(path string, wantStatus int, wantBody string) {
		t.Helper()
		status, body := get(path)
		require.Equal(t, wantStatus, status)
		require.Equal(t, wantBody, body)
	}
	expect("/healthz", http.StatusOK, "ok\n")
	expect("/readyz", http.StatusOK, "ok\n")
	remarks = []string{"aws: cannot be compared: the reason"}
	expect("/readyz", http.StatusOK, "ok\naws: cannot be compared: the reason\n")
	remarks = nil
	ready = errors.New("the database is away")
	expect("/healthz", http.StatusOK, "ok\n")
	expect("/readyz", http.StatusServiceUnavailable, "not ready: the database is away\n")
	alive, ready = errors.New("the source has ended"), nil
	expect("/healthz", http.StatusServiceUnavailable, "not alive: the source has ended\n")
	expect("/readyz", http.StatusOK, "ok\n")
	cancel()
	require.NoError(t, <-served)
}
