// Package marketplace is what the product does: list, create, publish, promote,
// install and remove flavors, and register the regions they live in. The rules
// are here, once; the HTTP API and the command line call them.
package marketplace

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/flavorsync/flavorsync/internal/flavor"
	"github.com/flavorsync/flavorsync/internal/glue2"
	"github.com/flavorsync/flavorsync/internal/keyed"
	"github.com/flavorsync/flavorsync/internal/openstack"
	"github.com/flavorsync/flavorsync/internal/store"
)

// Config is what a Market works with. Store, Clouds and Log are required.
type Config struct {
	Store  *store.Store
	Clouds *openstack.Clouds
	Log    *slog.Logger
	// RegionTimeout bounds what one region may cost one request.
	RegionTimeout time.Duration
	// MaxInFlight is how many calls the Clouds make at once; 0 is 32. Regions
	// that hang get half of them at most.
	MaxInFlight int
	// Sole: no other process works on this database (SQLite), so a stored
	// change that is not under way here is under way nowhere.
	Sole bool
	// AnswersOnly: other processes see to what nobody waits for.
	AnswersOnly bool

	// Pricing is the formula of products that have no price of their own, if it
	// is configured, and the currency and period of all that name none.
	Pricing flavor.Pricing
	// Category is that of products that name none, nor have an availability zone.
	Category string
	// Provider is the id of the UCloud provider we are; "" is none.
	Provider string
	// KeepAudit is how long the lines of the audit are kept; 0 is for ever.
	KeepAudit time.Duration
	// SweepInterval is how often each region is looked at; 0 is a minute.
	SweepInterval time.Duration
	// Promotion is what happens to promoted flavors by itself.
	Promotion flavor.Policy
	// GLUE2 says which regions are sites of EGI.
	GLUE2 glue2.Config
}

// Market applies the rules of the marketplace. Its methods are safe for
// concurrent use, and their errors are *flavor.Error where a client may read
// them.
type Market struct {
	store       *store.Store
	clouds      *openstack.Clouds
	log         *slog.Logger
	timeout     time.Duration
	sweep       time.Duration
	policy      flavor.Policy
	sole        bool
	now         func() time.Time
	random      func() float64 // from 0 to 1
	newID       func() string
	answersOnly bool

	instance string // of this process, as the owner of stored changes

	pricing  flavor.Pricing
	category string
	provider string
	glue2    glue2.Config
	shelf    atomic.Pointer[shelf]

	keepAudit time.Duration
	refusals  *refusals

	working sync.WaitGroup // looks, which may outlast the request

	locks   *keyed.Semaphores[string] // by region and flavor: one writer in this process
	flights flights
	turns   turns

	surveyed  atomic.Pointer[surveyed]
	sightings atomic.Pointer[sightings]

	work   chan struct{} // holds a token while something may be due
	slow   chan struct{} // looks at regions that hung the last time
	active sync.Map      // ids of the stored changes under way in this process
}

// New makes a Market. Close it.
func New(cfg Config) *Market {
	return &Market{
		store: cfg.Store, clouds: cfg.Clouds, log: cfg.Log,
		timeout: cfg.RegionTimeout, sweep: cmp.Or(cfg.SweepInterval, time.Minute), policy: cfg.Promotion, sole: cfg.Sole, answersOnly: cfg.AnswersOnly,
		now: time.Now, newID: uuid.NewString, random: rand.Float64, instance: uuid.NewString(), work: make(chan struct{}, 1),
		pricing: cfg.Pricing, category: cfg.Category, provider: cfg.Provider, glue2: cfg.GLUE2,
		keepAudit: cfg.KeepAudit, refusals: newRefusals(),
		locks: keyed.New[string](1), slow: make(chan struct{}, max(1, cmp.Or(cfg.MaxInFlight, 32)/2)),
	}
}

// Close waits for the looks under way, each within its time limit.
func (m *Market) Close() { m.working.Wait() }

// Work holds a token when something may have become due: a region to be looked at,
// or something that is wanted of one.
func (m *Market) Work() <-chan struct{} { return m.work }

func (m *Market) wake() {
	select {
	case m.work <- struct{}{}:
	default:
	}
}

// region reads a registered region.
func (m *Market) region(ctx context.Context, name string) (r flavor.Region, err error) {
	err = m.store.Read(ctx, func(tx *store.Tx) error {
		r, err = tx.Region(name)
		return err
	})
	if flavor.CodeOf(err) == flavor.CodeNotFound {
		return r, flavor.NotFound("no region %q is registered: GET /v1/regions lists them", name)
	}
	return r, err
}

// regions reads all registered regions, by name.
func (m *Market) regions(ctx context.Context) (rs []flavor.Region, err error) {
	err = m.store.Read(ctx, func(tx *store.Tx) error {
		rs, err = tx.Regions()
		return err
	})
	return rs, err
}

// where keeps the regions in which p may do a.
func where(p flavor.Principal, a flavor.Action, regions []flavor.Region) []flavor.Region {
	var mine []flavor.Region
	for _, r := range regions {
		if p.Can(a, r.Name) {
			mine = append(mine, r)
		}
	}
	return mine
}

func names(regions []flavor.Region) []string {
	ns := make([]string, len(regions))
	for i, r := range regions {
		ns[i] = r.Name
	}
	return ns
}

// nodeError turns any failure at a node into one that a client may read; what
// is not a *flavor.Error is logged here and told as internal. What Nova refuses
// of a flavor that we took is a conflict of that node, not the caller's mistake.
func (m *Market) nodeError(ctx context.Context, node string, err error) flavor.NodeError {
	e, ok := errors.AsType[*flavor.Error](err)
	if !ok {
		m.log.ErrorContext(ctx, "a node failed", "region", node, "error", err.Error())
		e = flavor.Errorf(flavor.CodeInternal, "an internal error; the log has its cause: %w", err)
	}
	if e.Code == flavor.CodeInvalid || e.Code == flavor.CodeNotFound {
		told := *e
		told.Code = flavor.CodeConflict
		e = &told
	}
	return flavor.NodeError{Node: node, Err: e}
}

// several makes one error of the failures of several nodes: the code is the
// first that applies of conflict, forbidden, unreachable. nil where none failed.
func several(what string, nodes []flavor.NodeError) error {
	if len(nodes) == 0 {
		return nil
	}
	rank := func(c flavor.Code) int {
		for i, code := range []flavor.Code{flavor.CodeConflict, flavor.CodeForbidden, flavor.CodeUnreachable} {
			if c == code {
				return i
			}
		}
		return 3 // our own fault
	}
	worst := nodes[0].Err
	for _, n := range nodes[1:] {
		if rank(n.Err.Code) < rank(worst.Code) {
			worst = n.Err
		}
	}
	e := flavor.Errorf(worst.Code, "%s: %s", what, worst.Message)
	e.Cause, e.Nodes = worst.Cause, nodes
	return e
}
