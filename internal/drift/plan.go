package drift

import (
	"cmp"
	"slices"
	"time"

	"provwatch/internal/provider"
)

// Action is what a seed does about one desired provider (docs/specification.md,
// section 4).
type Action string

// The actions of a plan.
const (
	// ActionInsert: there is no row, so the row and its keys are inserted.
	ActionInsert Action = "insert"
	// ActionUnchanged: the live row has the same canonical hash, and the same credentials
	// where they are required to agree. Nothing is written; keys are never added to
	// or changed.
	ActionUnchanged Action = "unchanged"
	// ActionAccepted: the live row differs, and an operator accepted that with
	// "worker resolve --take db".
	ActionAccepted Action = "accepted"
	// ActionDrifted: the live row has another canonical hash, or other credentials where
	// they are required to agree.
	ActionDrifted Action = "drift"
	// ActionApplied: the live row differed where the environment had changed, and that was
	// written to it (--on-boot-drift=apply).
	ActionApplied Action = "applied"
	// ActionNotComparable: the live row's settings cannot be decoded or decrypted, or its
	// credentials are required to agree and cannot be decrypted. Whether the row differs is
	// then not known.
	ActionNotComparable Action = "not_comparable"
	// ActionStickyDeleted: the row is soft-deleted and is not resurrected.
	ActionStickyDeleted Action = "deleted"
	// ActionUnsupported: the database's enum lacks the provider's type.
	ActionUnsupported Action = "unsupported"
)

// Stored is what the database has of the desired providers at one moment.
type Stored struct {
	Rows     []provider.Row         // all rows of their names
	Accepted map[string]*Acceptance // by the provider's name
	Bases    map[string]*Base       // by the provider's name
	Types    Types
	Hasher   provider.Hasher
}

// Types are the labels of the database's enum of provider types.
type Types []string

// Has reports whether the database knows the type. A provider of another is neither seeded
// nor compared.
func (t Types) Has(of provider.Type) bool { return slices.Contains(t, string(of)) }

// Step is what a seed does, or would do, about one desired provider.
type Step struct {
	Action      Action
	Desired     provider.Desired
	Observation Observation
	Row         *provider.Row // the row compared with, nil when there is none
	// RowType is the type that a row is written with: bedrock for a Bedrock provider
	// where the enum has it, else the environment's.
	RowType provider.Type
	// MustAgree is set where credentials are required to agree: see [RequireCredentials].
	MustAgree bool

	acceptance *Acceptance // of the provider, nil for none
	base       *Base       // of the provider, nil for none
	hasher     provider.Hasher
}

// Agreement returns the base of the provider once its row is as the environment asks for.
func (s Step) Agreement(origin Origin) Base { return Agreement(s.hasher, s.Desired, origin) }

// NewBase returns the base that a seed records, nil where what is recorded stands: the seed
// inserts the row, or both sides agree.
func (s Step) NewBase() *Base {
	switch s.Action {
	case ActionInsert:
		base := s.Agreement(ByAgreement)
		if s.base != nil {
			base.SetAt = s.base.SetAt
		}
		return &base
	case ActionUnchanged:
		return Recorded{Base: s.base}.newBase(s.Observation)
	default:
		return nil
	}
}

// Moved returns which side has moved since both last agreed, of a provider that drifts.
func (s Step) Moved() Moved {
	return Recorded{Base: s.base}.Moved(s.Observation)
}

// CredentialsProblem returns how credentials that are required to agree do not,
// nil where they do or are not required to. No acceptance covers it.
func (s Step) CredentialsProblem() error {
	if !s.MustAgree || s.Observation.Kind == Deleted { // which stays deleted, whatever its credentials
		return nil
	}
	return s.Observation.CredentialsProblem()
}

// WhyNotComparable returns the reason of [ActionNotComparable], nil for another action.
func (s Step) WhyNotComparable() error {
	if s.Action != ActionNotComparable {
		return nil
	}
	return cmp.Or(s.Observation.Unreadable, s.Observation.UnreadableCredentials)
}

// judge judges the observation as a worker does that has recorded nothing of the provider.
func (s Step) judge() Judgement {
	return Recorded{Accepted: s.accepted()}.Judge(s.Observation)
}

// accepted returns the acceptance that counts, nil for none.
func (s Step) accepted() *Acceptance {
	if s.CredentialsProblem() != nil {
		return nil
	}
	return s.acceptance
}

// IsDrift reports whether the provider is not as the environment asks for, and that was
// not accepted. A provider that cannot be compared is no drift.
func (s Step) IsDrift() bool { return s.Action != ActionUnsupported && s.judge().Kind != InSync }

// IsNotComparable reports whether the provider cannot be compared. The reason can be its
// credentials, where they were compared.
func (s Step) IsNotComparable() bool {
	return s.Action == ActionNotComparable || s.Action != ActionUnsupported && s.Observation.Kind == NotComparable
}

// IsAccepted reports whether an operator accepted the provider's drift, which
// has not changed since.
func (s Step) IsAccepted() bool { return s.judge().IsAccepted() }

// AcceptedUntil returns when the acceptance of the provider's drift ends, the zero time where
// it has no end.
func (s Step) AcceptedUntil() time.Time {
	if s.acceptance == nil {
		return time.Time{}
	}
	return s.acceptance.Expires
}

// action returns what a seed does about the provider.
func (s Step) action(types Types) Action {
	if !types.Has(s.Desired.Type) {
		return ActionUnsupported
	}
	switch s.Observation.AtBoot(s.MustAgree) {
	case Missing:
		return ActionInsert
	case Deleted:
		return ActionStickyDeleted
	case NotComparable:
		return ActionNotComparable
	case InSync:
		return ActionUnchanged
	}
	if s.accepted().Covers(s.Observation) {
		return ActionAccepted
	}
	return ActionDrifted
}

// Plan is a step for each desired provider, in their order.
type Plan struct {
	Steps []Step
}

// MakePlan compares the desired providers with what the database has of them. A seed acts
// on canonical hashes alone, unless with [RequireCredentials]. The observations are of
// credentials too if the mode compares them: the Keys of the rows must then be loaded.
func MakePlan(desired []provider.Desired, stored Stored, mode CredentialMode) Plan {
	rows := provider.CurrentByName(stored.Rows)
	plan := Plan{Steps: make([]Step, len(desired))}
	for i, d := range desired {
		row := rows[d.Name]
		step := Step{
			Desired: d, Row: row, RowType: d.Type, MustAgree: mode == RequireCredentials,
			Observation: Compare(stored.Hasher, d, row, mode.Compares()),
			acceptance:  stored.Accepted[d.Name],
			base:        stored.Bases[d.Name],
			hasher:      stored.Hasher,
		}
		if d.Bedrock != nil && stored.Types.Has(provider.AmazonBedrock) {
			step.RowType = provider.AmazonBedrock
		}
		step.Action = step.action(stored.Types)
		plan.Steps[i] = step
	}
	return plan
}

// Count returns how many steps have the action.
func (p Plan) Count(action Action) int {
	n := 0
	for _, s := range p.Steps {
		if s.Action == action {
			n++
		}
	}
	return n
}

// NotComparable returns the reasons of the rows that cannot be compared, by the name of
// their providers; with credentials set, also the reasons of rows whose credentials alone
// cannot be compared.
func (p Plan) NotComparable(credentials bool) map[string]string {
	reasons := map[string]string{}
	for _, s := range p.Steps {
		if reason := s.WhyNotComparable(); reason != nil && (credentials || s.Observation.Unreadable != nil) {
			reasons[s.Desired.Name] = reason.Error()
		}
	}
	return reasons
}

// Supported returns the desired providers whose type the database knows.
func (p Plan) Supported() []provider.Desired {
	var supported []provider.Desired
	for _, s := range p.Steps {
		if s.Action != ActionUnsupported {
			supported = append(supported, s.Desired)
		}
	}
	return supported
}

// Unsupported returns the names of the desired providers whose type the database's enum lacks.
func (p Plan) Unsupported() (names []string) {
	for _, s := range p.Steps {
		if s.Action == ActionUnsupported {
			names = append(names, s.Desired.Name)
		}
	}
	return names
}
