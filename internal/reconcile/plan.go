package reconcile

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"provwatch/internal/drift"
	"provwatch/internal/provider"
	"provwatch/internal/remedy"
	"provwatch/internal/secret"
	"provwatch/internal/store"
)

// write is what taking the environment's side writes to a row that is there:
// what differs, and nothing that provwatch does not know
// (docs/specification.md, section 3).
type write struct {
	columns  store.ProviderColumns // with the settings once these are encrypted
	settings *secret.Text          // in plain text, absent for none; nil: they stay
	// secretSettings is set where the settings hold credentials.
	secretSettings bool

	fields []drift.Field // that are written, as they differ

	removed []provider.StoredKey
	added   []secret.Text

	// unusesKeys is set when the row becomes that of a provider that uses no API keys.
	unusesKeys bool
}

// ofRow reports whether the row itself is written, and not only its keys.
func (w write) ofRow() bool { return w.settings != nil || w.columns != (store.ProviderColumns{}) }

// ofCredentials reports whether credentials are written.
func (w write) ofCredentials() bool {
	return len(w.removed)+len(w.added) > 0 || slices.ContainsFunc(w.fields, drift.Field.OfCredentials)
}

// concernsSettings reports whether the row's settings matter to the step, by the type
// the row has or the type it gets. Other settings stay unchanged and unread.
func concernsSettings(step drift.Step) bool {
	return step.Row.Type.HashNeedsSettings() || step.RowType.HashNeedsSettings()
}

// planWrite returns what must be written for the step. Its row must exist, and its
// settings must be readable. settings is their plain text, empty unless
// [concernsSettings].
func planWrite(step drift.Step, settings []byte, withKeys bool) (w write, err error) {
	desired, row := step.Desired, step.Row
	if row.Deleted {
		w.columns.Deleted = new(bool)
		w.fields = append(w.fields, drift.RowDeleted)
	}
	if !row.Enabled {
		enabled := true
		w.columns.Enabled = &enabled
		w.fields = append(w.fields, drift.RowDisabled)
	}
	typeDiffers := step.Observation.Has(drift.TypeField)
	w.unusesKeys = typeDiffers && !desired.UsesKeys()
	if typeDiffers && row.Type != step.RowType {
		w.columns.Type = &step.RowType
		w.fields = append(w.fields, drift.Field{Name: drift.TypeField, Env: string(step.RowType), DB: string(row.Type)})
	}
	if step.Observation.Has(drift.BaseURLField) {
		w.columns.BaseURL = &desired.BaseURL
	}
	for _, f := range step.Observation.Fields {
		if f.Name == drift.BaseURLField || f.Name == drift.RegionField || withKeys && f.OfCredentials() {
			w.fields = append(w.fields, f)
		}
	}
	if err := w.planSettings(step, settings, typeDiffers, withKeys); err != nil {
		return w, err
	}
	if withKeys && (!w.unusesKeys || hasCredentials(desired)) {
		err = w.planKeys(step)
	}
	return w, err
}

// refuseUnusedKeys fails where the row keeps API keys and becomes that of a provider
// that uses none: the gateway stores no such row, and nobody would see the keys in it.
func (w write) refuseUnusedKeys(ctx context.Context, queries *store.Queries, step drift.Step, withKeys bool) error {
	credentials := hasCredentials(step.Desired)
	if !w.unusesKeys || withKeys && credentials {
		return nil
	}
	stored, err := queries.CountKeys(ctx, step.Row.ID)
	if err != nil {
		return fmt.Errorf("look for its stored API keys: %w", err)
	}
	if stored == 0 {
		return nil
	}
	stay := fmt.Sprintf("its stored API keys (%d) would stay, and the environment's provider uses none; ", stored)
	if credentials {
		return remedy.Problem(stay, "repeat with ", withKeysFlag, " to replace them by its AWS credentials")
	}
	return errors.New(stay + "remove them in the gateway, and repeat")
}

// planSettings plans the settings. A Bedrock provider's are merged into the stored
// ones. Stored ones that would make the row of another provider a Bedrock row, or
// change its hash, are removed if nothing unknown is lost.
func (w *write) planSettings(step drift.Step, settings []byte, typeDiffers, withKeys bool) error {
	stored, err := provider.ParseSettings(settings)
	if err != nil {
		return unreadable(step.Row.ID, err)
	}
	credentials, err := storedCredentials(step, stored, withKeys)
	if err != nil {
		return err
	}
	if step.Desired.Bedrock != nil {
		return w.mergeSettings(step, stored, settings, typeDiffers, withKeys)
	}
	return w.removeSettings(step, stored, settings, credentials, withKeys)
}

// storedCredentials returns the names of the credentials in the stored settings. It fails
// withKeys, where the environment has none to replace them.
func storedCredentials(step drift.Step, stored *provider.Bedrock, withKeys bool) (names []string, err error) {
	if stored == nil {
		return nil, nil
	}
	desired := step.Desired.Bedrock
	env := accessKeys(desired)
	for i, name := range []string{"access_key", "access_key_secret"} {
		if accessKeys(stored)[i].IsZero() {
			continue
		}
		names = append(names, name)
		if withKeys && env[i].IsZero() && (desired != nil || len(step.Desired.Keys) == 0) {
			return nil, removesCredentials(step, "its stored "+name)
		}
	}
	return names, nil
}

// mergeSettings plans the settings of a Bedrock provider.
func (w *write) mergeSettings(step drift.Step, stored *provider.Bedrock, settings []byte, typeDiffers, withKeys bool) error {
	desired := step.Desired.Bedrock
	if stored == nil && !typeDiffers && desired.Region == "" && !(withKeys && hasCredentials(step.Desired)) {
		return nil // a row of type bedrock needs none
	}
	merged, changed, err := desired.Merge(settings, withKeys)
	if err != nil || !changed {
		return err
	}
	w.settings, w.secretSettings = &merged, stored.HasCredentials() || withKeys && desired.HasCredentials()
	if stored == nil {
		w.fields = append(w.fields, drift.Field{Name: drift.SettingsField, Env: "bedrock", DB: "none"})
	}
	return nil
}

// removeSettings plans the settings of a provider that is not a Bedrock one. Settings that
// another type makes meaningless must not take effect with the type that is written.
func (w *write) removeSettings(step drift.Step, stored *provider.Bedrock, settings []byte, credentials []string, withKeys bool) error {
	bedrock := provider.IsBedrock(step.Row.Type, stored != nil) || provider.IsBedrock(step.RowType, stored != nil)
	if stored == nil || !bedrock && stored.Region == "" && !(withKeys && len(credentials) > 0) {
		return nil
	}
	unknown, err := provider.UnknownMembers(settings)
	if err != nil {
		return err
	}
	switch {
	case len(unknown) > 0:
		return remedy.Problem("its stored settings are those of a Bedrock provider, which the environment's is not, and hold what provwatch does not know and would remove: "+
			memberList(unknown)+"; give the provider its Bedrock variables, remove these settings in the gateway, or keep the row with ", remedy.Repeat("--take", "db"))
	case !withKeys && len(credentials) > 0:
		return remedy.Problem("its stored Bedrock credentials ("+strings.Join(credentials, ", ")+") would be removed, "+
			"since the environment's provider is not a Bedrock one; repeat with ", withKeysFlag)
	}
	w.settings = &secret.Text{}
	w.fields = append(w.fields, drift.Field{Name: drift.SettingsField, Env: "none", DB: "bedrock"})
	return nil
}

// planKeys plans the key rows: a row that holds a key of the environment stays.
func (w *write) planKeys(step drift.Step) error {
	missing := map[string]secret.Text{}
	for _, key := range step.Desired.Keys {
		missing[key.Reveal()] = key
	}
	inEnv := func(key secret.Text) bool {
		return slices.ContainsFunc(step.Desired.Keys, key.Equal)
	}
	var repeated []provider.StoredKey
	for _, stored := range step.Row.Keys {
		switch {
		case stored.KeyID != "" || !inEnv(stored.Key):
			w.removed = append(w.removed, stored)
		case missing[stored.Key.Reveal()].IsZero():
			repeated = append(repeated, stored)
		default:
			delete(missing, stored.Key.Reveal())
		}
	}
	// The gateway has at most so many keys of a provider.
	if excess := len(step.Desired.Keys) + len(repeated) - provider.MaxKeys; excess > 0 {
		w.removed = append(w.removed, repeated[:min(excess, len(repeated))]...)
	}
	if len(w.removed) > 0 && !hasCredentials(step.Desired) {
		return removesCredentials(step, "its stored API keys")
	}
	for _, key := range step.Desired.Keys {
		if _, add := missing[key.Reveal()]; add {
			w.added = append(w.added, key)
		}
	}
	return nil
}

// accessKeys returns access key and secret, absent ones for no Bedrock provider.
func accessKeys(b *provider.Bedrock) [2]secret.Text {
	if b == nil {
		return [2]secret.Text{}
	}
	return [2]secret.Text{b.AccessKey, b.AccessKeySecret}
}

func hasCredentials(d provider.Desired) bool {
	pair := accessKeys(d.Bedrock)
	return len(d.Keys) > 0 || !pair[0].IsZero() || !pair[1].IsZero()
}
