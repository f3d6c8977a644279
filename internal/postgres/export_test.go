package postgres

import "strings"

// IsServerSetting reports whether the server is sent the setting.
func IsServerSetting(name string) bool {
	return serverSettings[strings.ToLower(name)] || name == "options"
}
