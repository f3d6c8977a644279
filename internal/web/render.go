package web

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize/english"

	"provwatch/internal/audit"
	"provwatch/internal/drift"
	"provwatch/internal/provider"
	"provwatch/internal/silence"
	"provwatch/internal/sink"
	"provwatch/internal/status"
)

const (
	// maxNotices bounds the notices that are listed.
	maxNotices = 50

	// A leader sends an event for every change. A worker that stands by does not hear of
	// what the leader records, so an open page of it reloads by itself.
	leaderRefresh, standbyRefresh = 60, 5 // seconds
)

// view is what the template renders.
type view struct {
	Target   string // of several, empty for the only database
	Failure  string // why there is nothing of the database, empty if there is
	At       time.Time
	Worker   status.Worker
	Database *status.Database
	Self     string // the page, as it was asked for
	Health   chip   // of this worker, or that its database cannot be read
	// OwnHealth is of this worker, whether or not its database can be read.
	OwnHealth chip

	Summary, LatestAlert string
	Drifting             int
	Refresh              int // seconds

	Notices     []provider.Notice
	MoreNotices int

	Search           string
	Counts           []countView
	Providers        []providerView
	ProvidersCaption string
	Alerts           []alertView
	Audit            []auditView
	Silences         []silenceView
	MoreSilences     bool
	Sinks            []sinkView
	SinksUnread      string // why nothing is known of sinks
	DeadLetters      []sink.DeadLetter
	LettersCaption   string

	ProviderPages, AlertPages, AuditPages pages
	Source, LeaderText, OlderText         string
}

// RetryRequested, NotRecorded and Observes are words of the template.
func (view) RetryRequested() string { return status.RetryRequested }
func (view) NotRecorded() string    { return status.NotRecorded }
func (view) Observes() string       { return status.Observes }

// Silenced and Repeats are words of the template.
func (view) Silenced() string         { return status.SilencedAlert }
func (view) Repeats(seq int64) string { return status.RepeatsLabel(seq) }

// NotLoaded returns the words for a file of the environment that is not what is loaded.
func (view) NotLoaded(path string) string { return shown(status.NotLoadedLabel(path)) }

type countView struct {
	chip
	N        int
	Link     string
	Selected bool
}

type providerView struct {
	status.Provider
	Chip  chip
	State status.State
	About string
	Note  string // instead of differences
}

type alertView struct {
	status.Alert
	chip
	Note string // instead of differences
}

type auditView struct {
	status.AuditEntry
	Details []detail
}

type silenceView struct {
	silence.Silence
	Of string // the provider's name, or the words for all
}

type sinkView struct {
	sink.Progress
	chip
}

type detail struct{ Name, Text string }

// pages are the links to other parts of a list.
type pages struct {
	Of, Key          string
	First, FirstText string
	Next, NextText   string
}

// link returns the page with other parameters than those of the query.
func link(q status.Query, fragment string, change func(url.Values)) string {
	values := url.Values{}
	set := func(name, value string) {
		if value != "" {
			values.Set(name, value)
		}
	}
	if len(q.States) == 1 {
		set("state", string(q.States[0]))
	}
	set("q", q.Search)
	if q.After.State != "" {
		set("after", string(q.After.State)+":"+q.After.Name)
	}
	if q.AlertsBefore > 0 {
		set("alerts_before", strconv.FormatInt(q.AlertsBefore, 10))
	}
	if q.AuditBefore > 0 {
		set("audit_before", strconv.FormatInt(q.AuditBefore, 10))
	}
	change(values)
	return address(values, fragment)
}

// address returns that of a page, relative to it.
func address(values url.Values, fragment string) string {
	to := "./"
	if encoded := values.Encode(); encoded != "" {
		to += "?" + encoded
	}
	return to + fragment
}

func (v *view) fill(s status.Status, q status.Query) {
	v.Self = link(q, "", func(url.Values) {})
	v.Health, v.OwnHealth = chipOfHealth(v.Worker, v.Failure), chipOfHealth(v.Worker, "")
	v.Refresh = standbyRefresh
	if v.Worker.Leads {
		v.Refresh = leaderRefresh
	}
	v.Source = v.Worker.Source
	switch {
	case !v.Worker.Leads:
		v.Source = "the leader's"
	case v.Source == "":
		v.Source = "none yet"
	}
	if v.Failure != "" {
		v.Summary = "The database cannot be read."
		return
	}
	v.At, v.Database, v.Search = s.At, &s.Database, q.Search
	v.Drifting = s.Counts[status.Drifted] + s.Counts[status.SoftDeleted]
	v.Summary = summary(s)
	v.LeaderText = leaderText(s.Database, v.Worker)
	v.OlderText = s.Database.OlderLabel(func(role string) string { return shown(role) })
	v.Notices = s.Notices[:min(len(s.Notices), maxNotices)]
	v.MoreNotices = len(s.Notices) - len(v.Notices)
	v.counts(s, q)
	v.providers(s, q)
	v.history(s, q)
	v.silences(s)
	v.sinks(s)
}

func summary(s status.Status) string {
	if s.Total() == 0 {
		return "There are no providers."
	}
	drifting := s.Counts[status.Drifted] + s.Counts[status.SoftDeleted]
	return fmt.Sprintf("Drifted or %s: %d of %s.", status.SoftDeleted.Label(), drifting, english.Plural(s.Total(), "provider", ""))
}

func leaderText(d status.Database, w status.Worker) string {
	leader := d.Leader()
	switch {
	case leader == nil && d.LockHolder != "":
		return status.HolderLabel(shown(d.LockHolder))
	case leader == nil:
		return status.NoLeader
	case w.Leads && w.PID == leader.PID:
		return fmt.Sprintf("this worker, session %d of role %s", leader.PID, shown(leader.Role))
	}
	text := "another worker, " + leader.Label(shown(leader.Role))
	if leader.Since != nil {
		text += " since " + leader.Since.Format("2006-01-02 15:04:05")
	}
	return text
}

func (v *view) counts(s status.Status, q status.Query) {
	for _, state := range status.States {
		v.Counts = append(v.Counts, countView{
			chip: chipOfState(state), N: s.Counts[state],
			Selected: slices.Contains(q.States, state),
			Link: link(q, "#providers", func(values url.Values) {
				values.Set("state", string(state))
				values.Del("after")
				values.Del("q")
			}),
		})
	}
}

func (v *view) providers(s status.Status, q status.Query) {
	for _, p := range s.Providers {
		row := providerView{Provider: p, Chip: chipOfProvider(p), State: p.State}
		var about []string
		for _, part := range []string{string(p.Type), p.BaseURL} {
			if part != "" {
				about = append(about, part)
			}
		}
		switch {
		case p.State == status.Unmanaged, p.Kind == drift.Unmanaged:
			row.Note = "the environment does not name it"
		case p.State == status.Unsupported:
			row.Note = "it is neither seeded nor compared"
		case p.Kind == drift.Missing:
			row.Note = missingNote(p.RenamedTo)
		}
		row.About = strings.Join(about, ", ")
		v.Providers = append(v.Providers, row)
	}
	what := "Providers"
	if len(q.States) == 1 {
		what += " " + q.States[0].Label()
	}
	if q.Search != "" {
		what += fmt.Sprintf(" whose name contains “%s”", shown(q.Search))
	}
	switch {
	case len(s.Providers) == 0:
		v.ProvidersCaption = "There are no " + strings.ToLower(what[:1]) + what[1:] + "."
	case q.After.State != "" || s.MoreProviders:
		v.ProvidersCaption = fmt.Sprintf("%s, %d of them", what, len(s.Providers))
	default:
		v.ProvidersCaption = fmt.Sprintf("%s, %d in all", what, len(s.Providers))
	}
	v.ProviderPages = pages{Of: "Pages of providers", Key: "providers", FirstText: "First providers", NextText: "More providers"}
	if q.After.State != "" {
		v.ProviderPages.First = link(q, "#providers", func(values url.Values) { values.Del("after") })
	}
	if s.MoreProviders {
		v.ProviderPages.Next = link(q, "#providers", func(values url.Values) { values.Set("after", string(s.Next.State)+":"+s.Next.Name) })
	}
}

func (v *view) history(s status.Status, q status.Query) {
	for _, a := range s.Alerts {
		row := alertView{Alert: a, chip: chipOfKind(a.Kind)}
		row.Fields = drift.Displayed(a.Kind, a.Fields)
		switch a.Kind {
		case drift.Missing:
			row.Note = missingNote(a.RenamedTo)
		case drift.Resolved:
			if row.Note = shown(a.How.Ending(a.Resolves)); row.Note == "" {
				row.Note = "the drift has ended"
			}
		case drift.Gap, drift.Rewound:
			row.Note = shown(a.Reason)
			if a.Certain != nil && !*a.Certain {
				row.Note += " (it is not certain)"
			}
		}
		v.Alerts = append(v.Alerts, row)
	}
	if len(s.Alerts) > 0 {
		latest := s.Alerts[0]
		v.LatestAlert = fmt.Sprintf("Alert %d: %s, %s", latest.Seq, shown(latest.Provider), chipOfKind(latest.Kind).Label)
		if !latest.Kind.HasProvider() {
			v.LatestAlert = fmt.Sprintf("Alert %d: %s", latest.Seq, chipOfKind(latest.Kind).Label)
		}
	}
	for _, e := range s.Audit {
		v.Audit = append(v.Audit, auditView{e, detailsOf(e.Details)})
	}
	v.AlertPages = pages{Of: "Pages of alerts", Key: "alerts", FirstText: "Latest alerts", NextText: "Older alerts"}
	v.AuditPages = pages{Of: "Pages of audit entries", Key: "audit", FirstText: "Latest entries", NextText: "Older entries"}
	if q.AlertsBefore > 0 {
		v.AlertPages.First = link(q, "#alerts", func(values url.Values) { values.Del("alerts_before") })
	}
	if s.MoreAlerts {
		before := strconv.FormatInt(s.Alerts[len(s.Alerts)-1].Seq, 10)
		v.AlertPages.Next = link(q, "#alerts", func(values url.Values) { values.Set("alerts_before", before) })
	}
	if q.AuditBefore > 0 {
		v.AuditPages.First = link(q, "#audit", func(values url.Values) { values.Del("audit_before") })
	}
	if s.MoreAudit {
		before := strconv.FormatInt(s.Audit[len(s.Audit)-1].Seq, 10)
		v.AuditPages.Next = link(q, "#audit", func(values url.Values) { values.Set("audit_before", before) })
	}
}

func (v *view) silences(s status.Status) {
	for _, one := range s.Silences {
		v.Silences = append(v.Silences, silenceView{one, status.SilencedLabel(one.Provider)})
	}
	v.MoreSilences = s.MoreSilences
}

func (v *view) sinks(s status.Status) {
	v.SinksUnread, v.DeadLetters = s.SinksUnread, s.DeadLetters
	var letters int64
	for _, p := range s.Sinks {
		v.Sinks = append(v.Sinks, sinkView{p, chipOfSink(p)})
		letters += p.DeadLetters
	}
	v.LettersCaption = "Dead letters, the latest first"
	if n := len(s.DeadLetters); int64(n) < letters {
		v.LettersCaption += fmt.Sprintf(", %d of %d", n, letters)
	}
}

// missingNote returns the words for a provider without a row, whose row can have another
// name now.
func missingNote(renamedTo string) string {
	if renamedTo == "" {
		return status.NoRow
	}
	return status.NoRow + ", " + status.RenamedLabel(shown(renamedTo))
}

// detailsOf returns the details of an audit entry that matter to people.
func detailsOf(d audit.Details) []detail {
	var list []detail
	add := func(name, text string) {
		if text != "" {
			list = append(list, detail{name, text})
		}
	}
	add("type", d.Type)
	add("base URL", d.BaseURL)
	add("Bedrock region", d.Region)
	if d.Keys != nil {
		add("keys", strconv.Itoa(*d.Keys))
	}
	add("key", d.Masked)
	add("drift", status.KindLabel(drift.Kind(d.Kind)))
	if d.Silence != 0 {
		add("silence", strconv.FormatInt(d.Silence, 10))
	}
	add("until", d.Expires)
	add("reason", d.Reason)
	for _, c := range d.Changes {
		before := orEmpty(c.Old)
		if drift.Kind(d.Kind) == drift.Unmanaged {
			before = drift.Absent
		}
		add(c.Field, fmt.Sprintf("%s → %s", before, orEmpty(c.New)))
	}
	return list
}

func orEmpty(s string) string {
	if s == "" {
		return status.Empty
	}
	return s
}
