package sink

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"provwatch/internal/provider"
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
	// alertName is the label alertname of all alerts.
	alertName = "ProviderDrift"
)

// Alertmanager keeps a Prometheus Alertmanager told of what drifts, by its API
// v2: an alert for each provider and kind of drift. An event sends all that it
// says of its provider, what no longer holds included, so that to repeat one does
// no harm; what fires is repeated for as long as it does.
//
// The members of a cluster do not tell each other of alerts: each is sent all of
// them, and it is enough that one takes them, since the others are told again.
type Alertmanager struct {
	members    []*poster
	runbookURL string
	interval   time.Duration

	mu     sync.Mutex
	firing map[string]Event // by provider, its last alert
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
// annotation if it is not empty. An error holds no part of the URL.
func NewAlertmanager(to, caFile, runbookURL string) (*Alertmanager, error) {
	a := &Alertmanager{runbookURL: runbookURL, interval: repeatInterval, firing: map[string]Event{}}
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
func (*Alertmanager) Name() string { return "alertmanager" }

// Streams implements [Sink]. What an audit entry tells is no condition that lasts.
func (*Alertmanager) Streams() []Stream { return []Stream{Drift} }

// Close implements [Sink].
func (a *Alertmanager) Close() {
	for _, member := range a.members {
		member.close()
	}
}

// Send implements [Sink].
func (a *Alertmanager) Send(ctx context.Context, e Event) error {
	// Whatever becomes of the request, this is what is to be repeated.
	a.mu.Lock()
	if e.kind() == provider.Resolved {
		delete(a.firing, e.Provider)
	} else {
		a.firing[e.Provider] = e
	}
	a.mu.Unlock()
	var alerts []alertmanagerAlert
	for _, kind := range []provider.Kind{provider.Missing, provider.Deleted, provider.Disabled, provider.Changed} {
		if kind == e.kind() {
			alerts = append(alerts, a.fires(e))
			continue
		}
		ended := a.alert(e, kind)
		ended.StartsAt, ended.EndsAt = e.Time, e.Time
		alerts = append(alerts, ended)
	}
	return a.post(ctx, alerts)
}

// Restore implements [repeater].
func (a *Alertmanager) Restore(firing []Event) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.firing = make(map[string]Event, len(firing))
	for _, e := range firing {
		a.firing[e.Provider] = e
	}
}

// Interval implements [repeater].
func (a *Alertmanager) Interval() time.Duration { return a.interval }

// Repeat implements [repeater].
func (a *Alertmanager) Repeat(ctx context.Context) (bool, error) {
	a.mu.Lock()
	firing := slices.Collect(maps.Values(a.firing))
	a.mu.Unlock()
	for chunk := range slices.Chunk(firing, repeatChunk) {
		alerts := make([]alertmanagerAlert, len(chunk))
		for i, e := range chunk {
			alerts[i] = a.fires(e)
		}
		if err := a.post(ctx, alerts); err != nil {
			return true, err
		}
	}
	return len(firing) > 0, nil
}

func (a *Alertmanager) fires(e Event) alertmanagerAlert {
	alert := a.alert(e, e.kind())
	alert.StartsAt, alert.EndsAt = e.Time, time.Now().Add(firesFor).UTC()
	alert.Annotations["summary"] = fmt.Sprintf("AI provider %s: %s, unlike the environment asks for", e.Provider, e.kind())
	alert.Annotations["alert_id"] = e.ID.String()
	alert.Annotations["seq"] = fmt.Sprint(e.Seq)
	var fields []string
	for _, f := range e.alert.Fields {
		fields = append(fields, fmt.Sprintf("%s: environment %q, database %q", f.Name, f.Env, f.DB))
	}
	if len(fields) > 0 {
		alert.Annotations["fields"] = strings.Join(fields, "\n")
	}
	if a.runbookURL != "" {
		alert.Annotations["runbook_url"] = a.runbookURL
	}
	return alert
}

func (a *Alertmanager) alert(e Event, kind provider.Kind) alertmanagerAlert {
	return alertmanagerAlert{
		Labels:      map[string]string{"alertname": alertName, "provider": e.Provider, "kind": string(kind), "cluster": e.Cluster},
		Annotations: map[string]string{},
	}
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
			// One that can be tried again counts more than a refusal.
			failure = err
		}
	}
	if taken {
		return nil
	}
	return failure
}
