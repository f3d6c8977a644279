package provider

import (
	"net/url"
	"strings"
)

// unparseableURL is shown instead of a base URL from which userinfo and query
// cannot be told apart, and so cannot be removed.
const unparseableURL = "(not a URL, withheld)"

// DisplayURL returns a base URL as it may be shown, without userinfo, query
// and fragment, which can hold credentials (spec section 7).
func DisplayURL(raw string) string {
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
