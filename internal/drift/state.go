package drift

import "github.com/google/uuid"

// State is what was last recorded of a provider that the environment names.
type State struct {
	Kind       Kind // in sync as well where the drift was accepted
	ProviderID uuid.UUID
	EnvHash    string
	DBHash     string
	// Credentials is [Observation.Credentials] as it was then.
	Credentials string
}

// isSameDrift reports whether another state is the same drift, so that it needs no alert.
// A provider that exists drifts again when its values change. Where it is missing or
// deleted, its values do not matter.
func (s State) isSameDrift(other State) bool {
	if s.Kind != other.Kind {
		return false
	}
	if s.Kind == Missing || s.Kind == Deleted {
		return true
	}
	return s.EnvHash == other.EnvHash && s.DBHash == other.DBHash && s.Credentials == other.Credentials
}
