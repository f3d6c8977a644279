package order

// Two needs the other file.
func Two() int { return 2 * One() }
