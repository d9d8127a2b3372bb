package marketplace

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/flavorsync/flavorsync/internal/flavor"
	"github.com/flavorsync/flavorsync/internal/openstack"
	"github.com/flavorsync/flavorsync/internal/store"
)

// Filter narrows Flavors; a nil field does not.
type Filter struct {
	Public   *bool
	Promoted *bool
	// Fresh waits for a region that hung the last time, too.
	Fresh bool
}

// Listing is what Flavors found.
type Listing struct {
	All         func() []flavor.Flavor // in order, and not to be changed; made when it is called
	Unreachable []string               // regions that were not seen lately, sorted
	Age         time.Duration          // of the oldest look that the list rests on, at the other regions
	// Version can be compared: of two listings that have the same one All is the
	// same, whoever asked. nil where nothing tells that.
	Version any
}

// listed is all that a listing is made from.
type listed struct {
	catalogue        uint64
	contents         uint64 // of all regions, for who may see all of them; 0: of those in private
	private          string // the regions whose own flavors are in it, and their versions
	public, promoted int    // the filters
}

// Flavors lists the public flavors and the private ones of the regions p owns, as
// the regions were last seen. With filter.Fresh they are asked now, as far as p may
// have them asked; those that were never seen are asked in any case. What is known
// of those that do not answer is shown. CodeUnreachable only where that is nothing
// at all.
func (m *Market) Flavors(ctx context.Context, p flavor.Principal, filter Filter) (Listing, error) {
	inv, err := m.inventory(ctx, p, filter.Fresh)
	if err != nil {
		return Listing{}, err
	}
	cat, err := m.store.Catalogue(ctx)
	if err != nil {
		return Listing{}, err
	}
	var list Listing
	list.Unreachable, list.Age = m.since(inv)
	private, version := mine(p, inv)
	version.catalogue, version.public, version.promoted = cat.Number, said(filter.Public), said(filter.Promoted)
	list.Version = version
	list.All = sync.OnceValue(func() []flavor.Flavor { return listFlavors(cat, private, filter) })
	if len(cat.Flavors) == 0 && len(inv.Looks) > 0 && len(list.Unreachable) == len(inv.Looks) && len(list.All()) == 0 {
		return list, flavor.Errorf(flavor.CodeUnreachable, "no region answers, and the catalogue is empty: GET /v1/infrastructures tells why")
	}
	return list, nil
}

// said is what a filter says, as a number.
func said(filter *bool) int {
	switch {
	case filter == nil:
		return 0
	case *filter:
		return 1
	}
	return 2
}

// mine are the regions whose own flavors p may see.
func mine(p flavor.Principal, inv *store.Inventory) (private []*flavor.Look, version listed) {
	if p.Manager {
		return inv.Looks, listed{contents: inv.Contents}
	}
	for _, region := range p.Regions { // sorted
		if l := inv.Of(region); l != nil && p.Can(flavor.ReadPrivate, region) {
			private = append(private, l)
			version.private += fmt.Sprintf("%s=%d;", region, l.Version)
		}
	}
	return private, version
}

func listFlavors(cat *store.Catalogue, private []*flavor.Look, filter Filter) []flavor.Flavor {
	all := slices.Clone(cat.Flavors)
	for _, l := range private {
		for _, nf := range l.Flavors {
			if f := view(cat, l.Region, nf.NovaFlavor); !f.Public {
				all = append(all, f)
			}
		}
	}
	all = slices.DeleteFunc(all, func(f flavor.Flavor) bool {
		return filter.Public != nil && f.Public != *filter.Public || filter.Promoted != nil && f.Promoted != *filter.Promoted
	})
	slices.SortFunc(all, flavor.Compare)
	return all
}

// overtaken is how often a region is looked at for one who wants to know it now,
// while others go on writing there and what they write is newer than each look.
const overtaken = 3

// inventory is what is known of the regions. Those that were never seen are asked
// first; fresh asks all that p may have asked.
func (m *Market) inventory(ctx context.Context, p flavor.Principal, fresh bool) (*store.Inventory, error) {
	inv, err := m.store.Inventory(ctx)
	if err != nil {
		return nil, err
	}
	if !fresh && !m.lately(inv).never {
		return inv, nil
	}
	asked := func(l *flavor.Look) bool { return l.LookedAt.IsZero() || fresh && p.Can(flavor.AskRegions, l.Region) }
	regions, err := m.regions(ctx)
	if err != nil {
		return nil, err
	}
	regions = slices.DeleteFunc(regions, func(r flavor.Region) bool {
		l := inv.Of(r.Name)
		return l != nil && !asked(l)
	})
	how := brief
	if fresh {
		how = whole
	}
	for range overtaken {
		looks := m.look(ctx, regions, how) // and write down what is there
		regions = slices.DeleteFunc(regions, func(r flavor.Region) bool { return looks[r.Name].err != nil || looks[r.Name].noted })
		if len(regions) == 0 {
			break
		}
	}
	return m.store.Inventory(ctx)
}

// sightings are how lately the regions of an inventory were seen.
type sightings struct {
	of      *store.Inventory
	hangs   uint64    // how often a region had begun or ended to hang
	missing []string  // regions that were not seen lately, sorted
	oldest  time.Time // look at one that was; zero: there is none
	never   bool      // there is a region that was never looked at
}

// lately tells which regions were seen lately, and when. One that could not be
// asked the last time, or whose sweep is overdue by more than two, was not. It is
// made once for each inventory, which is not older than a second.
func (m *Market) lately(inv *store.Inventory) *sightings {
	hangs := m.flights.changes.Load()
	if last := m.sightings.Load(); last != nil && last.of == inv && last.hangs == hangs {
		return last
	}
	s := &sightings{of: inv, hangs: hangs}
	for _, l := range inv.Looks {
		s.never = s.never || l.LookedAt.IsZero()
		switch {
		case !m.seenLately(l):
			s.missing = append(s.missing, l.Region)
		case s.oldest.IsZero() || l.SeenAt.Before(s.oldest):
			s.oldest = l.SeenAt
		}
	}
	m.sightings.Store(s)
	return s
}

// since is which regions of inv were not seen lately, and the age of the oldest look
// at the others.
func (m *Market) since(inv *store.Inventory) (unreachable []string, age time.Duration) {
	seen := m.lately(inv)
	if !seen.oldest.IsZero() {
		age = m.now().Sub(seen.oldest)
	}
	return seen.missing, age
}

// Seen tells what the nodes of all flavors rest on: which regions were not seen
// lately, sorted, and the age of the oldest look at the others.
func (m *Market) Seen(ctx context.Context) (unreachable []string, age time.Duration, err error) {
	inv, err := m.store.Inventory(ctx)
	if err == nil {
		unreachable, age = m.since(inv)
	}
	return unreachable, age, err
}

func (m *Market) seenLately(l *flavor.Look) bool {
	return l.Error == "" && !m.flights.isHung(l.Region) && !l.SeenAt.IsZero() && m.now().Sub(l.SeenAt) < 3*m.sweep+m.timeout
}

// view is a region's flavor as the Private group shows it: Nova's own id and
// that region alone; public and promoted follow the catalogue.
func view(cat *store.Catalogue, region string, nf flavor.NovaFlavor) flavor.Flavor {
	f := flavor.Flavor{ID: nf.ID, Spec: nf.Spec, Nodes: []string{region}}
	if public, ok := cat.ByName(nf.Name); ok && public.Equal(nf.Spec) {
		f.Public, f.Promoted, f.Retired = true, public.Promoted, public.Retired
	}
	return f
}

// found is what an id on /v1/flavors/{id} means to a caller: a flavor of the
// catalogue, or a private one of one region.
type found struct {
	flavor.Flavor        // with the nodes known
	region        string // "" for one of the catalogue
}

// find tells what id means to p: the public flavor first (by its catalogue id,
// or by a node's own id where p owns that node), then p's own private one. node
// names the region meant where several would do. Whoever is to change or delete
// it says act: then a private one is not guessed while another region of p's,
// which may have one under that id too, cannot be asked. A UUID is no guess.
func (m *Market) find(ctx context.Context, p flavor.Principal, id, node string, act bool) (found, error) {
	cat, err := m.store.Catalogue(ctx)
	if err != nil {
		return found{}, err
	}
	f, public, err := m.byID(ctx, cat, id)
	if err != nil || public && node == "" {
		return found{Flavor: f}, err
	}
	regions, err := m.regions(ctx)
	if err != nil {
		return found{}, err
	}
	if node != "" && !slices.Contains(names(regions), node) {
		return found{}, flavor.NotFound("no region %q is registered: GET /v1/regions lists them", node)
	}
	if public {
		return found{Flavor: f}, nil
	}
	mine := slices.DeleteFunc(where(p, flavor.ReadPrivate, regions), func(r flavor.Region) bool { return node != "" && r.Name != node })
	if !act && flavor.IsUUID(id) {
		// One id for one flavor: what was seen of it says enough to read it.
		inv, err := m.store.Inventory(ctx)
		if err != nil {
			return found{}, err
		}
		if f, err := m.findIn(cat, mine, lastLooks(mine, inv), id, act); err == nil {
			return f, nil
		}
	}
	looks := m.look(ctx, mine, brief)
	// The looks may have changed what is known of the nodes.
	if cat, err = m.store.Catalogue(ctx); err != nil {
		return found{}, err
	}
	return m.findIn(cat, mine, looks, id, act)
}

// lastLooks are what was seen of these regions, as if they had just been asked.
func lastLooks(regions []flavor.Region, inv *store.Inventory) map[string]*look {
	looks := make(map[string]*look, len(regions))
	for _, r := range regions {
		looks[r.Name] = &look{region: r}
		if known := inv.Of(r.Name); known != nil {
			looks[r.Name].recalled(known.Flavors)
		}
	}
	return looks
}

// findIn is find, where the regions that are the caller's have been looked at.
func (m *Market) findIn(cat *store.Catalogue, mine []flavor.Region, looks map[string]*look, id string, act bool) (found, error) {
	var public, private matches
	var down []string
	for _, r := range mine {
		l := looks[r.Name]
		if l.err != nil {
			down = append(down, r.Name)
		}
		for _, i := range cat.In(r.Name) {
			if f, ok := cat.ByID(i.FlavorID); ok && i.NodeID == id && l.err != nil {
				public.add(r.Name, found{Flavor: f})
			}
		}
		if nf, there := l.byID(id); there {
			if f, ok := cat.ByName(nf.Name); ok && f.Equal(nf.Spec) {
				public.add(r.Name, found{Flavor: f})
			} else {
				private.add(r.Name, found{Flavor: view(cat, r.Name, nf), region: r.Name})
			}
		}
	}
	of := private
	if len(public.flavors) > 0 {
		of = public
	}
	switch {
	case len(of.flavors) > 1:
		return found{}, flavor.Conflict("%q is another flavor in each of %s: say which with ?node=REGION", id, strings.Join(of.regions, ", "))
	case len(down) > 0 && (len(of.flavors) == 0 || act && len(public.flavors) == 0 && !flavor.IsUUID(id)):
		return found{}, flavor.Errorf(flavor.CodeUnreachable, "%s cannot be asked whether %q is there; say which region is meant with ?node=REGION: %w",
			strings.Join(down, ", "), id, looks[down[0]].err)
	case len(of.flavors) == 1:
		return of.flavors[0], nil
	}
	return found{}, flavor.NotFound("there is no flavor %q that you may see: GET /v1/flavors lists them", id)
}

// matches are the flavors that an id may mean, and where.
type matches struct {
	flavors []found
	regions []string
}

// add notes a match; the nodes of one public flavor are one match.
func (ms *matches) add(region string, f found) {
	ms.regions = append(ms.regions, region)
	if !slices.ContainsFunc(ms.flavors, func(o found) bool { return o.ID == f.ID && o.region == f.region }) {
		ms.flavors = append(ms.flavors, f)
	}
}

// Flavor is the one that id means to p; see find. fresh is Filter.Fresh.
func (m *Market) Flavor(ctx context.Context, p flavor.Principal, id, node string, fresh bool) (flavor.Flavor, error) {
	if fresh {
		if _, err := m.inventory(ctx, p, fresh); err != nil {
			return flavor.Flavor{}, err
		}
	}
	f, err := m.find(ctx, p, id, node, false)
	return f.Flavor, err
}

// CreateFlavor creates a flavor in a region that p owns, with the region's
// service account: the one node named, or the only one p owns. public publishes
// it at once.
func (m *Market) CreateFlavor(ctx context.Context, p flavor.Principal, patch flavor.Patch) (flavor.Flavor, error) {
	spec, err := patch.Spec()
	if err != nil {
		return flavor.Flavor{}, err
	}
	r, err := m.regionForNew(ctx, p, patch.Nodes)
	if err != nil {
		return flavor.Flavor{}, err
	}
	publish := patch.Public != nil && *patch.Public
	var id string
	err = m.store.Read(ctx, func(tx *store.Tx) error {
		if id, err = m.freeID(tx, patch.ID); err != nil || !publish {
			return err
		}
		same, there, err := publishable(tx, "", spec)
		if there && same.Retired {
			return retired(same.Name)
		}
		if there {
			id = same.ID // it becomes a node of that one
		}
		return err
	})
	if err != nil {
		return flavor.Flavor{}, err
	}
	compute := m.clouds.Service(r)
	nf, err := m.createNew(ctx, compute, r.Name, id, spec)
	if err != nil {
		return flavor.Flavor{}, err
	}
	if !publish {
		cat, err := m.store.Catalogue(ctx)
		if err != nil {
			return flavor.Flavor{}, err
		}
		return view(cat, r.Name, nf), nil
	}
	f, err := m.publish(ctx, nf, r.Name, false, true, func(*store.Tx, flavor.Flavor) error { return nil })
	if err != nil {
		if undo := m.undoCreate(context.WithoutCancel(ctx), compute, r.Name, nf); undo != nil {
			m.log.ErrorContext(ctx, "a flavor that could not be published is left behind, private", "region", r.Name, "id", nf.ID, "error", undo.Error())
		} else {
			m.done(ctx, inNova{region: r.Name, id: nf.ID, before: nf.Audited()})
		}
	}
	return f, err
}

// undoCreate deletes a flavor that was created just now.
func (m *Market) undoCreate(ctx context.Context, compute *openstack.Compute, region string, nf flavor.NovaFlavor) error {
	w, err := m.writing(ctx, region, nf.Name)
	if err != nil {
		return err
	}
	defer w.done(ctx)
	if err := w.surely(ctx, func() error { return compute.Delete(ctx, nf.ID) }); err != nil {
		return err
	}
	w.hasNot(nf.ID)
	return nil
}

// regionForNew is the region a POST /v1/flavors means.
func (m *Market) regionForNew(ctx context.Context, p flavor.Principal, nodes *[]string) (flavor.Region, error) {
	regions, err := m.regions(ctx)
	if err != nil {
		return flavor.Region{}, err
	}
	var named []string
	if nodes != nil {
		named = slices.Compact(slices.Sorted(slices.Values(*nodes)))
	}
	mine := where(p, flavor.CreateFlavor, regions)
	if len(named) > 1 {
		// As read from the catalogue, and posted back: the caller's own counts.
		own := names(mine)
		named = slices.DeleteFunc(named, func(n string) bool { return !slices.Contains(own, n) })
	}
	switch {
	case len(named) > 1:
		return flavor.Region{}, flavor.Invalid("nodes: name one region of yours, not %d; install the flavor in others with PUT /v1/flavors/{id}", len(named))
	case len(named) == 1:
		i := slices.Index(names(regions), named[0])
		if i < 0 {
			return flavor.Region{}, unknownNode(named[0])
		}
		if err := p.May(flavor.CreateFlavor, named[0]); err != nil {
			return flavor.Region{}, err
		}
		return regions[i], nil
	case len(mine) == 1:
		return mine[0], nil
	case len(mine) == 0:
		return flavor.Region{}, flavor.Invalid("nodes: name the region to create the flavor in; %s owns none that is registered", p.Name)
	}
	return flavor.Region{}, flavor.Invalid("nodes: name the region to create the flavor in, one of %s", strings.Join(names(mine), ", "))
}

func unknownNode(name string) *flavor.Error {
	return flavor.Conflict("no region %q is registered: GET /v1/regions lists them", name)
}

// publish puts a region's flavor into the catalogue, or finds that it is there
// already; and promotes it; and does also in the same transaction. created says
// that we created it in Nova just now.
func (m *Market) publish(ctx context.Context, nf flavor.NovaFlavor, region string, promoted, created bool, also func(*store.Tx, flavor.Flavor) error) (f flavor.Flavor, err error) {
	write := func(tx *store.Tx) error {
		changes, err := tx.Changes()
		if err != nil {
			return err
		}
		if slices.ContainsFunc(changes, func(c store.Change) bool { return c.Region == region && c.FlavorID == nf.ID }) {
			return underChange(region, nf.ID)
		}
		if f, err = m.publishIn(tx, nf, promoted); err != nil {
			return err
		}
		if created && f.Retired {
			return retired(f.Name)
		}
		row := flavor.Installation{FlavorID: f.ID, Region: region, NodeID: nf.ID, Created: created}
		if _, err := putUnlessThere(tx, row); err != nil {
			return err
		}
		if f, err = tx.Flavor(f.ID); err != nil {
			return err
		}
		return also(tx, f)
	}
	err = m.store.Write(ctx, write)
	if flavor.CodeOf(err) == flavor.CodeConflict {
		// It may be this very flavor that somebody published just now.
		err = m.store.Write(ctx, write)
	}
	return f, err
}

func (m *Market) publishIn(tx *store.Tx, nf flavor.NovaFlavor, promoted bool) (flavor.Flavor, error) {
	f, there, err := publishable(tx, nf.ID, nf.Spec)
	switch {
	case err != nil:
		return f, err
	case there && (f.Promoted || !promoted):
		return f, nil
	case there:
		f.Promoted = true
		return f, tx.UpdateFlavor(f)
	}
	f = flavor.Flavor{ID: nf.ID, Spec: nf.Spec, Public: true, Promoted: promoted}
	if !flavor.IsUUID(nf.ID) {
		f.ID = m.newID()
	}
	return f, tx.InsertFlavor(f)
}

// publishable finds what a flavor that is to be published meets in the
// catalogue: itself (there), nothing, or a conflict. An id that is no UUID is
// not taken along, so it meets nothing.
func publishable(tx *store.Tx, id string, spec flavor.Spec) (same flavor.Flavor, there bool, err error) {
	same, err = tx.FlavorByName(spec.Name)
	switch {
	case err == nil && same.Equal(spec):
		return same, true, nil
	case err == nil:
		return same, false, nameTakenBy(same, spec)
	case flavor.CodeOf(err) != flavor.CodeNotFound:
		return same, false, err
	case !flavor.IsUUID(id):
		return same, false, nil
	}
	switch taken, err := tx.Flavor(id); {
	case err == nil:
		return same, false, flavor.Conflict("the catalogue has another flavor with the id %s, named %q: %s; publish this one under an id of its own",
			id, taken.Name, differing(spec, taken.Spec))
	case flavor.CodeOf(err) == flavor.CodeNotFound:
		return same, false, nil
	default:
		return same, false, err
	}
}

// ChangeFlavor publishes, promotes and installs. Everything is checked first,
// in the contract's order, and nothing is done unless all passes. With later the
// caller does not wait for the installs: the operation tells of them, nil where
// there was nothing to install.
func (m *Market) ChangeFlavor(ctx context.Context, p flavor.Principal, id, node string, patch flavor.Patch, later bool) (flavor.Flavor, *flavor.Operation, error) {
	f, targets, publish, promote, err := m.checkChange(ctx, p, id, node, patch, later)
	if err != nil {
		return flavor.Flavor{}, nil, err
	}
	w := &wish{m: m, by: p, later: later, looks: targets}
	if publish {
		if err := m.publishFound(ctx, &f, promote, w.in); err != nil {
			return flavor.Flavor{}, nil, err
		}
	}
	return m.installFound(ctx, f, w, publish)
}

// checkChange finds out what ChangeFlavor is to do, and refuses what it may not.
func (m *Market) checkChange(ctx context.Context, p flavor.Principal, id, node string, patch flavor.Patch, later bool) (f found, targets []*look, publish, promote bool, err error) {
	refused := func(err error) (found, []*look, bool, bool, error) { return found{}, nil, false, false, err }
	yes := func(b *bool) bool { return b != nil && *b }
	if yes(patch.Promoted) && patch.Public != nil && !*patch.Public {
		return refused(flavor.Invalid("public: a promoted flavor is public; leave public out or make it true"))
	}
	if err := patch.Validate(); err != nil {
		return refused(err)
	}
	f, err = m.find(ctx, p, id, node, true)
	if err != nil {
		return refused(err)
	}
	if patch.ID != nil && *patch.ID == id {
		patch.ID = nil // a node's own id, as its region shows it
	}
	if err := unchangeable(f, patch); err != nil {
		return refused(err)
	}
	promote = yes(patch.Promoted) && !f.Promoted
	if promote {
		if err := p.May(flavor.PromoteFlavor); err != nil {
			return refused(err)
		}
	}
	regions, err := m.regions(ctx)
	if err != nil {
		return refused(err)
	}
	targets, err = m.targets(ctx, p, f, regions, patch.Nodes, later)
	if err != nil {
		return refused(err)
	}
	if err := takenBack(p, f, patch); err != nil {
		return refused(err)
	}
	publish = promote || yes(patch.Public) && f.region != ""
	if publish && f.region != "" {
		if err := p.May(flavor.PublishFlavor, f.region); err != nil {
			return refused(err)
		}
	}
	if publish {
		if err := m.mayPublish(ctx, f); err != nil {
			return refused(err)
		}
	}
	if err := m.inTheWay(ctx, f, publish, targets); err != nil {
		return refused(err)
	}
	return f, targets, publish, promote, nil
}

// takenBack refuses to unpublish and to unpromote: 403 to who owns no node.
func takenBack(p flavor.Principal, f found, patch flavor.Patch) error {
	unpromote := patch.Promoted != nil && !*patch.Promoted && f.Promoted
	unpublish := patch.Public != nil && !*patch.Public && f.Public
	switch {
	case (unpromote || unpublish) && !p.Can(flavor.PromoteFlavor) && !slices.ContainsFunc(f.Nodes, func(n string) bool { return p.Can(flavor.PublishFlavor, n) }):
		return flavor.Forbidden("%s owns no region that has %q", p.Name, f.Name)
	case unpromote:
		return flavor.Conflict("promoted: %q is promoted, which is not taken back here; a manager may retire it or delete it under /v1/promotedflavors", f.Name)
	case unpublish:
		return flavor.Conflict("public: %q is published, which is not taken back; DELETE /v1/flavors/%s removes it from your region", f.Name, f.ID)
	}
	return nil
}

// inTheWay refuses where a target has another flavor under f's id or name, or
// where f is retired and not there yet. A target that cannot be asked says
// nothing.
func (m *Market) inTheWay(ctx context.Context, f found, publish bool, targets []*look) error {
	wanted := f.Flavor
	if publish && f.region != "" && !flavor.IsUUID(f.ID) {
		wanted.ID = "" // it gets a new one, which is free everywhere
	}
	return several("nothing was done", m.each(ctx, targets, func(ctx context.Context, l *look) error {
		*l = *m.lookAgain(ctx, wanted, l)
		_, there := l.node(wanted)
		conflict := l.conflict(wanted)
		if conflict != nil {
			if _, left := m.left(ctx, wanted, l, 0, false); left {
				conflict = nil
			}
		}
		switch {
		case conflict != nil:
			return conflict
		case !there && f.Retired && l.err == nil:
			return retired(f.Name)
		case f.region != "" && f.region != l.region.Name && !publish:
			return flavor.Conflict("%q is a private flavor of %s: publish it (\"public\": true) to install it in %s", f.Name, f.region, l.region.Name)
		}
		return nil
	}))
}

func retired(name string) error {
	return flavor.Conflict("%q is retired: it takes no new installs", name)
}

// lookAgain is l, or a second look where l found another flavor in f's way: it
// may be f itself, of which another request had not set the extra specs yet.
func (m *Market) lookAgain(ctx context.Context, f flavor.Flavor, l *look) *look {
	if l.err != nil || l.conflict(f) == nil {
		return l
	}
	w, err := m.writing(ctx, l.region.Name, f.Name)
	if err != nil {
		return &look{region: l.region, err: err}
	}
	defer w.done(ctx)
	return m.ask(ctx, l.region)
}

// unchangeable refuses a change of what PUT /v1/flavors/{id} does not change;
// the same value again is fine.
func unchangeable(f found, patch flavor.Patch) error {
	if patch.ID != nil && *patch.ID != f.ID {
		return flavor.Invalid("id: an id may not change")
	}
	if patch.Retired != nil && *patch.Retired != f.Retired {
		return flavor.Invalid("retired: a manager retires a promoted flavor with PUT /v1/promotedflavors/{id}")
	}
	if err := patch.AcceleratorsUnchanged(f.Spec); err != nil {
		return err
	}
	if ds := f.Differences(patch.Apply(f.Spec)); len(ds) > 0 {
		return flavor.Invalid("%s: may not change here; PUT /v1/regions/{region}/flavors/{id} changes a private flavor, PUT /v1/promotedflavors/{id} a promoted one", ds[0].Field)
	}
	return nil
}

// targets looks at the regions that a PUT names as nodes. One that has the
// flavor already asks for no right and is left out, unless p owns it.
// Who does not wait for the installs waits a part of the time limit for the looks:
// a region that cannot be asked may still be told later.
func (m *Market) targets(ctx context.Context, p flavor.Principal, f found, regions []flavor.Region, nodes *[]string, later bool) ([]*look, error) {
	if nodes == nil {
		return nil, nil
	}
	wanted, registered := slices.Compact(slices.Sorted(slices.Values(*nodes))), names(regions)
	var unknown []flavor.NodeError
	for _, n := range wanted {
		if !slices.Contains(registered, n) {
			unknown = append(unknown, flavor.NodeError{Node: n, Err: unknownNode(n)})
		}
	}
	if err := several("nothing was done", unknown); err != nil {
		return nil, err
	}
	asked := slices.DeleteFunc(slices.Clone(regions), func(r flavor.Region) bool { return !slices.Contains(wanted, r.Name) })
	looks := map[string]*look{}
	looking := ctx
	if later {
		var cancel context.CancelFunc
		looking, cancel = context.WithTimeout(ctx, m.timeout/5)
		defer cancel()
	}
	for name, l := range m.look(looking, asked, alone) {
		own := *l // the look is shared with others who asked
		looks[name] = &own
	}
	has := nodesOf(f.Flavor, looks)
	var targets []*look
	var foreign []flavor.NodeError
	for _, n := range wanted {
		switch err := p.May(flavor.InstallFlavor, n); {
		case err == nil:
			targets = append(targets, looks[n])
		case !slices.Contains(has, n):
			foreign = append(foreign, m.nodeError(ctx, n, err))
		}
	}
	return targets, several("nothing was done", foreign)
}

// mayPublish refuses to publish or promote what would not fit the catalogue.
func (m *Market) mayPublish(ctx context.Context, f found) error {
	if f.region == "" {
		return nil
	}
	if err := f.Validate(); err != nil {
		return flavor.Conflict("%q cannot be published: %s", f.Name, err.Error())
	}
	return m.store.Read(ctx, func(tx *store.Tx) error {
		_, _, err := publishable(tx, f.ID, f.Spec)
		return err
	})
}

// publishFound publishes a private flavor, promotes one of the catalogue, or both;
// and does also in the same transaction.
func (m *Market) publishFound(ctx context.Context, f *found, promote bool, also func(*store.Tx, flavor.Flavor) error) error {
	if f.region == "" {
		return m.promoteFound(ctx, f, also)
	}
	r, err := m.region(ctx, f.region)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, m.timeout)
	defer cancel()
	// It may have been deleted or changed since it was found.
	w, err := m.writing(ctx, f.region, f.Name)
	if err != nil {
		return err
	}
	defer w.done(ctx)
	now, err := m.clouds.Service(r).Get(ctx, f.ID)
	if err != nil {
		return err
	}
	if !now.Equal(f.Spec) {
		return flavor.Conflict("%s: somebody changed the flavor %q meanwhile: %s; read it again", f.region, f.ID, differing(f.Spec, now.Spec))
	}
	published, err := m.publish(ctx, now, f.region, promote, false, also)
	if err != nil {
		return err
	}
	*f = found{Flavor: published}
	return nil
}

// promoteFound promotes a flavor of the catalogue.
func (m *Market) promoteFound(ctx context.Context, f *found, also func(*store.Tx, flavor.Flavor) error) error {
	return m.store.Write(ctx, func(tx *store.Tx) error {
		now, err := tx.Flavor(f.ID)
		if flavor.CodeOf(err) == flavor.CodeNotFound {
			return flavor.NotFound("there is no flavor %q any more", f.ID)
		}
		if err != nil {
			return err
		}
		now.Promoted = true
		if err := tx.UpdateFlavor(now); err != nil {
			return err
		}
		f.Flavor = now
		return also(tx, now)
	})
}

// installFound installs f where w wants it, and is f as it is afterwards: where it
// has just been published, with all the regions that turn out to have it. Whoever
// does not wait gets the operation.
func (m *Market) installFound(ctx context.Context, f found, w *wish, published bool) (flavor.Flavor, *flavor.Operation, error) {
	if f.region != "" {
		return f.Flavor, nil, nil // inTheWay has let no target through but its own region
	}
	if !published {
		if err := m.store.Write(ctx, func(tx *store.Tx) error { return w.in(tx, f.Flavor) }); err != nil {
			return flavor.Flavor{}, nil, err
		}
	}
	if err := several("not installed everywhere", w.grant(ctx, f.Flavor)); err != nil {
		return flavor.Flavor{}, nil, err
	}
	if published {
		regions, err := m.regions(ctx)
		if err != nil {
			return flavor.Flavor{}, nil, err
		}
		m.look(ctx, regions, brief) // and remember what is there
	}
	cat, err := m.store.Catalogue(ctx)
	if err != nil {
		return flavor.Flavor{}, nil, err
	}
	now, ok := cat.ByID(f.ID)
	if !ok {
		now = f.Flavor
	}
	if w.later {
		return now, w.operation, nil
	}
	return now, nil, nil
}
