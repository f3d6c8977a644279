// Package report prints what the commands found and did: aligned tables for
// people, with colour on a terminal, and JSON for programs.
package report

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"

	"provwatch/internal/drift"
	"provwatch/internal/provider"
	"provwatch/internal/schema"
	"provwatch/internal/status"
)

// Printer prints reports in one form.
type Printer struct {
	out   io.Writer
	json  bool
	color bool
}

// New returns a printer of JSON, or of text with or without colour.
func New(out io.Writer, json, color bool) *Printer {
	return &Printer{out: out, json: json, color: color}
}

// sign is how a plan marks an action, in the manner of a diff.
type sign struct {
	mark, means string
	colors      text.Colors
}

var (
	green  = text.Colors{text.FgGreen}
	yellow = text.Colors{text.FgYellow}
	red    = text.Colors{text.FgRed}
	faint  = text.Colors{text.Faint}
	bold   = text.Colors{text.Bold}
)

func signOf(action drift.Action) sign {
	switch action {
	case drift.ActionInsert:
		return sign{"+", "insert", green}
	case drift.ActionDrifted:
		return sign{"~", status.Drifted.Label(), yellow}
	case drift.ActionNotComparable:
		return sign{"!", status.NotComparable.Label(), red}
	case drift.ActionStickyDeleted:
		return sign{"-", status.SoftDeleted.Label() + ", stays so", red}
	case drift.ActionAccepted:
		return sign{"=", status.Accepted.Label(), faint}
	case drift.ActionUnsupported:
		return sign{"?", status.Unsupported.Label() + ", skipped", yellow}
	default:
		return sign{"=", "unchanged", faint}
	}
}

// step is a [drift.Step] as JSON.
type step struct {
	Action   drift.Action  `json:"action"`
	Provider string        `json:"provider"`
	Type     provider.Type `json:"type"`
	BaseURL  string        `json:"base_url"`
	Region   string        `json:"bedrock_region,omitempty"`
	Keys     int           `json:"keys"`
	// State and Kind are those of a [status.Provider] that was compared now.
	State status.State `json:"state"`
	Kind  drift.Kind   `json:"kind,omitempty"`
	// Accepted reports whether the provider drifts, and that is accepted.
	Accepted bool          `json:"accepted"`
	Fields   []drift.Field `json:"fields"`
	EnvHash  string        `json:"env_hash"`
	DBHash   string        `json:"db_hash"`
	Keyed    bool          `json:"hash_keyed,omitempty"`
	Moved    drift.Moved   `json:"moved,omitempty"` // of a drift
}

func stepOf(s drift.Step) step {
	fields := s.Observation.Fields
	if fields == nil {
		fields = []drift.Field{}
	}
	state, kind := stateOf(s)
	var moved drift.Moved
	if s.IsDrift() {
		moved = s.Moved()
	}
	return step{
		Moved: moved, Action: s.Action, Provider: s.Desired.Name, Type: s.Desired.Type, BaseURL: provider.DisplayURL(s.Desired.BaseURL),
		Region: s.Desired.DisplayRegion(), Keys: len(s.Desired.Keys), State: state, Kind: kind, Accepted: isAccepted(s), Fields: fields,
		EnvHash: s.Observation.EnvHash, DBHash: s.Observation.DBHash,
		Keyed: provider.IsKeyed(s.Observation.EnvHash) || provider.IsKeyed(s.Observation.DBHash),
	}
}

// stateOf returns the state of the step's provider, and the kind of its drift, accepted or not.
// The kind is empty without a drift.
func stateOf(s drift.Step) (status.State, drift.Kind) {
	kind := s.Observation.Kind
	switch {
	case s.Action == drift.ActionUnsupported:
		return status.Unsupported, "" // no row of its name is its row
	case kind == drift.NotComparable:
		return status.NotComparable, ""
	case kind == drift.InSync:
		return status.InSync, ""
	case isAccepted(s):
		return status.Accepted, kind
	case kind == drift.Deleted:
		return status.SoftDeleted, kind
	default:
		return status.Drifted, kind
	}
}

// isAccepted reports whether the step's provider drifts, and that is accepted.
func isAccepted(s drift.Step) bool { return s.Action != drift.ActionUnsupported && s.IsAccepted() }

// Plan prints what a seed would do, or with done set, what it did.
func (p *Printer) Plan(plan drift.Plan, done bool) error {
	if p.json {
		steps := make([]step, len(plan.Steps))
		for i, s := range plan.Steps {
			steps[i] = stepOf(s)
		}
		return p.encode(map[string]any{"applied": done, "steps": steps})
	}
	t := p.table("", "PROVIDER", "PLAN", "FIELD", "ENVIRONMENT", "DATABASE")
	for _, s := range plan.Steps {
		sign := signOf(s.Action)
		if s.Action == drift.ActionUnchanged && s.Observation.Kind == drift.Disabled {
			sign.means = "unchanged, but disabled"
		}
		if s.Action != drift.ActionAccepted && isAccepted(s) {
			sign.means += ", " + status.Accepted.Label()
		}
		fields := s.Observation.Fields
		if s.Action == drift.ActionInsert {
			fields = ofNoRow(s.InsertedFields())
		}
		p.rows(t, []string{p.paint(sign.colors, sign.mark), p.paint(sign.colors, s.Desired.Name), p.paint(sign.colors, sign.means)}, fields)
	}
	if err := p.render(t); err != nil {
		return err
	}
	lead, insert := "Plan", "to insert"
	if done {
		lead, insert = "Done", "inserted"
	}
	_, err := fmt.Fprintf(p.out, "%s: %d %s, %d %s, %d %s, %d %s, %d unchanged, %d %s, %d %s.\n",
		lead, plan.Count(drift.ActionInsert), insert, plan.Count(drift.ActionDrifted), status.Drifted.Label(),
		plan.Count(drift.ActionNotComparable), status.NotComparable.Label(), plan.Count(drift.ActionStickyDeleted), status.SoftDeleted.Label(),
		plan.Count(drift.ActionUnchanged), plan.Count(drift.ActionAccepted), status.Accepted.Label(), plan.Count(drift.ActionUnsupported), status.Unsupported.Label())
	return err
}

// Delivery is what becomes of the audit entries that a command has staged. It is the
// value of "audit" in JSON, which is left out for [Delivered].
type Delivery string

// What can become of staged audit entries.
const (
	Delivered    Delivery = ""        // a worker runs and delivers them, or there are none
	Staged       Delivery = "staged"  // no worker runs
	Undetermined Delivery = "unknown" // it is not known whether one runs
)

// delivery prints what becomes of audit entries that are possibly not delivered now.
func (p *Printer) delivery(d Delivery) (err error) {
	switch d {
	case Staged:
		_, err = fmt.Fprintln(p.out, "Audit entries are staged. No worker runs; the next one delivers them.")
	case Undetermined:
		_, err = fmt.Fprintln(p.out, "Audit entries are staged. It is not known whether a worker runs; a running worker delivers them, or else the next worker.")
	case Delivered:
	}
	return err
}

// SQL prints statements: as text for psql, which then stops at the first error.
func (p *Printer) SQL(statements string) error {
	if p.json {
		return p.encode(map[string]string{"sql": statements})
	}
	_, err := fmt.Fprint(p.out, "\\set ON_ERROR_STOP on\n", statements)
	return err
}

// Build is what a program was built from.
type Build struct {
	Version string `json:"version"`
	Commit  string `json:"commit,omitempty"` // empty when it is not known
	Go      string `json:"go"`
}

// Version prints what this program was built from.
func (p *Printer) Version(build Build) error {
	if p.json {
		return p.encode(build)
	}
	from := build.Go
	if build.Commit != "" {
		from = "commit " + build.Commit + ", " + from
	}
	_, err := fmt.Fprintf(p.out, "provwatch worker %s (%s)\n", build.Version, from)
	return err
}

// Schema prints what the database's schema has, what it lacks for the source in
// use, and what was done about it.
func (p *Printer) Schema(s schema.Status, lacks, done []string) error {
	if p.json {
		// Lists are never null.
		s.Applied, s.Pending = append([]int64{}, s.Applied...), append([]int64{}, s.Pending...)
		return p.encode(map[string]any{
			"changed": len(done) > 0, "up_to_date": len(lacks) == 0, "schema": s,
			"lacks": append([]string{}, lacks...), "done": append([]string{}, done...),
		})
	}
	made := "provwatch"
	switch {
	case s.Foreign:
		made = "another program"
	case len(s.Applied) == 0:
		made = "nothing yet, provwatch will create them"
	}
	state := p.paint(green, "up to date")
	switch {
	case len(lacks) > 0 && len(s.Applied) == 0:
		state = p.paint(yellow, "not there yet")
	case len(lacks) > 0:
		state = p.paint(yellow, "not up to date")
	}
	if len(done) > 0 {
		state += ", migrated now"
	}
	_, err := fmt.Fprintf(p.out, "Schema %s.\n  migrations applied: %s\n  migrations pending: %s\n  triggers: %s\n  publication: %s\n  provider tables created by: %s\n",
		state, list(s.Applied), list(s.Pending), yesNo(s.Triggers), yesNo(s.Publication), made)
	if err == nil && len(lacks) > 0 {
		_, err = fmt.Fprintf(p.out, "  pending for \"worker migrate\": %s\n", strings.Join(lacks, ", "))
	}
	return err
}

// SlotDropped prints whether there was a slot to drop.
func (p *Printer) SlotDropped(slot string, dropped bool) error {
	if p.json {
		return p.encode(map[string]any{"slot": slot, "dropped": dropped})
	}
	what := "dropped"
	if !dropped {
		what = "not there"
	}
	_, err := fmt.Fprintf(p.out, "Replication slot %s: %s.\n", slot, what)
	return err
}

func yesNo(there bool) string {
	if there {
		return "yes"
	}
	return "no"
}

func list(versions []int64) string {
	if len(versions) == 0 {
		return "none"
	}
	words := make([]string, len(versions))
	for i, v := range versions {
		words[i] = strconv.FormatInt(v, 10)
	}
	return strings.Join(words, ", ")
}

func (p *Printer) encode(v any) error {
	encoder := json.NewEncoder(p.out)
	encoder.SetIndent("", "  ")
	return encoder.Encode(v)
}

func (p *Printer) encodeLine(v any) error { return json.NewEncoder(p.out).Encode(v) }

func (p *Printer) paint(colors text.Colors, s string) string {
	if !p.color {
		return s
	}
	return colors.Sprint(s)
}

func (p *Printer) table(header ...string) table.Writer {
	t := table.NewWriter()
	style := table.StyleDefault
	style.Options = table.Options{}
	style.Box.PaddingLeft, style.Box.PaddingRight = "", "  "
	style.Format.Header = text.FormatDefault
	t.SetStyle(style)
	t.SuppressTrailingSpaces()
	row := make(table.Row, len(header))
	for i, h := range header {
		row[i] = p.paint(bold, h)
	}
	t.AppendHeader(row)
	return t
}

// nothing stands for what is not there, such as a column of a row that is not there.
const nothing = drift.Absent

// noRow stands in for the fields of a provider that is missing.
var noRow = drift.Field{DB: status.NoRow}

// differences returns the fields to print of a provider, or of its alert.
func differences(kind drift.Kind, fields []drift.Field) []drift.Field {
	if kind == drift.Missing && len(fields) == 0 {
		return []drift.Field{noRow}
	}
	return drift.Displayed(kind, fields)
}

// ofNoRow returns the fields of a row that is inserted, without a database's side.
func ofNoRow(fields []drift.Field) []drift.Field {
	fields = slices.Clone(fields)
	for i := range fields {
		fields[i].DB = nothing
	}
	return fields
}

// reasons returns the fields to print of an alert that is about no provider.
func reasons(reason string, certain *bool) []drift.Field {
	fields := []drift.Field{{Name: "reason", Env: nothing, DB: reason}}
	if certain != nil {
		fields = append(fields, drift.Field{Name: "certain", Env: nothing, DB: strconv.FormatBool(*certain)})
	}
	return fields
}

// rows appends a row for each field, the lead columns in the first one only.
func (p *Printer) rows(t table.Writer, lead []string, fields []drift.Field) {
	if len(fields) == 0 {
		fields = []drift.Field{{}}
	}
	for i, f := range fields {
		var row table.Row
		for _, l := range lead {
			if i > 0 {
				l = ""
			}
			row = append(row, l)
		}
		switch {
		case f == noRow:
			row = append(row, "", "", f.DB)
		case f.Name == "":
			row = append(row, "", "", "")
		default:
			row = append(row, cell(f.Name), value(f.Env), value(f.DB))
		}
		t.AppendRow(row)
	}
}

func (p *Printer) render(t table.Writer) error {
	_, err := fmt.Fprintln(p.out, t.Render())
	return err
}

// value shows one side of a field.
func value(s string) string {
	if s == "" {
		return status.Empty
	}
	return cell(s)
}

// cell shows a value. Control characters, which a row can hold, do not reach
// the terminal.
func cell(s string) string {
	if s == "" {
		return nothing
	}
	if strings.ContainsFunc(s, func(r rune) bool { return !strconv.IsPrint(r) || r == unicode.ReplacementChar }) {
		return strconv.Quote(s)
	}
	return s
}
