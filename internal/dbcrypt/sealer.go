package dbcrypt

import (
	"encoding/base64"
	"fmt"
	"slices"
	"strings"

	"provwatch/internal/remedy"
	"provwatch/internal/secret"
)

// testWord is what the column test of dbcrypt_keys holds, encrypted.
const testWord = "coder"

// Table is what the database has of dbcrypt_keys.
type Table struct {
	// Exists reports whether there is such a table.
	Exists bool
	// Own reports whether provwatch made the provider tables, and with them this one.
	Own bool
	// Insertable reports whether the role may register a key.
	Insertable bool
	Rows       []Registered
}

// Registered is a row of dbcrypt_keys.
type Registered struct {
	Number int32
	// Active is the digest of a key that is in use, Revoked that of one that no longer
	// is; empty for NULL.
	Active, Revoked string
	Test            string // the word "coder", encrypted with the key
}

// active reports whether rows may be encrypted with the key.
func (r Registered) active() bool { return r.Active != "" && r.Revoked == "" }

// UnusableError says why the configured keys do not go with the keys of the
// database: nothing can be encrypted, and so nothing may be written.
type UnusableError struct {
	Reason string
	Remedy remedy.Advice
}

func (e *UnusableError) problem() error {
	return remedy.Problem(append(remedy.Advice{"secrets cannot be encrypted: " + e.Reason + "; "}, e.Remedy...)...)
}

func (e *UnusableError) Error() string { return e.problem().Error() }

// Remedies returns the commands in the text of the error.
func (e *UnusableError) Remedies() []remedy.Remedy { return remedy.Of(e.problem()) }

// NeedsKeyError says that a secret cannot be stored: the database's secrets are
// encrypted, and no key is configured.
type NeedsKeyError struct{ Active string }

func (e *NeedsKeyError) Error() string {
	return fmt.Sprintf("it is a secret, and the gateway encrypts secrets (key %s is active in dbcrypt_keys): set %s (or %s) to the gateway's keys",
		shownDigest(e.Active), KeysVariable, KeysFileVariable)
}

// Sealer encrypts what is stored as a secret, as the database wants it at one
// moment. The zero value stores plain text.
type Sealer struct {
	key     *key
	refused error // why no secret can be stored
}

// Sealer returns what encrypts for the database: the first configured key that is
// active in the table. The error is an [*UnusableError].
//
// Without configured keys and without an active key in the table, everything is
// stored in plain text. Without configured keys and with an active one, nothing that
// is secret can be stored.
func (r *Ring) Sealer(table Table) (Sealer, error) {
	keys := r.Keys()
	if len(keys.list) == 0 {
		for _, row := range table.Rows {
			if row.active() {
				return Sealer{refused: &NeedsKeyError{row.Active}}, nil
			}
		}
		return Sealer{}, nil
	}
	configured := fmt.Sprintf("the configured keys (%s in %s)", strings.Join(keys.Digests(), ", "), KeysVariable)
	if !table.Exists {
		return Sealer{}, &UnusableError{
			Reason: configured + " have no table dbcrypt_keys to be registered in",
			Remedy: remedy.Advice{"start a version of the gateway that makes it, or remove the variable"},
		}
	}
	for i := range keys.list {
		key := &keys.list[i]
		for _, row := range table.Rows {
			if !row.active() || row.Active != key.digest {
				continue
			}
			if !key.opens(row.Test) {
				return Sealer{}, &UnusableError{
					Reason: fmt.Sprintf("the configured key %s is not the key that dbcrypt_keys has under this digest: its column test does not decrypt", key.digest),
					Remedy: remedy.Advice{"set " + KeysVariable + " to the gateway's keys"},
				}
			}
			return Sealer{key: key}, nil
		}
	}
	return Sealer{}, &UnusableError{
		Reason: "none of " + configured + " is active in dbcrypt_keys, which has " + described(table.Rows),
		Remedy: unusableRemedy(table),
	}
}

func unusableRemedy(table Table) remedy.Advice {
	if table.Own {
		return remedy.Advice{"register the first one with ", remedy.Run("migrate"),
			" as the owner of the provider tables, or, where it was revoked, put another one before it"}
	}
	advice := remedy.Advice{"start the gateway with them, which registers a new key, or set the variable to the gateway's keys"}
	if !slices.ContainsFunc(table.Rows, Registered.active) {
		advice = append(advice, ", or remove it where the gateway no longer encrypts")
	}
	return advice
}

// described lists the keys of the table, for a message.
func described(rows []Registered) string {
	var list []string
	for _, row := range rows {
		switch {
		case row.active():
			list = append(list, shownDigest(row.Active)+" (active)")
		case row.Revoked != "":
			list = append(list, shownDigest(row.Revoked)+" (revoked)")
		}
	}
	if len(list) == 0 {
		return "no key"
	}
	return strings.Join(list, ", ")
}

func (k *key) opens(test string) bool {
	sealed, err := base64.StdEncoding.DecodeString(test)
	if err != nil {
		return false
	}
	plain, err := k.open(sealed)
	return err == nil && string(plain) == testWord
}

// Registration returns the row that registers the first configured key, nil where
// there is nothing to register: the provider tables are another program's, which
// registers its own keys, or the table knows the key.
func (r *Ring) Registration(table Table) (*Registered, error) {
	keys := r.Keys()
	if len(keys.list) == 0 || !table.Own || !table.Exists {
		return nil, nil
	}
	first := &keys.list[0]
	known := slices.ContainsFunc(table.Rows, func(row Registered) bool { return row.Active == first.digest || row.Revoked == first.digest })
	if known {
		return nil, nil
	}
	test, err := first.seal([]byte(testWord))
	if err != nil {
		return nil, err
	}
	added := Registered{Number: 1, Active: first.digest, Test: test}
	for _, row := range table.Rows {
		added.Number = max(added.Number, row.Number+1)
	}
	return &added, nil
}

// KeyID returns the digest of the key that encrypts, empty where secrets are stored
// in plain text or not at all.
func (s Sealer) KeyID() string {
	if s.key == nil {
		return ""
	}
	return s.key.digest
}

// Seal encrypts a secret, and returns it as it is to be stored, with the id of the
// key, empty for plain text. An absent secret stays absent. The error is a
// [*NeedsKeyError] where no secret can be stored.
func (s Sealer) Seal(plain secret.Text) (stored, keyID string, err error) {
	switch {
	case plain.IsZero():
		return "", "", nil
	case s.refused != nil:
		return "", "", s.refused
	case s.key == nil:
		return plain.Reveal(), "", nil
	}
	text := []byte(plain.Reveal())
	defer clear(text)
	stored, err = s.key.seal(text)
	return stored, s.key.digest, err
}

// SealSettings is [Sealer.Seal] for settings. Those without credentials are no secret:
// where no secret can be stored, they are stored in plain text.
func (s Sealer) SealSettings(plain secret.Text, credentials bool) (stored, keyID string, err error) {
	if s.refused != nil && !credentials {
		return plain.Reveal(), "", nil
	}
	return s.Seal(plain)
}
