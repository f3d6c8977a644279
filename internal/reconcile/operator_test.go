package reconcile

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// TestActor checks that the actor has what is known of an operator, and that no name in it
// passes for more than a name.
func TestActor(t *testing.T) {
	t.Parallel()
	for want, test := range map[string]struct {
		operator Operator
		role     string
	}{
		"operator:role=gateway_ops,user=alice,uid=1000": {Operator{"alice", 1000}, "gateway_ops"},
		"operator:role=alice@example.com,uid=65532":     {Operator{"", 65532}, "alice@example.com"},
		`operator:role=alice,user="EXAMPLE\\alice"`:     {Operator{`EXAMPLE\alice`, -1}, "alice"},
		`operator:role="x,user=root",user="a b",uid=0`:  {Operator{"a b", 0}, "x,user=root"},
		`operator:role="\u00e9\n",uid=1`:                {Operator{"", 1}, "é\n"},
	} {
		require.Equal(t, want, test.operator.Actor(test.role))
	}
}
