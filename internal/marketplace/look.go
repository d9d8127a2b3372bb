package marketplace

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/flavorsync/flavorsync/internal/flavor"
	"github.com/flavorsync/flavorsync/internal/store"
)

// statusAge is how long a region's stored status stands without a new look.
const statusAge = time.Minute

// look is what one region's Nova held when its service account asked it.
type look struct {
	region  flavor.Region
	flavors []flavor.NovaFlavor // without the temporary ones of careful changes
	err     error               // the region could not be asked; flavors is nil
	mark    uint64              // of our own writes there, before the look
}

func (l *look) byID(id string) (flavor.NovaFlavor, bool) {
	return l.find(func(nf flavor.NovaFlavor) bool { return nf.ID == id })
}

func (l *look) byName(name string) (flavor.NovaFlavor, bool) {
	return l.find(func(nf flavor.NovaFlavor) bool { return nf.Name == name })
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
// fresh waits the whole time limit even for a region that hung just now.
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
	m.remember(ctx, looks)
	return byName
}

// lookAt asks one region. One that hung the last time gets a tenth of its time
// limit, while a look with the whole limit goes on behind and ends this.
func (m *Market) lookAt(ctx context.Context, r flavor.Region, fresh bool) *look {
	flight := m.hung.flight(r.Name)
	if flight == nil || fresh {
		l := m.ask(ctx, r)
		if ctx.Err() == nil {
			m.hung.set(r.Name, errors.Is(l.err, context.DeadlineExceeded))
		}
		return l
	}
	flight.begin(func(done func(*look)) {
		m.working.Go(func() {
			l := m.ask(m.background, r)
			m.hung.set(r.Name, errors.Is(l.err, context.DeadlineExceeded))
			done(l)
		})
	})
	patience := time.NewTimer(m.timeout / 10)
	defer patience.Stop()
	select {
	case <-flight.over:
		return flight.look
	case <-patience.C:
	case <-ctx.Done():
	}
	return &look{region: r, err: flavor.Errorf(flavor.CodeUnreachable,
		"%s did not answer within %s the last time and does not yet", r.Name, m.timeout)}
}

func (m *Market) ask(ctx context.Context, r flavor.Region) *look {
	l := &look{region: r, mark: m.writes.mark(r.Name)}
	l.flavors, l.err = m.clouds.Service(r).List(ctx)
	l.flavors = slices.DeleteFunc(l.flavors, func(nf flavor.NovaFlavor) bool { return isTemporary(nf.ID) })
	return l
}

// remember writes down what the looks found where it is news: the nodes that
// are there, those that are gone, and the regions' states. A failure to do so
// costs nothing but memory, so it is logged only.
func (m *Market) remember(ctx context.Context, looks []*look) {
	ctx = context.WithoutCancel(ctx)
	cat, err := m.store.Catalogue(ctx)
	if err != nil {
		m.log.WarnContext(ctx, "cannot remember what the regions hold", "error", err.Error())
		return
	}
	for _, l := range looks {
		if l.err == nil {
			m.rememberNodes(ctx, cat, l)
		}
		m.rememberStatus(ctx, l.region, statusOf(l.err, m.now()))
	}
}

func (m *Market) rememberNodes(ctx context.Context, cat *store.Catalogue, l *look) {
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
		// A row whose flavor is there with other fields is kept: it says whose it was.
		if _, there := l.byID(row.NodeID); !there {
			drop = append(drop, row)
		}
	}
	if len(put) == 0 && len(drop) == 0 {
		return
	}
	err := m.store.Write(ctx, func(tx *store.Tx) error {
		// What we wrote to that Nova since the look is newer than the look.
		if m.writes.mark(l.region.Name) != l.mark {
			return nil
		}
		for _, i := range put {
			if err := tx.PutInstallation(i); err != nil && flavor.CodeOf(err) != flavor.CodeNotFound {
				return err
			}
		}
		for _, i := range drop {
			if err := tx.DeleteInstallation(i.FlavorID, i.Region); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		m.log.WarnContext(ctx, "cannot remember what a region holds", "region", l.region.Name, "error", err.Error())
	}
}

// statusOf is what err, the outcome of asking a region, says of its state.
func statusOf(err error, at time.Time) flavor.RegionStatus {
	st := flavor.RegionStatus{State: flavor.RegionUp, CheckedAt: at}
	if err != nil {
		st.State, st.LastError = flavor.RegionUnreachable, err.Error()
		if e, ok := errors.AsType[*flavor.Error](err); ok {
			st.LastError = e.Message
		}
	}
	return st
}

// rememberStatus stores a state that is news, or older than statusAge.
func (m *Market) rememberStatus(ctx context.Context, r flavor.Region, st flavor.RegionStatus) {
	same := r.Status.State == st.State && r.Status.LastError == st.LastError ||
		r.Status.State == flavor.RegionRefused && st.State == flavor.RegionUnreachable
	if same && st.CheckedAt.Sub(r.Status.CheckedAt) < statusAge {
		return
	}
	err := m.store.Write(ctx, func(tx *store.Tx) error { return tx.SetRegionStatus(r.Name, st) })
	if err != nil {
		m.log.WarnContext(ctx, "cannot store a region's status", "region", r.Name, "error", err.Error())
	}
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

// hungRegions are those whose last look ran into the time limit.
type hungRegions struct {
	mu      sync.Mutex
	flights map[string]*flight
}

// flight is one look at a hung region that many requests may wait for.
type flight struct {
	once sync.Once
	over chan struct{}
	look *look // once over is closed
}

// begin starts the look, if nobody has.
func (f *flight) begin(start func(done func(*look))) {
	f.once.Do(func() {
		start(func(l *look) {
			f.look = l
			close(f.over)
		})
	})
}

// flight is the one to wait for where region hung the last time, else nil.
func (h *hungRegions) flight(region string) *flight {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.flights[region]
}

// set notes how the last look at region ended; a hung one gets a new flight.
func (h *hungRegions) set(region string, hung bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !hung {
		delete(h.flights, region)
		return
	}
	if h.flights == nil {
		h.flights = map[string]*flight{}
	}
	h.flights[region] = &flight{over: make(chan struct{})}
}
