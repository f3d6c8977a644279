package deploy

import (
	"bytes"
	"debug/buildinfo"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"
)

// makeTarget runs a target of the Makefile.
func makeTarget(t *testing.T, arguments ...string) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "make", append([]string{"--no-print-directory", "-C", repository}, arguments...)...).CombinedOutput()
	require.NoError(t, err, "make %s\n%s", strings.Join(arguments, " "), out)
}

func TestReleaseFiles(t *testing.T) {
	t.Run("SBOM", testReleaseFilesSBOM)
	t.Run("ManPagesAndCompletions", testReleaseFilesManPagesAndCompletions)
}

func testReleaseFilesSBOM(t *testing.T) {
	file := filepath.Join(t.TempDir(), "sbom.json")
	makeTarget(t, "sbom-of", "BINARY="+worker, "OUTPUT="+file)
	var bom struct {
		BOMFormat  string
		Components []struct{ Name, Version, PURL string }
	}
	content, err := os.ReadFile(file)
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(content, &bom))
	require.Equal(t, "CycloneDX", bom.BOMFormat)
	listed := map[string]string{}
	for _, c := range bom.Components {
		listed[c.Name] = c.Version
	}
	info, err := buildinfo.ReadFile(worker)
	require.NoError(t, err)
	require.Greater(t, len(info.Deps), 20)
	for _, module := range info.Deps {
		require.Equal(t, module.Version, listed[module.Path], module.Path)
	}
	require.NotEmpty(t, listed["std"], "Go's own library")
}

func testReleaseFilesManPagesAndCompletions(t *testing.T) {
	dir := t.TempDir()
	makeTarget(t, "release-files", "OUTPUT="+dir)
	_, help := run(t, nil, "--help")
	_, commands, found := strings.Cut(help, "Available Commands:\n")
	require.True(t, found)
	commands, _, _ = strings.Cut(commands, "\n\n")
	names := regexp.MustCompile(`(?m)^  (\w+) `).FindAllStringSubmatch(commands, -1)
	require.Greater(t, len(names), 7)
	for _, name := range names {
		if name[1] == "help" || name[1] == "completion" {
			continue
		}
		page, err := os.ReadFile(filepath.Join(dir, "man", "worker-"+name[1]+".1"))
		require.NoError(t, err)
		require.Contains(t, string(page), ".SH NAME\nworker-"+name[1]+" - ")
	}
	// What is special in the language that the pages are written from stays what it is.
	pages, err := filepath.Glob(filepath.Join(dir, "man", "*.1"))
	require.NoError(t, err)
	for _, file := range pages {
		page, err := os.ReadFile(file)
		require.NoError(t, err)
		command := strings.Split(strings.TrimSuffix(filepath.Base(file), ".1"), "-")[1:]
		_, help := run(t, nil, append(command, "--help")...)
		special := regexp.MustCompile("\\S*[_*<>`~$&\\[\\]]\\S*").FindAllString(help, -1)
		require.Contains(t, special, "CODER_AIBRIDGE_*", file)
		for _, word := range special {
			if word == "[command]" { // of the help, not of a page
				continue
			}
			require.Contains(t, string(page), word, file)
		}
		require.NotContains(t, string(page), `\fI`, "%s: nothing is emphasised", file)
	}
	main, err := os.ReadFile(filepath.Join(dir, "man", "worker.1"))
	require.NoError(t, err)
	require.Contains(t, string(main), "Exit codes:")
	home, err := os.UserHomeDir()
	require.NoError(t, err)
	if home != "/" {
		require.NotContains(t, string(main), home+"/", "the page does not depend on who writes it")
	}
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		require.FileExists(t, filepath.Join(dir, "completions", "worker."+shell))
	}
}

func TestGoreleaser(t *testing.T) {
	t.Run("Fields", testGoreleaserFields)
	t.Run("References", testGoreleaserReferences)
}

// testGoreleaserFields validates .goreleaser.yaml by what "goreleaser jsonschema" of
// version 2.16.0 prints.
func testGoreleaserFields(t *testing.T) {
	schema, err := jsonschema.NewCompiler().Compile("testdata/goreleaser.schema.json")
	require.NoError(t, err)
	content, err := os.ReadFile(filepath.Join(repository, ".goreleaser.yaml"))
	require.NoError(t, err)
	validate := func(content string) error {
		asJSON, err := yaml.YAMLToJSONStrict([]byte(content))
		require.NoError(t, err)
		value, err := jsonschema.UnmarshalJSON(bytes.NewReader(asJSON))
		require.NoError(t, err)
		return schema.Validate(value)
	}
	require.NoError(t, validate(string(content)))
	for _, name := range []string{"before", "mod_timestamp", "formats", "documents", "draft"} {
		require.Contains(t, string(content), name+":")
		require.Error(t, validate(strings.Replace(string(content), name+":", name+"x:", 1)), name)
	}
}

// testGoreleaserReferences checks of .goreleaser.yaml what goreleaser itself would find
// out only when it releases.
func testGoreleaserReferences(t *testing.T) {
	content, err := os.ReadFile(filepath.Join(repository, ".goreleaser.yaml"))
	require.NoError(t, err)
	makefile, err := os.ReadFile(filepath.Join(repository, "Makefile"))
	require.NoError(t, err)
	var release struct {
		Before struct{ Hooks []string }
		Builds []struct {
			Main           string
			Env            []string
			Flags, Ldflags []string
		}
		Archives []struct{ Files []any }
		Sboms    []struct {
			Cmd  string
			Args []string
		}
	}
	require.NoError(t, yaml.Unmarshal(content, &release))
	require.Len(t, release.Builds, 1)
	build := release.Builds[0]
	require.DirExists(t, filepath.Join(repository, build.Main))
	require.Equal(t, []string{"CGO_ENABLED=0"}, build.Env)
	require.Contains(t, build.Flags, "-trimpath")
	for _, variable := range []string{"main.version", "main.commit"} {
		require.Contains(t, build.Ldflags[0], "-X "+variable+"=")
		require.Contains(t, string(makefile), "-X "+variable+"=")
	}
	require.Equal(t, []string{"make release-files OUTPUT=release"}, release.Before.Hooks)
	require.Regexp(t, `(?m)^release-files:`, string(makefile))
	require.Len(t, release.Sboms, 1)
	require.Equal(t, "make", release.Sboms[0].Cmd)
	require.Equal(t, []string{"-C", "..", "sbom-of", "BINARY=dist/$artifact", "OUTPUT=dist/$document"}, release.Sboms[0].Args)
	// What docs/deployment.md installs and what it refers to.
	for _, file := range []string{"deploy/example.env", "deploy/systemd/*", "deploy/provwatch.example.yaml", "deploy/kubernetes/*/*", "docs/schemas/*"} {
		require.Contains(t, release.Archives[0].Files, file)
	}
	for _, file := range release.Archives[0].Files {
		if pattern, ok := file.(string); ok {
			matches, err := filepath.Glob(filepath.Join(repository, pattern))
			require.NoError(t, err)
			require.NotEmpty(t, matches, pattern)
			continue
		}
		require.Regexp(t, `^release/(man|completions)/\*$`, file.(map[string]any)["src"])
	}
}
