package store

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/flavorsync/flavorsync/internal/flavor"
)

// Catalogue is one state of the catalogue, shared by all who read it: change
// nothing of what it or its methods give.
type Catalogue struct {
	// Number is another for each catalogue that this process has loaded: what was
	// made of one is good as long as its number is the same.
	Number uint64

	Flavors       []flavor.Flavor       // in the order of flavor.Compare, Nodes filled
	Promoted      []flavor.Flavor       // those of Flavors that are promoted, the same slice as long as nothing changes
	Installations []flavor.Installation // by flavor, then region

	Drift    []flavor.Drift   // by flavor, then region
	Refusals []flavor.Refusal // by flavor, then region

	Products map[string]flavor.Product // what managers have said of them, by the flavor's id
	Pushed   map[string]Pushed         // what UCloud's Core was told, by the flavor's id

	byID, byName map[string]int
	installed    map[string][]flavor.Installation
	in           map[string][]flavor.Installation
	drifted      map[string][]flavor.Drift
	refused      map[pair]bool
}

// pair is a flavor and a region.
type pair struct{ flavor, region string }

func newCatalogue(fs []flavor.Flavor, is []flavor.Installation) *Catalogue {
	c := &Catalogue{
		Flavors: fs, Installations: is,
		byID: make(map[string]int, len(fs)), byName: make(map[string]int, len(fs)),
		installed: map[string][]flavor.Installation{}, in: map[string][]flavor.Installation{},
	}
	for i, f := range fs {
		c.byID[f.ID], c.byName[f.Name] = i, i
		if f.Promoted {
			c.Promoted = append(c.Promoted, f)
		}
	}
	for _, i := range is {
		c.installed[i.FlavorID] = append(c.installed[i.FlavorID], i)
		c.in[i.Region] = append(c.in[i.Region], i)
	}
	return c
}

// ByID finds a flavor by its id in the catalogue.
func (c *Catalogue) ByID(id string) (flavor.Flavor, bool) { return c.at(c.byID, id) }

// ByName finds a flavor by its exact name.
func (c *Catalogue) ByName(name string) (flavor.Flavor, bool) { return c.at(c.byName, name) }

func (c *Catalogue) at(index map[string]int, key string) (flavor.Flavor, bool) {
	if i, ok := index[key]; ok {
		return c.Flavors[i], true
	}
	return flavor.Flavor{}, false
}

// Installed lists where a flavor is, by region.
func (c *Catalogue) Installed(flavorID string) []flavor.Installation { return c.installed[flavorID] }

// InstalledIn is the one installation of a flavor in region.
func (c *Catalogue) InstalledIn(flavorID, region string) (flavor.Installation, bool) {
	for _, i := range c.installed[flavorID] {
		if i.Region == region {
			return i, true
		}
	}
	return flavor.Installation{}, false
}

// In lists what a region has, by flavor.
func (c *Catalogue) In(region string) []flavor.Installation { return c.in[region] }

// Drifted lists where a flavor is not as it was written down, by region.
func (c *Catalogue) Drifted(flavorID string) []flavor.Drift { return c.drifted[flavorID] }

// DriftIn is what is known of the drift of one node.
func (c *Catalogue) DriftIn(flavorID, region string) (flavor.Drift, bool) {
	for _, d := range c.drifted[flavorID] {
		if d.Region == region {
			return d, true
		}
	}
	return flavor.Drift{}, false
}

// Refuses says whether a promoted flavor is not to be installed in region by itself.
func (c *Catalogue) Refuses(flavorID, region string) bool { return c.refused[pair{flavorID, region}] }

// revalidate is how long a snapshot is believed without a look at the version
// row, which other processes count up: none that is twice as old is answered. loadFor
// is what that look, or a new snapshot, may take where the database hangs.
const (
	revalidate = time.Second / 2
	loadFor    = 5 * time.Second
)

// catalogueCache keeps the last snapshot. One that was loaded while this
// process wrote is not believed: written counts every write after its commit
// and before Write returns, and a snapshot carries the count from before its
// own load began. So whoever sees a write done sees its snapshot too, however
// the load and the write ran beside each other.
type catalogueCache struct {
	snapshot atomic.Pointer[snapshot]
	writes   atomic.Uint64
	loads    atomic.Uint64
	// version is the highest this process has committed. A Galera node that
	// has not applied it yet must not fill the snapshot.
	version atomic.Int64
	loading chan struct{} // holds one token: a mutex that a context can give up on
	failure failedLoad    // the last; only who holds the token touches it
}

// failedLoad lets those who waited for a load share its failure: one after another,
// each would try for as long.
type failedLoad struct {
	ended time.Time
	err   error
}

type snapshot struct {
	*Catalogue
	version int64
	writes  uint64
	checked time.Time
}

func newCatalogueCache() catalogueCache {
	return catalogueCache{loading: make(chan struct{}, 1)}
}

func (c *catalogueCache) written(version int64, committed bool) {
	for committed {
		known := c.version.Load()
		if known >= version || c.version.CompareAndSwap(known, version) {
			break
		}
	}
	c.writes.Add(1)
}

// forget is for when the tables themselves come and go.
func (c *catalogueCache) forget() {
	c.version.Store(0)
	c.snapshot.Store(nil)
	c.writes.Add(1)
}

// Catalogue is the catalogue as it is now: with every write that this process
// has finished, and with those of others that are older than a second. Where
// nothing has changed it costs two atomic reads and a look at the clock.
func (s *Store) Catalogue(ctx context.Context) (*Catalogue, error) {
	c := &s.cat
	written := c.writes.Load()
	if snap := c.snapshot.Load(); snap != nil && snap.writes == written {
		age := s.now().Sub(snap.checked)
		if age < revalidate {
			return snap.Catalogue, nil
		}
		if age < 2*revalidate {
			// One asks the database; the others need not wait for it.
			select {
			case c.loading <- struct{}{}:
				defer func() { <-c.loading }()
				return s.loadCatalogue(ctx, revalidate, written)
			default:
				return snap.Catalogue, nil
			}
		}
	}
	return s.waitForCatalogue(ctx, revalidate, written)
}

// CatalogueNow is the catalogue with every write that was finished before, in
// whatever process. It costs a query, and more where something has changed.
func (s *Store) CatalogueNow(ctx context.Context) (*Catalogue, error) {
	return s.waitForCatalogue(ctx, 0, s.cat.writes.Load())
}

func (s *Store) waitForCatalogue(ctx context.Context, believed time.Duration, written uint64) (*Catalogue, error) {
	came := time.Now()
	select {
	case s.cat.loading <- struct{}{}:
		defer func() { <-s.cat.loading }()
	case <-ctx.Done():
		return nil, fmt.Errorf("while waiting for the catalogue: %w", context.Cause(ctx))
	}
	if last := s.cat.failure; last.err != nil && last.ended.After(came) {
		return nil, last.err
	}
	cat, err := s.loadCatalogue(ctx, believed, written)
	if ctx.Err() == nil { // else it is the failure of one who has gone
		s.cat.failure = failedLoad{time.Now(), err}
	}
	return cat, err
}

var errBehind = errors.New("this node of the database has not applied our last write yet")

// loadCatalogue validates the snapshot, or makes a new one, unless there is one
// that was validated less than believed ago, with the writes that its caller has
// seen: those who wait while others write share what is loaded next. Its caller
// holds the token of loading.
func (s *Store) loadCatalogue(ctx context.Context, believed time.Duration, written uint64) (*Catalogue, error) {
	c := &s.cat
	// In this order, and before anything is read: see catalogueCache.
	next := &snapshot{writes: c.writes.Load(), checked: s.now()}
	needed := c.version.Load()
	last := c.snapshot.Load()
	if last != nil && last.writes >= written && next.checked.Sub(last.checked) < believed {
		return last.Catalogue, nil // another has just loaded it
	}
	load := func(tx *Tx) (err error) {
		if next.version, err = tx.version(); err != nil {
			return err
		}
		if last != nil && last.version == next.version {
			next.Catalogue = last.Catalogue
			return nil
		}
		fs, is, err := tx.everything()
		if err != nil {
			return err
		}
		next.Catalogue = newCatalogue(fs, is)
		if err := tx.strays(next.Catalogue); err != nil {
			return err
		}
		next.Number = c.loads.Add(1)
		if next.Products, err = tx.Products(); err != nil {
			return err
		}
		next.Pushed, err = tx.pushed(tx.rows())
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, loadFor)
	defer cancel()
	_, err := backoff.Retry(ctx, func() (struct{}, error) {
		if err := s.Read(ctx, load); err != nil {
			return struct{}{}, backoff.Permanent(err)
		}
		if next.version < needed {
			return struct{}{}, errBehind
		}
		return struct{}{}, nil
	}, backoff.WithBackOff(&backoff.ExponentialBackOff{
		InitialInterval: 5 * time.Millisecond, Multiplier: 1.5, MaxInterval: 200 * time.Millisecond, RandomizationFactor: 0.5,
	}), backoff.WithMaxElapsedTime(2*time.Second))
	if errors.Is(err, errBehind) {
		// It will not come any more: the database was put back to an older state.
		s.log.WarnContext(ctx, "the database is older than what was written to it; believing it", "version", next.version, "written", needed)
		c.version.CompareAndSwap(needed, next.version)
		err = nil
	}
	if err != nil {
		return nil, fmt.Errorf("while loading the catalogue: %w", err)
	}
	c.snapshot.Store(next)
	return next.Catalogue, nil
}

// strays reads what is not as the catalogue has it, or is not to be.
func (tx *Tx) strays(c *Catalogue) (err error) {
	if c.Drift, err = tx.drift(); err != nil {
		return err
	}
	if c.Refusals, err = tx.refusals(); err != nil {
		return err
	}
	c.drifted, c.refused = map[string][]flavor.Drift{}, map[pair]bool{}
	for _, d := range c.Drift {
		c.drifted[d.FlavorID] = append(c.drifted[d.FlavorID], d)
	}
	for _, r := range c.Refusals {
		c.refused[pair{r.FlavorID, r.Region}] = true
	}
	return nil
}

// version is the catalogue's.
func (tx *Tx) version() (version int64, err error) {
	err = tx.db.Raw("SELECT version FROM catalogue_version WHERE id = 1").Scan(&version).Error
	return version, tx.wrap(err, "reading the catalogue's version")
}

// countUp is the last statement of every transaction that has changed the
// catalogue, but for those of writeEvents: versions are in the order of the
// commits, and the one row that all of them want is held for a moment only.
func (tx *Tx) countUp() (int64, error) {
	set := tx.db.Exec("UPDATE catalogue_version SET version = version + 1 WHERE id = 1")
	if set.Error == nil && set.RowsAffected != 1 {
		return 0, errors.New("the database has no version of the catalogue: run flavorsync migrate up")
	}
	if set.Error != nil {
		return 0, tx.wrap(set.Error, "counting up the catalogue's version")
	}
	return tx.version()
}
