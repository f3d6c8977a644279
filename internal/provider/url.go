package provider

import (
	"net/url"
	"strconv"
	"strings"
)

// unparseableURL is shown instead of a base URL from which userinfo and query
// cannot be told apart, and so cannot be removed.
const unparseableURL = "(not a URL, withheld)"

// DisplayURL returns a base URL as it may be shown: as [PublicURL] has it, and cut as
// [DisplayText] does. What it returns it shows unchanged.
func DisplayURL(raw string) string {
	if isCutURL(raw) {
		return raw
	}
	if len(raw) <= 2*MaxShown {
		return cutURL(PublicURL(raw), 0)
	}
	// Of a very long one no more is parsed than is shown. Without an "@" it has no
	// userinfo, wherever it is cut; with one it is not looked at closer.
	if strings.Contains(raw, "@") {
		return unparseableURL
	}
	head := withoutHalfEscape(CutText(raw, 2*MaxShown))
	if strings.ContainsAny(head, "?#") {
		return cutURL(PublicURL(head), 0)
	}
	return cutURL(PublicURL(head), len(raw))
}

// cutURL cuts a public URL, of which there are whole bytes in all if that is more, to
// what may be shown.
func cutURL(public string, whole int) string {
	if public == unparseableURL || max(len(public), whole) <= MaxShown {
		return public
	}
	mark := cutMark(max(len(public), whole))
	head := withoutHalfEscape(CutText(public, MaxShown-len(mark)))
	if !isPublic(head) { // cut in its host, such as an IPv6 address with a long zone
		return unparseableURL
	}
	return head + mark
}

// isCutURL reports whether a text is what [cutURL] makes of a longer one.
func isCutURL(text string) bool {
	head, mark, found := strings.Cut(text, cutMarkBegin)
	if !found || len(text) > MaxShown {
		return false
	}
	whole, err := strconv.Atoi(strings.TrimSuffix(mark, cutMarkEnd))
	return err == nil && whole > MaxShown && text == head+cutMark(whole) && isPublic(head)
}

// isPublic reports whether a text is a URL of which [PublicURL] shows all.
func isPublic(text string) bool {
	return text != "" && text != unparseableURL && PublicURL(text) == text
}

// withoutHalfEscape returns the beginning of a URL without an escape that it cuts.
func withoutHalfEscape(head string) string {
	if at := strings.LastIndexByte(head, '%'); at >= 0 && at >= len(head)-2 {
		return head[:at]
	}
	return head
}

// PublicURL returns a base URL without userinfo, query and fragment, which can hold
// credentials (docs/specification.md, section 7).
func PublicURL(raw string) string {
	if raw == "" {
		return ""
	}
	u, err := url.Parse(raw)
	// An opaque URL such as "user:password@host" parses, with the password in
	// its opaque part.
	if err != nil || u.Opaque != "" || u.Host == "" {
		return unparseableURL
	}
	// In "https://user:1/2@host" the userinfo has an unescaped slash, and its
	// beginning is taken for the host; the same goes for "?" and "#".
	userinfoEnds := 0
	if u.User != nil {
		userinfoEnds = 1
	}
	if strings.Count(raw, "@") > userinfoEnds {
		return unparseableURL
	}
	shown := (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path, RawPath: u.RawPath}).String()
	// A path that is not escaped as it has to be is escaped anew, and a "%40" of it
	// becomes what looks like the end of userinfo.
	if strings.Contains(shown, "@") {
		return unparseableURL
	}
	return shown
}
