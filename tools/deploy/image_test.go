//go:build image

package deploy

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	"sigs.k8s.io/yaml"

	"provwatch/internal/pgtest"
	"provwatch/internal/waittest"
)

// podman is a podman with images of its own.
type podman struct {
	t    *testing.T
	args []string // before the command
}

// newPodman returns a podman whose images and containers are removed at the end.
// It works without overlayfs, systemd and a network of its own, as within another
// container.
func newPodman(t *testing.T) *podman {
	t.Helper()
	for _, program := range []string{"podman", "runc"} {
		_, err := exec.LookPath(program)
		require.NoError(t, err, "the image is built and run by podman and runc: install them")
	}
	dir, err := os.MkdirTemp("", "provwatch-image-")
	require.NoError(t, err)
	p := &podman{t, []string{"--root", dir + "/storage", "--runroot", dir + "/run", "--storage-driver", "vfs",
		"--cgroup-manager", "cgroupfs", "--events-backend", "none", "--runtime", "runc"}}
	t.Cleanup(func() {
		if out, err := p.try("rm", "--all", "--force"); err != nil {
			t.Errorf("remove the containers: %v\n%s", err, out)
		}
		// Mounted by podman where it is run for the first time.
		_ = syscall.Unmount(dir+"/storage/vfs", 0)
		_ = syscall.Unmount(dir+"/storage/overlay", 0)
		require.NoError(t, os.RemoveAll(dir))
	})
	return p
}

func (p *podman) command(args ...string) *exec.Cmd {
	return exec.Command("podman", append(p.args[:len(p.args):len(p.args)], args...)...)
}

// try returns standard output and standard error.
func (p *podman) try(args ...string) (string, error) {
	out, err := p.command(args...).CombinedOutput()
	return string(out), err
}

// do returns standard output.
func (p *podman) do(args ...string) string {
	p.t.Helper()
	var failure bytes.Buffer
	command := p.command(args...)
	command.Stderr = &failure
	out, err := command.Output()
	require.NoError(p.t, err, "podman %s\n%s%s", strings.Join(args, " "), out, failure.String())
	return strings.TrimSpace(string(out))
}

// standIns builds what is needed of the Dockerfile's two base images, under their
// names: of the builder a shell, certificates and Go, mounted while it is built; of
// distroless the certificates, with authority among them, and the users. It
// returns the arguments that the build needs for it.
func standIns(t *testing.T, p *podman, authority []byte) (arguments []string, runtime string) {
	t.Helper()
	instructions, err := dockerfile()
	require.NoError(t, err)
	images := map[string]string{}
	for _, i := range instructions {
		if name, value, _ := strings.Cut(i.text, "="); i.stage == 0 && i.name == "ARG" {
			images[name] = value
		}
	}
	bundle, err := os.ReadFile("/etc/ssl/certs/ca-certificates.crt")
	require.NoError(t, err)
	put := func(root, path string, content []byte, mode os.FileMode) {
		file := filepath.Join(root, path)
		require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o755))
		require.NoError(t, os.WriteFile(file, content, mode))
	}

	builder := t.TempDir()
	put(builder, "etc/ssl/certs/ca-certificates.crt", bundle, 0o644)
	require.NoError(t, os.MkdirAll(filepath.Join(builder, "tmp"), 0o777))
	for _, program := range []string{"sh", "bash"} {
		path, err := exec.LookPath(program)
		require.NoError(t, err)
		out, err := exec.Command("ldd", path).Output()
		require.NoError(t, err)
		for _, field := range strings.Fields(path + " " + string(out)) {
			if strings.HasPrefix(field, "/") {
				content, err := os.ReadFile(field)
				require.NoError(t, err)
				if field == path {
					field = "bin/" + program
				}
				put(builder, field, content, 0o755)
			}
		}
	}
	put(builder, "Containerfile", []byte(`FROM scratch
COPY . /
ENV PATH=/usr/local/go/bin:/bin GOPATH=/go GOTOOLCHAIN=local HOME=/root
`), 0o644)
	p.do("build", "--isolation", "chroot", "-t", images["GO_IMAGE"], builder)

	static := t.TempDir()
	put(static, "etc/passwd", []byte("root:x:0:0:root:/root:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin\n"), 0o644)
	put(static, "etc/group", []byte("root:x:0:\nnonroot:x:65532:\n"), 0o644)
	put(static, "etc/ssl/certs/ca-certificates.crt", append(bundle, authority...), 0o644)
	put(static, "Containerfile", []byte(`FROM scratch
COPY etc /etc
ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
USER 65532
WORKDIR /home/nonroot
`), 0o644)
	p.do("build", "--isolation", "chroot", "-t", images["RUNTIME_IMAGE"], static)

	goEnv := func(name string) string {
		out, err := exec.Command("go", "env", name).Output()
		require.NoError(t, err)
		return strings.TrimSpace(string(out))
	}
	download := exec.Command("go", "mod", "download")
	download.Dir = repository
	out, err := download.CombinedOutput()
	require.NoError(t, err, "%s", out)
	return []string{"--volume", goEnv("GOROOT") + ":/usr/local/go:ro",
		"--volume", goEnv("GOMODCACHE") + "/cache/download:/modules:ro", "--env", "GOPROXY=file:///modules",
		"--volume", goEnv("GOCACHE") + ":/root/.cache/go-build"}, images["RUNTIME_IMAGE"]
}

// certificate issues a certificate of localhost by a new authority.
func certificate(t *testing.T) (authority, cert, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	ca := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	server := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
		NotBefore: ca.NotBefore, NotAfter: ca.NotAfter, KeyUsage: x509.KeyUsageDigitalSignature}
	encode := func(kind string, der []byte, err error) []byte {
		require.NoError(t, err)
		return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
	}
	der, err := x509.CreateCertificate(rand.Reader, ca, ca, private.Public(), private)
	authority = encode("CERTIFICATE", der, err)
	der, err = x509.CreateCertificate(rand.Reader, server, ca, private.Public(), private)
	cert = encode("CERTIFICATE", der, err)
	der, err = x509.MarshalPKCS8PrivateKey(private)
	return authority, cert, encode("PRIVATE KEY", der, err)
}

// serverWithTLS starts a PostgreSQL that takes connections by TCP with TLS alone,
// and returns the URL of a superuser by TCP and a connection.
func serverWithTLS(t *testing.T, cert, key []byte) (string, *pgx.Conn) {
	t.Helper()
	cluster := pgtest.NewCluster(t)
	conn, err := pgx.Connect(t.Context(), cluster.URL())
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	var dir, on string
	require.NoError(t, conn.QueryRow(t.Context(), `SELECT current_setting('data_directory')`).Scan(&dir))
	info, err := os.Stat(dir)
	require.NoError(t, err)
	owner := info.Sys().(*syscall.Stat_t)
	for name, content := range map[string][]byte{"server.crt": cert, "server.key": key} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), content, 0o600))
		require.NoError(t, os.Chown(filepath.Join(dir, name), int(owner.Uid), int(owner.Gid)))
	}
	require.NoError(t, os.WriteFile(filepath.Join(dir, "pg_hba.conf"), []byte("local all all trust\nhostssl all all 127.0.0.1/32 scram-sha-256\n"), 0o600))
	for _, statement := range []string{`ALTER SYSTEM SET ssl = on`, `SELECT pg_reload_conf()`} {
		_, err := conn.Exec(t.Context(), statement)
		require.NoError(t, err)
	}
	waittest.Until(t, func() bool {
		return conn.QueryRow(t.Context(), `SHOW ssl`).Scan(&on) == nil && on == "on"
	}, "the server offers TLS")
	_, port, err := net.SplitHostPort(cluster.TCPAddr())
	require.NoError(t, err)
	return cluster.TCPURL(t, cluster.URL(), "localhost:"+port), conn
}

// status returns a field of /proc/PID/status.
func status(t *testing.T, pid int, field string) string {
	t.Helper()
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	require.NoError(t, err)
	for line := range strings.Lines(string(content)) {
		if value, ok := strings.CutPrefix(line, field+":"); ok {
			return strings.Join(strings.Fields(value), " ")
		}
	}
	t.Fatalf("no %s", field)
	return ""
}

// TestImage builds deploy/Dockerfile and runs the image as deploy/kubernetes does: with
// its user, memory limit and a root file system that cannot be written.
func TestImage(t *testing.T) {
	p := newPodman(t)
	authority, cert, key := certificate(t)
	arguments, runtime := standIns(t, p, authority)
	p.do(append(append([]string{"build", "--layers=false", "--isolation", "chroot", "--network", "host", "--pull=never", "-f", repository + "/deploy/Dockerfile",
		"--build-arg", "VERSION=v1.2.3", "--build-arg", "COMMIT=0123abc", "-t", "provwatch"}, arguments...), repository)...)

	var images []struct {
		Size   int64
		Config struct {
			User            string
			Entrypoint, Cmd []string
			Labels          map[string]string
		}
	}
	require.NoError(t, json.Unmarshal([]byte(p.do("image", "inspect", "provwatch", runtime)), &images))
	config := images[0].Config
	require.Equal(t, "65532:65532", config.User)
	require.Equal(t, []string{"/usr/local/bin/worker"}, config.Entrypoint)
	require.Equal(t, []string{"run"}, config.Cmd)
	require.Equal(t, "v1.2.3", config.Labels["org.opencontainers.image.version"])
	require.Equal(t, "0123abc", config.Labels["org.opencontainers.image.revision"])
	added := images[0].Size - images[1].Size
	t.Logf("the image has %.1f MB beside its base", float64(added)/1e6)
	require.Less(t, added, int64(40e6), "the worker and nothing else")

	rendered, err := os.ReadFile(repository + "/deploy/kubernetes/sidecar/sidecar.yaml")
	require.NoError(t, err)
	var sidecar appsv1.Deployment
	require.NoError(t, yaml.UnmarshalStrict(rendered, &sidecar))
	memory := sidecar.Spec.Template.Spec.InitContainers[0].Resources.Limits.Memory().Value()
	require.Positive(t, memory)
	// The limits of this process, as one within another container may have no more.
	var files syscall.Rlimit
	require.NoError(t, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files))
	closedIn := []string{"--network", "host", "--read-only", "--read-only-tmpfs=false", "--cap-drop", "ALL", "--security-opt", "no-new-privileges",
		"--memory", strconv.FormatInt(memory, 10), "--ulimit", fmt.Sprintf("nofile=%d:%d", files.Cur, files.Cur), "--ulimit", "nproc=1000:1000"}

	require.Regexp(t, `^provwatch worker v1\.2\.3 \(commit 0123abc, go1\.\d+\S*\)$`,
		p.do(append(append([]string{"run", "--rm"}, closedIn...), "provwatch", "version")...))

	// Without a database it says so, in place of looking for a PostgreSQL of its own.
	out, err := p.try(append(append([]string{"run", "--rm"}, closedIn...), "provwatch")...)
	var exit *exec.ExitError
	require.ErrorAs(t, err, &exit, out)
	require.Contains(t, out, "DATABASE_URL")

	url, conn := serverWithTLS(t, cert, key)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := listener.Addr().String()
	require.NoError(t, listener.Close())
	container := p.do(append(append([]string{"run", "--detach"}, closedIn...),
		// The authority is known to the image alone.
		"--env", "DATABASE_URL="+url+"&sslmode=verify-full", "--env", "PROVWATCH_HTTP_ADDR="+address,
		"--env", "CODER_AIBRIDGE_OPENAI_KEY=sk-made-up-key-of-a-test", "provwatch")...)
	logs := func() string {
		out, err := p.try("logs", container)
		require.NoError(t, err)
		return out
	}
	get := func(path string) (int, string) {
		response, err := http.Get("http://" + address + path)
		if err != nil {
			return 0, ""
		}
		defer func() { _ = response.Body.Close() }()
		body, err := io.ReadAll(response.Body)
		require.NoError(t, err)
		return response.StatusCode, string(body)
	}
	within := func(condition func() bool, what string) {
		t.Helper()
		waittest.Until(t, condition, "%s\n%s", what, waittest.Lazy(func() any { return logs() }))
	}
	within(func() bool { code, _ := get("/readyz"); return code == http.StatusOK }, "the worker is ready")

	pid, err := strconv.Atoi(p.do("inspect", "--format", "{{.State.Pid}}", container))
	require.NoError(t, err)
	require.Equal(t, "65532 65532 65532 65532", status(t, pid, "Uid"))
	require.Equal(t, "65532 65532 65532 65532", status(t, pid, "Gid"))
	require.Equal(t, "0000000000000000", status(t, pid, "CapEff"))
	require.Equal(t, "1", status(t, pid, "NoNewPrivs"))
	require.Equal(t, "2", status(t, pid, "Seccomp"), "the default filter")
	t.Logf("a worker that watches one provider takes %s at most", status(t, pid, "VmHWM"))
	for line := range strings.Lines(logs()) {
		require.True(t, json.Valid([]byte(line)), "the log is JSON: %s", line)
	}

	var encrypted bool
	require.NoError(t, conn.QueryRow(t.Context(), `SELECT bool_and(ssl) FROM pg_stat_ssl NATURAL JOIN pg_stat_activity
		WHERE client_addr IS NOT NULL`).Scan(&encrypted))
	require.True(t, encrypted)
	tag, err := conn.Exec(t.Context(), `UPDATE ai_providers SET base_url = 'https://elsewhere.example/v1'`)
	require.NoError(t, err)
	require.EqualValues(t, 1, tag.RowsAffected(), "it has seeded")
	within(func() bool {
		_, page := get("/metrics")
		return strings.Contains(page, `provwatch_drift_providers{kind="changed"} 1`)
	}, "the drift is noticed")

	require.NoError(t, exec.Command("kill", "-HUP", strconv.Itoa(pid)).Run())
	within(func() bool { return strings.Contains(logs(), "reload") }, "SIGHUP is a reload")

	// SIGKILL after so many seconds would be exit code 137.
	p.do("stop", "--time", "30", container)
	require.Equal(t, "0", p.do("inspect", "--format", "{{.State.ExitCode}}", container), logs())
}
