package store

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/flavorsync/flavorsync/internal/flavor"
)

// Inventory is what all regions had when they were last seen, shared by all who
// read it: change nothing of it.
type Inventory struct {
	Looks []*flavor.Look // of every registered region, by name
	// Contents is another number, in this process, when a region or a flavor of one
	// comes, goes or changes; not when a look finds everything as it was.
	Contents uint64

	byName map[string]*flavor.Look
}

// Of is what is known of region; nil where it is not registered.
func (i *Inventory) Of(region string) *flavor.Look { return i.byName[region] }

// inventoryCache keeps the last snapshot, as catalogueCache does. A look that
// finds nothing new does not count as a write: its time is seen within a second.
type inventoryCache struct {
	snapshot atomic.Pointer[inventorySnapshot]
	writes   atomic.Uint64
	loading  chan struct{}
	failure  failedLoad // the last; only who holds the token touches it
}

type inventorySnapshot struct {
	*Inventory
	writes  uint64
	checked time.Time
}

func newInventoryCache() inventoryCache { return inventoryCache{loading: make(chan struct{}, 1)} }

func (c *inventoryCache) fresh(now time.Time) *Inventory {
	if snap := c.snapshot.Load(); snap != nil && snap.writes == c.writes.Load() && now.Sub(snap.checked) < revalidate {
		return snap.Inventory
	}
	return nil
}

// Inventory is the inventory with every change that this process has written, and
// with those of others that are older than a second.
func (s *Store) Inventory(ctx context.Context) (*Inventory, error) {
	c := &s.inv
	if inv := c.fresh(s.now()); inv != nil {
		return inv, nil
	}
	came := time.Now()
	select {
	case c.loading <- struct{}{}:
		defer func() { <-c.loading }()
	case <-ctx.Done():
		return nil, fmt.Errorf("while waiting for the inventory: %w", context.Cause(ctx))
	}
	if failed := c.failure; failed.err != nil && failed.ended.After(came) {
		return nil, failed.err
	}
	if inv := c.fresh(s.now()); inv != nil {
		return inv, nil // another has just loaded it
	}
	next := &inventorySnapshot{writes: c.writes.Load(), checked: s.now()}
	var last *Inventory
	if snap := c.snapshot.Load(); snap != nil {
		last = snap.Inventory
	}
	reading, cancel := context.WithTimeout(ctx, loadFor)
	defer cancel()
	err := s.Read(reading, func(tx *Tx) (err error) {
		next.Inventory, err = tx.inventory(last)
		return err
	})
	if err != nil {
		err = fmt.Errorf("while loading the inventory: %w", err)
		if ctx.Err() == nil { // else it is the failure of one who has gone
			c.failure = failedLoad{time.Now(), err}
		}
		return nil, err
	}
	c.snapshot.Store(next)
	return next.Inventory, nil
}

// blobs is how many inventories are read at a time.
const blobs = 100

// inventory reads all looks, and the flavors of those that last has not.
func (tx *Tx) inventory(last *Inventory) (*Inventory, error) {
	var rows []lookRow
	if err := tx.db.Order("region").Find(&rows).Error; err != nil {
		return nil, tx.wrap(err, "reading the looks")
	}
	inv := &Inventory{Looks: make([]*flavor.Look, len(rows)), byName: make(map[string]*flavor.Look, len(rows))}
	var missing []string
	for i, row := range rows {
		l := row.look()
		inv.Looks[i], inv.byName[l.Region] = &l, &l
		if last != nil {
			if known := last.Of(l.Region); known != nil && known.Version == l.Version {
				l.Flavors = known.Flavors
				continue
			}
		}
		missing = append(missing, l.Region)
	}
	inv.Contents = 1
	if last != nil {
		inv.Contents = last.Contents + 1
	}
	if last != nil && len(missing) == 0 && slices.EqualFunc(inv.Looks, last.Looks, func(a, b *flavor.Look) bool {
		return a.Region == b.Region && a.Version == b.Version
	}) {
		inv.Contents = last.Contents
	}
	for regions := range slices.Chunk(missing, blobs) {
		var found []inventoryRow
		if err := tx.db.Where("region IN ?", regions).Find(&found).Error; err != nil {
			return nil, tx.wrap(err, "reading inventories")
		}
		for _, row := range found {
			l := inv.byName[row.Region]
			if l == nil {
				continue
			}
			var err error
			if l.Flavors, err = decodeSeen(row.Flavors); err != nil {
				return nil, fmt.Errorf("while decoding the flavors of %s: %w", row.Region, err)
			}
		}
	}
	return inv, nil
}
