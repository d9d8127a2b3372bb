package store

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/google/uuid"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/flavorsync/flavorsync/internal/flavor"
)

// Keyset encrypts the service accounts' passwords: a tink AEAD keyset, in a JSON
// file that is in clear text or encrypted by a KMS. The file says which keys there
// are, the database which one of them encrypts: so all processes change to a new
// key at once, and none that lacks it can write with an old one. The file may
// change, or be replaced, while it is used.
type Keyset struct {
	path string
	kms  tink.AEAD // nil: the file is in clear text

	reading sync.Mutex
	fresh   bool // BindKeyset creates the file
	state   atomic.Pointer[keys]
}

// LoadKeyset reads the keyset at path, which kms has encrypted unless it is nil.
// Where there is no such file it makes a new keyset and says so: BindKeyset creates
// the file, once it knows that no password is encrypted with one that is missing. A
// file that others can read is refused.
func LoadKeyset(path string, kms tink.AEAD) (ks *Keyset, created bool, err error) {
	ks = &Keyset{path: path, kms: kms}
	st, err := lookAt(path)
	if errors.Is(err, fs.ErrNotExist) {
		state, err := newKeys(path)
		if err != nil {
			return nil, false, err
		}
		ks.fresh = true
		ks.state.Store(state)
		return ks, true, nil
	}
	if err != nil {
		return nil, false, err
	}
	state, err := readKeys(path, st, kms)
	if err != nil {
		return nil, false, err
	}
	ks.state.Store(state)
	return ks, false, nil
}

// reload reads the file again where it is not the one that was read; changed says
// whether the keys are others now. A file without the key that encrypts, or that
// cannot be read, is not taken: what was read before stays in use.
func (ks *Keyset) reload(bound string) (changed bool, err error) {
	ks.reading.Lock()
	defer ks.reading.Unlock()
	before := ks.state.Load()
	if ks.fresh {
		return false, nil
	}
	st, err := lookAt(ks.path)
	if err != nil {
		return false, err
	}
	if sameFile(before.file, st) {
		return false, nil
	}
	now, err := readKeys(ks.path, st, ks.kms)
	if err != nil {
		return false, err
	}
	if before.has(bound) && !now.has(bound) {
		return false, fmt.Errorf("the credentials keyset %s has changed and has no key %s, which encrypts: the one read before stays in use until that key is back", ks.path, bound)
	}
	ks.state.Store(now)
	return true, nil
}

// unchanged says whether the file is still the one that was read.
func (ks *Keyset) unchanged() bool {
	st, err := os.Stat(ks.path)
	return err == nil && sameFile(ks.state.Load().file, st)
}

// with is the keyset as it has the key id, read again where it must be.
func (ks *Keyset) with(id string) (*keys, error) {
	if now := ks.state.Load(); now.has(id) {
		return now, nil
	}
	if _, err := ks.reload(""); err != nil {
		return nil, err
	}
	if now := ks.state.Load(); now.has(id) {
		return now, nil
	}
	return nil, fmt.Errorf("the credentials keyset %s has no key %s: copy the keyset here from where flavorsync keys rotate was run", ks.path, id)
}

// keyID is the id of the key that encrypted it: tink writes a 1 and four bytes.
func keyID(encrypted []byte) string {
	if len(encrypted) < 5 || encrypted[0] != 1 {
		return "unknown"
	}
	return strconv.FormatUint(uint64(binary.BigEndian.Uint32(encrypted[1:5])), 10)
}

var (
	errNoKeyset = errors.New("the store was opened without a credentials keyset")
	errNotBound = errors.New("the database is not bound to a credentials keyset yet")
)

// passwordOf is the associated data: a password copied into another region's row,
// or into another database, does not decrypt there, and none in a row that names
// another Keystone, to which it would be sent.
func passwordOf(database string, r regionRow) []byte {
	return []byte("database:" + database + ":region:" + r.Name + ":keystone:" + r.KeystoneURL + ":password")
}

// passwordBefore is passwordOf before databases had an id. BindKeyset alone reads
// with it, once.
func passwordBefore(region string) []byte { return []byte("region:" + region + ":password") }

// encrypt encrypts with the key that the database names, and has that stay so until
// the transaction ends.
func (tx *Tx) encrypt(r regionRow, password flavor.Secret) ([]byte, error) {
	ks, database := tx.s.keyset, tx.s.databaseID()
	switch {
	case ks == nil:
		return nil, errNoKeyset
	case database == "":
		return nil, errNotBound
	}
	bound, err := tx.boundKey()
	if err != nil {
		return nil, err
	}
	if bound == "" {
		return nil, errNotBound
	}
	now, err := ks.with(bound)
	if err != nil {
		return nil, err
	}
	encrypted, err := now.encrypt[bound].Encrypt([]byte(password), passwordOf(database, r))
	if err != nil {
		return nil, fmt.Errorf("while encrypting the password of %s: %w", r.Name, err)
	}
	return encrypted, nil
}

func (tx *Tx) decrypt(r regionRow) (flavor.Secret, error) {
	ks, database := tx.s.keyset, tx.s.databaseID()
	switch {
	case ks == nil:
		return "", errNoKeyset
	case database == "":
		return "", errNotBound
	}
	return ks.decrypt(r, passwordOf(database, r))
}

func (ks *Keyset) decrypt(r regionRow, associated []byte) (flavor.Secret, error) {
	now, err := ks.with(keyID(r.Password))
	if err == nil {
		var password []byte
		if password, err = now.decrypt.Decrypt(r.Password, associated); err == nil {
			return flavor.Secret(password), nil
		}
	}
	return "", fmt.Errorf("the password of region %s does not decrypt with the credentials keyset %s: %w", r.Name, ks.path, err)
}

const (
	metaKey      = "credentials_key_id" // of the key that encrypts
	metaKeyUse   = "credentials_key_use"
	metaDatabase = "database_id"
	metaDemo     = "demo"
)

// boundKey is the id of the key that encrypts, "" before BindKeyset. It stays so
// until the transaction ends: others wait for the row or, on Galera, where a lock
// is known to one node only, cannot commit beside this change.
func (tx *Tx) boundKey() (string, error) {
	if err := tx.insertMeta(metaKeyUse, ""); err != nil {
		return "", err
	}
	if err := tx.setMeta(metaKeyUse, uuid.NewString()); err != nil {
		return "", err
	}
	return tx.meta(metaKey)
}

func (s *Store) databaseID() string {
	if id := s.database.Load(); id != nil {
		return *id
	}
	return ""
}

// BindKeyset ties the database to its keyset, at every start. The first time it
// stores the id of the keyset's primary key, and one of the database; later it
// refuses a keyset without the stored key or with which a password does not
// decrypt. A new keyset's file is created here, and refused while a password is
// encrypted with another.
func (s *Store) BindKeyset(ctx context.Context) error {
	ks := s.keyset
	if ks == nil {
		return errNoKeyset
	}
	written, database := false, ""
	err := s.Write(ctx, func(tx *Tx) error {
		// Locks out another first start until this one is bound.
		if err := tx.insertMeta(metaKey, ""); err != nil {
			return err
		}
		bound, err := tx.boundKey()
		if err != nil {
			return err
		}
		var encrypted []regionRow
		if err := tx.rows().Order("name").Find(&encrypted).Error; err != nil {
			return tx.wrap(err, "looking for encrypted passwords")
		}
		state := ks.state.Load()
		if bound != "" && !ks.fresh && !state.has(bound) {
			if state, err = ks.with(bound); err != nil { // it may have come since
				return fmt.Errorf("the credentials keyset is not this database's: %w", err)
			}
		}
		if ks.fresh && len(encrypted) > 0 {
			return fmt.Errorf("the credentials keyset %s is missing, but the password of %s and of %d more regions is encrypted with key %s: put that keyset back",
				ks.path, encrypted[0].Name, len(encrypted)-1, bound)
		}
		if bound == "" || ks.fresh {
			bound = state.primary
			if err := tx.setMeta(metaKey, bound); err != nil {
				return err
			}
		}
		if database, err = tx.bindDatabase(encrypted, state, bound); err != nil {
			return err
		}
		// The file before the commit: a stored key without its file would
		// shut the operator out, a file without a stored key harms nobody.
		if ks.fresh && !written {
			if err := ks.create(); err != nil {
				return err
			}
			written = true
		}
		return nil
	})
	if err != nil {
		return err
	}
	s.database.Store(&database)
	return nil
}

// bindDatabase is the id of the database, to which every password is bound. The
// first time it makes one and binds those that are there.
func (tx *Tx) bindDatabase(encrypted []regionRow, state *keys, bound string) (string, error) {
	ks := tx.s.keyset
	if err := tx.insertMeta(metaDatabase, ""); err != nil {
		return "", err
	}
	database, err := tx.meta(metaDatabase)
	if err != nil {
		return "", err
	}
	if database != "" {
		for _, r := range encrypted {
			if _, err := ks.decrypt(r, passwordOf(database, r)); err != nil {
				return "", err
			}
		}
		return database, nil
	}
	database = uuid.NewString()
	for _, r := range encrypted {
		password, err := ks.decrypt(r, passwordBefore(r.Name))
		if err != nil {
			return "", err
		}
		again, err := state.encrypt[bound].Encrypt([]byte(password), passwordOf(database, r))
		if err != nil {
			return "", fmt.Errorf("while encrypting the password of %s: %w", r.Name, err)
		}
		if err := tx.setPassword(r, again); err != nil {
			return "", err
		}
	}
	return database, tx.setMeta(metaDatabase, database)
}

// unbindDatabase undoes bindDatabase, for a release that knows no id of a database.
func (s *Store) unbindDatabase(ctx context.Context) error {
	unbound := false
	err := s.Write(ctx, func(tx *Tx) error {
		database, err := tx.meta(metaDatabase)
		if err != nil || database == "" {
			return err
		}
		key, err := tx.boundKey()
		if err != nil {
			return err
		}
		var encrypted []regionRow
		if err := tx.rows().Select("name", "keystone_url", "password").Order("name").Find(&encrypted).Error; err != nil {
			return tx.wrap(err, "looking for encrypted passwords")
		}
		if len(encrypted) > 0 && s.keyset == nil {
			return errors.New("the credentials keyset is missing, and the older version needs the passwords encrypted in another way: put it back")
		}
		for _, r := range encrypted {
			password, err := s.keyset.decrypt(r, passwordOf(database, r))
			if err != nil {
				return err
			}
			now, err := s.keyset.with(key)
			if err != nil {
				return err
			}
			again, err := now.encrypt[key].Encrypt([]byte(password), passwordBefore(r.Name))
			if err != nil {
				return fmt.Errorf("while encrypting the password of %s: %w", r.Name, err)
			}
			if err := tx.setPassword(r, again); err != nil {
				return err
			}
		}
		unbound = true
		return tx.setMeta(metaDatabase, "")
	})
	if unbound && err == nil {
		s.database.Store(nil)
	}
	return err
}

// setPassword replaces what r has encrypted, where it has that still.
func (tx *Tx) setPassword(r regionRow, encrypted []byte) error {
	set := tx.db.Model(&regionRow{}).Where("name = ? AND password = ?", r.Name, r.Password).Update("password", encrypted)
	return tx.wrap(set.Error, "encrypting the password of %s anew", r.Name)
}
