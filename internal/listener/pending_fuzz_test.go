package listener

import (
	"maps"
	"strconv"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"provwatch/internal/pubsub"
)

// FuzzHint sends notifications as any role can, one payload a line, while
// verifications take what is pending, and put back what failed: all that was asked
// for is looked at, and nothing but a bounded number of ids is kept.
//
// The lines "look", "done" and "failed" stand for a verification and its end, and
// "burst N" for notifications of 300 ids.
func FuzzHint(f *testing.F) {
	id := uuid.UUID{1}.String()
	for _, input := range []string{
		"", id, strings.ToUpper(id), "{" + id + "}", "urn:uuid:" + id, "urn:uuid:0", strings.ReplaceAll(id, "-", ""), id + "\n" + id + "\nlook\n" + id,
		"burst 1\nlook\nburst 2\nfailed\nlook\nburst 3\nfailed", "burst 1\nburst 2\n" + id, id + "\nx\nlook\nfailed\n" + id + "\nlook\nlook",
		`{"v":1,"id":"` + id + `"}`, "\x00", strings.Repeat("x", 7999), strings.Repeat("-", 36), "00000000-0000-0000-0000-00000000000g",
	} {
		f.Add(input)
	}
	f.Fuzz(func(t *testing.T, input string) {
		p := NewPending()
		// By payload; what is not a provider's id asks for everything.
		asked, looking := map[string]bool{}, map[string]bool{}
		all, allLooking := false, false
		var underWay *Request
		look := func() {
			r, ok := p.Take()
			require.Equal(t, all || len(asked) > 0, ok)
			if !ok {
				return
			}
			underWay = &r
			require.Equal(t, pubsub.SourceNotify, r.Source)
			require.LessOrEqual(t, len(r.ProviderIDs), maxHints)
			if r.All {
				require.Empty(t, r.ProviderIDs)
				// Either it was asked for, or more than what is kept was.
				require.True(t, all || len(asked) > maxHints)
			} else {
				require.False(t, all)
				require.Len(t, r.ProviderIDs, len(asked))
				for _, id := range r.ProviderIDs {
					require.True(t, asked[id.String()])
				}
			}
			looking, allLooking = asked, r.All
			asked, all = map[string]bool{}, false
		}
		finish := func(failed bool) {
			if failed && underWay != nil {
				p.Again(*underWay)
				require.LessOrEqual(t, len(p.hints), maxHints)
				maps.Copy(asked, looking)
				all = all || allLooking
			}
			underWay = nil
		}
		hint := func(payload string) {
			waiting := all || len(asked) > 0
			require.Equal(t, waiting, p.Hint(payload))
			if _, err := uuid.Parse(payload); err == nil && len(payload) == 36 {
				asked[strings.ToLower(payload)] = true
			} else {
				all = true
			}
			require.LessOrEqual(t, len(p.hints), maxHints)
			require.Len(t, p.ready, 1, "a verification is asked for")
		}
		for line := range strings.SplitSeq(input, "\n") {
			number, isBurst := strings.CutPrefix(line, "burst ")
			switch n, err := strconv.ParseUint(number, 10, 16); {
			case line == "look" && underWay == nil:
				look()
			case line == "done" || line == "failed":
				finish(line == "failed")
			case isBurst && err == nil:
				for i := range byte(150) {
					hint(uuid.UUID{byte(n), byte(n >> 8), i, 1}.String())
					hint(uuid.UUID{byte(n), byte(n >> 8), i, 2}.String())
				}
			default:
				hint(line)
			}
		}
		finish(true)
		look()
		finish(false)
		_, ok := p.Take()
		require.False(t, ok)
	})
}
