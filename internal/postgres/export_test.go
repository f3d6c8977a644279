package postgres

import "strings"

// IsServerSetting reports whether a setting is one that is passed on to the server.
func IsServerSetting(name string) bool {
	return serverSettings[strings.ToLower(name)] || name == "options"
}
