// Package config reads the file of --config, which names the databases that one worker
// watches.
package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"provwatch/internal/regularfile"
	"provwatch/internal/suggest"
)

// maxSize is the largest size of the file, in bytes: that of a thousand targets with
// room to spare.
const maxSize = 10 << 20

// Target is a database to watch, and the environment to compare it with.
type Target struct {
	// Name is unique, and of lower-case letters and digits with single hyphens
	// between.
	Name string
	Line int // of the file, at which the target begins

	// Either the path of an environment file or a prefix that the target's
	// variables have instead of CODER_AIBRIDGE_.
	EnvFile, EnvPrefix string

	// EncryptionKeysFile is the path of a file of the keys that encrypt secrets; empty for
	// those of the environment file, else of the process.
	EncryptionKeysFile string

	// One of: the name of a variable that holds the database's URL, the path of a
	// file that does, and libpq keywords without a password.
	DatabaseURLEnv, DatabaseURLFile, Database string

	// Overrides are the flags that are otherwise than those of the command.
	Overrides []Override
}

// Override is a flag of one target.
type Override struct {
	Flag, Value string
	Line        int // of the file
}

// ownFields are the fields of a target that are not the flags of the caller.
var ownFields = []string{
	"name", "env_file", "env_prefix", "encryption_keys_file", "database_url_env", "database_url_file", "database",
}

// fieldOf returns the field of a flag: source_x of source-x.
func fieldOf(flag string) string { return strings.ReplaceAll(flag, "-", "_") }

// Finding is what is wrong at a place of the file. It never holds a value of the
// file other than a target's name: a password can be pasted anywhere. An unknown
// field is named where its name is a word.
type Finding struct {
	Line    int    // 0 for the whole file
	Target  string // empty where it is of none, or of one without a name
	Message string
}

// Error holds everything that is wrong with the file, by line.
type Error struct {
	Path     string
	Findings []Finding
}

// Error says all of it, each on a line of its own: PATH:LINE: target NAME: why.
func (e *Error) Error() string {
	lines := make([]string, 0, len(e.Findings))
	for _, f := range slices.SortedStableFunc(slices.Values(e.Findings), func(a, b Finding) int { return a.Line - b.Line }) {
		line := e.Path
		if f.Line > 0 {
			line += fmt.Sprintf(":%d", f.Line)
		}
		if f.Target != "" {
			line += ": target " + f.Target
		}
		lines = append(lines, line+": "+f.Message)
	}
	return strings.Join(lines, "\n")
}

// Read reads the file. A target can have the flags given as fields. Paths in the file are
// relative to its folder. The error is an
// [*Error] that holds everything that is wrong. The targets then hold what could be read: the
// caller can check the rest of them.
func Read(path string, flags []string) ([]Target, error) {
	text, err := regularfile.ReadGuarded(path, maxSize)
	if err != nil {
		// The path is named already.
		return nil, &Error{Path: regularfile.Shown(path), Findings: []Finding{{Message: fmt.Sprintf("the file of --config cannot be read: %v", regularfile.Cause(err))}}}
	}
	targets, findings := parse(text, flags)
	for i := range targets {
		t := &targets[i]
		for _, place := range []*string{&t.EnvFile, &t.EncryptionKeysFile, &t.DatabaseURLFile} {
			if *place != "" && !filepath.IsAbs(*place) {
				*place = filepath.Join(filepath.Dir(path), *place)
			}
		}
	}
	if len(findings) > 0 {
		return targets, &Error{Path: path, Findings: findings}
	}
	return targets, nil
}

// parse does not decode into a type: the parser's own messages of values that do
// not fit quote them, and end at the first.
func parse(text []byte, flags []string) ([]Target, []Finding) {
	p := parser{flags: flags}
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	var document, more yaml.Node
	if err := decoder.Decode(&document); errors.Is(err, io.EOF) {
		return nil, []Finding{{Message: "it is empty; it lists the databases to watch under targets"}}
	} else if err != nil {
		return nil, []Finding{notYAML(err)}
	}
	if err := decoder.Decode(&more); !errors.Is(err, io.EOF) {
		if err != nil {
			return nil, []Finding{notYAML(err)}
		}
		return nil, []Finding{{Line: more.Line, Message: "it holds a second document; only one is allowed"}}
	}
	p.file(document.Content[0])
	return p.targets, p.findings
}

var syntaxError = regexp.MustCompile(`^yaml: (?:line (\d+): )?(.*)$`)

// notYAML keeps of the parser's message what does not come from the file's text.
func notYAML(err error) Finding {
	finding := Finding{Message: "it is not YAML"}
	if parts := syntaxError.FindStringSubmatch(err.Error()); parts != nil {
		_, _ = fmt.Sscan(parts[1], &finding.Line)
		if !strings.Contains(parts[2], "anchor") { // whose name is quoted
			finding.Message += ": " + parts[2]
		}
	}
	return finding
}

type parser struct {
	flags    []string // that a target can have
	targets  []Target
	findings []Finding
}

func (p *parser) find(line int, target, format string, args ...any) {
	p.findings = append(p.findings, Finding{Line: line, Target: target, Message: fmt.Sprintf(format, args...)})
}

func (p *parser) file(node *yaml.Node) {
	values := p.mapping(node, "", "the file", []string{"targets"})
	list := values["targets"]
	switch {
	case values == nil:
		return
	case list == nil:
		p.find(node.Line, "", "targets is missing; it lists the databases to watch")
		return
	case list.Kind != yaml.SequenceNode || len(list.Content) == 0:
		p.find(list.Line, "", "targets must be a list of at least one target")
		return
	}
	lines, clusters := map[string]int{}, map[string]string{}
	for i, item := range list.Content {
		target, ok := p.target(resolved(item), i)
		if !ok {
			continue
		}
		p.targets = append(p.targets, target)
		if line, taken := lines[target.Name]; taken && target.Name != "" {
			p.find(target.Line, target.Name, "the target at line %d has the same name", line)
			continue
		}
		lines[target.Name] = target.Line
		for _, o := range target.Overrides {
			if other, taken := clusters[o.Value]; o.Flag == "cluster-name" && taken {
				p.find(o.Line, target.Name, "its cluster_name is that of target %s: sinks could not distinguish their providers", other)
			} else if o.Flag == "cluster-name" {
				clusters[o.Value] = target.Name
			}
		}
	}
}

// resolved follows aliases.
func resolved(node *yaml.Node) *yaml.Node {
	if node.Kind == yaml.AliasNode {
		return node.Alias
	}
	return node
}

// mapping returns the values of a mapping by key, nil for another kind of node.
func (p *parser) mapping(node *yaml.Node, target, what string, known []string) map[string]*yaml.Node {
	if node.Kind != yaml.MappingNode {
		p.find(node.Line, target, "%s must be a mapping with the fields %s", what, strings.Join(known, ", "))
		return nil
	}
	values := map[string]*yaml.Node{}
	for i := 0; i+1 < len(node.Content); i += 2 {
		key, value := node.Content[i], resolved(node.Content[i+1])
		switch {
		case !slices.Contains(known, key.Value):
			p.find(key.Line, target, "%s has %s", what, unknownField(key.Value, known))
		case values[key.Value] != nil:
			p.find(key.Line, target, "%s is there twice", key.Value)
		default:
			values[key.Value] = value
		}
	}
	return values
}

// unknownField says which field is not known, and which may be meant: of a word
// alone, since a key can also be a line that has lost its field.
func unknownField(name string, known []string) string {
	if !fieldPattern.MatchString(name) {
		return "a field that is not one of " + strings.Join(known, ", ")
	}
	if meant := suggest.Misspelt(name, known); meant != "" {
		return fmt.Sprintf("the unknown field %q; did you mean %s?", name, meant)
	}
	return fmt.Sprintf("the unknown field %q, which is not one of %s", name, strings.Join(known, ", "))
}

var (
	fieldPattern    = regexp.MustCompile(`^[A-Za-z_-]{1,32}$`)
	namePattern     = regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`)
	variablePattern = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
	passwordKeyword = regexp.MustCompile(`(?i)\b(ssl)?password\s*=`)
)

// fields returns the fields that a target can have.
func (p *parser) fields() []string {
	fields := slices.Clone(ownFields)
	for _, flag := range p.flags {
		fields = append(fields, fieldOf(flag))
	}
	return fields
}

// target returns what can be read of a target, and whether it is one at all. A value
// that cannot be used is left out.
func (p *parser) target(node *yaml.Node, index int) (Target, bool) {
	name := ""
	if node.Kind == yaml.MappingNode {
		for i := 0; i+1 < len(node.Content); i += 2 {
			if value := resolved(node.Content[i+1]); node.Content[i].Value == "name" && namePattern.MatchString(value.Value) {
				name = value.Value
			}
		}
	}
	values := p.mapping(node, name, fmt.Sprintf("target %d of the list", index+1), p.fields())
	if values == nil {
		return Target{}, false
	}
	t := Target{Name: name, Line: node.Line}
	if name == "" {
		p.find(node.Line, "", "target %d of the list needs a name, of lower-case letters and digits with single hyphens between", index+1)
	}
	text := func(field string) string {
		value := values[field]
		if value == nil {
			return ""
		}
		if value.Kind != yaml.ScalarNode || value.Value == "" || value.Tag == "!!null" {
			p.find(value.Line, name, "%s must be a text that is not empty", field)
			return ""
		}
		return value.Value
	}
	t.EnvFile, t.EnvPrefix = text("env_file"), text("env_prefix")
	t.EncryptionKeysFile = text("encryption_keys_file")
	t.DatabaseURLEnv, t.DatabaseURLFile, t.Database = text("database_url_env"), text("database_url_file"), text("database")
	p.exactlyOne(t, values, "env_file", "env_prefix")
	p.exactlyOne(t, values, "database_url_env", "database_url_file", "database")
	if v := values["env_prefix"]; v != nil && (!variablePattern.MatchString(t.EnvPrefix) || !strings.HasSuffix(t.EnvPrefix, "_")) {
		p.find(v.Line, name, "env_prefix must be the beginning of variables' names and end with an underscore, such as BILLING_")
	}
	if v := values["database_url_env"]; v != nil && !variablePattern.MatchString(t.DatabaseURLEnv) {
		p.find(v.Line, name, "database_url_env must be the name of a variable, such as BILLING_DATABASE_URL")
		t.DatabaseURLEnv = ""
	}
	if v := values["database"]; v != nil && hasPassword(t.Database) {
		p.find(v.Line, name, "database must not hold a password: use database_url_env or database_url_file, or libpq's PGPASSFILE")
		t.Database = ""
	}
	for _, flag := range p.flags {
		if value := text(fieldOf(flag)); value != "" {
			t.Overrides = append(t.Overrides, Override{Flag: flag, Value: value, Line: values[fieldOf(flag)].Line})
		}
	}
	return t, true
}

func (p *parser) exactlyOne(t Target, values map[string]*yaml.Node, of ...string) {
	var have []string
	for _, field := range of {
		if values[field] != nil {
			have = append(have, field)
		}
	}
	if len(have) != 1 {
		p.find(t.Line, t.Name, "it needs exactly one of %s, and has %d of them", strings.Join(of, ", "), len(have))
	}
}

// hasPassword reports whether libpq keywords, or a URL, hold a password. In doubt
// they do.
func hasPassword(database string) bool {
	if passwordKeyword.MatchString(database) {
		return true
	}
	if !strings.Contains(database, "://") {
		return false
	}
	parsed, err := url.Parse(database)
	if err != nil {
		return true
	}
	_, set := parsed.User.Password()
	return set
}
