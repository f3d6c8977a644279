package circle

// Twice needs a.go, which does not need it.
func Twice() int { return 2 * Add() }
