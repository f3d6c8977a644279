package provider

import (
	"strconv"
	"unicode/utf8"
)

// MaxShown bounds a value as it is shown, in bytes, the mark of a cut included. The
// row alone holds more of it.
const MaxShown = 2048

// DisplayText returns a value as it may be shown: in logs, pages, alerts, payloads and
// audit entries. One longer than [MaxShown] is cut between two characters, and says so.
func DisplayText(value string) string {
	if len(value) <= MaxShown {
		return value
	}
	return cutAndMark(value, len(value))
}

// cutAndMark cuts a value, and says of how many bytes it is the beginning.
func cutAndMark(value string, whole int) string {
	mark := cutMark(whole)
	return CutText(value, MaxShown-len(mark)) + mark
}

// cutMark is what a value of so many bytes ends with where it is cut.
func cutMark(whole int) string { return cutMarkBegin + strconv.Itoa(whole) + cutMarkEnd }

const (
	cutMarkBegin = "… (cut, "
	cutMarkEnd   = " bytes in all)"
)

// CutText returns the beginning of a value, of at most size bytes, which ends between
// two characters.
func CutText(value string, size int) string {
	if len(value) <= size {
		return value
	}
	for n := 1; n < utf8.UTFMax && size > 0 && !utf8.RuneStart(value[size]); n++ {
		size--
	}
	return value[:size]
}
