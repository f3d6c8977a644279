package regularfile

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// hidden stands for a path that is not shown.
const hidden = "(path not shown)"

// fileName is evidently the name of a file.
var fileName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,40}\.(cert|conf|creds|crt|env|jks|json|key|pem|secret|token|txt|url|yaml|yml)$`)

// Shown returns a path as a message may show it. A secret can be given by mistake in
// place of the file that holds it: a path that leads to nothing is shown only where its
// folder exists and is named, or where it ends with the name of a file.
func Shown(path string) string {
	if _, err := os.Lstat(path); err == nil {
		return path
	}
	dir, base := filepath.Split(path)
	switch {
	case strings.ContainsAny(base, "=@:?& \t\r\n"), strings.Contains(dir, ":/"): // a URL, keywords, NAME=VALUE
		return hidden
	case fileName.MatchString(base):
		return path
	case strings.Trim(dir, "/") == "": // the working directory, or the root
		return hidden
	}
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return hidden
	}
	return path
}
