package drift

// WithoutPair returns an observation as tests make it by hand.
func (o Observation) WithoutPair() Observation {
	o.pair = Base{}
	return o
}
