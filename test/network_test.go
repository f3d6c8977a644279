//go:build e2e

package test

import (
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"

	"provwatch/internal/pgtest"
)

// link is a network namespace, and the one link between it and this one.
type link struct {
	t         *testing.T
	namespace string
	here      netip.Prefix // the address of this end
	there     netip.Addr
}

// farEnd is the device of the other end.
const farEnd = "pwthere"

// newLink makes one, until the test ends. It skips the test where that is not allowed.
func newLink(t *testing.T) *link {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("only root makes network namespaces")
	}
	// The names and the addresses, of the block for tests of networks (RFC 2544), are
	// those of this process.
	pid := os.Getpid()
	network := [4]byte{198, 18, byte(pid >> 6), byte(pid << 2)}
	first := netip.AddrFrom4(network).Next()
	l := &link{t: t, namespace: fmt.Sprintf("provwatch%d", pid), here: netip.PrefixFrom(first, 30), there: first.Next()}
	here := fmt.Sprintf("pwh%d", pid)
	t.Cleanup(func() { _ = exec.Command("ip", "netns", "delete", l.namespace).Run() })
	for _, args := range [][]string{
		{"netns", "add", l.namespace},
		{"link", "add", here, "type", "veth", "peer", "name", farEnd, "netns", l.namespace},
	} {
		if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			t.Skipf("no network namespace with a link here: ip %v: %v: %s", args, err, out)
		}
	}
	l.ip("address", "add", l.here.String(), "dev", here)
	l.ip("link", "set", here, "up")
	l.ip("-n", l.namespace, "address", "add", netip.PrefixFrom(l.there, l.here.Bits()).String(), "dev", farEnd)
	l.ip("-n", l.namespace, "link", "set", "lo", "up")
	l.set("up")
	return l
}

// set sets the link up or down, without a sign to either end's programs.
func (l *link) set(state string) {
	l.t.Helper()
	l.ip("-n", l.namespace, "link", "set", farEnd, state)
}

func (l *link) ip(args ...string) {
	l.t.Helper()
	out, err := exec.Command("ip", args...).CombinedOutput()
	require.NoError(l.t, err, "ip %v: %s", args, out)
}

// inside makes a command run in the namespace.
func (l *link) inside(command *exec.Cmd) {
	l.t.Helper()
	path, err := exec.LookPath("ip")
	require.NoError(l.t, err)
	command.Args = append([]string{path, "netns", "exec", l.namespace, command.Path}, command.Args[1:]...)
	command.Path = path
}

// testLeaderCutOffIsReplaced cuts the link between the leader and the server. A
// standby elsewhere takes over, and the server ends the sessions that the leader has left.
func testLeaderCutOffIsReplaced(t *testing.T) {
	t.Parallel()
	l := newLink(t)
	cluster := pgtest.NewCluster(t)
	cluster.Listen(t, l.here)
	w := newWorldOn(t, cluster.NewDatabase(t), "")
	env := w.twoProviders()
	target, err := url.Parse(w.withPassword("test_wal"))
	require.NoError(t, err)
	target.Host = fmt.Sprintf("%s:%s", l.here.Addr(), target.Port())
	away := w.startCommand(l.inside, env.With("DATABASE_URL", target.String()), "run", "--takeover-after=6s").ready()
	standby := w.start(env, "run", "--takeover-after=6s").ready()
	left := fmt.Sprintf(`SELECT count(*) FROM pg_stat_activity WHERE client_addr = '%s'`, l.there)
	require.Positive(t, w.count(left))

	l.set("down")
	w.exec(`UPDATE ai_providers SET enabled = false WHERE name = 'openai'`)
	standby.waitFor("msg=leading")
	w.expectAlerts("disabled openai")
	away.waitFor("listening connection lost")
	eventually(t, func() bool { return w.count(left) == 0 }, "the server ends the sessions")

	l.set("up")
	w.exec(`UPDATE ai_providers SET enabled = true WHERE name = 'openai'`)
	w.expectAlerts("disabled openai", "resolved openai")
	eventually(t, func() bool { return w.count(left) > 0 }, "it connects again")
	require.Zero(t, away.logged("msg=drift"))
	away.stop()
	standby.stop()
}
