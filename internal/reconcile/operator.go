package reconcile

import (
	"strconv"
	"strings"
)

// Operator is the user of the operating system who resolves.
type Operator struct {
	User string // empty where the uid has no name, as in a container
	UID  int    // negative where the system has none
}

// Actor returns the actor of audit entries: the role that the session logged in with, and
// the user, such as "operator:role=alice,user=root,uid=0".
func (o Operator) Actor(role string) string {
	parts := []string{"role=" + word(role)}
	if o.User != "" {
		parts = append(parts, "user="+word(o.User))
	}
	if o.UID >= 0 {
		parts = append(parts, "uid="+strconv.Itoa(o.UID))
	}
	return "operator:" + strings.Join(parts, ",")
}

// word returns a name, in quotation marks where it could pass for more than a name.
func word(name string) string {
	if strings.Trim(name, plain) != "" {
		return strconv.QuoteToASCII(name)
	}
	return name
}

// plain are the characters of names that need no quotation marks.
const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.@"
