//go:build e2e

package test

// environ is a worker's environment, beside what every process needs.
type environ map[string]string

// with returns a copy of the environment with one more variable.
func (e environ) with(name, value string) environ {
	more := environ{name: value}
	for n, v := range e {
		if n != name {
			more[n] = v
		}
	}
	return more
}

// Environments that most tests use.
const (
	openAIKey    = "sk-openai-0123456789-abcdefghij-OPENAI"
	anthropicKey = "sk-ant-0123456789-abcdefghij-ANTHROPIC"
)

// twoProviders names the providers openai and anthropic.
func (w *world) twoProviders() environ {
	return environ{
		"CODER_AIBRIDGE_OPENAI_KEY":    w.secret(openAIKey),
		"CODER_AIBRIDGE_ANTHROPIC_KEY": w.secret(anthropicKey),
	}
}

const (
	openAIHash    = "cabd847272bab8fade7606c5259fb29ed03a0da450c7dfb684b5c0fb84010a07"
	anthropicHash = "f116753d24e84fe28f1086f4d81ebb16d8846db8ce91da070bbf2cfd0df5b19d"
)
