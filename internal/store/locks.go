package store

// SeedLock is the id of the advisory lock that puts seeds in turn (docs/specification.md,
// section 4): the ASCII bytes "provseed". Every transaction that stages audit entries
// holds it.
const SeedLock int64 = 0x70726f7673656564

// GatewaySeedLock is the id of the gateway's own advisory lock. A gateway that still seeds
// by itself reads and inserts providers under it: it waits for a seed of ours and finds
// its rows.
const GatewaySeedLock int64 = 10
