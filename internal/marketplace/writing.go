package marketplace

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"slices"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/flavorsync/flavorsync/internal/flavor"
	"github.com/flavorsync/flavorsync/internal/store"
)

// writer is the one who may write a flavor of some name in a region: in this
// process, and, where others work on the same database, among them by a lease. Its
// fence is what keeps a process that was paused from writing what another has
// long done; a Nova knows nothing of it, so that what destroys is asked of it only
// while the lease lasts for longer than the answer may take.
type writer struct {
	m       *Market
	region  string
	lease   *store.Lease // nil: this is the only process
	held    atomic.Int32 // by how many the lease is needed
	release func()
	put     []flavor.NovaFlavor // what the region has now
	gone    []string            // ids that it has no more
	wrote   bool
	noted   bool // what it means for the catalogue's nodes
}

// writing holds the one writer's place for a flavor's name in a region. Call done
// when the rows are stored too.
func (m *Market) writing(ctx context.Context, region, name string) (*writer, error) {
	busy := func(err error) error {
		return flavor.Errorf(flavor.CodeUnreachable, "%s: another write of %q there did not end in time: %w", region, name, err)
	}
	key := placeOf(region, name)
	release, err := m.locks.Acquire(ctx, key, 1)
	if err != nil {
		return nil, busy(err)
	}
	w := &writer{m: m, region: region, release: release}
	if m.sole {
		return w, nil
	}
	w.held.Store(1)
	if w.lease, err = m.waitForLease(ctx, key); err != nil {
		release()
		if errors.Is(err, errLeased) || ctx.Err() != nil {
			err = busy(err)
		}
		return nil, err
	}
	return w, nil
}

// placeOf is the key of the one writer's place. Nova may tell neither case nor
// accents apart, so neither does that.
func placeOf(region, name string) string { return region + "\x00" + fold(name) }

// leaseOf is the name of a place's lease.
func leaseOf(key string) string {
	sum := sha256.Sum256([]byte(key))
	return "write:" + hex.EncodeToString(sum[:28])
}

// beingWritten says whether there is a writer of that flavor's name in region: what
// is found of it there may be half of what he does.
func (m *Market) beingWritten(tx *store.Tx, region, name string) (bool, error) {
	key := placeOf(region, name)
	if taken := m.locks.Users(key) > 0; taken || m.sole {
		return taken, nil
	}
	return tx.Leased(leaseOf(key))
}

var errLeased = errors.New("another process holds its lease")

// waitForLease takes the lease of key, in the end from a process that is gone.
func (m *Market) waitForLease(ctx context.Context, key string) (*store.Lease, error) {
	name, owner := leaseOf(key), m.instance+" "+m.newID()
	pause := &backoff.ExponentialBackOff{InitialInterval: 10 * time.Millisecond, Multiplier: 1.5, MaxInterval: 250 * time.Millisecond, RandomizationFactor: 0.5}
	return backoff.Retry(ctx, func() (*store.Lease, error) {
		lease, taken, err := m.store.TakeLease(ctx, name, owner, m.Claim())
		switch {
		case err != nil:
			return nil, backoff.Permanent(err)
		case !taken:
			return nil, errLeased
		}
		return &lease, nil
	}, backoff.WithBackOff(pause), backoff.WithMaxElapsedTime(m.Claim()+time.Second))
}

// sure makes certain that w is the writer still, and for as long as one more call
// of Nova may take; it is called before each that destroys or creates something.
func (w *writer) sure(ctx context.Context) error {
	w.wrote = true
	return w.extend(ctx)
}

func (w *writer) extend(ctx context.Context) error {
	if w.lease == nil {
		return nil
	}
	kept, err := w.m.store.ExtendLease(ctx, *w.lease, w.m.Claim())
	if err == nil && !kept {
		err = tooSlow(w.region)
	}
	return err
}

// tooSlow is the error of an attempt that has lost its place at a region.
func tooSlow(region string) error {
	return flavor.Errorf(flavor.CodeUnreachable, "%s: this process was too slow, and another goes on in its place", region)
}

// surely does what changes something in Nova, if w is sure.
func (w *writer) surely(ctx context.Context, do func() error) error {
	if err := w.sure(ctx); err != nil {
		return err
	}
	return do()
}

// undoing is for a creation that is to be undone, behind the back of done if need be:
// another may have taken the place of a process that was stopped, found what it had
// created, and count on it.
func (w *writer) undoing(ctx context.Context) (end func(), err error) {
	w.held.Add(1)
	end = func() { w.drop(ctx) }
	if err := w.extend(ctx); err != nil {
		end()
		return nil, err
	}
	return end, nil
}

// drop gives the lease back when nobody needs it any more.
func (w *writer) drop(ctx context.Context) {
	if w.lease == nil || w.held.Add(-1) > 0 {
		return
	}
	if err := w.m.store.DropLease(context.WithoutCancel(ctx), *w.lease); err != nil {
		w.m.log.WarnContext(ctx, "a lease stands until its deadline", "lease", w.lease.Name, "error", err.Error())
	}
}

// hold makes sure that w is the writer until tx ends.
func (w *writer) hold(tx *store.Tx) error {
	if w.lease == nil {
		return nil
	}
	return tx.Hold(*w.lease)
}

// has notes that the region has nf now.
func (w *writer) has(nf flavor.NovaFlavor) { w.put = append(w.put, nf) }

// hasNot notes that the region has no flavor with that id any more.
func (w *writer) hasNot(id string) {
	w.put = slices.DeleteFunc(w.put, func(nf flavor.NovaFlavor) bool { return nf.ID == id })
	w.gone = append(w.gone, id)
}

// soon is how long after a change the region is looked at. Those that are made
// meanwhile share the look, and it is not in their way.
const soon = 2 * time.Second

// done writes down what was changed in Nova, so that whoever reads sees it at
// once, has the region looked at soon, and gives the place to the next.
func (w *writer) done(ctx context.Context) {
	ctx = flavor.WithoutActor(context.WithoutCancel(ctx))
	defer w.release()
	if w.wrote {
		if err := w.m.noteWritten(ctx, w); err != nil {
			w.m.log.WarnContext(ctx, "what was changed in a region is seen with the next look only", "region", w.region, "error", err.Error())
		}
	}
	w.drop(ctx)
}

func (m *Market) noteWritten(ctx context.Context, w *writer) error {
	var cat *store.Catalogue
	if !w.noted {
		var err error
		if cat, err = m.store.Catalogue(ctx); err != nil {
			return err
		}
	}
	return m.store.Write(ctx, func(tx *store.Tx) error {
		if err := w.hold(tx); err != nil {
			return err
		}
		if err := tx.Outdate(w.region, soon); err != nil {
			return err
		}
		all, err := tx.PatchInventory(w.region, w.put, w.gone)
		if err != nil || all == nil || w.noted {
			return err
		}
		l := &look{region: flavor.Region{Name: w.region}, before: cat.In(w.region)}
		l.recalled(all)
		return m.noteFound(tx, l, compare(cat, l), true)
	})
}
