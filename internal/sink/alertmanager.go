package sink

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"provwatch/internal/drift"
)

const (
	// repeatInterval is how often alerts are repeated, and firesFor how long one
	// fires that is not: Prometheus does as much.
	repeatInterval = time.Minute
	firesFor       = 4 * repeatInterval
	// memberGrace is how long the other members of a cluster may take once one has
	// taken an alert.
	memberGrace = time.Second
	// repeatChunk is how many alerts a request repeats.
	repeatChunk = 500
	// clockMargin is subtracted from the time at which an alert ended. By a clock that is
	// behind the worker's the alert would not be over yet, and Alertmanager would keep the
	// end that it has.
	clockMargin = 10 * time.Second
	// maxValue is how much of a field's value an annotation has, in bytes.
	maxValue = 500
	// gapFiresFor is how long a gap or a rewind fires, from when it was found: it is
	// something that has happened, and not something that lasts.
	gapFiresFor = time.Hour
	// alertName is the label alertname of all alerts.
	alertName = "ProviderDrift"
)

// Alertmanager posts to a Prometheus Alertmanager what drifts, by its API v2: an alert
// for each provider and kind of drift, and for each unmanaged row. An event posts all alerts of
// its subject, the ended ones included, so that a repeated event does no harm. Alerts are repeated while
// they fire, and after their end until they would have ended by themselves. A gap, or a
// rewind that is certain, is an alert of its own.
//
// The members of a cluster do not forward alerts to each other, so each gets all of them.
// One member that takes them is enough, since the others get them repeated.
type Alertmanager struct {
	members    []*poster
	runbookURL string
	interval   time.Duration

	// mu guards the alerts to repeat. The delivery's goroutine calls the methods that use
	// them, one at a time, in each term.
	mu       sync.Mutex
	subjects map[drift.Subject]subjectAlerts
	gaps     map[drift.Kind]Event // the latest of each kind that is about no provider
}

// subjectAlerts are the alerts of one provider, or of one unmanaged row, to repeat.
type subjectAlerts struct {
	last  Event
	ended []alertmanagerAlert // one for each kind of drift that last is not
	until time.Time           // until when ended is repeated
}

// alertmanagerAlert is an element of what POST /api/v2/alerts takes.
type alertmanagerAlert struct {
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`
	StartsAt    time.Time         `json:"startsAt"`
	EndsAt      time.Time         `json:"endsAt"`
}

// NewAlertmanager returns the Alertmanager at an http or https URL, which can have
// a path, or the cluster whose members are at several, separated by commas. caFile
// is as for [NewWebhook]. Alerts have the runbook's URL as an
// annotation if it is not empty. The error is a [*SettingError] that holds no part of the URL.
func NewAlertmanager(to, caFile, runbookURL string) (*Alertmanager, error) {
	a := &Alertmanager{runbookURL: runbookURL, interval: repeatInterval, subjects: map[drift.Subject]subjectAlerts{}, gaps: map[drift.Kind]Event{}}
	for member := range strings.SplitSeq(to, ",") {
		member = strings.TrimSpace(member)
		poster, err := newPoster(member, caFile)
		if err != nil {
			return nil, err
		}
		u, err := url.Parse(member)
		if err != nil {
			return nil, err // never, or there would be no poster
		}
		poster.url = u.JoinPath("api", "v2", "alerts").String()
		a.members = append(a.members, poster)
	}
	return a, nil
}

// Name implements [Sink].
func (*Alertmanager) Name() string { return alertmanagerName }

// Streams implements [Sink]. An audit entry reports no condition that lasts.
func (*Alertmanager) Streams() []Stream { return []Stream{Drift} }

// Close implements [Sink].
func (a *Alertmanager) Close() {
	for _, member := range a.members {
		member.close()
	}
}

// Send implements [Sink].
func (a *Alertmanager) Send(ctx context.Context, e Event) error {
	// Recorded first, so that the alerts are repeated even if the request fails.
	alerts := a.record(e)
	if len(alerts) == 0 {
		return nil
	}
	return a.post(ctx, alerts)
}

// record records an event and returns the alerts to post for it.
func (a *Alertmanager) record(e Event) []alertmanagerAlert {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Now()
	if !e.hasProvider() {
		return a.recordGap(e, now)
	}
	before := a.subjects[e.subject()]
	if before.last.Seq > e.Seq {
		// A later event is known: a former state must not fire for a moment.
		e = before.last
	}
	p := subjectAlerts{last: e, ended: before.ended, until: now.Add(firesFor)}
	if before.last.ID != e.ID || p.ended == nil {
		p.ended = a.end(before.last, e, now)
	}
	a.subjects[e.subject()] = p
	if e.kind() == drift.Resolved {
		return p.ended
	}
	return append(slices.Clone(p.ended), a.fire(e, now))
}

// recordGap records an event without a provider and returns the alerts to post. There are
// none when the event is only information, or is over.
func (a *Alertmanager) recordGap(e Event, now time.Time) []alertmanagerAlert {
	if e.kind() == drift.Rewound && (e.alert.Certain == nil || !*e.alert.Certain) {
		return nil
	}
	if before := a.gaps[e.kind()]; before.Seq < e.Seq || before.Time.Before(e.Time) {
		a.gaps[e.kind()] = e
	}
	return a.gapAlerts(now)
}

// gapAlerts returns the alerts without a provider that still fire, and forgets the others.
func (a *Alertmanager) gapAlerts(now time.Time) []alertmanagerAlert {
	var alerts []alertmanagerAlert
	for kind, e := range a.gaps {
		ends := e.Time.Add(gapFiresFor)
		if !ends.After(now) {
			delete(a.gaps, kind)
			continue
		}
		alert := a.alert(e, kind)
		alert.StartsAt, alert.EndsAt = earlier(e.Time, now), ends.UTC()
		summary := "changes of AI providers may have passed unseen"
		if kind == drift.Rewound {
			summary = "alerts about AI providers may be lost"
		}
		alert.Annotations["summary"], alert.Annotations["reason"] = summary, shortened(e.alert.Reason)
		a.annotate(alert, e)
		alerts = append(alerts, alert)
	}
	return alerts
}

// end returns the alerts that an event ends, where before is the last event of its subject.
func (a *Alertmanager) end(before, e Event, now time.Time) []alertmanagerAlert {
	var alerts []alertmanagerAlert
	kinds := []drift.Kind{drift.Missing, drift.Deleted, drift.Disabled, drift.Changed}
	if e.subject().Row != uuid.Nil {
		kinds = []drift.Kind{drift.Unmanaged}
	}
	for _, kind := range kinds {
		if kind == e.kind() {
			continue
		}
		var ended alertmanagerAlert
		if kind == before.kind() && before.ID != e.ID {
			// With its annotations, which are what a notification of its end shows.
			ended = a.fire(before, now)
			ended.EndsAt = earlier(e.Time, now).Add(-clockMargin)
		} else {
			// It need not have fired, and must not fire by a clock that is behind.
			ended = a.alert(e, kind)
			ended.Annotations["summary"] = fmt.Sprintf("AI provider %s: not %s", e.Provider, kind)
			ended.EndsAt = earlier(e.Time, now).Add(-firesFor)
			ended.StartsAt = ended.EndsAt
		}
		ended.StartsAt = earlier(ended.StartsAt, ended.EndsAt)
		alerts = append(alerts, ended)
	}
	return alerts
}

// earlier returns the earlier of two times: that of an event can be by a clock that
// is ahead, and Alertmanager refuses an alert that ends before it starts.
func earlier(a, b time.Time) time.Time {
	if a.After(b) {
		a = b
	}
	return a.UTC()
}

// Restore implements [repeater].
func (a *Alertmanager) Restore(last []Event) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.subjects, a.gaps = make(map[drift.Subject]subjectAlerts, len(last)), map[drift.Kind]Event{}
	for _, e := range last {
		if !e.hasProvider() {
			a.recordGap(e, time.Now())
			continue
		}
		p := subjectAlerts{last: e}
		before, sent := a.subjects[e.subject()]
		if sent || e.kind() == drift.Resolved {
			now := time.Now()
			p.ended, p.until = a.end(before.last, e, now), now.Add(firesFor)
		}
		a.subjects[e.subject()] = p
	}
}

// Interval implements [repeater].
func (a *Alertmanager) Interval() time.Duration { return a.interval }

// Repeat implements [repeater].
func (a *Alertmanager) Repeat(ctx context.Context) (bool, error) {
	alerts := a.repeated(time.Now())
	for chunk := range slices.Chunk(alerts, repeatChunk) {
		if err := a.post(ctx, chunk); err != nil {
			return true, err
		}
	}
	return len(alerts) > 0, nil
}

// repeated returns the alerts to post again, and forgets the other ones.
func (a *Alertmanager) repeated(now time.Time) []alertmanagerAlert {
	a.mu.Lock()
	defer a.mu.Unlock()
	alerts := a.gapAlerts(now)
	for subject, p := range a.subjects {
		over := now.After(p.until)
		if !over {
			alerts = append(alerts, p.ended...)
		}
		switch {
		case p.last.kind() != drift.Resolved:
			alerts = append(alerts, a.fire(p.last, now))
		case over:
			delete(a.subjects, subject)
		}
	}
	return alerts
}

func (a *Alertmanager) fire(e Event, now time.Time) alertmanagerAlert {
	alert := a.alert(e, e.kind())
	alert.StartsAt, alert.EndsAt = earlier(e.Time, now), now.Add(firesFor).UTC()
	alert.Annotations["summary"] = fmt.Sprintf("AI provider %s: %s, unlike the environment asks for", e.Provider, e.kind())
	if e.kind() == drift.Unmanaged {
		alert.Annotations["summary"] = fmt.Sprintf("AI provider %s: unmanaged, the environment does not name it", e.Provider)
	}
	var fields []string
	for _, f := range e.alert.Fields {
		env, db := drift.Field{Env: shortened(f.Env), DB: shortened(f.DB)}.Quoted(e.kind())
		fields = append(fields, fmt.Sprintf("%s: environment %s, database %s", f.Name, env, db))
	}
	if len(fields) > 0 {
		alert.Annotations["fields"] = strings.Join(fields, "\n")
	}
	if moved := e.alert.Moved; moved != "" {
		alert.Annotations["moved"] = string(moved)
	}
	if e.alert.RenamedTo != "" {
		alert.Annotations["renamed_to"] = shortened(e.alert.RenamedTo)
	}
	a.annotate(alert, e)
	return alert
}

// annotate adds what each alert that fires has.
func (a *Alertmanager) annotate(alert alertmanagerAlert, e Event) {
	alert.Annotations["alert_id"] = e.ID.String()
	alert.Annotations["seq"] = fmt.Sprint(e.Seq)
	if a.runbookURL != "" {
		alert.Annotations["runbook_url"] = a.runbookURL
	}
}

// shortened cuts a value that makes an alert too long for a notification. Webhooks and
// NATS get the whole value.
func shortened(value string) string {
	if len(value) <= maxValue {
		return value
	}
	return strings.ToValidUTF8(value[:maxValue], "") + "…"
}

func (a *Alertmanager) alert(e Event, kind drift.Kind) alertmanagerAlert {
	labels := map[string]string{"alertname": alertName, "kind": string(kind), "cluster": e.Cluster}
	if e.Provider != "" {
		labels["provider"] = e.Provider
	}
	if row := e.subject().Row; row != uuid.Nil {
		labels["provider_id"] = row.String() // rows that drift can have had one name
	}
	return alertmanagerAlert{Labels: labels, Annotations: map[string]string{}}
}

func (a *Alertmanager) post(ctx context.Context, alerts []alertmanagerAlert) error {
	body, err := json.Marshal(alerts)
	if err != nil {
		return &RefusedError{Reason: "it cannot be JSON: " + err.Error()}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	answers := make(chan error, len(a.members))
	for _, member := range a.members {
		go func() { answers <- member.post(ctx, body, http.Header{"Content-Type": {"application/json"}}) }()
	}
	var failure error
	taken := false
	for range a.members {
		err := <-answers
		var refused *RefusedError
		switch {
		case err == nil && !taken:
			taken = true
			defer time.AfterFunc(memberGrace, cancel).Stop()
		case err != nil && (failure == nil || errors.As(failure, &refused)):
			// A failure that can be retried counts more than a refusal.
			failure = err
		}
	}
	if taken {
		return nil
	}
	return failure
}
