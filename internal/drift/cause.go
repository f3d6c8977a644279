package drift

import "fmt"

// Moved is the side of a provider that has moved since both last agreed.
type Moved string

// What has moved. It is empty of an alert that is not about a difference.
const (
	EnvironmentMoved Moved = "environment"
	DatabaseMoved    Moved = "database"
	BothMoved        Moved = "both"
	// UnknownMoved: there is no base, or neither side has moved. Of a difference of
	// credentials alone nothing is known, since no base has them.
	UnknownMoved Moved = "unknown"
)

// Label returns the words for it.
func (m Moved) Label() string {
	if m == "" {
		return ""
	}
	return "moved: " + m.Side()
}

// Side returns the word for the side, which need not be known.
func (m Moved) Side() string {
	if m == UnknownMoved {
		return "not known"
	}
	return string(m)
}

// How is the way in which a drift ended.
type How string

// The ways in which a drift ends.
const (
	Reverted           How = "reverted"             // the row is as the environment asks for again
	ResolvedByOperator How = "resolved_by_operator" // by "worker resolve --take env"
	Accepted           How = "accepted"             // by "worker resolve --take db"
	EnvironmentChanged How = "environment_changed"  // the environment now asks for what the row has
	NoLongerNamed      How = "unnamed"              // the environment no longer names the provider
)

// Label returns the words for it.
func (h How) Label() string {
	switch h {
	case ResolvedByOperator:
		return "resolved by an operator"
	case EnvironmentChanged:
		return "the environment changed"
	case NoLongerNamed:
		return "no longer named by the environment"
	default:
		return string(h)
	}
}

// Ending returns the words for how a drift ended and for the alert that this ends, by its
// seq. 0 stands for a drift that was never alerted.
func (h How) Ending(resolves int64) string {
	switch label := h.Label(); {
	case resolves == 0:
		return label
	case label == "":
		return fmt.Sprintf("ends #%d", resolves)
	default:
		return fmt.Sprintf("%s, ends #%d", label, resolves)
	}
}
