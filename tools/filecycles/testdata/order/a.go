package order

// One is needed by the other file.
func One() int { return 1 }
