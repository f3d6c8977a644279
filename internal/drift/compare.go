package drift

import (
	"strconv"

	"provwatch/internal/provider"
)

// Compare compares what the environment asks for with the row that stands for
// the provider, nil when there is none. With credentials set, the row's Keys
// must be loaded, and key sets and Bedrock credentials are compared as well
// (--credential-drift).
func Compare(h provider.Hasher, desired provider.Desired, row *provider.Row, credentials bool) Observation {
	want := desired.Canonical()
	o := Observation{Provider: desired.Name, Kind: InSync, EnvHash: h.Hash(want)}
	env := sideOf(h, o.EnvHash, want)
	o.pair = newBase(h, env, Side{})
	if row == nil {
		o.Kind = Missing
		return o
	}
	settings := row.DecodedSettings()
	o.ProviderID, o.DBType, o.Unreadable = row.ID, row.Type, settings.Err
	o.DBSettings = provider.DecodedSettings{IsBedrock: settings.IsBedrock, BedrockRegion: settings.BedrockRegion, Err: settings.Err}

	stored := provider.CanonicalOfRow(row.Type, row.BaseURL, settings)
	have := stored.Against(desired)
	if settings.Err != nil {
		o.Fields = append(o.Fields, Field{Name: SettingsField, Env: settingsSummary(desired), DB: NotCompared + settings.Err.Error()})
		have.BedrockRegion = want.BedrockRegion
		if desired.Bedrock != nil && row.Type == provider.Anthropic {
			have.Type = want.Type // only its settings say whether it is a Bedrock row
		}
	} else {
		if row.Hashes != nil {
			o.DBHashes = *row.Hashes
		} else {
			o.DBHashes = h.RowHashes(stored)
		}
		o.DBHash = o.DBHashes.Against(desired)
		switch {
		case o.DBHash == o.EnvHash:
			o.pair = agreement(h, desired)
		case row.Hashes == nil:
			o.pair = newBase(h, env, sideOf(h, o.DBHashes.Alone, stored))
		}
	}
	if want.Type != have.Type {
		o.Fields = append(o.Fields, typeField(desired.Type, row.Type, have.Type, stored.Type == provider.AmazonBedrock))
	}
	if want.BaseURL != have.BaseURL {
		o.Fields = append(o.Fields, shownField(BaseURLField, provider.DisplayURL(want.BaseURL), provider.DisplayURL(have.BaseURL)))
	}
	if want.BedrockRegion != have.BedrockRegion {
		o.Fields = append(o.Fields, shownField(RegionField, want.BedrockRegion, have.BedrockRegion))
	}
	if credentials && settings.Err == nil {
		o.compareCredentials(desired, row)
	}
	o.setKind(row)
	if o.UnreadableCredentials != nil {
		o.Fields = append(o.Fields, Field{
			Name: APIKeysField, Env: strconv.Itoa(len(desired.Keys)), DB: NotCompared + o.UnreadableCredentials.Error(),
		})
	}
	return o
}

// setKind sets the kind from the row's flags and the fields that differ.
func (o *Observation) setKind(row *provider.Row) {
	switch {
	case row.Deleted:
		o.Kind = Deleted
		o.Fields = append([]Field{RowDeleted}, o.Fields...)
	case o.Unreadable != nil:
		o.Kind = NotComparable
	case !row.Enabled:
		o.Kind = Disabled
		o.Fields = append([]Field{RowDisabled}, o.Fields...)
	case len(o.Fields) > 0:
		o.Kind = Changed
	case o.UnreadableCredentials != nil:
		o.Kind = NotComparable
	}
}

// IsInSync reports whether a row is live and enabled and has the canonical fields of the
// desired provider. The answer is that of [Compare] without credentials. It makes no
// hash, for callers that read very many rows.
func IsInSync(desired provider.Desired, row *provider.Row) bool {
	if row.Deleted || !row.Enabled {
		return false
	}
	stored, err := row.Canonical()
	return err == nil && stored.Against(desired) == desired.Canonical()
}

// typeField is the difference of two types. The environment's type and the column can
// have one label: whether they are Bedrock then makes the difference.
func typeField(env, column, compared provider.Type, rowIsBedrock bool) Field {
	f := Field{Name: TypeField, Env: string(env), DB: string(column)}
	switch {
	case env != column:
	case rowIsBedrock:
		f.DB += " (Bedrock)"
	default:
		f.DB = string(compared)
	}
	return f
}

func settingsSummary(d provider.Desired) string {
	if d.Bedrock == nil {
		return "none"
	}
	return "bedrock"
}
