package web

import (
	"provwatch/internal/drift"
	"provwatch/internal/sink"
	"provwatch/internal/status"
)

// chip shows a state or a kind: never by its colour alone.
type chip struct {
	State status.State // whose colours it has
	Sign  string
	Label string
}

func chipOfState(s status.State) chip {
	signs := map[status.State]string{
		status.Drifted: "▲", status.SoftDeleted: "✕", status.Unmanaged: "◆", status.Unverified: "◌", status.Accepted: "✓", status.InSync: "●",
		status.NotComparable: "!", status.Unsupported: "?", status.Pending: "◔",
	}
	return chip{s, signs[s], s.Label()}
}

func chipOfKind(kind drift.Kind) chip {
	state := status.Drifted
	switch kind {
	case drift.Resolved, drift.InSync:
		state = status.InSync
	case drift.Deleted:
		state = status.SoftDeleted
	case drift.Gap, drift.Rewound:
		state = status.NotComparable
	}
	c := chipOfState(state)
	c.Label = shown(status.KindLabel(kind))
	return c
}

func chipOfProvider(p status.Provider) chip {
	c := chipOfState(p.State)
	if p.State == status.Drifted {
		c = chipOfKind(p.Kind)
	}
	c.Label = shown(p.Label())
	return c
}

func chipOfSink(p sink.Progress) chip {
	switch {
	case p.DeadLetters > 0:
		return chip{status.SoftDeleted, "▲", status.SinkLabel(p)}
	case p.Behind > 0:
		return chip{status.Drifted, "▲", status.SinkLabel(p)}
	case p.MovedAt.IsZero():
		return chip{status.Accepted, "◌", status.SinkLabel(p)}
	default:
		return chip{status.InSync, "●", status.SinkLabel(p)}
	}
}

// chipOfHealth shows whether a worker does its job, and whether its page shows the database. It
// is not green where nothing is compared.
func chipOfHealth(w status.Worker, failure string) chip {
	switch {
	case w.NotReady != "":
		return chip{status.Drifted, "▲", status.NotReady}
	case failure != "":
		return chip{status.Drifted, "▲", "database cannot be read"}
	case w.Providers == 0:
		return chip{status.Accepted, "◌", status.Ready + ", " + status.WithoutProviders}
	default:
		return chip{status.InSync, "●", status.Ready}
	}
}
