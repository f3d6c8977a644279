package deploy

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const repository = "../.."

// instruction is one of deploy/Dockerfile.
type instruction struct {
	stage int // 0 before the first FROM
	name  string
	text  string
}

func dockerfile() ([]instruction, error) {
	content, err := os.ReadFile(filepath.Join(repository, "deploy", "Dockerfile"))
	if err != nil {
		return nil, err
	}
	var list []instruction
	stage := 0
	for line := range strings.Lines(string(content)) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, text, _ := strings.Cut(line, " ")
		if name == "FROM" {
			stage++
		}
		list = append(list, instruction{stage, name, text})
	}
	return list, nil
}

// buildAsTheDockerfileDoes copies what the first stage copies, and runs the go
// build that it runs, in a folder in place of the image's.
func buildAsTheDockerfileDoes(dir string) error {
	instructions, err := dockerfile()
	if err != nil {
		return err
	}
	built := false
	for _, i := range instructions {
		switch {
		case i.stage != 1:
		case i.name == "COPY":
			fields := strings.Fields(i.text)
			for _, source := range fields[:len(fields)-1] {
				destination := filepath.Join(dir, "src", fields[len(fields)-1])
				if strings.HasSuffix(fields[len(fields)-1], "/") {
					destination = filepath.Join(destination, source)
				}
				if err := copyTree(filepath.Join(repository, source), destination); err != nil {
					return fmt.Errorf("COPY %s: %w", source, err)
				}
			}
		case i.name == "RUN" && strings.Contains(i.text, "go build"):
			command := exec.Command("sh", "-ec", strings.ReplaceAll(i.text, "/out/", dir+"/out/"))
			command.Dir = filepath.Join(dir, "src")
			command.Env = append(os.Environ(), "VERSION=v1.2.3", "COMMIT=0123abc")
			if out, err := command.CombinedOutput(); err != nil {
				return fmt.Errorf("RUN %s: %w\n%s", i.text, err, out)
			}
			built = true
		}
	}
	if !built {
		return fmt.Errorf("deploy/Dockerfile has no go build")
	}
	return nil
}

func copyTree(from, to string) error {
	info, err := os.Stat(from)
	if err != nil {
		return err
	}
	if info.IsDir() {
		return os.CopyFS(to, os.DirFS(from))
	}
	content, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	return os.WriteFile(to, content, 0o644)
}

// TestDockerfile checks what can be checked without building it: that its stages, paths,
// user, variables and command exist.
func TestDockerfile(t *testing.T) {
	instructions, err := dockerfile()
	require.NoError(t, err)
	known := variables(t)
	arguments, copied := map[string]bool{}, map[string]bool{}
	var stages, environment []string
	last := map[string]string{} // of the last stage
	for _, i := range instructions {
		for _, name := range regexp.MustCompile(`\$\{?(\w+)`).FindAllStringSubmatch(i.text, -1) {
			require.True(t, arguments[name[1]], "%s is an ARG before %s %s", name[1], i.name, i.text)
		}
		switch i.name {
		case "ARG":
			name, _, _ := strings.Cut(i.text, "=")
			arguments[name] = true
			continue
		case "FROM":
			last = map[string]string{}
			if _, name, named := strings.Cut(i.text, " AS "); named {
				stages = append(stages, name)
			}
		case "COPY":
			fields := strings.Fields(i.text)
			if stage, ok := strings.CutPrefix(fields[0], "--from="); ok {
				require.Contains(t, stages, stage)
				require.FileExists(t, strings.Replace(fields[1], "/out/", filepath.Dir(worker)+"/", 1))
				copied[fields[2]] = true
			}
		case "ENV":
			for _, variable := range strings.Fields(i.text) {
				name, _, _ := strings.Cut(variable, "=")
				require.True(t, known[name], name)
				environment = append(environment, variable)
			}
		}
		last[i.name] = i.text
	}
	require.NotEmpty(t, stages)
	require.Equal(t, "65532:65532", last["USER"])
	require.True(t, copied[strings.Trim(last["ENTRYPOINT"], `[]"`)], "the entry point is what was copied")
	require.Equal(t, `["run"]`, last["CMD"])
	require.Contains(t, environment, "PROVWATCH_HTTP_ADDR=:"+last["EXPOSE"])
	requireUsable(t, environment, "run")

	// What is not let into the build cannot be copied.
	ignore, err := os.ReadFile(filepath.Join(repository, ".dockerignore"))
	require.NoError(t, err)
	lines := strings.Split(string(ignore), "\n")
	require.Equal(t, "*", lines[0])
	for _, i := range instructions {
		if i.stage == 1 && i.name == "COPY" {
			fields := strings.Fields(i.text)
			for _, source := range fields[:len(fields)-1] {
				require.True(t, slices.Contains(lines, "!"+source), "%s is let into the build", source)
			}
		}
	}
}
