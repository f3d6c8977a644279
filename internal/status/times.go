package status

import "time"

// unlessEpoch returns nil for the epoch, which queries return for a missing time.
func unlessEpoch(t time.Time) *time.Time {
	if !t.After(time.Unix(0, 0)) {
		return nil
	}
	return utc(&t)
}

func utc(t *time.Time) *time.Time {
	if t == nil {
		return nil
	}
	u := t.UTC()
	return &u
}

// unlessZero returns nil for the zero time.
func unlessZero(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}
