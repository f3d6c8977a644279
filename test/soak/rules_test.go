package soak

import (
	"fmt"
	"strings"
)

// The rules that a run must not break.
const (
	ruleLost        = "a transition was not alerted"
	ruleDoubled     = "an alert repeats the one before it"
	ruleOrder       = "an alert is out of order"
	rulePhantom     = "an alert of a state that was not committed"
	ruleContent     = "an alert does not say what was committed"
	ruleSeq         = "seq of the alerts has a gap or repeats"
	ruleState       = "the recorded state is not that of the last alert"
	ruleAudit       = "a phantom audit entry"
	ruleAuditLost   = "a lost audit entry"
	ruleAuditSeq    = "audit entries of a provider are out of order"
	ruleAuditGap    = "the seq of audit entries has a gap"
	ruleSeed        = "a seed inserted what was there"
	ruleSeedWrite   = "the worker changed a row of the provider tables"
	ruleSeedPart    = "a seed did not insert all that was missing, as the environment has it"
	ruleSeedPlain   = "a seed stored a secret in plain text where secrets are encrypted"
	ruleGap         = "a gap that is not a row, or a row that is no gap"
	ruleGapCause    = "a gap that nothing caused"
	ruleRewind      = "a rewind that nothing caused"
	ruleNotify      = "a notification is missing, doubled or not what the row says"
	ruleLeaders     = "two leaders at once"
	ruleWorker      = "a worker ended by itself, raced or panicked"
	ruleSecret      = "a secret was emitted"
	ruleConverge    = "not everything converged in time"
	ruleSinkLost    = "a sink did not get an event"
	ruleSinkPhantom = "a sink got what was not committed"
	ruleSinkOrder   = "a sink got events of a provider out of order"
	ruleSinkLetter  = "a dead letter that was not refused"
	ruleSinkDoubled = "a stream of JetStream has an event twice"
	ruleSilenced    = "an alert is silenced, and no silence matches it, or is not, and one does"
	ruleRepeat      = "an alert repeats what is not the last one of a silenced drift, or not as it was"
	ruleOutlived    = "a drift has outlived its silence and was not alerted again"
	ruleSinkSilent  = "a sink got a silenced alert"
	ruleEarly       = "a drift was alerted before it had lasted"
	ruleApply       = "an apply wrote over what the environment had not set, or an older value"
	ruleEnvironment = "a worker recorded an environment that there was not"
	rulePruned      = "a row was pruned that is needed, or without a word of it"
	ruleHistory     = "the decoded history is not the one that was written"
)

// violation is one broken rule.
type violation struct {
	Rule     string `json:"rule"`
	Provider string `json:"provider,omitempty"`
	Detail   string `json:"detail"`
	At       string `json:"at,omitempty"` // position in the WAL
}

func (v violation) String() string {
	return strings.TrimSpace(fmt.Sprintf("%s: %s: %s %s", v.Rule, v.Provider, v.Detail, v.At))
}
