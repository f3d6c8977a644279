package environment

import (
	"math"
	"slices"
	"strconv"
	"strings"
)

// The two prefixes of all variables; they mean the same.
const (
	prefix      = "CODER_AIBRIDGE_"
	aliasPrefix = "CODER_AI_GATEWAY_"
)

// dumpDir is a field of the gateway's own.
const dumpDir = "DUMP_DIR"

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

	// legacyGroups begin the fields of legacy variables. A misspelt field is
	// noticed only within a group: anything else is the gateway's own.
	legacyGroups = []string{"OPENAI_", "ANTHROPIC_", "BEDROCK_"}

	// The fields that a misspelt one is compared with: DUMP_DIR can be misspelt
	// too.
	legacyNearby = append(slices.Clone(legacyFields),
		"OPENAI_"+dumpDir, "ANTHROPIC_"+dumpDir, "BEDROCK_"+dumpDir)
	indexedNearby = append(slices.Clone(indexedFields), dumpDir)
)

// Indices of places that are not those of an indexed provider, so that they
// sort before and after all of these.
const (
	fileIndex    = -2
	legacyIndex  = -1
	maxIndex     = math.MaxInt32
	invalidIndex = math.MaxInt
)

// place is what the name of a variable says about it.
type place struct {
	index int
	stem  string // the name up to the field: CODER_AIBRIDGE_PROVIDER_0_
	field string // OPENAI_KEY, or KEY of an indexed provider, in upper case; not always known
	spelt string // the field as it was spelt, of an indexed provider after PROVIDER_
	fault string // why the name is an error, else empty
}

func (at place) known() []string {
	if at.index == legacyIndex {
		return legacyFields
	}
	return indexedFields
}

func (at place) nearby() []string {
	if at.index == legacyIndex {
		return legacyNearby
	}
	return indexedNearby
}

// placeOf returns what a variable's name says about it; false for one that is
// to be passed over silently. What follows the prefix is matched without regard to
// case (docs/specification.md, section 1).
func placeOf(name string) (at place, ok bool) {
	stem := prefix
	spelt, ok := strings.CutPrefix(name, prefix)
	if !ok {
		stem = aliasPrefix
		if spelt, ok = strings.CutPrefix(name, aliasPrefix); !ok {
			return place{}, false
		}
	}
	field := upper(spelt)
	if strings.HasPrefix(field, indexedGroup) {
		at, ok := indexedPlace(name, spelt[len(indexedGroup):])
		at.spelt = spelt[:len(indexedGroup)] + at.spelt
		return at, ok
	}
	for _, group := range legacyGroups {
		if rest, ok := strings.CutPrefix(field, group); ok {
			return place{index: legacyIndex, stem: stem, field: field, spelt: spelt}, rest != dumpDir
		}
	}
	return place{}, false
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

// indexedPlace returns the place of a variable. numbered is the part of its name
// from the index on.
func indexedPlace(name, numbered string) (at place, ok bool) {
	digits, spelt, separated := strings.Cut(numbered, "_")
	at = place{index: invalidIndex, stem: strings.TrimSuffix(name, spelt), field: upper(spelt), spelt: spelt}
	if !separated {
		at.stem += "_"
	}
	fault := func(what string) string {
		return what + "; the form is " + strings.TrimSuffix(name, numbered) + "<N>_<FIELD>, with N = 0, 1, 2, …"
	}
	if digits == "" || strings.Trim(digits, "0123456789") != "" {
		at.fault = fault("its index is not a decimal number")
		return at, true
	}
	index, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || index > maxIndex {
		at.fault = fault("its index is too large")
		return at, true
	}
	at.index = int(index)
	if at.field == "" {
		at.fault = fault("it names no field")
	}
	return at, at.field != dumpDir
}

// orderOf returns the index by which findings about the variable are sorted, or about
// the environment file, which come first.
func orderOf(variable string) int {
	at, ok := placeOf(variable)
	if !ok {
		return fileIndex
	}
	return at.index
}
