package workertest

import (
	"maps"
	"slices"
	"strings"

	"provwatch/internal/dbcrypt"
	"provwatch/internal/dbcrypt/dbcrypttest"
)

// Keys of the providers of [TwoProviders].
const (
	OpenAIKey    = "sk-openai-0123456789-abcdefghij-OPENAI"
	AnthropicKey = "sk-ant-0123456789-abcdefghij-ANTHROPIC"
)

// Environ is a worker's environment, beside what every process needs.
type Environ map[string]string

// TwoProviders names the providers openai and anthropic.
func TwoProviders() Environ {
	return Environ{"CODER_AIBRIDGE_OPENAI_KEY": OpenAIKey, "CODER_AIBRIDGE_ANTHROPIC_KEY": AnthropicKey}
}

// With returns a copy of the environment with one more variable.
func (e Environ) With(name, value string) Environ {
	more := Environ{}
	maps.Copy(more, e)
	more[name] = value
	return more
}

// WithKeys returns a copy of the environment with the encryption keys, without their
// variable for none.
func (e Environ) WithKeys(keys ...dbcrypttest.Key) Environ {
	if len(keys) == 0 {
		return maps.Clone(e)
	}
	return e.With(dbcrypt.KeysVariable, dbcrypttest.List(keys...))
}

// File returns the environment as the text of an environment file.
func (e Environ) File() string {
	var lines []string
	for _, name := range slices.Sorted(maps.Keys(e)) {
		lines = append(lines, name+"="+e[name]+"\n")
	}
	return strings.Join(lines, "")
}
