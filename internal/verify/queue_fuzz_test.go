package verify

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"provwatch/internal/pubsub"
)

// FuzzHint sends notifications as any role can, one payload a line, while
// verifications take what is pending, and put back what failed: all that was asked
// for is looked at, at once or after it was gathered, for the most far-reaching
// reason, and nothing but a bounded number of ids is kept.
//
// The lines "look", "done" and "failed" stand for a verification and its end,
// "gather" and "handed on" for the beginning and the end of notifications that
// belong together, "burst N" for notifications of 300 ids, and the name of a source
// for a request of its own.
func FuzzHint(f *testing.F) {
	id := uuid.UUID{1}.String()
	for _, input := range []string{
		"", id, strings.ToUpper(id), "{" + id + "}", "urn:uuid:" + id, "urn:uuid:0", strings.ReplaceAll(id, "-", ""), id + "\n" + id + "\nlook\n" + id,
		"burst 1\nlook\nburst 2\nfailed\nlook\nburst 3\nfailed", "burst 1\nburst 2\n" + id, id + "\nx\nlook\nfailed\n" + id + "\nlook\nlook",
		`{"v":1,"id":"` + id + `"}`, "\x00", strings.Repeat("x", 7999), strings.Repeat("-", 36), "00000000-0000-0000-0000-00000000000g",
		id + "\ngather\nburst 1\nlook\nburst 2\nhanded on\nlook", "gather\nx\ngather\n" + id + "\nhanded on\nhanded on\nlook\nfailed",
		"resync\nlook\nreload\nfailed\nboot\nlook\n" + id + "\nresync", "gather\n" + id + "\nreload\nlook\nhanded on\nresync",
	} {
		f.Add(input)
	}
	f.Fuzz(func(t *testing.T, input string) {
		p := NewPending()
		// By payload; what is not a provider's id asks for everything.
		asked, looking, gathered := map[string]bool{}, map[string]bool{}, map[string]bool{}
		all, allLooking, allGathered := false, false, false
		gathering := false
		var source pubsub.Source // of what is asked for
		var underWay *Request
		waiting := func() bool { return all || len(asked) > 0 }
		// From the least to the most far-reaching.
		sources := []pubsub.Source{pubsub.SourceNotify, pubsub.SourceResync, pubsub.SourceBoot, pubsub.SourceReload}
		from := func(another pubsub.Source) {
			if !waiting() || slices.Index(sources, another) > slices.Index(sources, source) {
				source = another
			}
		}
		gather := func(on bool) {
			some := allGathered || len(gathered) > 0
			require.Equal(t, some && waiting(), p.Gather(on))
			if some {
				from(pubsub.SourceNotify)
				maps.Copy(asked, gathered)
				all = all || allGathered
				require.Len(t, p.ready, 1, "a verification is asked for")
			}
			gathered, allGathered, gathering = map[string]bool{}, false, on
		}
		look := func() {
			r, ok := p.Take()
			require.Equal(t, waiting(), ok)
			if !ok {
				return
			}
			underWay = &r
			require.Equal(t, source, r.Source)
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
				from(underWay.Source)
				maps.Copy(asked, looking)
				all = all || allLooking
			}
			underWay = nil
		}
		hint := func(payload string) {
			_, err := uuid.Parse(payload)
			isID := err == nil && len(payload) == 36
			if gathering {
				ready := len(p.ready)
				require.Equal(t, allGathered || len(gathered) > 0, p.Hint(payload))
				require.Len(t, p.ready, ready, "nobody is told yet")
				require.LessOrEqual(t, len(p.gathered.hints), maxHints)
				if isID {
					gathered[strings.ToLower(payload)] = true
				} else {
					allGathered = true
				}
				return
			}
			require.Equal(t, waiting(), p.Hint(payload))
			from(pubsub.SourceNotify)
			if isID {
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
			case line == "gather" || line == "handed on":
				gather(line == "gather")
			case slices.Contains(sources[1:], pubsub.Source(line)):
				p.All(pubsub.Source(line))
				from(pubsub.Source(line))
				all = true
			case isBurst && err == nil:
				for i := range byte(150) {
					hint(uuid.UUID{byte(n), byte(n >> 8), i, 1}.String())
					hint(uuid.UUID{byte(n), byte(n >> 8), i, 2}.String())
				}
			default:
				hint(line)
			}
		}
		gather(false)
		finish(true)
		look()
		finish(false)
		_, ok := p.Take()
		require.False(t, ok)
	})
}
