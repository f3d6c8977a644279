package atrest

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/tink-crypto/tink-go/v2/aead/aesgcm"
	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"

	"provwatch/internal/regularfile"
)

// KeysetError says why a keyset file cannot be used. It holds nothing of it.
type KeysetError struct {
	Path string
	Err  error
}

func (e *KeysetError) Error() string {
	return fmt.Sprintf("keyset %s: %v", regularfile.Shown(e.Path), e.Err)
}
func (e *KeysetError) Unwrap() error { return e.Err }

// missingFileError says that there is no keyset file, and is [fs.ErrNotExist].
type missingFileError struct{}

func (missingFileError) Error() string { return `it does not exist; create it with "worker keys add"` }

func (missingFileError) Unwrap() error { return fs.ErrNotExist }

// readFile reads a keyset file that nobody but its owner can read.
func readFile(path string) (*keyset.Handle, error) {
	text, info, err := regularfile.ReadInfo(path, regularfile.Limit)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, missingFileError{}
	case err != nil:
		return nil, regularfile.Cause(err)
	}
	defer clear(text)
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("others than its owner can access it (mode %04o), and whoever reads it can decrypt the stored secrets; run: chmod 600 %s",
			info.Mode().Perm(), path)
	}
	handle, err := insecurecleartextkeyset.Read(keyset.NewJSONReader(bytes.NewReader(text)))
	if err != nil {
		// The parser's own message can quote the file.
		return nil, errors.New("it is not a keyset in Tink's JSON form with a primary key; create one with \"worker keys add\", " +
			"or tinkey create-keyset --key-template AES256_GCM --out-format json")
	}
	return handle, nil
}

// usableKeys returns the enabled keys of a keyset.
func usableKeys(handle *keyset.Handle) (*keys, error) {
	usable := keys{byID: map[string]tink.AEAD{}}
	for i := range handle.Len() {
		entry, err := handle.Entry(i)
		if err != nil {
			return nil, fmt.Errorf("its key %d cannot be used", i)
		}
		key, ok := entry.Key().(*aesgcm.Key)
		if !ok || !isOurs(key) {
			return nil, fmt.Errorf("its key %d is not one of Tink's AES256_GCM template, whose ciphertexts begin with their key's id; replace it", entry.KeyID())
		}
		if entry.KeyStatus() != keyset.Enabled {
			continue
		}
		aead, err := aesgcm.NewAEAD(key)
		if err != nil {
			return nil, fmt.Errorf("its key %d cannot be used", entry.KeyID())
		}
		usable.byID[formatID(entry.KeyID())] = aead
		if entry.IsPrimary() {
			usable.primary = formatID(entry.KeyID())
		}
	}
	return &usable, nil
}

func isOurs(key *aesgcm.Key) bool {
	parameters, ok := key.Parameters().(*aesgcm.Parameters)
	return ok && parameters.KeySizeInBytes() == keySize && parameters.Variant() == aesgcm.VariantTink
}

const (
	keySize = 32
	ivSize  = 12
	tagSize = 16
)

// KeyInfo is what can be told of a key.
type KeyInfo struct {
	ID      string `json:"id"`
	Status  string `json:"status"` // enabled, disabled or destroyed
	Primary bool   `json:"primary"`
}

// List returns the keys of a keyset file. The error is a [*KeysetError].
func List(path string) ([]KeyInfo, error) {
	handle, err := readFile(path)
	if err == nil {
		_, err = usableKeys(handle)
	}
	if err != nil {
		return nil, &KeysetError{Path: path, Err: err}
	}
	var list []KeyInfo
	for i := range handle.Len() {
		entry, err := handle.Entry(i)
		if err != nil {
			return nil, &KeysetError{Path: path, Err: err}
		}
		info := KeyInfo{ID: formatID(entry.KeyID()), Primary: entry.IsPrimary()}
		switch entry.KeyStatus() {
		case keyset.Enabled:
			info.Status = "enabled"
		case keyset.Disabled:
			info.Status = "disabled"
		default:
			info.Status = "destroyed"
		}
		list = append(list, info)
	}
	return list, nil
}

// Add adds a new key to a keyset file and returns its id. A file that does not
// exist is created, and the key is then its primary one; in one that exists the
// primary stays. The error is a [*KeysetError].
func Add(path string) (id string, err error) {
	err = edit(path, func(manager *keyset.Manager, isNew bool) error {
		parameters, err := aesgcm.NewParameters(aesgcm.ParametersOpts{
			KeySizeInBytes: keySize, IVSizeInBytes: ivSize, TagSizeInBytes: tagSize, Variant: aesgcm.VariantTink,
		})
		if err != nil {
			return err
		}
		added, err := manager.AddNewKeyFromParameters(parameters)
		if err != nil {
			return err
		}
		id = formatID(added)
		if isNew {
			return manager.SetPrimary(added)
		}
		return nil
	})
	return id, err
}

// Promote makes a key of a keyset file its primary one. The error is a
// [*KeysetError].
func Promote(path, id string) error {
	return editKey(path, id, (*keyset.Manager).SetPrimary)
}

// Remove removes a key from a keyset file; the primary one cannot be removed. What
// is encrypted with it is lost: see to it that nothing is. The error is a
// [*KeysetError].
func Remove(path, id string) error {
	return editKey(path, id, func(manager *keyset.Manager, key uint32) error {
		handle, err := manager.Handle()
		if err != nil {
			return err
		}
		if primary, err := handle.Primary(); err != nil || primary.KeyID() == key {
			return errors.New("its primary key cannot be removed; promote another one first")
		}
		return manager.Delete(key)
	})
}

func editKey(path, id string, change func(*keyset.Manager, uint32) error) error {
	list, err := List(path)
	if err != nil {
		return err
	}
	for _, key := range list {
		if key.ID == id {
			parsed, err := strconv.ParseUint(id, 10, 32)
			if err != nil {
				return &KeysetError{Path: path, Err: err}
			}
			return edit(path, func(manager *keyset.Manager, _ bool) error { return change(manager, uint32(parsed)) })
		}
	}
	return &KeysetError{Path: path, Err: errors.New("it has no key of that id; \"worker keys list\" shows those that it has")}
}

// edit changes a keyset file, which is replaced as a whole. Edits of files in one
// folder go in turn.
func edit(path string, change func(manager *keyset.Manager, isNew bool) error) error {
	err := func() error {
		if resolved, err := filepath.EvalSymlinks(path); err == nil {
			path = resolved // replace the file, not the link
		} else if _, lost := os.Lstat(path); lost == nil {
			return errors.New("it is a symbolic link to a file that cannot be reached, such as one that is not mounted")
		}
		dir, err := os.Open(filepath.Dir(path))
		if err != nil {
			return fmt.Errorf("open its folder: %w", regularfile.Cause(err))
		}
		defer func() { _ = dir.Close() }()
		if err := syscall.Flock(int(dir.Fd()), syscall.LOCK_EX); err != nil {
			return fmt.Errorf("lock its folder: %w", err)
		}
		manager := keyset.NewManager()
		before, err := readFile(path)
		isNew := errors.Is(err, fs.ErrNotExist)
		switch {
		case err == nil:
			manager = keyset.NewManagerFromHandle(before)
		case !isNew:
			return err
		}
		if err := change(manager, isNew); err != nil {
			return err
		}
		handle, err := manager.Handle()
		if err != nil {
			return err
		}
		if _, err := usableKeys(handle); err != nil {
			return err
		}
		return replaceFile(path, dir, handle)
	}()
	if err != nil {
		return &KeysetError{Path: path, Err: err}
	}
	return nil
}

// replaceFile writes a keyset beside the file and puts it in its place, owned by
// the same user, so that a daemon that could read the one before can read it.
func replaceFile(path string, dir *os.File, handle *keyset.Handle) (err error) {
	// Only its owner can access it.
	file, err := os.CreateTemp(filepath.Dir(path), ".keyset-*")
	if err != nil {
		return regularfile.Cause(err)
	}
	defer func() {
		if err != nil {
			_ = file.Close()
			_ = os.Remove(file.Name())
		}
	}()
	if before, err := os.Stat(path); err == nil {
		if owner, ok := before.Sys().(*syscall.Stat_t); ok {
			if err := file.Chown(int(owner.Uid), int(owner.Gid)); err != nil {
				return fmt.Errorf("keep its owner: %w", regularfile.Cause(err))
			}
		}
	}
	if err := insecurecleartextkeyset.Write(handle, keyset.NewJSONWriter(file)); err != nil {
		return fmt.Errorf("write it: %w", regularfile.Cause(err))
	}
	if err := errors.Join(file.Sync(), file.Close()); err != nil {
		return fmt.Errorf("write it: %w", regularfile.Cause(err))
	}
	if err := os.Rename(file.Name(), path); err != nil {
		return fmt.Errorf("put it in place: %w", err)
	}
	return dir.Sync()
}
