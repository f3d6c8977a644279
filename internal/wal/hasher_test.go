package wal

import "provwatch/internal/provider"

// hasher has a key as each database has one.
var hasher = provider.NewRandomHasher()
