package circle

type thing struct{ n int }

func (t thing) add() int { return t.count() + 1 }

// Add uses the thing.
func Add() int { return thing{}.add() }
