package environment

import (
	"strings"
)

// variablesOf returns the variables by name. The first one of a name counts, as with
// [os.Getenv].
func variablesOf(environ []string) map[string]string {
	variables := make(map[string]string, len(environ))
	for _, pair := range environ {
		name, value, _ := strings.Cut(pair, "=")
		if _, repeated := variables[name]; !repeated {
			variables[name] = value
		}
	}
	return variables
}
