package drift

import (
	"errors"
	"fmt"
	"strings"

	"provwatch/internal/provider"
)

// Verdict is what an apply does about one provider (docs/specification.md, section 4).
type Verdict string

// The verdicts of an apply.
const (
	ApplyNothing       Verdict = "none"           // both sides agree, or what differs was accepted
	ApplyUpdate        Verdict = "update"         // the environment has moved: its fields are written to the row
	ApplyInsert        Verdict = "insert"         // there is no row, and both sides never agreed
	ApplyRefused       Verdict = "refused"        // the row would be written over something that provwatch must not decide
	ApplySkipped       Verdict = "skipped"        // the row is soft-deleted, or the database's enum lacks the type
	ApplyNotComparable Verdict = "not_comparable" // the row cannot be decoded or decrypted
)

// FieldChange is a canonical field that differs, which side of it has moved since both last
// agreed, and whether an apply writes it.
type FieldChange struct {
	Field
	Moved   Moved `json:"moved"`
	Written bool  `json:"written"`
}

// Application is what an apply does about one provider. It compares three ways: both sides
// now, each with its own half of the base.
type Application struct {
	Verdict Verdict
	Fields  []FieldChange // that differ, or of [ApplyInsert] the row's
	// Moved is the side that has moved, of a provider that differs.
	Moved Moved
	// Why is the reason of [ApplyRefused], [ApplySkipped] and [ApplyNotComparable], else nil.
	Why error
	// NewBase is the base once the fields are written, of [ApplyUpdate].
	NewBase Base
	// Renewed is the acceptance, for the pair once the fields are written, of what differs
	// still; nil for none. It can be all that an apply writes.
	Renewed *Acceptance
}

// Writes reports whether the field is written.
func (a Application) Writes(field string) bool {
	for _, f := range a.Fields {
		if f.Name == field && f.Written {
			return true
		}
	}
	return false
}

// Acts reports whether anything is written.
func (a Application) Acts() bool {
	return a.Verdict == ApplyUpdate || a.Verdict == ApplyInsert || a.Renewed != nil
}

// Refuse returns the application refused for a reason.
func (a Application) Refuse(why error) Application {
	a.Verdict, a.Why, a.Renewed, a.NewBase = ApplyRefused, why, nil, Base{}
	for i := range a.Fields {
		a.Fields[i].Written = false
	}
	return a
}

// Apply returns what an apply does about the provider. A canonical field is written where the
// environment's value has moved, the row's has not, and the two differ; never credentials,
// models or whether the row is enabled, and nothing is deleted. A row that has moved in any
// canonical field stays unchanged.
func (s Step) Apply() Application {
	o := s.Observation
	switch {
	case s.Action == ActionUnsupported:
		return Application{Verdict: ApplySkipped, Why: fmt.Errorf("the database's enum ai_provider_type lacks the type %s", s.Desired.Type)}
	case o.Kind == Missing && s.base == nil:
		return s.applyInsert()
	case o.Kind == Missing:
		return Application{Moved: DatabaseMoved}.Refuse(errors.New("its row was removed since both sides last agreed"))
	case o.Kind == Deleted:
		return Application{Verdict: ApplySkipped, Moved: DatabaseMoved, Why: errors.New("its row is soft-deleted and stays so")}
	case o.Unreadable != nil:
		return Application{Verdict: ApplyNotComparable, Why: o.Unreadable}
	case s.CredentialsProblem() != nil:
		return Application{Moved: UnknownMoved}.Refuse(fmt.Errorf("%w; an apply writes no credentials", s.CredentialsProblem()))
	case o.DBHash == o.EnvHash:
		return s.applyNothing()
	}
	return s.applyUpdate()
}

// applyNothing judges a row that has the environment's canonical fields.
func (s Step) applyNothing() Application {
	a := Application{Verdict: ApplyNothing}
	if base := s.base.usable(s.Observation); s.staysDisabled(base) {
		a.renew(s, s.Observation.DBHash)
		a.NewBase = s.Observation.Base()
	}
	return a
}

func (s Step) applyInsert() Application {
	a := Application{Verdict: ApplyInsert, Moved: EnvironmentMoved}
	for _, f := range s.InsertedFields() {
		a.Fields = append(a.Fields, FieldChange{Field: f, Moved: EnvironmentMoved, Written: true})
	}
	return a
}

// applyUpdate judges a row whose canonical fields differ from the environment's.
func (s Step) applyUpdate() Application {
	o, base := s.Observation, s.base.usable(s.Observation)
	a := Application{Verdict: ApplyNothing, Moved: o.Moved(base)}
	var changed, left []string
	for _, f := range canonicalFields {
		change := f.change(o, base)
		if change.Moved == DatabaseMoved || change.Moved == BothMoved {
			changed = append(changed, f.name)
		}
		if !o.Has(f.name) {
			continue
		}
		a.Fields = append(a.Fields, change)
		if change.Written {
			a.Verdict = ApplyUpdate
		} else {
			left = append(left, f.name)
		}
	}
	stored, err := s.Row.Canonical()
	switch {
	case err != nil:
		return Application{Verdict: ApplyNotComparable, Why: err}
	case base == nil && s.base != nil:
		return a.Refuse(errors.New("what both sides last agreed on cannot be compared any more: it was recorded with another key of provwatch.hash_key"))
	case base == nil:
		return a.Refuse(errors.New("both sides have never agreed, so that it is not known which one has moved"))
	case len(changed) > 0:
		return a.Refuse(fmt.Errorf("the database has changed its %s since both sides last agreed", strings.Join(changed, " and ")))
	case o.Has(TypeField) && (s.Desired.Bedrock != nil) != (stored.Type == provider.AmazonBedrock) && (a.Writes(TypeField) || !s.coversBase(base)):
		return a.Refuse(errors.New("it would become a Bedrock provider, or cease to be one, which an apply does not do"))
	case len(left) > 0 && !s.coversBase(base):
		return a.Refuse(fmt.Errorf("its %s differed before, and no acceptance covers that any more", strings.Join(left, " and ")))
	}
	row := s.rowAfter(a, stored)
	a.NewBase = newBase(s.hasher, o.pair.Env, sideOf(s.hasher, s.hasher.Hash(row), row)).toRecord()
	if now := s.hasher.RowHashes(row).Against(s.Desired); now != o.EnvHash || s.staysDisabled(base) {
		a.renew(s, now)
	}
	return a
}

// coversBase reports whether an acceptance lasts whose pair is the base's, so that what
// differed then was accepted. The row is as it was then.
func (s Step) coversBase(base *Base) bool {
	a, row := s.accepted(), s.Observation.DBHashes
	return a != nil && !a.IsExpired() && a.EnvHash == base.Env.Hash && (a.DBHash == row.Alone || a.DBHash == row.Anthropic)
}

// staysDisabled reports whether it was accepted that the row is disabled, as it was at the base,
// which is nil for none.
func (s Step) staysDisabled(base *Base) bool {
	return base != nil && s.coversBase(base) && s.acceptance.Kind == Disabled && s.Observation.Kind == Disabled
}

// renew renews the acceptance for the pair once the row has a hash, unless it is for that pair.
func (a *Application) renew(s Step, dbHash string) {
	renewed := *s.acceptance
	renewed.EnvHash, renewed.DBHash = s.Observation.EnvHash, dbHash
	if renewed != *s.acceptance {
		a.Renewed = &renewed
	}
}

// rowAfter returns the canonical fields of the row once the application's are written.
func (s Step) rowAfter(a Application, row provider.Canonical) provider.Canonical {
	want := s.Desired.Canonical()
	if a.Writes(TypeField) {
		row.Type = s.RowType
	}
	if a.Writes(BaseURLField) {
		row.BaseURL = want.BaseURL
	}
	if a.Writes(RegionField) {
		row.BedrockRegion = want.BedrockRegion
	}
	return row
}

// canonicalField is a canonical field as [Side] keeps it.
type canonicalField struct {
	name string
	of   func(Side) string
}

var canonicalFields = []canonicalField{
	{TypeField, func(s Side) string { return string(s.Type) }},
	{BaseURLField, func(s Side) string { return s.BaseURL }},
	{RegionField, func(s Side) string { return s.BedrockRegion }},
}

// change returns which side of the field has moved since the base, and whether an apply
// writes it. The base is nil for none.
func (f canonicalField) change(o Observation, base *Base) FieldChange {
	c := FieldChange{Field: Field{Name: f.name}, Moved: UnknownMoved}
	for _, differing := range o.Fields {
		if differing.Name == f.name {
			c.Field = differing
		}
	}
	if base == nil {
		return c
	}
	env, db := f.of(o.pair.Env) != f.of(base.Env), f.of(o.pair.DB) != f.of(base.DB)
	switch {
	case env && db:
		c.Moved = BothMoved
	case env:
		c.Moved, c.Written = EnvironmentMoved, o.Has(f.name)
	case db:
		c.Moved = DatabaseMoved
	}
	return c
}
