package marketplace

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/flavorsync/flavorsync/internal/flavor"
	"github.com/flavorsync/flavorsync/internal/store"
)

// look is what one region's Nova held when its service account asked it.
type look struct {
	region  flavor.Region
	flavors []flavor.NovaFlavor   // without the temporary ones of careful changes
	named   map[string]int        // where in flavors each name is
	err     error                 // the region could not be asked; flavors is nil
	known   flavor.Look           // what was noted of the region, before the look
	before  []flavor.Installation // and what was installed there
	took    time.Duration
	noted   bool // it is written down: nothing newer was
}

func (l *look) byID(id string) (flavor.NovaFlavor, bool) {
	return l.find(func(nf flavor.NovaFlavor) bool { return nf.ID == id })
}

// saw notes what the region's Nova listed. A catalogue of thousands looks up
// each of its names in every region, so names are found without a search.
func (l *look) saw(flavors []flavor.NovaFlavor) {
	l.flavors, l.named = flavors, make(map[string]int, len(flavors))
	for i, nf := range flavors {
		l.named[nf.Name] = i
	}
}

// recalled notes what was seen at another time.
func (l *look) recalled(known []flavor.SeenFlavor) {
	flavors := make([]flavor.NovaFlavor, len(known))
	for i, f := range known {
		flavors[i] = f.NovaFlavor
	}
	l.saw(flavors)
}

func (l *look) byName(name string) (flavor.NovaFlavor, bool) {
	if i, ok := l.named[name]; ok {
		return l.flavors[i], true
	}
	return flavor.NovaFlavor{}, false
}

func (l *look) find(is func(flavor.NovaFlavor) bool) (flavor.NovaFlavor, bool) {
	if i := slices.IndexFunc(l.flavors, is); i >= 0 {
		return l.flavors[i], true
	}
	return flavor.NovaFlavor{}, false
}

// node is the region's own flavor that is a node of f: the same name and all
// other fields equal, under whatever id.
func (l *look) node(f flavor.Flavor) (flavor.NovaFlavor, bool) {
	nf, ok := l.byName(f.Name)
	return nf, ok && f.Equal(nf.Spec)
}

// conflict tells which flavor of the region stands in the way of f: one with
// its id, or its name, and other fields. nil where none does, or f is there.
func (l *look) conflict(f flavor.Flavor) *flavor.Error {
	if _, there := l.node(f); there {
		return nil
	}
	if nf, ok := l.byName(f.Name); ok {
		return conflicting(l.region.Name, f, nf)
	}
	if nf, ok := l.byID(f.ID); ok {
		return conflicting(l.region.Name, f, nf)
	}
	return nil
}

func conflicting(region string, f flavor.Flavor, nf flavor.NovaFlavor) *flavor.Error {
	return flavor.Conflict("%s has another flavor under this %s (id %q, name %q): %s; delete or rename it there first",
		region, idOrName(f, nf), nf.ID, nf.Name, differing(f.Spec, nf.Spec))
}

func idOrName(f flavor.Flavor, nf flavor.NovaFlavor) string {
	if nf.ID == f.ID {
		return "id"
	}
	return "name"
}

// differing lists the fields in which found is not as wanted.
func differing(wanted, found flavor.Spec) string {
	ds := wanted.Differences(found)
	texts := make([]string, len(ds))
	for i, d := range ds {
		texts[i] = d.String()
	}
	return strings.Join(texts, ", ")
}

// patience is how long somebody waits for a look.
type patience int

const (
	// brief waits a small part of the time limit for a region that hung the last
	// time: the look goes on behind, so such a region costs its limit once.
	brief patience = iota
	// whole waits the time limit for every region.
	whole
	// alone is whole, and shares the look with nobody: it does not wait for one
	// under way to end first.
	alone
)

// look asks all these regions side by side; the Clouds bound how many at once.
func (m *Market) look(ctx context.Context, regions []flavor.Region, how patience) map[string]*look {
	looks := make([]*look, len(regions))
	var wg sync.WaitGroup
	for i, r := range regions {
		wg.Go(func() { looks[i] = m.lookAt(ctx, r, how) })
	}
	wg.Wait()
	byName := make(map[string]*look, len(looks))
	for _, l := range looks {
		byName[l.region.Name] = l
	}
	return byName
}

// lookAt waits for a look at one region that began after it was called, and for
// what it found to be written down. All who come while one is under way share
// the next, but for those who want one alone; none of them ends it by going away.
func (m *Market) lookAt(ctx context.Context, r flavor.Region, how patience) *look {
	f, hung := m.flights.join(r, how == alone)
	limit := m.limit(r.Name, how)
	f.begin.Do(func() {
		// With the trace of whoever came first, and in nobody's name: what is
		// noticed is no deed of theirs.
		ctx := flavor.WithoutActor(context.WithoutCancel(ctx))
		m.working.Go(func() { m.fly(ctx, f, r, hung) })
	})
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for _, step := range []<-chan struct{}{f.begun, f.seen, f.over} {
		select {
		case <-step:
		case <-timer.C:
			if limit == m.timeout { // who waited for a part of it has learnt nothing
				m.flights.late(r.Name)
			}
			return &look{region: r, err: flavor.Errorf(flavor.CodeUnreachable, "%s does not answer within %s", r.Name, m.timeout)}
		case <-ctx.Done():
			return &look{region: r, err: flavor.Errorf(flavor.CodeUnreachable, "%s had not answered when the request ended: %w", r.Name, ctx.Err())}
		}
		switch step {
		case f.begun: // the look before it took its own time
			limit = m.limit(r.Name, how)
			timer.Reset(limit)
		case f.seen: // our own writing down is not the region's time
			timer.Stop()
		}
	}
	return f.look
}

// limit is how long a look at region is waited for.
func (m *Market) limit(region string, how patience) time.Duration {
	if how == brief && m.flights.isHung(region) {
		return m.timeout / 50
	}
	return m.timeout
}

// fly makes one shared look, when the one before it is over.
func (m *Market) fly(ctx context.Context, f *flight, r flavor.Region, hung bool) {
	if f.previous != nil {
		<-f.previous
	}
	if hung {
		// Regions that hang leave room for the others. Who comes while this one
		// waits for its place shares it still.
		m.slow <- struct{}{}
	}
	m.flights.takeOff(f, r.Name)
	f.look = m.ask(ctx, r)
	if hung {
		<-m.slow
	}
	m.flights.land(f, r.Name, errors.Is(f.look.err, context.DeadlineExceeded))
	m.remember(ctx, f.look)
	close(f.over)
}

// ask asks a region now, as its service account.
func (m *Market) ask(ctx context.Context, r flavor.Region) *look {
	l := &look{region: r}
	if l.err = m.recall(ctx, l); l.err != nil {
		return l
	}
	began := m.now()
	all, err := m.clouds.Service(r).List(ctx)
	l.took = m.now().Sub(began)
	if err != nil {
		l.err = err
		return l
	}
	l.saw(slices.DeleteFunc(all, func(nf flavor.NovaFlavor) bool { return isTemporary(nf.ID) }))
	return l
}

// recall reads what is noted of l's region before it is asked.
func (m *Market) recall(ctx context.Context, l *look) error {
	// In this order: an installation that comes in between is newer than the look.
	cat, err := m.store.Catalogue(ctx)
	if err != nil {
		return err
	}
	l.before = cat.In(l.region.Name)
	return m.store.Read(ctx, func(tx *store.Tx) (err error) {
		l.known, err = tx.Look(l.region.Name)
		return err
	})
}

// putUnlessThere writes row unless it stands already, so that the mark of what
// we created ourselves stays; and is set where a look was faster to note it.
func putUnlessThere(tx *store.Tx, row flavor.Installation) (put bool, err error) {
	i, noted, err := tx.Installation(row.FlavorID, row.Region)
	if err != nil || noted && i.NodeID == row.NodeID && (i.Created || !row.Created) {
		return false, err
	}
	return true, tx.PutInstallation(row)
}

// flights are the looks under way and waited for, and the regions whose last
// look ran into its time limit.
type flights struct {
	mu      sync.Mutex
	running map[string]*flight
	next    map[string]*flight
	hung    map[string]bool
	changes atomic.Uint64 // of hung
}

// flight is one look that many requests may wait for.
type flight struct {
	region   flavor.Region // as its settings were, without its status
	begin    sync.Once
	previous <-chan struct{} // closed when the region has answered the look before; nil: there is none
	begun    chan struct{}   // closed when the region is asked
	seen     chan struct{}   // closed when the region has answered, or has not in time
	over     chan struct{}   // closed when that is written down
	look     *look           // once seen is closed
}

func newFlight(r flavor.Region) *flight {
	return &flight{region: r, begun: make(chan struct{}), seen: make(chan struct{}), over: make(chan struct{})}
}

// join is a look at r that has not begun yet, one of its own where alone, and
// whether the last one hung.
func (fs *flights) join(r flavor.Region, alone bool) (f *flight, hung bool) {
	r.Status = flavor.RegionStatus{}
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if fs.next == nil {
		fs.running, fs.next, fs.hung = map[string]*flight{}, map[string]*flight{}, map[string]bool{}
	}
	f = fs.next[r.Name]
	switch {
	case alone, f != nil && f.region != r: // or its settings were changed
		f = newFlight(r)
	case f == nil:
		f = newFlight(r)
		if running := fs.running[r.Name]; running != nil {
			f.previous = running.seen
		}
		fs.next[r.Name] = f
	}
	return f, fs.hung[r.Name]
}

// takeOff makes the next look the running one: who comes now waits for another.
func (fs *flights) takeOff(f *flight, region string) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if fs.next[region] == f {
		delete(fs.next, region)
		fs.running[region] = f
	}
	close(f.begun)
}

func (fs *flights) isHung(region string) bool {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	return fs.hung[region]
}

// late notes that somebody has waited for the look at region in vain.
func (fs *flights) late(region string) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fs.hung[region] = true
	fs.changes.Add(1)
}

// land notes how the region answered.
func (fs *flights) land(f *flight, region string, hung bool) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if fs.running[region] == f {
		delete(fs.running, region)
	}
	if hung != fs.hung[region] {
		fs.changes.Add(1)
	}
	if hung {
		fs.hung[region] = true
	} else {
		delete(fs.hung, region)
	}
	close(f.seen)
}
