package postgres

import "strings"

// IsServerSetting reports whether the server is sent the setting.
func IsServerSetting(name string) bool {
	return serverSettings[strings.ToLower(name)] || name == "options"
}

// IsSent reports whether a parameter that pgx would send reaches the server: the
// keywords of libpq that are for the client do not.
func IsSent(name string) bool { return !notOfPgx[name] }
