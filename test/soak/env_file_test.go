//go:build soak

package soak

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/stretchr/testify/require"

	"provwatch/internal/dbcrypt/dbcrypttest"
)

// variables are what changes of the environment file.
type variables struct {
	mu      sync.Mutex
	late    bool // it names the late providers
	swapped bool // the second key comes before the first
	lent    int  // the place of the lent key among the keys, from 1; 0 where it is not there
	version int  // of the base URL of the moving provider
}

// keys returns the keys in the order of the file.
func (v *variables) keys() []dbcrypttest.Key {
	keys := []dbcrypttest.Key{firstKey, secondKey}
	if v.swapped {
		slices.Reverse(keys)
	}
	if v.lent > 0 {
		keys = slices.Insert(keys, v.lent-1, lentKey)
	}
	return keys
}

// change changes the environment file, by do.
func (w *world) change(do func(*variables)) {
	w.variables.mu.Lock()
	do(&w.variables)
	w.variables.mu.Unlock()
	w.writeEnvFile()
}

// writeEnvFile writes the environment file.
func (w *world) writeEnvFile() {
	v := &w.variables
	v.mu.Lock()
	defer v.mu.Unlock()
	var b strings.Builder
	var texts []string
	for _, key := range v.keys() {
		texts = append(texts, key.Text())
	}
	fmt.Fprintf(&b, "CODER_EXTERNAL_TOKEN_ENCRYPTION_KEYS='%s'\n", strings.Join(texts, ","))
	n := 0
	moving := movingProvider()
	moving.baseURL = movingURL(v.version)
	for _, group := range append(slices.Clone(w.groups), []wanted{moving}) {
		for _, p := range group {
			if p.late && !v.late {
				continue
			}
			set := func(field, value string) {
				if value != "" {
					fmt.Fprintf(&b, "CODER_AIBRIDGE_PROVIDER_%d_%s='%s'\n", n, field, value)
				}
			}
			set("TYPE", p.kind)
			set("NAME", p.name)
			set("BASE_URL", p.baseURL)
			set("KEYS", strings.Join(p.keys, ","))
			set("BEDROCK_REGION", p.region)
			set("BEDROCK_ACCESS_KEY", p.accessKey)
			set("BEDROCK_ACCESS_KEY_SECRET", p.accessKeySecret)
			n++
		}
	}
	next := w.envFile + ".next"
	require.NoError(w.t, os.WriteFile(next, []byte(b.String()), 0o600))
	require.NoError(w.t, os.Rename(next, w.envFile))
}
