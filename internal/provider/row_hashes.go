package provider

// notBedrock stands for the type of a row that has the label of a Bedrock
// provider of the environment and is no Bedrock row: the two types differ, and so
// must the hashes.
const notBedrock = Anthropic + " (not Bedrock)"

// Against returns the canonical fields of a row, made by [CanonicalOfRow], as
// they are compared with those of a desired provider. When both are Bedrock the
// type is that of the environment; when one of them is, the types differ.
func (c Canonical) Against(d Desired) Canonical { return c.against(d.Type, d.Bedrock != nil) }

func (c Canonical) against(desiredType Type, desiredIsBedrock bool) Canonical {
	switch {
	case !desiredIsBedrock:
	case c.Type == AmazonBedrock:
		c.Type = desiredType
	case c.Type == desiredType:
		c.Type = notBedrock
	}
	return c
}

// RowHashes are the hashes that a row has, one for each kind of provider that it is
// compared with.
type RowHashes struct {
	// Alone is the hash of the row by itself, which holds against every provider
	// but the one below.
	Alone string
	// Anthropic is the hash against a Bedrock provider that the environment calls
	// anthropic.
	Anthropic string
}

// Against returns the hash that is compared with the one of a desired provider:
// the two are equal exactly when all canonical fields are.
func (h RowHashes) Against(d Desired) string {
	if d.Bedrock != nil && d.Type == Anthropic {
		return h.Anthropic
	}
	return h.Alone
}
