package environment

import (
	"cmp"
	"math"
	"slices"
	"strconv"
	"strings"
)

// The two prefixes of all variables where none is given; they mean the same.
const (
	prefix      = "CODER_AIBRIDGE_"
	aliasPrefix = "CODER_AI_GATEWAY_"
)

// dumpDir is a field of the gateway's own.
const dumpDir = "DUMP_DIR"

// fileSuffix ends the name of a variable that names the file of a secret.
const fileSuffix = "_FILE"

// indexedGroup begins the names of indexed variables, after the prefix.
const indexedGroup = "PROVIDER_"

// legacyFields and indexedFields are what can follow the prefix, or the index.
var (
	legacyFields = []string{
		"OPENAI_KEY", "OPENAI_BASE_URL",
		"ANTHROPIC_KEY", "ANTHROPIC_BASE_URL",
		"BEDROCK_BASE_URL", "BEDROCK_REGION", "BEDROCK_ACCESS_KEY", "BEDROCK_ACCESS_KEY_SECRET",
		"BEDROCK_MODEL", "BEDROCK_SMALL_FAST_MODEL",
	}
	indexedFields = []string{
		"TYPE", "NAME", "BASE_URL", "KEY", "KEYS",
		"BEDROCK_BASE_URL", "BEDROCK_REGION",
		"BEDROCK_ACCESS_KEY", "BEDROCK_ACCESS_KEYS", "BEDROCK_ACCESS_KEY_SECRET", "BEDROCK_ACCESS_KEY_SECRETS",
		"BEDROCK_MODEL", "BEDROCK_SMALL_FAST_MODEL",
	}

	// secretFields can be given as a file, with fileSuffix after their names.
	secretFields = []string{
		"OPENAI_KEY", "ANTHROPIC_KEY", "KEY", "KEYS",
		"BEDROCK_ACCESS_KEY", "BEDROCK_ACCESS_KEYS", "BEDROCK_ACCESS_KEY_SECRET", "BEDROCK_ACCESS_KEY_SECRETS",
	}

	// legacyGroups begin the fields of legacy variables. A misspelt field is
	// noticed only within a group: anything else is the gateway's own.
	legacyGroups = []string{"OPENAI_", "ANTHROPIC_", "BEDROCK_"}

	// The fields that a misspelt one is compared with: DUMP_DIR can be misspelt
	// too.
	legacyNearby  = append(withFiles(legacyFields), "OPENAI_"+dumpDir, "ANTHROPIC_"+dumpDir, "BEDROCK_"+dumpDir)
	indexedNearby = append(withFiles(indexedFields), dumpDir)
)

// Indices of names that are not those of an indexed provider. Findings about them
// sort before and after all findings about indexed providers.
const (
	fileIndex    = -2
	legacyIndex  = -1
	maxIndex     = math.MaxInt32
	invalidIndex = math.MaxInt
)

// parsedName is the name of a variable, parsed.
type parsedName struct {
	index int
	stem  string // the name up to the field: CODER_AIBRIDGE_PROVIDER_0_
	field string // OPENAI_KEY, or KEY of an indexed provider, in upper case; not always known
	spelt string // the field as it was spelt, of an indexed provider after PROVIDER_
	fault string // why the name is an error, else empty
	// inFile: the variable names the file that holds the value of the field. Its name has
	// fileSuffix after the field.
	inFile bool
}

// withFiles returns the fields, and for each secret field the name with fileSuffix.
func withFiles(fields []string) []string {
	all := slices.Clone(fields)
	for _, field := range fields {
		if slices.Contains(secretFields, field) {
			all = append(all, field+fileSuffix)
		}
	}
	return all
}

// cutFile takes fileSuffix off the field of a variable that names the file of a secret.
func (n *parsedName) cutFile() {
	field, ok := strings.CutSuffix(n.field, fileSuffix)
	if ok && slices.Contains(secretFields, field) && slices.Contains(n.known(), field) {
		n.field, n.inFile = field, true
	}
}

func (n parsedName) known() []string {
	if n.index == legacyIndex {
		return legacyFields
	}
	return indexedFields
}

func (n parsedName) nearby() []string {
	if n.index == legacyIndex {
		return legacyNearby
	}
	return indexedNearby
}

// prefixes begin the names of provider variables. All of them mean the same. A message
// uses the first for a variable that is not set.
type prefixes []string

var defaultPrefixes = prefixes{prefix, aliasPrefix}

// cut returns the prefix of the name, and what follows it.
func (ps prefixes) cut(name string) (prefix, rest string, ok bool) {
	for _, p := range ps {
		if rest, ok := strings.CutPrefix(name, p); ok {
			return p, rest, true
		}
	}
	return "", "", false
}

// parse parses the name of a variable. It returns false for a name that is passed over
// silently. What follows the prefix is matched without regard to
// case (docs/specification.md, section 1).
func (ps prefixes) parse(name string) (parsed parsedName, ok bool) {
	stem, spelt, ok := ps.cut(name)
	if !ok {
		return parsedName{}, false
	}
	field := upper(spelt)
	if strings.HasPrefix(field, indexedGroup) {
		parsed, ok := parseIndexedName(name, spelt[len(indexedGroup):])
		parsed.spelt = spelt[:len(indexedGroup)] + parsed.spelt
		parsed.cutFile()
		return parsed, ok
	}
	for _, group := range legacyGroups {
		if rest, ok := strings.CutPrefix(field, group); ok {
			parsed := parsedName{index: legacyIndex, stem: stem, field: field, spelt: spelt}
			parsed.cutFile()
			return parsed, rest != dumpDir
		}
	}
	return parsedName{}, false
}

// upper returns the name in upper case. Field names are ASCII: strings.ToUpper
// would take other letters for theirs, such as the long s.
func upper(name string) string {
	if !strings.ContainsFunc(name, func(r rune) bool { return 'a' <= r && r <= 'z' }) {
		return name
	}
	return strings.Map(func(r rune) rune {
		if 'a' <= r && r <= 'z' {
			return r - 'a' + 'A'
		}
		return r
	}, name)
}

// parseIndexedName parses the name of a variable of an indexed provider. numbered is the
// part of the name from the index on.
func parseIndexedName(name, numbered string) (parsed parsedName, ok bool) {
	digits, spelt, separated := strings.Cut(numbered, "_")
	parsed = parsedName{index: invalidIndex, stem: strings.TrimSuffix(name, spelt), field: upper(spelt), spelt: spelt}
	if !separated {
		parsed.stem += "_"
	}
	fault := func(what string) string {
		return what + "; the form is " + strings.TrimSuffix(name, numbered) + "<N>_<FIELD>, with N = 0, 1, 2, …"
	}
	if digits == "" || strings.Trim(digits, "0123456789") != "" {
		parsed.fault = fault("its index is not a decimal number")
		return parsed, true
	}
	index, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || index > maxIndex {
		parsed.fault = fault("its index is too large")
		return parsed, true
	}
	parsed.index = int(index)
	if parsed.field == "" {
		parsed.fault = fault("it names no field")
	}
	return parsed, parsed.field != dumpDir
}

// index returns the index by which findings about the variable are sorted, or about
// the environment file, which come first.
func (ps prefixes) index(variable string) int {
	parsed, ok := ps.parse(variable)
	if !ok {
		return fileIndex
	}
	return parsed.index
}

// sort sorts by index (the file first, legacy variables, those without a valid
// index last), then by variable. What is found in one variable keeps its order.
func (ps prefixes) sort(findings []Finding) {
	slices.SortStableFunc(findings, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(ps.index(a.Variable), ps.index(b.Variable)), cmp.Compare(a.Variable, b.Variable))
	})
}
