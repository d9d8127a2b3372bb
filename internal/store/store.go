// Package store keeps regions, the catalogue and stored changes in SQLite or
// MariaDB.
package store

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/flavorsync/flavorsync/internal/flavor"
)

var errNotBuilt = errors.New("not built yet")

// Config says which database, and how.
type Config struct {
	Driver string // "sqlite" or "mysql"
	DSN    string // a file name for SQLite, go-sql-driver's form for MariaDB
	Keyset *Keyset
	Log    *slog.Logger // nil: slog.Default()
}

// Store is an open database.
type Store struct{}

// Keyset encrypts the service accounts' passwords.
type Keyset struct{}

// Tx is one transaction.
type Tx struct{}

// Change is the stored intent of a careful flavor change.
type Change struct {
	ID        string // a UUID, assigned by InsertChange
	Region    string
	FlavorID  string // Nova's id of the flavor that is being changed
	TempID    string // the id the new flavor is tried under
	Old, New  flavor.NovaFlavor
	Access    []string // project ids
	Owner     string   // the process that is at it
	Until     time.Time
	CreatedAt time.Time
}

// Catalogue is an immutable snapshot.
type Catalogue struct {
	Flavors       []flavor.Flavor
	Installations []flavor.Installation
}

// MigrationStatus is one migration and when it was applied.
type MigrationStatus struct {
	Version   int64
	Name      string
	AppliedAt *time.Time // nil: pending
}

// ImportReport is what ImportV1 did.
type ImportReport struct {
	Regions, Flavors, Installations int
	Skipped                         []Skip
}

// Skip is a row ImportV1 did not take, and why.
type Skip struct{ Table, Key, Reason string }

func Open(ctx context.Context, cfg Config) (*Store, error)                  { return nil, errNotBuilt }
func (s *Store) Close() error                                               { return errNotBuilt }
func (s *Store) Ping(ctx context.Context) error                             { return errNotBuilt }
func (s *Store) Up(ctx context.Context) error                               { return errNotBuilt }
func (s *Store) Down(ctx context.Context) error                             { return errNotBuilt }
func (s *Store) Reset(ctx context.Context) error                            { return errNotBuilt }
func (s *Store) Status(ctx context.Context) ([]MigrationStatus, error)      { return nil, errNotBuilt }
func LoadKeyset(path string) (*Keyset, bool, error)                         { return nil, false, errNotBuilt }
func (s *Store) BindKeyset(ctx context.Context) error                       { return errNotBuilt }
func (s *Store) MarkDemo(ctx context.Context) error                         { return errNotBuilt }
func (s *Store) IsDemo(ctx context.Context) (bool, error)                   { return false, errNotBuilt }
func (s *Store) Write(ctx context.Context, fn func(*Tx) error) error        { return errNotBuilt }
func (s *Store) Read(ctx context.Context, fn func(*Tx) error) error         { return errNotBuilt }
func (s *Store) Catalogue(ctx context.Context) (*Catalogue, error)          { return nil, errNotBuilt }
func (c *Catalogue) ByID(id string) (flavor.Flavor, bool)                   { return flavor.Flavor{}, false }
func (c *Catalogue) ByName(name string) (flavor.Flavor, bool)               { return flavor.Flavor{}, false }
func (c *Catalogue) Installed(flavorID string) []flavor.Installation        { return nil }
func (c *Catalogue) In(region string) []flavor.Installation                 { return nil }
func (tx *Tx) Regions() ([]flavor.Region, error)                            { return nil, errNotBuilt }
func (tx *Tx) Region(name string) (flavor.Region, error)                    { return flavor.Region{}, errNotBuilt }
func (tx *Tx) InsertRegion(r flavor.Region) error                           { return errNotBuilt }
func (tx *Tx) UpdateRegion(r flavor.Region) error                           { return errNotBuilt }
func (tx *Tx) SetRegionStatus(name string, st flavor.RegionStatus) error    { return errNotBuilt }
func (tx *Tx) DeleteRegion(name string) error                               { return errNotBuilt }
func (tx *Tx) Flavors() ([]flavor.Flavor, error)                            { return nil, errNotBuilt }
func (tx *Tx) Flavor(id string) (flavor.Flavor, error)                      { return flavor.Flavor{}, errNotBuilt }
func (tx *Tx) FlavorByName(name string) (flavor.Flavor, error)              { return flavor.Flavor{}, errNotBuilt }
func (tx *Tx) InsertFlavor(f flavor.Flavor) error                           { return errNotBuilt }
func (tx *Tx) UpdateFlavor(f flavor.Flavor) error                           { return errNotBuilt }
func (tx *Tx) DeleteFlavor(id string) error                                 { return errNotBuilt }
func (tx *Tx) Installations(flavorID string) ([]flavor.Installation, error) { return nil, errNotBuilt }
func (tx *Tx) InstallationsIn(region string) ([]flavor.Installation, error) { return nil, errNotBuilt }
func (tx *Tx) PutInstallation(i flavor.Installation) error                  { return errNotBuilt }
func (tx *Tx) DeleteInstallation(flavorID, region string) error             { return errNotBuilt }
func (tx *Tx) InsertChange(c Change) (Change, error)                        { return Change{}, errNotBuilt }
func (tx *Tx) TouchChange(id string, until time.Time) error                 { return errNotBuilt }
func (tx *Tx) ClaimChange(id, owner string, now, until time.Time) (bool, error) {
	return false, errNotBuilt
}
func (tx *Tx) DeleteChange(id string) error { return errNotBuilt }
func (tx *Tx) Changes() ([]Change, error)   { return nil, errNotBuilt }
func ImportV1(ctx context.Context, s *Store, dsn string, log *slog.Logger) (ImportReport, error) {
	return ImportReport{}, errNotBuilt
}
