package provider

import (
	"net/url"
	"strings"
)

// unparseableURL is shown instead of a base URL from which userinfo and query
// cannot be told apart, and so cannot be removed.
const unparseableURL = "(not a URL, withheld)"

// DisplayURL returns a base URL as it may be shown: as [PublicURL] has it, and cut as
// [DisplayText] does.
func DisplayURL(raw string) string {
	if len(raw) <= 2*MaxShown {
		return DisplayText(PublicURL(raw))
	}
	// Of a very long one no more is parsed than is shown. Without an "@" it has no
	// userinfo, wherever it is cut; with one it is not looked at closer.
	if strings.Contains(raw, "@") {
		return unparseableURL
	}
	head := cutText(raw, 2*MaxShown)
	if at := strings.LastIndexByte(head, '%'); at >= len(head)-2 { // half an escape
		head = head[:at]
	}
	shown := PublicURL(head)
	if shown == unparseableURL || strings.ContainsAny(head, "?#") {
		return DisplayText(shown)
	}
	return cutAndMark(shown, len(raw))
}

// PublicURL returns a base URL without userinfo, query and fragment, which can hold
// credentials (spec section 7).
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
