package pgtest

// IsStopped is for the tests of this package alone.
var IsStopped = isStopped
