package store

import (
	"context"
	"time"
)

// SetClock replaces the clock by which snapshots grow old.
func SetClock(s *Store, now func() time.Time) { s.now = now }

// Ahead makes s believe that it has written one version more than the database
// it reads from has applied.
func Ahead(s *Store) { s.cat.written(s.cat.version.Load()+1, true) }

// AfterEachStep has what a rotation of s does after each of its steps done: where
// that fails, the rotation ends there, as if it were killed.
func AfterEachStep(s *Store, do func(step string) error) { s.rotated = do }

// Look does at once what Follow does now and then.
func (a *Announced) Look(ctx context.Context) error {
	if _, err := a.s.reloadKeyset(ctx); err != nil {
		return err
	}
	return a.tell(ctx)
}

// EncryptAsBefore is the password of a region as it was encrypted before databases
// had an id.
func (s *Store) EncryptAsBefore(region, password string) ([]byte, error) {
	k := s.keyset.state.Load()
	return k.encrypt[k.primary].Encrypt([]byte(password), passwordBefore(region))
}

// Writes is how many writes of the catalogue s has finished.
func Writes(s *Store) uint64 { return s.cat.writes.Load() }

// CatalogueAfter is the catalogue for one who began to wait for it when s had
// finished so many writes.
func CatalogueAfter(ctx context.Context, s *Store, writes uint64) (*Catalogue, error) {
	return s.waitForCatalogue(ctx, revalidate, writes)
}

// ErrUndecided is for a connection that broke while committing.
var ErrUndecided = errUndecided
