package store

import (
	"context"
	"fmt"
	"time"

	"gorm.io/gorm/clause"

	"github.com/flavorsync/flavorsync/internal/flavor"
)

// Lease is the right to do some work alone, until its deadline. The deadline is
// read from the database's clock, so the clocks of the processes need not agree.
// Who was paused past it has lost the lease to the next, and with it the right
// to write: see Tx.Hold.
type Lease struct {
	Name  string
	Owner string
	Fence int64 // how often the lease was taken, this time included
}

type leaseRow struct {
	Name     string `gorm:"primaryKey"`
	Owner    string
	Deadline int64 // ms since 1970
	Fence    int64
}

func (leaseRow) TableName() string { return "leases" }

// milliseconds is SQL for the database's clock, in ms since 1970.
var milliseconds = map[string]string{
	driverSQLite: `CAST(unixepoch('subsec') * 1000 AS INTEGER)`,
	driverMySQL:  `CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED)`,
}

// TakeLease takes the lease of that name for owner. It is false while somebody
// holds it, be it owner itself.
func (s *Store) TakeLease(ctx context.Context, name, owner string, ttl time.Duration) (l Lease, taken bool, err error) {
	now := milliseconds[s.driver]
	take := fmt.Sprintf(`UPDATE leases SET owner = ?, deadline = %[1]s + ?, fence = fence + 1 WHERE name = ? AND deadline <= %[1]s`, now)
	err = s.Write(ctx, func(tx *Tx) error {
		l, taken = Lease{}, false
		set := tx.db.Exec(take, owner, ttl.Milliseconds(), name)
		if set.Error == nil && set.RowsAffected == 0 {
			first := tx.db.Clauses(clause.OnConflict{DoNothing: true}).Create(&leaseRow{Name: name})
			if first.Error != nil || first.RowsAffected == 0 {
				return tx.wrap(first.Error, "preparing the lease %s", name)
			}
			set = tx.db.Exec(take, owner, ttl.Milliseconds(), name)
		}
		if set.Error != nil || set.RowsAffected == 0 {
			return tx.wrap(set.Error, "taking the lease %s", name)
		}
		row, err := tx.lease(name)
		l, taken = Lease{name, owner, row.Fence}, err == nil
		return err
	})
	return l, taken && err == nil, err
}

// ExtendLease moves the deadline of l; false where l is lost.
func (s *Store) ExtendLease(ctx context.Context, l Lease, ttl time.Duration) (kept bool, err error) {
	return s.moveLease(ctx, l, milliseconds[s.driver]+" + ?", ttl.Milliseconds())
}

// ReleaseLease ends l before its deadline. That it is lost is no error.
func (s *Store) ReleaseLease(ctx context.Context, l Lease) error {
	_, err := s.moveLease(ctx, l, "?", 0)
	return err
}

// DropLease ends l, and forgets that there was a lease of its name: its next owner
// must have a name that nobody had before, for the fence begins again.
func (s *Store) DropLease(ctx context.Context, l Lease) error {
	return s.Write(ctx, func(tx *Tx) error {
		err := tx.db.Where("name = ? AND owner = ? AND fence = ?", l.Name, l.Owner, l.Fence).Delete(&leaseRow{}).Error
		return tx.wrap(err, "dropping the lease %s", l.Name)
	})
}

func (s *Store) moveLease(ctx context.Context, l Lease, deadline string, argument int64) (held bool, err error) {
	err = s.Write(ctx, func(tx *Tx) error {
		set := tx.db.Exec(`UPDATE leases SET deadline = `+deadline+` WHERE name = ? AND owner = ? AND fence = ?`,
			argument, l.Name, l.Owner, l.Fence)
		held = set.RowsAffected == 1
		return tx.wrap(set.Error, "moving the deadline of the lease %s", l.Name)
	})
	return held && err == nil, err
}

// Hold makes sure that l is still its owner's, until the transaction ends:
// CodeConflict where another has taken it since. It changes the row, for on Galera
// a lock is known to one node only, and a change to all of them.
func (tx *Tx) Hold(l Lease) error {
	if err := tx.ready(true); err != nil {
		return err
	}
	set := tx.db.Exec(`UPDATE leases SET deadline = deadline + 1 WHERE name = ? AND owner = ? AND fence = ?`, l.Name, l.Owner, l.Fence)
	if set.Error == nil && set.RowsAffected != 1 {
		return flavor.Conflict("the lease %s was lost to another process: what this one did since is not written down", l.Name)
	}
	return tx.wrap(set.Error, "holding the lease %s", l.Name)
}

// Leased says whether somebody holds the lease of that name.
func (tx *Tx) Leased(name string) (bool, error) {
	var held int64
	err := tx.db.Model(&leaseRow{}).Where("name = ? AND deadline > "+milliseconds[tx.s.driver], name).Count(&held).Error
	return held > 0, tx.wrap(err, "asking for the lease %s", name)
}

func (tx *Tx) lease(name string) (leaseRow, error) {
	var found []leaseRow
	err := tx.rows().Where("name = ?", name).Find(&found).Error
	if err != nil || len(found) == 0 {
		return leaseRow{}, tx.wrap(err, "reading the lease %s", name)
	}
	return found[0], nil
}
