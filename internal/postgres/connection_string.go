package postgres

import (
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"provwatch/internal/suggest"
)

// ConnectionStringError says why the text that says which database to connect to
// cannot be used. It holds nothing of the text but an unknown keyword that cannot be
// a part of a password.
type ConnectionStringError struct {
	Source string // the variable, file or field that holds the text
	Reason string // continues the source
}

func (e *ConnectionStringError) Error() string { return e.Source + " " + e.Reason }

// Why a text is no connection string, each with the remedy. They continue its name.
const (
	notAConnectionString = "is not a connection string: write a URL that begins with postgres:// or postgresql://, or libpq keywords such as host=HOST dbname=NAME"
	hasByteOrderMark     = "begins with a byte order mark, which is part of the value: remove it (save the text as UTF-8 without one)"
	isQuoted             = "is in quotes, which are part of the value: remove them"
	isSurroundedBySpaces = "has a space or a line break before or after the URL, which is part of the value: remove it"
	holdsItsName         = "holds NAME=URL: it must hold the URL alone, without the name before it"
	holdsNUL             = "holds a NUL character"
	percentEncode        = `percent-encode special characters of the user and the password: / as %2F, ? as %3F, # as %23, @ as %40, % as %25, a space as %20`
	quoteValues          = `write each as keyword=value, and a value with spaces or special characters as 'value', with \' for ' and \\ for \ in it`
)

// parsed are the settings of a connection string, by libpq's keywords.
type parsed map[string]string

// parseConnectionString returns what text says. It takes less than libpq and pgx do:
// every keyword must be known, and nothing that may be a piece of a password counts
// as anything else. A password whose special characters were not escaped would
// otherwise become in part a host, a database or a parameter, which are shown and
// sent. The reason is empty for a text that can be used.
func parseConnectionString(text string) (settings parsed, reason string) {
	trimmed := strings.TrimFunc(text, unicode.IsSpace)
	isURL := hasScheme(trimmed)
	switch {
	case text == "":
		return parsed{}, ""
	case strings.ContainsRune(text, 0):
		return nil, holdsNUL
	case slices.ContainsFunc([]string{"\uFEFF", "\xFE\xFF", "\xFF\xFE"}, func(mark string) bool { return strings.HasPrefix(trimmed, mark) }):
		return nil, hasByteOrderMark
	case strings.IndexFunc(trimmed, isQuote) == 0, isURL && strings.LastIndexFunc(trimmed, isQuote) == len(trimmed)-1:
		return nil, isQuoted
	case isURL && trimmed != text:
		return nil, isSurroundedBySpaces
	case isURL:
		return parseURL(text)
	case nameAndURL.MatchString(trimmed):
		return nil, holdsItsName
	default:
		return parseKeywords(strings.TrimLeft(text, blanks))
	}
}

var schemes = []string{"postgres://", "postgresql://"}

var nameAndURL = regexp.MustCompile(`^(export\s+)?[A-Za-z_][A-Za-z0-9_]*\s*=\s*["']?postgres(ql)?://`)

func hasScheme(text string) bool {
	return slices.ContainsFunc(schemes, func(scheme string) bool { return strings.HasPrefix(text, scheme) })
}

// isQuote reports whether r is a quotation mark, typographic ones included.
func isQuote(r rune) bool { return strings.ContainsRune("\"'`´“”„‟‘’‚‛«»", r) }

// parseURL parses a URL as libpq does, so that the first "@" ends the password.
// Special characters where they must be escaped are an error.
func parseURL(text string) (parsed, string) {
	_, rest, _ := strings.Cut(text, "://")
	if strings.ContainsFunc(rest, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }) {
		return nil, "is a URL with a space or a control character in it: " + percentEncode
	}
	settings := parsed{}
	if userinfo, after, found := strings.Cut(rest, "@"); found {
		// libpq takes a "?" here for a part of the user or the password. In a URL without
		// userinfo it begins the query.
		if strings.ContainsAny(userinfo, "/?") || strings.Contains(after, "@") {
			return nil, "is a URL whose parts are ambiguous: " + percentEncode
		}
		user, password, _ := strings.Cut(userinfo, ":")
		if strings.ContainsAny(user, "#[]") {
			return nil, "is a URL whose parts are ambiguous: " + percentEncode
		}
		if !settings.decode("user", user) || !settings.decode("password", password) {
			return nil, "is a URL with a % that is not followed by two hexadecimal digits: " + percentEncode
		}
		rest = after
	}
	place, query, _ := strings.Cut(rest, "?")
	if strings.Contains(rest, "#") {
		return nil, "is a URL with a # in it: " + percentEncode
	}
	server, database, _ := strings.Cut(place, "/")
	if strings.ContainsAny(database, "/:") || strings.Contains(settings["user"], ":") {
		return nil, "is a URL with a / or : in the name of its database, or a : in that of its user: " + percentEncode
	}
	hosts, ports, ok := splitServers(server)
	if !ok || !settings.decode("host", hosts) || !settings.decode("dbname", database) {
		return nil, "is a URL whose host or database cannot be read: " + percentEncode
	}
	if strings.Trim(ports, ",") != "" || strings.Contains(hosts, ",") {
		settings["port"] = ports
	}
	if reason := settings.addQuery(query); reason != "" {
		return nil, reason
	}
	return settings, settings.check("percent-encode special characters of the password, which may have ended up there")
}

// splitServers returns the hosts and the ports of a URL, separated by commas and as
// many of both.
func splitServers(servers string) (hosts, ports string, ok bool) {
	var hostList, portList []string
	for server := range strings.SplitSeq(servers, ",") {
		host, port, _ := strings.Cut(server, ":")
		if strings.HasPrefix(server, "[") {
			address, after, closed := strings.Cut(server[1:], "]")
			if !closed || address == "" || after != "" && after[0] != ':' {
				return "", "", false
			}
			host, port = address, strings.TrimPrefix(after, ":")
		}
		hostList, portList = append(hostList, host), append(portList, port)
	}
	return strings.Join(hostList, ","), strings.Join(portList, ","), true
}

// addQuery adds the parameters of a URL.
func (s parsed) addQuery(query string) (reason string) {
	if query == "" {
		return ""
	}
	secretBefore := false
	for pair := range strings.SplitSeq(query, "&") {
		name, value, found := strings.Cut(pair, "=")
		if !found || strings.Contains(value, "=") {
			return "is a URL whose parameters are not all NAME=VALUE: percent-encode & as %26 and = as %3D in a value"
		}
		decoded, ok := decode(name)
		text, okToo := decode(value)
		switch {
		case !ok || !okToo:
			return "is a URL with a % that is not followed by two hexadecimal digits: " + percentEncode
		case decoded == "ssl" && text == "true": // as JDBC has it
			decoded, text = "sslmode", "require"
		case !isKnown(decoded):
			return "is a URL with " + unknown(decoded, !secretBefore)
		}
		secretBefore = secretBefore || isSecret(decoded)
		s[decoded] = text
	}
	return ""
}

func (s parsed) decode(keyword, text string) bool {
	value, ok := decode(text)
	if ok && value != "" {
		s[keyword] = value
	}
	return ok
}

// decode decodes percent-encoding, in which a plus sign is itself.
func decode(text string) (string, bool) {
	var decoded strings.Builder
	for i := 0; i < len(text); i++ {
		if text[i] != '%' {
			decoded.WriteByte(text[i])
			continue
		}
		if i+2 >= len(text) {
			return "", false
		}
		b, err := strconv.ParseUint(text[i+1:i+3], 16, 8)
		if err != nil || b == 0 {
			return "", false
		}
		decoded.WriteByte(byte(b))
		i += 2
	}
	return decoded.String(), true
}

const blanks = " \t\n\r\v\f"

// keyword is one at the beginning of a text, with its equals sign and the blanks
// around it.
var keyword = regexp.MustCompile(`^([A-Za-z_][A-Za-z0-9_.]*)[ \t\n\r\v\f]*=([ \t\n\r\v\f]*)`)

// parseKeywords parses libpq's keyword=value pairs.
func parseKeywords(text string) (parsed, string) {
	settings := parsed{}
	var foreign string // the first unknown keyword
	secretBefore := false
	for rest := text; rest != ""; {
		parts := keyword.FindStringSubmatch(rest)
		if parts == nil && len(settings) == 0 {
			return nil, notAConnectionString
		}
		if parts == nil {
			return nil, "holds text between its keywords: " + quoteValues
		}
		name, gap := parts[1], parts[2]
		value, after, reason := cutValue(rest[len(parts[0]):])
		if reason != "" && len(settings) == 0 && !isKnown(name) {
			return nil, notAConnectionString
		}
		if reason != "" {
			return nil, reason
		}
		if next := keyword.FindStringSubmatch(value); gap != "" && next != nil && isKnown(next[1]) {
			return nil, "has a keyword without a value: " + quoteValues
		}
		switch {
		case isKnown(name):
			secretBefore = secretBefore || isSecret(name)
			settings[name] = value
		case foreign == "":
			foreign = unknown(name, !secretBefore && value != "")
		}
		rest = after
	}
	switch {
	case len(settings) == 0:
		// Any text with an equals sign in it, as base64 has.
		return nil, notAConnectionString
	case foreign != "":
		return nil, "has " + foreign
	}
	return settings, settings.check("put a value with spaces or special characters in single quotes")
}

// cutValue cuts a value off the beginning of a text, and the blanks after it.
func cutValue(text string) (value, rest, reason string) {
	quoted := strings.HasPrefix(text, "'")
	var v strings.Builder
	i := 0
	if quoted {
		i++
	}
	for ; i < len(text); i++ {
		if quoted && text[i] == '\'' || !quoted && strings.IndexByte(blanks, text[i]) >= 0 {
			break
		}
		if text[i] == '\\' {
			if i++; i == len(text) {
				break
			}
		}
		v.WriteByte(text[i])
	}
	if quoted && i >= len(text) {
		return "", "", "has a quote that is not closed: " + quoteValues
	}
	if quoted {
		i++
	}
	rest = strings.TrimLeft(text[min(i, len(text)):], blanks)
	if quoted && i < len(text) && strings.IndexByte(blanks, text[i]) < 0 {
		return "", "", "has text right after a closing quote: " + quoteValues
	}
	return v.String(), rest, ""
}

func isKnown(name string) bool {
	return keywords[name] || notOfPgx[name] || serverSettings[strings.ToLower(name)]
}

// knownNames returns the keywords and settings that [isKnown] knows, in a fixed order.
func knownNames() (names []string) {
	for _, known := range []map[string]bool{keywords, notOfPgx, serverSettings} {
		names = append(names, slices.Sorted(maps.Keys(known))...)
	}
	return names
}

func isSecret(name string) bool {
	return slices.Contains([]string{"password", "sslpassword", "scram_client_key", "scram_server_key", "oauth_client_secret"}, name)
}

var plainKeyword = regexp.MustCompile(`^[a-z_]{1,63}$`)

// unknown says that a keyword is not known, and names it only where it may be shown.
// After a password it may be a piece of that.
func unknown(name string, shown bool) string {
	if shown && plainKeyword.MatchString(name) {
		if meant := suggest.Misspelt(name, knownNames()); meant != "" {
			return fmt.Sprintf("the unknown keyword %s: correct it to %s, or remove it", name, meant)
		}
		return fmt.Sprintf("the unknown keyword %s: correct or remove it", name)
	}
	return "an unknown keyword: check the spelling of each, and that a password with special characters is quoted or percent-encoded"
}

var (
	hostName       = regexp.MustCompile(`^[\p{L}\p{N}_]([\p{L}\p{N}\p{M}._-]*)$`)
	passwordInText = regexp.MustCompile(`(?i)(^|[^a-z])(ssl)?(password|passwd|pwd)\s*=`)
	schemeInText   = regexp.MustCompile(`(?i)postgres(ql)?:`)
)

// check refuses values that are something else than what their keywords say, which a
// piece of a password or another connection string are. The reason is empty for usable
// values.
func (s parsed) check(remedy string) (reason string) {
	for host := range strings.SplitSeq(s["host"], ",") {
		if !isHost(host) {
			return "has a host that is neither a name, nor an address, nor the path of a folder: " + remedy
		}
	}
	for port := range strings.SplitSeq(s["port"], ",") {
		if n, err := strconv.ParseUint(port, 10, 16); port != "" && (err != nil || n == 0) {
			return "has a port that is not a number from 1 to 65535: " + remedy
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s)) {
		value := s[name]
		if reason := checkValue(name, value); reason != "" {
			return reason
		}
		switch {
		case isSecret(name):
			continue
		case strings.ContainsFunc(value, unicode.IsControl):
			return "has a control character in the value of " + name + ": " + remedy
		case holdsConnectionString(value), (name == "dbname" || name == "user") && strings.Contains(value, "="):
			return "has a connection string as the value of " + name + ": " + remedy
		case (name == "dbname" || name == "user") && strings.Contains(value, ":"):
			return "has a : in the value of " + name + ", which a password may follow: " + remedy
		}
	}
	return ""
}

func holdsConnectionString(value string) bool {
	return strings.Contains(value, "://") || passwordInText.MatchString(value)
}

// HoldsConnectionString reports whether a text that is to be something else holds a
// connection string, and so perhaps a password.
func HoldsConnectionString(text string) bool {
	return holdsConnectionString(text) || schemeInText.MatchString(text)
}

// isHost reports whether the text is a host as pgx connects to it: empty for the
// default, a folder of a unix socket, an address, a name.
func isHost(text string) bool {
	if text == "" || strings.HasPrefix(text, "/") {
		return !strings.ContainsAny(text, "@:")
	}
	if _, err := netip.ParseAddr(text); err == nil {
		return true
	}
	return len(text) <= 253 && hostName.MatchString(text)
}

// String returns the settings in a form that pgx cannot take for another.
func (s parsed) String() string {
	escaped := strings.NewReplacer(`\`, `\\`, `'`, `\'`)
	var pairs []string
	for _, name := range slices.Sorted(maps.Keys(s)) {
		pairs = append(pairs, name+"='"+escaped.Replace(s[name])+"'")
	}
	return strings.Join(pairs, " ")
}
