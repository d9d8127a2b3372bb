package marketplace

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/flavorsync/flavorsync/internal/flavor"
	"github.com/flavorsync/flavorsync/internal/openstack"
	"github.com/flavorsync/flavorsync/internal/store"
)

// statusAge is how long a region's stored status stands without a new look.
const statusAge = time.Minute

// look is what one region's Nova held when its service account asked it.
type look struct {
	region  flavor.Region
	flavors []flavor.NovaFlavor   // without the temporary ones of careful changes
	named   map[string]int        // where in flavors each name is
	err     error                 // the region could not be asked; flavors is nil
	mark    uint64                // of our own writes there, before the look
	before  []flavor.Installation // what was written down of the region, before the look
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

// look asks all these regions side by side; the Clouds bound how many at once.
// fresh waits the whole time limit even for a region that hung the last time.
func (m *Market) look(ctx context.Context, regions []flavor.Region, fresh bool) map[string]*look {
	looks := make([]*look, len(regions))
	var wg sync.WaitGroup
	for i, r := range regions {
		wg.Go(func() { looks[i] = m.lookAt(ctx, r, fresh) })
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
// the next, but for those who want a fresh one; none of them ends it by going
// away. A region that hung the last time gets a small part of its time limit,
// while the look goes on behind: it costs its limit once.
func (m *Market) lookAt(ctx context.Context, r flavor.Region, fresh bool) *look {
	f, hung := m.flights.join(r, fresh)
	limit := m.patience(r.Name, fresh)
	f.begin.Do(func() {
		// With the trace of whoever came first, and in nobody's name: what is
		// noticed is no deed of theirs.
		ctx := flavor.WithoutActor(context.WithoutCancel(ctx))
		m.working.Go(func() { m.fly(ctx, f, r, hung) })
	})
	patience := time.NewTimer(limit)
	defer patience.Stop()
	for _, step := range []<-chan struct{}{f.begun, f.seen, f.over} {
		select {
		case <-step:
		case <-patience.C:
			if limit == m.timeout { // who waited for a part of it has learnt nothing
				m.flights.late(r.Name)
			}
			return &look{region: r, err: flavor.Errorf(flavor.CodeUnreachable, "%s does not answer within %s", r.Name, m.timeout)}
		case <-ctx.Done():
			return &look{region: r, err: flavor.Errorf(flavor.CodeUnreachable, "%s had not answered when the request ended: %w", r.Name, ctx.Err())}
		}
		switch step {
		case f.begun: // the look before it took its own time
			limit = m.patience(r.Name, fresh)
			patience.Reset(limit)
		case f.seen: // our own writing down is not the region's time
			patience.Stop()
		}
	}
	return f.look
}

// patience is how long a look at region is waited for.
func (m *Market) patience(region string, fresh bool) time.Duration {
	if m.flights.isHung(region) && !fresh {
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
	l := &look{region: r, mark: m.writes.mark(r.Name)}
	cat, err := m.store.Catalogue(ctx)
	if err != nil {
		l.err = err
		return l
	}
	l.before = cat.In(r.Name)
	all, err := m.clouds.Service(r).List(ctx)
	if err != nil {
		l.err = err
		return l
	}
	l.saw(slices.DeleteFunc(all, func(nf flavor.NovaFlavor) bool { return isTemporary(nf.ID) }))
	return l
}

// remember writes down what a look found where it is news: the nodes that are
// there, those that are gone, and the region's state. A failure to do so costs
// nothing but memory, so it is logged only.
func (m *Market) remember(ctx context.Context, l *look) {
	if l.err == nil {
		if err := m.rememberNodes(ctx, l); err != nil {
			m.log.WarnContext(ctx, "cannot remember what a region holds", "region", l.region.Name, "error", err.Error())
		}
	}
	if flavor.CodeOf(l.err) != flavor.CodeInternal { // our database's failure is not the region's
		m.rememberStatus(ctx, l.region, openstack.StatusOf(l.err, m.now()))
	}
}

func (m *Market) rememberNodes(ctx context.Context, l *look) error {
	cat, err := m.store.Catalogue(ctx)
	if err != nil {
		return err
	}
	rows := map[string]flavor.Installation{}
	for _, i := range cat.In(l.region.Name) {
		rows[i.FlavorID] = i
	}
	var put, drop []flavor.Installation
	for _, nf := range l.flavors {
		f, public := cat.ByName(nf.Name)
		if !public || !f.Equal(nf.Spec) {
			continue
		}
		if row, known := rows[f.ID]; !known || row.NodeID != nf.ID {
			put = append(put, flavor.Installation{FlavorID: f.ID, Region: l.region.Name, NodeID: nf.ID})
		}
		delete(rows, f.ID)
	}
	for _, row := range rows {
		// A row whose flavor is there with other fields says whose that was, and
		// the last row of a flavor that is not promoted says who may end it.
		// One that came while we looked is newer than the look.
		f, _ := cat.ByID(row.FlavorID)
		_, there := l.byID(row.NodeID)
		if !there && slices.Contains(l.before, row) && (f.Promoted || len(cat.Installed(f.ID)) > 1) {
			drop = append(drop, row)
		}
	}
	if len(put) == 0 && len(drop) == 0 {
		return nil
	}
	return m.store.Write(ctx, func(tx *store.Tx) error {
		// What we wrote to that Nova since the look is newer than the look.
		if m.writes.mark(l.region.Name) != l.mark {
			return nil
		}
		if same, err := sameSettings(tx, l.region); err != nil || !same {
			return err
		}
		for _, i := range put {
			if err := putUnlessThere(tx, i); err != nil && flavor.CodeOf(err) != flavor.CodeNotFound {
				return err
			}
		}
		for _, i := range drop {
			// Another region's look may have dropped one since: the last stays.
			left, err := tx.Installations(i.FlavorID)
			if err != nil {
				return err
			}
			if f, _ := cat.ByID(i.FlavorID); !f.Promoted && len(left) < 2 {
				continue
			}
			if err := tx.DeleteInstallation(i.FlavorID, i.Region); err != nil {
				return err
			}
		}
		return nil
	})
}

// putUnlessThere writes row unless it stands already, so that the mark of what
// we created ourselves stays; and is set where a look was faster to note it.
func putUnlessThere(tx *store.Tx, row flavor.Installation) error {
	rows, err := tx.Installations(row.FlavorID)
	if err != nil {
		return err
	}
	stands := func(i flavor.Installation) bool {
		return i.Region == row.Region && i.NodeID == row.NodeID && (i.Created || !row.Created)
	}
	if slices.ContainsFunc(rows, stands) {
		return nil
	}
	return tx.PutInstallation(row)
}

// rememberStatus stores a state that is news, or older than statusAge.
func (m *Market) rememberStatus(ctx context.Context, r flavor.Region, st flavor.RegionStatus) {
	same := r.Status.State == st.State && r.Status.LastError == st.LastError
	if same && st.CheckedAt.Sub(r.Status.CheckedAt) < statusAge {
		return
	}
	err := m.store.Write(ctx, func(tx *store.Tx) error {
		if same, err := sameSettings(tx, r); err != nil || !same {
			return err
		}
		return tx.SetRegionStatus(r.Name, st)
	})
	if err != nil {
		m.log.WarnContext(ctx, "cannot store a region's status", "region", r.Name, "error", err.Error())
	}
}

// sameSettings says whether r is still registered as it was when it was asked:
// else the answer was another cloud's, or to another account.
func sameSettings(tx *store.Tx, r flavor.Region) (bool, error) {
	now, err := tx.Region(r.Name)
	if flavor.CodeOf(err) == flavor.CodeNotFound {
		return false, nil
	}
	now.Status, r.Status = flavor.RegionStatus{}, flavor.RegionStatus{}
	return now == r, err
}

// writeMarks counts our own writes to each region's Nova, so that an older look
// does not overrule them.
type writeMarks struct {
	mu    sync.Mutex
	marks map[string]uint64
}

func (w *writeMarks) mark(region string) uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.marks[region]
}

// bump is called before and after a write to region's Nova and its row.
func (w *writeMarks) bump(region string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.marks == nil {
		w.marks = map[string]uint64{}
	}
	w.marks[region]++
}

// flights are the looks under way and waited for, and the regions whose last
// look ran into its time limit.
type flights struct {
	mu      sync.Mutex
	running map[string]*flight
	next    map[string]*flight
	hung    map[string]bool
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
}

// land notes how the region answered.
func (fs *flights) land(f *flight, region string, hung bool) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if fs.running[region] == f {
		delete(fs.running, region)
	}
	if hung {
		fs.hung[region] = true
	} else {
		delete(fs.hung, region)
	}
	close(f.seen)
}
