//go:build e2e

package test

import "provwatch/internal/workertest"

type environ = workertest.Environ

const (
	openAIKey    = workertest.OpenAIKey
	anthropicKey = workertest.AnthropicKey
)

// twoProviders names the providers openai and anthropic. Nothing may emit their keys.
func (w *world) twoProviders() environ {
	w.secret(openAIKey)
	w.secret(anthropicKey)
	return workertest.TwoProviders()
}

const (
	openAIHash    = "cabd847272bab8fade7606c5259fb29ed03a0da450c7dfb684b5c0fb84010a07"
	anthropicHash = "f116753d24e84fe28f1086f4d81ebb16d8846db8ce91da070bbf2cfd0df5b19d"
)
