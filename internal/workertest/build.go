// Package workertest builds the worker and runs it as real processes, for tests and
// benchmarks.
package workertest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// Build builds the worker into a new folder, with flags of "go build". The caller removes
// the folder.
func Build(flags ...string) (path string, err error) {
	dir, err := os.MkdirTemp("", "provwatch-worker-")
	if err != nil {
		return "", err
	}
	return BuildInto(dir, flags...)
}

// BuildInto is [Build] into a folder that there is.
func BuildInto(dir string, flags ...string) (path string, err error) {
	// Other users, such as the user of a PostgreSQL server, start it too.
	if err := os.Chmod(dir, 0o755); err != nil {
		return "", err
	}
	path = filepath.Join(dir, "worker")
	args := append([]string{"build", "-buildvcs=false", "-o", path}, flags...)
	if out, err := exec.Command("go", append(args, "provwatch/cmd/worker")...).CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the worker: %w\n%s", err, out)
	}
	return path, nil
}
