package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/flavorsync/flavorsync/internal/flavor"
)

// Keyset encrypts the service accounts' passwords: a tink AEAD keyset, in a
// file in clear-text JSON. A new key is added as a non-primary one and spread
// to every replica first, and made primary then.
type Keyset struct {
	path    string
	file    []byte // what BindKeyset writes to path; nil where it is there
	primary string
	ids     []string
	aead    tink.AEAD
}

// LoadKeyset reads the keyset at path. Where there is no such file it makes a
// new keyset and says so: BindKeyset creates the file, once it knows that no
// password is encrypted with one that is missing. A file that others than its
// owner can read is refused.
func LoadKeyset(path string) (ks *Keyset, created bool, err error) {
	st, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		ks, err := newKeyset(path)
		return ks, err == nil, err
	case err != nil:
		return nil, false, fmt.Errorf("while looking at the credentials keyset: %w", err)
	case !st.Mode().IsRegular():
		return nil, false, fmt.Errorf("the credentials keyset %s is not a file", path)
	case st.Mode().Perm()&0o077 != 0:
		return nil, false, fmt.Errorf("others than its owner may use the credentials keyset %s (mode %04o): chmod 600 it", path, st.Mode().Perm())
	}
	content, err := os.ReadFile(path) //nolint:gosec // the operator's own configuration names it
	if err != nil {
		return nil, false, fmt.Errorf("while reading the credentials keyset: %w", err)
	}
	handle, err := insecurecleartextkeyset.Read(keyset.NewJSONReader(bytes.NewReader(content)))
	if err != nil {
		// Not the cause: it may quote what it could not read.
		return nil, false, fmt.Errorf("the credentials keyset %s is not a tink keyset in clear-text JSON", path)
	}
	ks, err = fromHandle(path, handle)
	return ks, false, err
}

func newKeyset(path string) (*Keyset, error) {
	dir := filepath.Dir(path)
	if st, err := os.Stat(dir); err != nil || !st.IsDir() {
		return nil, fmt.Errorf("the directory %s of the credentials keyset %s does not exist: create it, or change credentials_keyset", dir, path)
	}
	handle, err := keyset.NewHandle(aead.AES256GCMKeyTemplate())
	if err != nil {
		return nil, fmt.Errorf("while making a credentials keyset: %w", err)
	}
	ks, err := fromHandle(path, handle)
	if err != nil {
		return nil, err
	}
	var content bytes.Buffer
	if err := insecurecleartextkeyset.Write(handle, keyset.NewJSONWriter(&content)); err != nil {
		return nil, fmt.Errorf("while writing a credentials keyset: %w", err)
	}
	ks.file = append(content.Bytes(), '\n')
	return ks, nil
}

func fromHandle(path string, handle *keyset.Handle) (*Keyset, error) {
	primitive, err := aead.New(handle)
	if err != nil {
		return nil, fmt.Errorf("the credentials keyset %s cannot encrypt (it must be one of AEAD keys): %w", path, err)
	}
	all := handle.KeysetInfo()
	ks := &Keyset{path: path, aead: primitive, primary: strconv.FormatUint(uint64(all.GetPrimaryKeyId()), 10)}
	for _, key := range all.GetKeyInfo() {
		ks.ids = append(ks.ids, strconv.FormatUint(uint64(key.GetKeyId()), 10))
	}
	return ks, nil
}

// create writes the file of a new keyset, for its owner alone, whole or not at
// all, and never over another.
func (ks *Keyset) create() (err error) {
	tmp, err := os.CreateTemp(filepath.Dir(ks.path), ".keyset-*") // 0600
	if err != nil {
		return fmt.Errorf("while creating the credentials keyset %s: %w", ks.path, err)
	}
	defer func() { err = errors.Join(err, os.Remove(tmp.Name())) }()
	_, err = tmp.Write(ks.file)
	if err = errors.Join(err, tmp.Sync(), tmp.Close()); err == nil {
		err = os.Link(tmp.Name(), ks.path)
	}
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("another process has just created the credentials keyset %s: start again", ks.path)
	}
	if err != nil {
		return fmt.Errorf("while creating the credentials keyset %s: %w", ks.path, err)
	}
	return nil
}

var errNoKeyset = errors.New("the store was opened without a credentials keyset")

// passwordOf is the associated data: a password copied into another region's
// row does not decrypt there.
func passwordOf(region string) []byte { return []byte("region:" + region + ":password") }

func (ks *Keyset) encrypt(region string, password flavor.Secret) ([]byte, error) {
	if ks == nil {
		return nil, errNoKeyset
	}
	encrypted, err := ks.aead.Encrypt([]byte(password), passwordOf(region))
	if err != nil {
		return nil, fmt.Errorf("while encrypting the password of %s: %w", region, err)
	}
	return encrypted, nil
}

func (ks *Keyset) decrypt(region string, encrypted []byte) (flavor.Secret, error) {
	if ks == nil {
		return "", errNoKeyset
	}
	password, err := ks.aead.Decrypt(encrypted, passwordOf(region))
	if err != nil {
		return "", fmt.Errorf("the password of region %s does not decrypt with the credentials keyset %s: %w", region, ks.path, err)
	}
	return flavor.Secret(password), nil
}

const (
	metaKey  = "credentials_key_id"
	metaDemo = "demo"
)

// keysetStillBound refuses to encrypt once another process has bound the
// database to a keyset of its own, as it may while nothing is encrypted: what
// one of the two wrote the other could not read, nor start again.
func (tx *Tx) keysetStillBound() error {
	bound, err := tx.meta(metaKey)
	if err != nil || bound == "" || tx.s.keyset == nil || slices.Contains(tx.s.keyset.ids, bound) {
		return err
	}
	return fmt.Errorf("another process has bound the database to a keyset with key %s, which %s has not: copy that keyset here and start again", bound, tx.s.keyset.path)
}

// BindKeyset ties the database to its keyset, at every start. The first time it
// stores the id of the keyset's primary key; later it refuses a keyset without
// the stored key or with which a password does not decrypt. A new keyset's file
// is created here, and refused while a password is encrypted with another.
func (s *Store) BindKeyset(ctx context.Context) error {
	ks := s.keyset
	if ks == nil {
		return errNoKeyset
	}
	written := false
	err := s.Write(ctx, func(tx *Tx) error {
		// Locks out another first start until this one is bound.
		if err := tx.insertMeta(metaKey, ""); err != nil {
			return err
		}
		bound, err := tx.meta(metaKey)
		if err != nil {
			return err
		}
		var encrypted []regionRow
		if err := tx.rows().Order("name").Find(&encrypted).Error; err != nil {
			return tx.wrap(err, "looking for encrypted passwords")
		}
		switch fresh := ks.file != nil; {
		case fresh && len(encrypted) > 0:
			return fmt.Errorf("the credentials keyset %s is missing, but the password of %s and of %d more regions is encrypted with key %s: put that keyset back",
				ks.path, encrypted[0].Name, len(encrypted)-1, bound)
		case !fresh && bound != "" && !slices.Contains(ks.ids, bound):
			return fmt.Errorf("the credentials keyset %s is not this database's: it has no key %s", ks.path, bound)
		}
		for _, r := range encrypted {
			if _, err := ks.decrypt(r.Name, r.Password); err != nil {
				return err
			}
		}
		// The file before the commit: a stored key without its file would
		// shut the operator out, a file without a stored key harms nobody.
		if ks.file != nil && !written {
			if err := ks.create(); err != nil {
				return err
			}
			written = true
		}
		return tx.setMeta(metaKey, ks.primary)
	})
	if written {
		ks.file = nil
	}
	return err
}
