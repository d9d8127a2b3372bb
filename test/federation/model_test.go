package federation

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/flavorsync/flavorsync/internal/flavor"
	"github.com/flavorsync/flavorsync/internal/simstack"
	"github.com/flavorsync/flavorsync/internal/store"
)

var (
	// The same each time: a change does not fail by the luck of another's seed. `make
	// soak` looks for what these sequences do not find.
	seed      = flag.Uint64("seed", 1, "of the first random sequence; 0 is another each time")
	sequences = flag.Int("sequences", 1000, "how many random sequences are tried")
)

// Whatever happens in whatever order, once all regions answer again and nothing is
// left to do the federation is as a simple model of it says: what is wanted is
// there once, what is not is not, nothing of a region's own was touched, and what
// we say of it is true. Each sequence has a seed of its own, the next number.
func TestModel(t *testing.T) {
	first := *seed
	if first == 0 {
		first = rand.Uint64N(1 << 40)
	}
	t.Logf("%d sequences from -seed=%d on", *sequences, first)
	template := place{Driver: "sqlite", DSN: filepath.Join(t.TempDir(), "template.db"), Keyset: filepath.Join(t.TempDir(), "keyset.json")}
	q, err := template.migrated(t.Context())
	if err == nil {
		err = q.end()
	}
	if err != nil {
		t.Fatal(err)
	}
	empty, err := os.ReadFile(template.DSN)
	if err != nil {
		t.Fatal(err)
	}
	var next, failed atomic.Int64
	var working sync.WaitGroup
	for range 4 * runtime.GOMAXPROCS(0) { // most of the time is waiting
		working.Go(func() {
			for i := next.Add(1) - 1; i < int64(*sequences) && failed.Load() < 3; i = next.Add(1) - 1 {
				s := first + uint64(i)
				try := func(plan []uint64) ([]string, error) { return tried(t.Context(), s, plan, template.Keyset, empty) }
				plan := planned(s)
				told, err := try(plan)
				if err == nil {
					continue
				}
				failed.Add(1)
				t.Errorf("-seed=%d -sequences=1: %v\n%s", s, err, strings.Join(told, "\n"))
				if told, err := shrunk(plan, try); err != nil {
					t.Errorf("-seed=%d fails also with no more than this: %v\n%s", s, err, strings.Join(told, "\n"))
				}
			}
		})
	}
	working.Wait()
}

// planned is what is done in a sequence: a number of which a step is made by chance,
// or allRests.
func planned(seed uint64) (plan []uint64) {
	random := rand.New(rand.NewPCG(seed, 1))
	for range 1 + random.IntN(2) {
		for range 3 + random.IntN(8) {
			plan = append(plan, random.Uint64()|1)
		}
		plan = append(plan, allRests)
	}
	return plan
}

const allRests = 0

// tried is a sequence from its beginning, and what it told.
func tried(ctx context.Context, seed uint64, plan []uint64, keyset string, empty []byte) ([]string, error) {
	m, err := newModel(ctx, seed, keyset, empty)
	if err == nil {
		err = m.play(ctx, plan)
	}
	return m.told, errors.Join(err, m.close())
}

// shrinkFor is how long it is tried to do without some of what a failing sequence
// does.
const shrinkFor = time.Minute

// shrunk leaves out of a plan that fails what it fails without, and tells what is
// left; no error where that is all of it, or where it does not fail again.
func shrunk(plan []uint64, try func([]uint64) ([]string, error)) (told []string, failure error) {
	over := time.Now().Add(shrinkFor)
	for size := len(plan) / 2; size > 0; size /= 2 {
		for i := 0; i+size < len(plan) && time.Now().Before(over); {
			less := slices.Concat(plan[:i], plan[i+size:])
			if t, err := try(less); err != nil {
				plan, told, failure = less, t, err
			} else {
				i += size
			}
		}
	}
	return told, failure
}

// migrated is a process at a new database.
func (p place) migrated(ctx context.Context) (*process, error) {
	if err := p.migrate(ctx); err != nil {
		return nil, err
	}
	return begin(ctx, p, flavor.Policy{}, true, nil)
}

// modelled is what is known of a flavor of the catalogue.
type modelled struct {
	id, name string
	promoted bool
}

// want is what is known of a flavor in a region.
type want int

const (
	absent  want = iota // it is not there
	present             // it is there
	either              // something failed, or somebody meddled: there or not, but not half
)

// pair is a flavor in a region.
type pair struct{ flavor, region string }

// model is one sequence: what has been done, and what is to be.
type model struct {
	place
	random   *rand.Rand
	dir      string
	sole     bool
	hangs    bool
	cloud    *simstack.Stack
	stop     func()
	policy   flavor.Policy
	installs bool // at some time since all was quiet
	repairs  bool
	q        *process
	replicas []*process // of other processes, which seem to be dead

	flavors []*modelled
	regions []string // that are registered
	wants   map[pair]want
	created map[pair]bool
	drifted map[pair]bool
	refused map[pair]bool
	retired map[string]bool
	// own are a region's own flavors, by region and id: as one of these.
	own   map[pair][]flavor.NovaFlavor
	loose map[string]bool // names of which a failure may have left something, for somebody to see to
	told  []string
}

// The time limits of a region: the short one is for sequences in which some hang.
const (
	patient   = 20 * time.Second
	impatient = 150 * time.Millisecond
)

var allRegions = []string{"Lannion2", "Spain2", "Trento"}

func newModel(ctx context.Context, seed uint64, keyset string, empty []byte) (*model, error) {
	m := &model{
		random: rand.New(rand.NewPCG(seed, 2)), cloud: simstack.New(simstack.Options{Regions: allRegions}),
		wants: map[pair]want{}, created: map[pair]bool{}, drifted: map[pair]bool{}, refused: map[pair]bool{}, retired: map[string]bool{},
		own: map[pair][]flavor.NovaFlavor{}, loose: map[string]bool{},
	}
	m.sole = m.random.IntN(2) == 0
	m.hangs = m.random.IntN(25) == 0
	var err error
	if m.dir, err = os.MkdirTemp("", "model"); err != nil {
		return m, err
	}
	m.place = place{Driver: "sqlite", DSN: filepath.Join(m.dir, "m.db"), Keyset: keyset, Timeout: patient}
	if m.hangs {
		m.Timeout = impatient
	}
	if err := os.WriteFile(m.DSN, empty, 0o600); err != nil {
		return m, err
	}
	if _, m.stop, err = m.cloud.Start("127.0.0.1:0"); err != nil {
		return m, err
	}
	m.Keystone = m.cloud.KeystoneURL()
	m.choosePolicy()
	if err := m.begin(ctx); err != nil {
		return m, err
	}
	m.note(nil, "one process alone: %v, policy %s", m.sole, m.policyText())
	for _, r := range allRegions[:2] {
		m.register(ctx, r)
	}
	return m, nil
}

// endAll ends all processes in peace.
func (m *model) endAll() (err error) {
	for _, q := range append(m.replicas, m.q) {
		if q != nil {
			err = errors.Join(err, q.end())
		}
	}
	m.replicas, m.q = nil, nil
	return err
}

func (m *model) close() error {
	err := m.endAll()
	m.cloud.ClearFaults()
	if m.stop != nil {
		m.stop()
	}
	return errors.Join(err, os.RemoveAll(m.dir))
}

func (m *model) choosePolicy() {
	installs, repairs := m.random.IntN(2) == 0, m.random.IntN(2) == 0
	m.policy = flavor.Policy{PolicyPart: flavor.PolicyPart{Install: &installs, Repair: &repairs}}
	m.counts(m.policy)
}

// counts notes that a process with that policy was at work.
func (m *model) counts(p flavor.Policy) {
	m.installs, m.repairs = m.installs || *p.Install, m.repairs || *p.Repair
}

func (m *model) policyText() string {
	return fmt.Sprintf("installs %v, repairs %v", *m.policy.Install, *m.policy.Repair)
}

func (m *model) begin(ctx context.Context) (err error) {
	if m.q, err = begin(ctx, m.place, m.policy, m.sole, nil); err != nil {
		return err
	}
	return m.q.takeOver(ctx)
}

func (m *model) note(err error, format string, args ...any) {
	line := fmt.Sprintf(format, args...)
	if err != nil {
		line += ": " + err.Error()
	}
	m.told = append(m.told, line)
}

// play goes through a sequence, with a rest or two in which all is compared.
func (m *model) play(ctx context.Context, plan []uint64) error {
	for _, step := range plan {
		do := m.rest
		if step != allRests {
			m.random = rand.New(rand.NewPCG(step, 1))
			do = m.step
		}
		if err := do(ctx); err != nil {
			return err
		}
	}
	return nil
}

// step does something.
func (m *model) step(ctx context.Context) error {
	steps := []struct {
		weight int
		do     func(context.Context) error
	}{
		{3, m.createPromoted}, {1, m.createPublic}, {5, m.install}, {3, m.installLater}, {3, m.remove}, {1, m.deletePromoted},
		{2, m.describe}, {1, m.retire}, {1, m.addRegion}, {1, m.removeRegion}, {1, m.changeSettings}, {2, m.deleteBehind}, {2, m.alterBehind},
		{1, m.createOwn}, {1, m.resizeOwn}, {4, m.fault}, {1, m.heal}, {4, m.turn}, {2, m.restart}, {2, m.wakeReplica},
	}
	total := 0
	for _, s := range steps {
		total += s.weight
	}
	at := m.random.IntN(total)
	for _, s := range steps {
		if at -= s.weight; at < 0 {
			return s.do(ctx)
		}
	}
	return nil
}

func (m *model) newID() string {
	var id uuid.UUID
	for i := range id {
		id[i] = byte(m.random.UintN(256))
	}
	id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80
	return id.String()
}

func (m *model) spec(name string) flavor.Spec {
	return flavor.Spec{
		Name: name, VCPUs: 1 + m.random.IntN(4), RAM: 1024, Disk: 10, RxTxFactor: 1,
		ExtraSpecs: map[string]string{"hw:cpu_policy": "shared", "quota:vif": "1"},
	}
}

func patchOf(id string, s flavor.Spec) flavor.Patch {
	return flavor.Patch{ID: &id, Name: &s.Name, VCPUs: &s.VCPUs, RAM: &s.RAM, Disk: &s.Disk, ExtraSpecs: &s.ExtraSpecs}
}

func (m *model) createPromoted(ctx context.Context) error {
	id := m.newID()
	s := m.spec(fmt.Sprintf("flavor-%d", len(m.flavors)))
	f, err := m.q.market.CreatePromoted(ctx, manager, patchOf(id, s))
	m.note(err, "promote %s", s.Name)
	if err != nil || f.ID != id {
		return fmt.Errorf("promoting it: %s, %w", f.ID, err)
	}
	m.flavors = append(m.flavors, &modelled{id, s.Name, true})
	return nil
}

func (m *model) createPublic(ctx context.Context) error {
	if len(m.regions) == 0 {
		return nil
	}
	r, id, public := m.region(), m.newID(), true
	s := m.spec(fmt.Sprintf("flavor-%d", len(m.flavors)))
	patch := patchOf(id, s)
	patch.Nodes, patch.Public = &[]string{r}, &public
	f, err := m.q.market.CreateFlavor(ctx, owner(r), patch)
	m.note(err, "publish %s in %s", s.Name, r)
	m.flavors = append(m.flavors, &modelled{id, s.Name, false})
	switch {
	case err != nil:
		m.loose[s.Name] = true
	case f.ID != id:
		return fmt.Errorf("it was published as %s, not %s", f.ID, id)
	default:
		m.wants[pair{id, r}], m.created[pair{id, r}] = present, true
	}
	return nil
}

// region is one that is registered.
func (m *model) region() string { return m.regions[m.random.IntN(len(m.regions))] }

// any is a flavor that somebody made, which may be gone.
func (m *model) any() *modelled {
	if len(m.flavors) == 0 || len(m.regions) == 0 {
		return nil
	}
	return m.flavors[m.random.IntN(len(m.flavors))]
}

func (m *model) someRegions() []string {
	all := slices.Clone(m.regions)
	m.random.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all[:1+m.random.IntN(len(all))]
}

func (m *model) install(ctx context.Context) error { return m.installIn(ctx, false) }

func (m *model) installLater(ctx context.Context) error { return m.installIn(ctx, true) }

func (m *model) installIn(ctx context.Context, later bool) error {
	f := m.any()
	if f == nil {
		return nil
	}
	nodes := m.someRegions()
	_, _, err := m.q.market.ChangeFlavor(ctx, manager, f.id, "", flavor.Patch{Nodes: &nodes}, later)
	m.note(err, "install %s in %v, later: %v", f.name, nodes, later)
	for _, r := range nodes {
		p := pair{f.id, r}
		switch {
		case err != nil || m.drifted[p] || m.wants[p] == either:
			m.wants[p] = either
		case (m.conflicts(f, r) || m.retired[f.id]) && later:
			m.wants[p] = either // the region could not be asked, and it is refused later
		default:
			m.created[p] = m.created[p] || m.wants[p] == absent
			m.wants[p] = present
		}
		if err == nil {
			delete(m.refused, p)
		}
		if _, listed := m.catalogued(ctx, f); !listed {
			m.wants[p] = either // its last region was forgotten, and may have it as its own
			continue
		}
		if err == nil && !later && !m.loose[f.name] && !m.whole(ctx, f, r) {
			return fmt.Errorf("%s was installed in %s, and is not there", f.name, r)
		}
	}
	return nil
}

// conflicts says whether a region's own flavor has f's name.
func (m *model) conflicts(f *modelled, region string) bool {
	for p, as := range m.own {
		if p.region == region && as[0].Name == f.name {
			return true
		}
	}
	return false
}

// spec of f as the catalogue has it; false where it is gone.
func (m *model) catalogued(ctx context.Context, f *modelled) (flavor.Flavor, bool) {
	cat, err := m.q.store.CatalogueNow(ctx)
	if err != nil {
		return flavor.Flavor{}, false
	}
	return cat.ByID(f.id)
}

// whole says whether region has f, as the catalogue has it.
func (m *model) whole(ctx context.Context, f *modelled, region string) bool {
	now, there := m.catalogued(ctx, f)
	return there && slices.ContainsFunc(m.cloud.Flavors(region), func(nf flavor.NovaFlavor) bool { return nf.IsPublic && nf.Equal(now.Spec) })
}

func (m *model) remove(ctx context.Context) error {
	f := m.any()
	if f == nil {
		return nil
	}
	r := m.region()
	pending := m.pending(ctx, f)
	err := m.q.market.DeleteFlavor(ctx, owner(r), f.id, r)
	m.note(err, "%s's owner removes %s", r, f.name)
	p := pair{f.id, r}
	if err != nil {
		if m.wants[p] != absent || m.drifted[p] {
			m.wants[p] = either
		}
		return nil
	}
	m.wants[p] = absent
	if m.drifted[p] {
		m.wants[p] = either
	}
	m.refused[p] = f.promoted
	if !f.promoted && pending { // with its last node a flavor leaves the catalogue
		for _, r := range m.regions {
			m.wants[pair{f.id, r}] = either
		}
	}
	return nil
}

// pending says whether something that was asked for with f is still to be done.
func (m *model) pending(ctx context.Context, f *modelled) bool {
	n, err := m.q.count(ctx, "SELECT COUNT(*) FROM operation_nodes JOIN operations ON id = operation_id WHERE flavor_id = ? AND operation_nodes.state IN ('waiting', 'running')", f.id)
	return err != nil || n > 0
}

func (m *model) deletePromoted(ctx context.Context) error {
	f := m.any()
	if f == nil {
		return nil
	}
	pending := m.pending(ctx, f)
	err := m.q.market.DeletePromoted(ctx, manager, f.id, true)
	m.note(err, "delete %s", f.name)
	for _, r := range m.regions {
		p := pair{f.id, r}
		switch {
		case flavor.CodeOf(err) == flavor.CodeNotFound:
		case pending, err == nil && m.drifted[p], err != nil && flavor.CodeOf(err) != flavor.CodeNotAllowed:
			m.wants[p] = either
		case err == nil && m.wants[p] == present:
			m.wants[p] = absent
		}
	}
	return nil
}

func (m *model) describe(ctx context.Context) error {
	f := m.any()
	if f == nil {
		return nil
	}
	description := fmt.Sprintf("described %d", m.random.IntN(1000))
	specs := map[string]string{"hw:cpu_policy": "dedicated", "own:number": description}
	pending := m.pending(ctx, f)
	_, err := m.q.market.ChangePromoted(ctx, manager, f.id, flavor.Patch{Description: &description, ExtraSpecs: &specs})
	m.note(err, "describe %s", f.name)
	if flavor.CodeOf(err) == flavor.CodeNotFound {
		return nil
	}
	for _, r := range m.regions {
		if p := (pair{f.id, r}); m.drifted[p] || m.wants[p] == present && !m.created[p] || m.wants[p] == present && pending {
			m.wants[p] = either // it may be another's then, or was asked for as it was
		}
	}
	return nil
}

func (m *model) retire(ctx context.Context) error {
	f := m.any()
	if f == nil {
		return nil
	}
	retired, pending := m.random.IntN(3) > 0, m.pending(ctx, f)
	_, err := m.q.market.ChangePromoted(ctx, manager, f.id, flavor.Patch{Retired: &retired})
	m.note(err, "retire %s: %v", f.name, retired)
	for _, r := range m.regions {
		if p := (pair{f.id, r}); err == nil && (pending || m.drifted[p] || m.installs && m.wants[p] == absent) {
			m.wants[p] = either
		}
	}
	if err == nil {
		m.retired[f.id] = retired
	}
	return nil
}

func (m *model) register(ctx context.Context, r string) {
	url, user, password, tenant := m.Keystone, "operator", flavor.Secret("operator-secret"), "operators"
	_, err := m.q.market.CreateInfrastructure(ctx, manager, flavor.RegionPatch{Name: &r, KeystoneURL: &url, Username: &user, Password: &password, Tenant: &tenant})
	m.note(err, "register %s", r)
	if err == nil {
		m.regions = append(m.regions, r)
		slices.Sort(m.regions)
	}
}

func (m *model) addRegion(ctx context.Context) error {
	for _, r := range allRegions {
		if !slices.Contains(m.regions, r) {
			m.register(ctx, r)
			for _, f := range m.flavors {
				// One from before is its own: nobody changes it with the catalogue.
				p := pair{f.id, r}
				m.wants[p] = either
				m.drifted[p] = slices.ContainsFunc(m.cloud.Flavors(r), func(nf flavor.NovaFlavor) bool { return nf.ID == f.id })
			}
			return nil
		}
	}
	return nil
}

func (m *model) removeRegion(ctx context.Context) error {
	if len(m.regions) < 2 {
		return nil
	}
	r, force := m.region(), m.random.IntN(4) == 0
	pending := map[string]bool{}
	for _, f := range m.flavors {
		pending[f.id] = !f.promoted && m.pending(ctx, f)
	}
	err := m.q.market.DeleteInfrastructure(ctx, manager, r, force)
	m.note(err, "forget %s, by force: %v", r, force)
	if err == nil {
		m.regions = slices.DeleteFunc(m.regions, func(name string) bool { return name == r })
		for _, f := range m.flavors {
			p := pair{f.id, r}
			delete(m.refused, p)
			delete(m.created, p)
			delete(m.drifted, p)
			if pending[f.id] { // with its last node it leaves the catalogue
				for _, r := range m.regions {
					m.wants[pair{f.id, r}] = either
				}
			}
		}
	}
	return nil
}

func (m *model) changeSettings(ctx context.Context) error {
	if len(m.regions) == 0 {
		return nil
	}
	r, password := m.region(), flavor.Secret("operator-secret")
	nova := ""
	if m.random.IntN(2) == 0 {
		nova = m.cloud.NovaURL(r)
	}
	_, err := m.q.market.ChangeInfrastructure(ctx, manager, r, flavor.RegionPatch{NovaURL: &nova, Password: &password})
	m.note(err, "change the settings of %s", r)
	return nil
}

// ours is one of our flavors that a region has now; false where it has none.
func (m *model) ours() (string, flavor.NovaFlavor, bool) {
	if len(m.regions) == 0 {
		return "", flavor.NovaFlavor{}, false
	}
	r := m.region()
	all := slices.DeleteFunc(m.cloud.Flavors(r), func(nf flavor.NovaFlavor) bool {
		_, own := m.own[pair{nf.ID, r}]
		return own || !slices.ContainsFunc(m.flavors, func(f *modelled) bool { return f.id == nf.ID })
	})
	if len(all) == 0 {
		return r, flavor.NovaFlavor{}, false
	}
	return r, all[m.random.IntN(len(all))], true
}

func (m *model) deleteBehind(ctx context.Context) error {
	if r, nf, there := m.ours(); there {
		m.cloud.DeleteFlavor(r, nf.ID)
		m.note(nil, "somebody deletes %s in %s", nf.Name, r)
		m.meddled(ctx, pair{nf.ID, r})
	}
	return nil
}

func (m *model) alterBehind(ctx context.Context) error {
	r, nf, there := m.ours()
	if !there {
		return nil
	}
	m.cloud.DeleteFlavor(r, nf.ID)
	switch m.random.IntN(3) {
	case 0:
		nf.RAM += 512
	case 1:
		nf.Description = "by hand"
	default:
		nf.ExtraSpecs = map[string]string{"by:hand": "1"}
	}
	m.cloud.AddFlavor(r, nf)
	m.note(nil, "somebody alters %s in %s", nf.Name, r)
	m.meddled(ctx, pair{nf.ID, r})
	return nil
}

func (m *model) meddled(ctx context.Context, p pair) {
	m.drifted[p] = true
	if m.wants[p] == absent || m.pending(ctx, &modelled{id: p.flavor}) { // it may be half-way
		m.wants[p] = either
	}
}

// createOwn has a region make a flavor of its own, sometimes in the way of one of
// ours.
func (m *model) createOwn(context.Context) error {
	if len(m.regions) == 0 {
		return nil
	}
	r := m.region()
	s := m.spec(fmt.Sprintf("own-%d", len(m.told)))
	s.RAM = 777
	if f := m.any(); f != nil && m.random.IntN(2) == 0 {
		s.Name = f.name
		m.wants[pair{f.id, r}] = either
	}
	if slices.ContainsFunc(m.cloud.Flavors(r), func(nf flavor.NovaFlavor) bool { return nf.Name == s.Name }) {
		return nil
	}
	nf := flavor.NovaFlavor{ID: m.newID(), Spec: s, IsPublic: true}
	m.cloud.AddFlavor(r, nf)
	m.own[pair{nf.ID, r}] = []flavor.NovaFlavor{nf}
	m.note(nil, "%s makes a %s of its own", r, s.Name)
	return nil
}

// resizeOwn is a careful change.
func (m *model) resizeOwn(ctx context.Context) error {
	for _, p := range slices.SortedFunc(maps.Keys(m.own), func(a, b pair) int { return strings.Compare(a.flavor+a.region, b.flavor+b.region) }) {
		as := m.own[p]
		if len(as) > 1 || !slices.Contains(m.regions, p.region) {
			continue
		}
		changed := as[0]
		changed.RAM = 778 + m.random.IntN(1000)
		token := flavor.Secret(m.cloud.IssueToken("operator", "operators"))
		_, err := m.q.market.ChangeRegionFlavor(ctx, owner(p.region), p.region, token, p.flavor, flavor.Patch{RAM: &changed.RAM})
		m.note(err, "%s resizes its %s", p.region, changed.Name)
		m.own[p] = []flavor.NovaFlavor{changed}
		if err != nil {
			m.own[p] = append(m.own[p], as[0])
		}
		return nil
	}
	return nil
}

func (m *model) fault(context.Context) error {
	kinds := []simstack.Kind{simstack.ServerError, simstack.Unavailable, simstack.Refuse, simstack.Cut, simstack.Lost}
	f := simstack.Fault{Service: simstack.Nova, After: m.random.IntN(4), Times: m.random.IntN(4)}
	f.Kind = kinds[m.random.IntN(len(kinds))]
	if m.hangs && m.random.IntN(2) == 0 {
		f.Kind = simstack.Hang
		if m.random.IntN(2) == 0 {
			f.Kind, f.Delay = simstack.Slow, 200*time.Millisecond // answered too late
		}
	}
	f.Method = []string{"", "POST", "DELETE", "PUT", "GET"}[m.random.IntN(5)]
	r := allRegions[m.random.IntN(len(allRegions))]
	m.cloud.Fault(r, f)
	m.note(nil, "%s fails: %s %s after %d, %d times", r, f.Kind, f.Method, f.After, f.Times)
	return nil
}

func (m *model) heal(context.Context) error {
	m.cloud.ClearFaults()
	m.note(nil, "all regions are well")
	return nil
}

// turn makes some of what waits due, and has the engine work on it.
func (m *model) turn(ctx context.Context) error {
	err := m.q.exec(ctx, "UPDATE looks SET due = 0", "UPDATE operation_nodes SET due = 0 WHERE state = 'waiting'")
	m.q.engine.Step(ctx)
	m.q.engine.Wait()
	m.note(err, "the engine turns")
	return err
}

// restart goes on with another process, and perhaps another policy. Where it is not
// the only one the last one is not quite dead.
func (m *model) restart(ctx context.Context) error {
	last := m.q
	if m.sole {
		if err := last.end(); err != nil {
			return err
		}
	} else {
		m.replicas = append(m.replicas, last)
	}
	if m.random.IntN(2) == 0 {
		m.choosePolicy()
	}
	m.note(nil, "a process begins, policy %s", m.policyText())
	return m.begin(ctx)
}

// wakeReplica has a process go on that has not been heard of for a while.
func (m *model) wakeReplica(ctx context.Context) error {
	if len(m.replicas) == 0 {
		return nil
	}
	m.note(nil, "an older process wakes")
	q := m.replicas[m.random.IntN(len(m.replicas))]
	q.engine.Step(ctx)
	q.engine.Wait()
	m.installs, m.repairs = true, true // it may have another policy
	return q.market.Recover(ctx)
}

// rest lets all regions answer and everything come to its end, and compares.
func (m *model) rest(ctx context.Context) error {
	m.cloud.ClearFaults()
	m.note(nil, "all rests")
	if err := m.endAll(); err != nil {
		return err
	}
	m.Timeout = patient
	if err := m.begin(ctx); err != nil {
		return err
	}
	for range 2 { // what was written meanwhile overtook the look
		if err := m.q.exec(ctx, "UPDATE looks SET due = 0"); err != nil {
			return err
		}
		if err := m.q.settle(ctx, func() error { return m.q.later(ctx) }); err != nil {
			return err
		}
	}
	if m.hangs {
		m.Timeout = impatient
	}
	// What was seen a moment ago is told of a second later, or by another process.
	if err := errors.Join(m.endAll(), m.begin(ctx)); err != nil {
		return err
	}
	cat, err := m.q.store.CatalogueNow(ctx)
	if err != nil {
		return err
	}
	for _, r := range m.regions {
		err = errors.Join(err, m.compareRegion(ctx, cat, r))
	}
	m.installs, m.repairs = *m.policy.Install, *m.policy.Repair
	return err
}

// compareRegion compares what a region has with what it is to have, and what is
// said of it with what it has; and goes on from there.
func (m *model) compareRegion(ctx context.Context, cat *store.Catalogue, r string) error {
	wrong := func(format string, args ...any) error {
		return fmt.Errorf("%s: %s; it has %+v, noted are %+v, drift %+v", r, fmt.Sprintf(format, args...), m.cloud.Flavors(r), cat.In(r), cat.Drift)
	}
	byID, byName := map[string]flavor.NovaFlavor{}, map[string]flavor.NovaFlavor{}
	for _, nf := range m.cloud.Flavors(r) {
		byID[nf.ID], byName[nf.Name] = nf, nf
	}
	for p, as := range m.own {
		if p.region != r {
			continue
		}
		i := slices.IndexFunc(as, func(one flavor.NovaFlavor) bool { return gocmp.Equal(one, byID[p.flavor]) })
		if i < 0 {
			return wrong("its own %s is gone, or another: %+v", p.flavor, as)
		}
		m.own[p] = as[i : i+1]
	}
	rows := map[string]flavor.Installation{}
	for _, row := range cat.In(r) {
		rows[row.FlavorID] = row
	}
	known := map[string]bool{}
	for _, f := range m.flavors {
		known[f.id] = true
		p := pair{f.id, r}
		now, listed := cat.ByID(f.id)
		nf, there := byName[f.name]
		whole := listed && there && now.Equal(nf.Spec) && nf.IsPublic
		d, drifted := cat.DriftIn(f.id, r)
		conflict := m.conflicts(f, r)
		switch expected := m.expected(p, listed && f.promoted, drifted); {
		case conflict && whole:
			return wrong("it has two named %s", f.name)
		case conflict, m.loose[f.name]:
		case expected == present && !whole:
			return wrong("%s is wanted, and not there", f.name)
		case expected == absent && byID[f.id].ID != "":
			return wrong("%s is not wanted, and there", f.name)
		case expected == either && listed && byID[f.id].ID != "" && !whole && !m.drifted[p] && !drifted:
			return wrong("%s is there by half", f.name)
		}
		row, noted := rows[f.id]
		if whole != (noted && (!drifted || d.Kind != flavor.Differs)) || whole && row.NodeID != nf.ID {
			return wrong("%s is there: %v, and noted: %v", f.name, whole, noted)
		}
		m.wants[p], m.created[p], m.drifted[p], m.refused[p] = absent, row.Created, drifted, cat.Refuses(f.id, r)
		if whole {
			m.wants[p] = present
		} else if byID[f.id].ID != "" {
			m.wants[p] = either
			m.drifted[p] = true
		}
	}
	for id, nf := range byID {
		if _, own := m.own[pair{id, r}]; !own && !known[id] && !m.loose[nf.Name] {
			return wrong("nobody made %s (%s)", nf.Name, id)
		}
	}
	return m.compliant(ctx, cat, r, byName, byID)
}

// expected is what is to be of p, where all rests.
func (m *model) expected(p pair, promoted, drifted bool) want {
	automatic := promoted && *m.policy.Install && !m.refused[p] && !m.retired[p.flavor]
	switch {
	case m.drifted[p] || drifted:
		if *m.policy.Repair && m.created[p] && m.wants[p] == present && promoted && !m.retired[p.flavor] && !m.refused[p] {
			return present
		}
		return either
	case m.wants[p] != absent:
		return m.wants[p]
	case automatic:
		return present
	case m.installs && promoted:
		return either // it was wanted for a while
	}
	return absent
}

// compliant compares what is said of a region with what it has.
func (m *model) compliant(ctx context.Context, cat *store.Catalogue, r string, byName, byID map[string]flavor.NovaFlavor) error {
	c, _, err := m.q.market.Compliance(ctx, manager, r)
	if err != nil {
		return err
	}
	said := map[string]flavor.PairState{}
	for _, p := range c.Flavors {
		said[p.FlavorID] = p.State
	}
	for _, f := range cat.Promoted {
		nf, there := byName[f.Name]
		_, other := byID[f.ID]
		want := flavor.PairMissing
		switch {
		case there && f.Equal(nf.Spec) && f.Retired:
			want = flavor.PairExtra
		case there && f.Equal(nf.Spec):
			want = flavor.PairPresent
		case f.Retired:
			want = ""
		case there, other:
			want = flavor.PairDiffers
		}
		if said[f.ID] != want {
			return fmt.Errorf("%s: %s is said to be %q, and is %q", r, f.Name, said[f.ID], want)
		}
	}
	return nil
}
