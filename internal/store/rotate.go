package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"
)

// A rotation is five steps: a new key is added to the file, every process that
// serves has read it, the database names it as the one that encrypts, what older
// keys have encrypted is encrypted anew, and the file calls it primary. What is
// done is seen from the file and the database, so a rotation that ended after any
// of them is finished by the next.

// Key is a key as KeyStatus tells of it.
type Key struct {
	ID       string
	InFile   bool
	Encrypts bool // what is stored from now on
	Added    bool // by a rotation that is not finished
	Rows     int  // encrypted with it
}

// KeyStatus lists the keys, oldest first, those that are not in the file last,
// and the processes that serve.
func (s *Store) KeyStatus(ctx context.Context) (all []Key, serving []Replica, err error) {
	err = s.Read(ctx, func(tx *Tx) error {
		all = nil
		at, err := tx.rotation()
		if err != nil {
			return err
		}
		ids := slices.Clone(at.keys.ids)
		for id := range at.rows {
			if !at.keys.has(id) {
				ids = append(ids, id)
			}
		}
		if !slices.Contains(ids, at.bound) {
			ids = append(ids, at.bound)
		}
		slices.Sort(ids[len(at.keys.ids):])
		for _, id := range ids {
			all = append(all, Key{ID: id, InFile: at.keys.has(id), Encrypts: id == at.bound, Added: id == at.added(), Rows: at.rows[id]})
		}
		serving, err = tx.replicas()
		return err
	})
	return all, serving, err
}

// rotation is how far one is.
type rotation struct {
	keys  *keys
	bound string         // encrypts
	rows  map[string]int // by the key that encrypted them
}

func (tx *Tx) rotation() (rotation, error) {
	if tx.s.keyset == nil {
		return rotation{}, errNoKeyset
	}
	at := rotation{keys: tx.s.keyset.state.Load(), rows: make(map[string]int)}
	var err error
	if at.bound, err = tx.meta(metaKey); err != nil {
		return at, err
	}
	if at.bound == "" {
		return at, errNotBound
	}
	var encrypted []regionRow
	if err := tx.rows().Select("name", "password").Find(&encrypted).Error; err != nil {
		return at, tx.wrap(err, "looking for encrypted passwords")
	}
	for _, r := range encrypted {
		at.rows[keyID(r.Password)]++
	}
	return at, nil
}

// added is the newest key, where it is newer than the one that encrypts.
func (r rotation) added() string {
	newest := r.keys.ids[len(r.keys.ids)-1]
	if i := slices.Index(r.keys.ids, r.bound); i < 0 || newest == r.bound {
		return ""
	}
	return newest
}

// old says whether anything is encrypted with another key than the bound one.
func (r rotation) old() bool {
	return len(r.rows) > 1 || len(r.rows) == 1 && r.rows[r.bound] == 0
}

// Rotation says what a Rotate does.
type Rotation struct {
	// Wait is how long processes that serve may take to read the new key.
	Wait time.Duration
	// Tell is told of each step when it is done.
	Tell func(format string, args ...any)
}

// Rotate encrypts everything with a new key, or finishes a rotation that was
// interrupted, while other processes serve. It fails before the new key encrypts
// anything where a process that serves does not have it.
func (s *Store) Rotate(ctx context.Context, r Rotation) error {
	return s.withKeysetAlone(ctx, func(at rotation) error {
		next := at.added()
		switch {
		case next != "":
			r.Tell("key %s was added before: going on with it", next)
		case at.keys.primary != at.bound || at.old():
			next = at.bound
			r.Tell("key %s encrypts already: finishing its rotation", next)
		default:
			manager := keyset.NewManagerFromHandle(at.keys.handle)
			id, err := manager.Add(aead.AES256GCMKeyTemplate())
			if err != nil {
				return fmt.Errorf("while making a key: %w", err)
			}
			if err := s.replaceKeyset(manager); err != nil {
				return err
			}
			next = name(id)
			r.Tell("key %s is in %s", next, s.keyset.path)
		}
		if err := s.step("added"); err != nil {
			return err
		}
		if next != at.bound {
			if err := s.awaitReplicas(ctx, next, r.Wait); err != nil {
				return err
			}
			if err := s.step("awaited"); err != nil {
				return err
			}
			if err := s.promote(ctx, at.bound, next); err != nil {
				return err
			}
			r.Tell("key %s encrypts from now on", next)
		}
		if err := s.step("promoted"); err != nil {
			return err
		}
		n, err := s.encryptAnew(ctx, next)
		if err != nil {
			return err
		}
		r.Tell("%d passwords were encrypted anew", n)
		if now := s.keyset.state.Load(); now.primary != next {
			manager := keyset.NewManagerFromHandle(now.handle)
			if err := manager.SetPrimary(number(next)); err != nil {
				return fmt.Errorf("while making key %s the primary one: %w", next, err)
			}
			if err := s.replaceKeyset(manager); err != nil {
				return err
			}
		}
		return s.step("finished")
	})
}

// PruneKeys removes every key from the file but the one that encrypts: backups of
// the database that need them cannot be restored without a copy of the file as it
// was. It refuses while a rotation is unfinished.
func (s *Store) PruneKeys(ctx context.Context) (removed []string, err error) {
	err = s.withKeysetAlone(ctx, func(at rotation) error {
		if at.old() || at.added() != "" || at.keys.primary != at.bound {
			return errors.New("a rotation is unfinished, so older keys are needed still: run flavorsync keys rotate first")
		}
		manager := keyset.NewManagerFromHandle(at.keys.handle)
		for _, key := range at.keys.handle.KeysetInfo().GetKeyInfo() {
			if id := name(key.GetKeyId()); id != at.bound {
				removed = append(removed, id)
				if err := manager.Delete(key.GetKeyId()); err != nil {
					return fmt.Errorf("while removing key %s: %w", id, err)
				}
			}
		}
		if removed == nil {
			return nil
		}
		return s.replaceKeyset(manager)
	})
	return removed, err
}

// ConvertKeyset has the file at path encrypted by a KMS, or back in clear text:
// from is the KMS of the file as it is, and to as it is to be, nil for clear text.
// It changes nothing, and says so, where that is done already.
func ConvertKeyset(path string, from, to tink.AEAD) (changed bool, err error) {
	release, err := holdKeyset(path)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, release()) }()
	st, err := lookAt(path)
	if err != nil {
		return false, err
	}
	state, err := readKeys(path, st, from)
	if err != nil {
		if _, done := readKeys(path, st, to); done == nil {
			return false, nil
		}
		return false, err
	}
	ks := &Keyset{path: path, kms: to}
	ks.state.Store(state)
	return true, ks.replace(state.handle)
}

// withKeysetAlone runs do while no other process changes the keyset's file, with
// the file and the database as they are then.
func (s *Store) withKeysetAlone(ctx context.Context, do func(rotation) error) (err error) {
	if s.keyset == nil {
		return errNoKeyset
	}
	release, err := holdKeyset(s.keyset.path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, release()) }()
	if _, err := s.reloadKeyset(ctx); err != nil {
		return err
	}
	var at rotation
	err = s.Read(ctx, func(tx *Tx) error {
		at, err = tx.rotation()
		return err
	})
	if err != nil {
		return err
	}
	if !at.keys.has(at.bound) {
		_, err := s.keyset.with(at.bound)
		return err
	}
	return do(at)
}

// holdKeyset makes this process the only one that changes the file, until release
// or its end, and removes what one that was killed has left beside it.
func holdKeyset(path string) (release func() error, err error) {
	file, err := filepath.EvalSymlinks(path)
	if err != nil {
		return nil, fmt.Errorf("while finding the credentials keyset: %w", err)
	}
	lockName := file + ".lock"
	f, err := os.OpenFile(lockName, os.O_CREATE|os.O_RDWR, 0o600) //nolint:gosec // beside the file that the operator's configuration names
	if err != nil {
		return nil, fmt.Errorf("the credentials keyset cannot be changed where it is: run this with a copy that can be, named in FLAVORSYNC_CREDENTIALS_KEYSET: %w", err)
	}
	switch err := lock(f); {
	case errors.Is(err, errHeld):
		return nil, errors.Join(fmt.Errorf("another flavorsync keys is at work on %s (it holds %s): wait for it", file, lockName), f.Close())
	case err != nil:
		return nil, errors.Join(fmt.Errorf("while locking %s: %w", lockName, err), f.Close())
	}
	left, err := filepath.Glob(filepath.Join(filepath.Dir(file), temporaryName(file)))
	for _, name := range left {
		err = errors.Join(err, os.Remove(name))
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("while tidying up beside the credentials keyset: %w", err), f.Close())
	}
	return f.Close, nil
}

func (s *Store) replaceKeyset(manager *keyset.Manager) error {
	handle, err := manager.Handle()
	if err != nil {
		return fmt.Errorf("while changing the credentials keyset: %w", err)
	}
	return s.keyset.replace(handle)
}

// errWaiting tells of processes that serve without a key.
func errWaiting(id string, without []string, path string) error {
	return fmt.Errorf("nothing is encrypted with key %s yet, for it is unknown to %s: give them this %s (each reads its file again when that changes), then run flavorsync keys rotate again",
		id, strings.Join(without, "; "), path)
}

// awaitReplicas waits until every process that serves has that key.
func (s *Store) awaitReplicas(ctx context.Context, id string, wait time.Duration) error {
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	patience := time.NewTimer(wait)
	defer patience.Stop()
	for {
		var without []string
		err := s.Read(ctx, func(tx *Tx) (err error) {
			without, err = tx.without(id)
			return err
		})
		if err != nil || len(without) == 0 {
			return err
		}
		select {
		case <-ctx.Done():
			return errors.Join(errWaiting(id, without, s.keyset.path), ctx.Err())
		case <-patience.C:
			return errWaiting(id, without, s.keyset.path)
		case <-tick.C:
		}
	}
}

// without names the processes that serve without that key.
func (tx *Tx) without(id string) (names []string, err error) {
	serving, err := tx.replicas()
	for _, r := range serving {
		if !slices.Contains(r.Keys, id) {
			names = append(names, r.Name)
		}
	}
	return names, err
}

// promote makes next the key that encrypts, in every process at once: each asks the
// database for it in the transaction in which it writes.
func (s *Store) promote(ctx context.Context, bound, next string) error {
	return s.Write(ctx, func(tx *Tx) error {
		now, err := tx.boundKey()
		if err != nil {
			return err
		}
		if now != bound {
			return fmt.Errorf("another flavorsync keys has made key %s encrypt meanwhile: run flavorsync keys status", now)
		}
		without, err := tx.without(next)
		if err != nil {
			return err
		}
		if len(without) > 0 { // it has started since
			return errWaiting(next, without, s.keyset.path)
		}
		return tx.setMeta(metaKey, next)
	})
}

// encryptAnew encrypts with the key id what is encrypted with another, and counts
// it. Each row is a transaction, and only what is still there is replaced: what a
// caller stores meanwhile stays, and is encrypted with that key already.
func (s *Store) encryptAnew(ctx context.Context, id string) (n int, err error) {
	var all []regionRow
	err = s.Read(ctx, func(tx *Tx) error {
		all = nil
		return tx.wrap(tx.rows().Order("name").Find(&all).Error, "looking for encrypted passwords")
	})
	if err != nil {
		return 0, err
	}
	var failed error // one that does not decrypt keeps no other from it
	for _, r := range all {
		done := false
		err := s.Write(ctx, func(tx *Tx) error {
			done = false
			row, err := tx.findRegion("name", r.Name)
			if err != nil || row == nil || keyID(row.Password) == id {
				return err
			}
			password, err := tx.decrypt(*row)
			if err != nil {
				return err
			}
			encrypted, err := tx.encrypt(*row, password)
			if err != nil {
				return err
			}
			done = true
			return tx.setPassword(*row, encrypted)
		})
		failed = errors.Join(failed, err)
		if err != nil || !done {
			continue
		}
		n++
		if err := s.step("encrypted " + r.Name); err != nil {
			return n, err
		}
	}
	return n, failed
}

// step is where a test ends a rotation.
func (s *Store) step(done string) error {
	if s.rotated == nil {
		return nil
	}
	return s.rotated(done)
}

func number(id string) uint32 {
	n, _ := strconv.ParseUint(id, 10, 32) // name made it
	return uint32(n)
}
