package simstack

import (
	"cmp"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/flavorsync/flavorsync/internal/flavor"
)

// region is a region's Nova: its flavors and what it remembers of tokens.
type region struct {
	name      string
	collation Collation
	delay     atomic.Int64 // of every answer, a time.Duration

	mu     sync.RWMutex
	last   int                // Nova's own number of the newest flavor
	byID   map[string]*record // by collation key of the id
	byName map[string]*record // by collation key of the name
	sorted []*record          // by collation key of the id, the default order

	believed sync.Map // token → until when its session is taken for good (time.Time)
}

// record is a flavor in Nova's database. It is never changed, only replaced:
// lists are written without the lock.
type record struct {
	number int
	key    string // collation key of the id
	id     string
	flavor.Spec
	described bool // the description is not null
	public    bool
	projects  []string // sorted
	created   int      // order of creation and of change stand for times
	updated   int
}

var (
	errIDTaken   = errors.New("the id is taken")
	errNameTaken = errors.New("the name is taken")
)

func newRegion(name string, c Collation) *region {
	return &region{name: name, collation: c, byID: map[string]*record{}, byName: map[string]*record{}}
}

// find is the flavor that a SELECT by that id finds; nil if none.
func (g *region) find(id string) *record {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return g.byID[g.collation.key(id)]
}

func (g *region) insert(r record) (*record, error) {
	r.key = g.collation.key(r.id)
	g.mu.Lock()
	defer g.mu.Unlock()
	// The order of these two is MariaDB's: the unique key on the id is older.
	if g.byID[r.key] != nil {
		return nil, errIDTaken
	}
	nameKey := g.collation.key(r.Name)
	if g.byName[nameKey] != nil {
		return nil, errNameTaken
	}
	g.last++
	r.number, r.created = g.last, g.last
	g.byID[r.key], g.byName[nameKey] = &r, &r
	at, _ := slices.BinarySearchFunc(g.sorted, r.key, compareKey)
	// A new slice: readers hold the old one.
	g.sorted = slices.Concat(g.sorted[:at], []*record{&r}, g.sorted[at:])
	return &r, nil
}

func compareKey(r *record, key string) int { return cmp.Compare(r.key, key) }

// change replaces the flavor of that id by what fn makes of a copy; nil where
// there is no such flavor. fn may refuse.
func (g *region) change(id string, fn func(*record) error) (*record, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	old := g.byID[g.collation.key(id)]
	if old == nil {
		return nil, nil
	}
	r := *old
	r.ExtraSpecs, r.projects = maps.Clone(old.ExtraSpecs), slices.Clone(old.projects)
	if r.ExtraSpecs == nil {
		r.ExtraSpecs = map[string]string{}
	}
	if err := fn(&r); err != nil {
		return old, err
	}
	r.updated++
	g.byID[r.key], g.byName[g.collation.key(r.Name)] = &r, &r
	at, _ := slices.BinarySearchFunc(g.sorted, r.key, compareKey)
	g.sorted = slices.Clone(g.sorted)
	g.sorted[at] = &r
	return &r, nil
}

func (g *region) remove(id string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	r := g.byID[g.collation.key(id)]
	if r == nil {
		return false
	}
	delete(g.byID, r.key)
	delete(g.byName, g.collation.key(r.Name))
	at, _ := slices.BinarySearchFunc(g.sorted, r.key, compareKey)
	g.sorted = slices.Concat(g.sorted[:at], g.sorted[at+1:])
	return true
}

// all are the flavors in the default order; not to be changed.
func (g *region) all() []*record {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return g.sorted
}

func (g *region) seed(f flavor.NovaFlavor, projects []string) error {
	r := record{
		id: f.ID, Spec: f.Spec.Clone(), described: f.Description != "", public: f.IsPublic,
		projects: slices.Sorted(slices.Values(projects)),
	}
	r.RxTxFactor = cmp.Or(r.RxTxFactor, 1)
	_, err := g.insert(r)
	return err
}

func (g *region) list() []flavor.NovaFlavor {
	var list []flavor.NovaFlavor
	for _, r := range g.all() {
		list = append(list, flavor.NovaFlavor{ID: r.id, Spec: r.Spec.Clone(), IsPublic: r.public})
	}
	slices.SortFunc(list, func(a, b flavor.NovaFlavor) int { return cmp.Compare(a.ID, b.ID) })
	return list
}

func (g *region) access(id string) []string {
	if r := g.find(id); r != nil {
		return slices.Clone(r.projects)
	}
	return nil
}

// believes says whether Nova takes the session for good: a valid one, or one
// revoked since Nova asked Keystone, for as long as it remembers the answer.
func (g *region) believes(t *session, revoked bool, now time.Time, remember time.Duration) bool {
	until, seen := g.believed.Load(t.token)
	fresh := seen && now.Before(until.(time.Time))
	switch {
	case revoked:
		return fresh
	case !fresh && remember > 0:
		g.believed.Store(t.token, now.Add(remember))
	}
	return true
}

// visible says whether a caller of that project who is no admin sees r.
func (r *record) visible(project string) bool {
	return r.public || slices.Contains(r.projects, project)
}

// compareBy orders as the sort key of a list does.
func compareBy(key string, c Collation) func(a, b *record) int {
	number := func(of func(*record) int) func(a, b *record) int {
		return func(a, b *record) int { return cmp.Compare(of(a), of(b)) }
	}
	flag := func(b bool) int {
		if b {
			return 1
		}
		return 0
	}
	switch key {
	case "name":
		return func(a, b *record) int { return strings.Compare(c.key(a.Name), c.key(b.Name)) }
	case "description":
		return func(a, b *record) int {
			return cmp.Or(cmp.Compare(flag(a.described), flag(b.described)), strings.Compare(c.key(a.Description), c.key(b.Description)))
		}
	case "memory_mb":
		return number(func(r *record) int { return r.RAM })
	case "vcpus":
		return number(func(r *record) int { return r.VCPUs })
	case "root_gb":
		return number(func(r *record) int { return r.Disk })
	case "ephemeral_gb":
		return number(func(r *record) int { return r.Ephemeral })
	case "swap":
		return number(func(r *record) int { return r.Swap })
	case "rxtx_factor":
		return func(a, b *record) int { return cmp.Compare(a.RxTxFactor, b.RxTxFactor) }
	case "is_public":
		return number(func(r *record) int { return flag(r.public) })
	case "created_at", "id":
		return number(func(r *record) int { return r.number })
	case "updated_at":
		return number(func(r *record) int { return r.updated })
	case "flavorid":
		return func(a, b *record) int { return strings.Compare(a.key, b.key) }
	}
	return func(a, b *record) int { return 0 } // disabled, vcpu_weight: the same for all
}
