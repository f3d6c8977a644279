package rollout

import "time"

// AtTime makes the member take its own time from now.
func (m *Member) AtTime(now func() time.Time) { m.now = now }
