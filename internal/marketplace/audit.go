package marketplace

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/flavorsync/flavorsync/internal/flavor"
	"github.com/flavorsync/flavorsync/internal/store"
)

// The audit has a line of each change by a caller who is known. What changes in
// the database the store writes down itself, in the same transaction. A Nova has
// no transactions: there a line says what is about to be done and another that it
// was, so that a crash between them leaves a trace.

// MaxAudit is how many lines of the audit are read at one time at most.
const MaxAudit = 1000

// Audit reads the audit, the latest first; more says that there are older lines
// behind them.
func (m *Market) Audit(ctx context.Context, p flavor.Principal, f flavor.AuditFilter) (entries []flavor.AuditEntry, more bool, err error) {
	if err := p.May(flavor.ReadAudit); err != nil {
		return nil, false, err
	}
	wanted := f.Limit
	f.Limit++
	err = m.store.Read(ctx, func(tx *store.Tx) error {
		entries, err = tx.AuditEntries(f)
		return err
	})
	if len(entries) > wanted {
		return entries[:wanted], true, err
	}
	return entries, false, err
}

// inNova is a change of one flavor of a region's Nova, for the audit.
type inNova struct {
	region, id    string // the id is "" before Nova has one for it
	before, after map[string]string
}

func (n inNova) line(o flavor.Outcome) flavor.AuditEntry {
	was, is := flavor.Differing(n.before, n.after)
	return flavor.AuditEntry{Object: flavor.AuditedRegionFlavor, Region: n.region, Flavor: n.id, Outcome: o, Before: was, After: is}
}

// begin tells the audit what is about to be done in Nova. Of a caller who was
// refused a moment ago it does not: they are counted, not written down each time.
func (m *Market) begin(ctx context.Context, n inNova) error {
	actor, known := flavor.ActorOf(ctx)
	if !known || m.refusals.recent(actor.Caller(), m.now()) {
		return nil
	}
	return m.store.Write(ctx, func(tx *store.Tx) error { return tx.Audit(n.line(flavor.Pending)) })
}

// done tells the audit what was done in Nova, where no other transaction of the
// change does. The change stands, so that it could not be told of is for the log.
func (m *Market) done(ctx context.Context, n inNova) {
	if _, known := flavor.ActorOf(ctx); !known {
		return
	}
	err := m.store.Write(context.WithoutCancel(ctx), func(tx *store.Tx) error { return tx.Audit(n.line(flavor.Success)) })
	if err != nil {
		m.log.ErrorContext(ctx, "a change is not in the audit", "region", n.region, "id", n.id, "before", n.before, "after", n.after, "error", err.Error())
	}
}

// countFor is how long a caller's refusals are counted before the audit has
// another line of them.
const countFor = time.Minute

// maxCounted is of how many callers refusals are counted at one time.
const maxCounted = 10_000

// refusals holds back what one caller is refused again and again.
type refusals struct {
	mu      sync.Mutex
	callers *simplelru.LRU[string, *refused]
	pushed  []flavor.AuditEntry // of callers that made room for others
}

type refused struct {
	since time.Time
	last  flavor.AuditEntry // of those counted since then
	count int
}

func newRefusals() *refusals {
	r := new(refusals)
	// It fails for a size below 1 only.
	r.callers, _ = simplelru.NewLRU(maxCounted, func(_ string, c *refused) {
		if c.count > 0 {
			r.pushed = append(r.pushed, c.line())
		}
	})
	return r
}

func (c *refused) line() flavor.AuditEntry {
	e := c.last
	e.Count = c.count
	return e
}

// add counts e, and answers with the lines to write now.
func (r *refusals) add(e flavor.AuditEntry, now time.Time) []flavor.AuditEntry {
	r.mu.Lock()
	defer r.mu.Unlock()
	caller := e.By.Caller()
	c, known := r.callers.Get(caller)
	if !known {
		c = &refused{}
		r.callers.Add(caller, c)
	}
	c.last = e
	c.count++
	if !known || now.Sub(c.since) >= countFor {
		e = c.line()
		c.since, c.count = now, 0
		r.pushed = append(r.pushed, e)
	}
	due := r.pushed
	r.pushed = nil
	return due
}

// recent says whether a refusal of caller would be counted only.
func (r *refusals) recent(caller string, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	c, known := r.callers.Peek(caller)
	return known && now.Sub(c.since) < countFor
}

// due are the lines of what was counted and is not to be counted on: at the end
// that is all.
func (r *refusals) due(now time.Time, end bool) []flavor.AuditEntry {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, caller := range r.callers.Keys() {
		c, _ := r.callers.Peek(caller)
		if !end && now.Sub(c.since) < countFor {
			continue
		}
		r.callers.Remove(caller) // which pushes it, if there is something to tell
	}
	due := r.pushed
	r.pushed = nil
	return due
}

// NotDone tells the audit that what the actor of ctx asked for was refused, or
// failed, with err. What one caller is refused again within a minute is counted,
// unless something was done all the same.
func (m *Market) NotDone(ctx context.Context, err error) {
	actor, known := flavor.ActorOf(ctx)
	if !known {
		return
	}
	e := flavor.AuditEntry{By: actor, Object: flavor.AuditedCall, Outcome: flavor.Failure, Message: "internal error", Count: 1}
	if told, ok := errors.AsType[*flavor.Error](err); ok {
		e.Message = told.Message
		switch told.Code {
		case flavor.CodeInternal, flavor.CodeUnreachable, flavor.CodeUnavailable:
		default:
			e.Outcome = flavor.Refused
		}
	}
	lines := []flavor.AuditEntry{e}
	if e.Outcome == flavor.Refused && !flavor.HasActed(ctx) {
		lines = m.refusals.add(e, m.now())
	}
	m.write(context.WithoutCancel(ctx), lines)
}

// write adds these lines to the audit.
func (m *Market) write(ctx context.Context, lines []flavor.AuditEntry) {
	if len(lines) == 0 {
		return
	}
	err := m.store.Write(ctx, func(tx *store.Tx) error {
		for _, e := range lines {
			if err := tx.Audit(e); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		m.log.ErrorContext(ctx, "refusals are not in the audit", "lines", len(lines), "error", err.Error())
	}
}

// EndAudit writes down what is counted of refusals, when no more will come.
func (m *Market) EndAudit(ctx context.Context) {
	m.write(ctx, m.refusals.due(m.now(), true))
}

// dropped is how many old lines of the audit one transaction removes: few enough
// to hold up nobody.
const dropped = 1000

// TidyAudit writes down what was counted for long enough and drops what is older
// than the audit is kept for. It is called from time to time.
func (m *Market) TidyAudit(ctx context.Context) error {
	m.write(ctx, m.refusals.due(m.now(), false))
	if m.keepAudit == 0 {
		return nil
	}
	for {
		var gone int
		err := m.store.Write(ctx, func(tx *store.Tx) (err error) {
			gone, err = tx.DropAudit(m.now().Add(-m.keepAudit), dropped)
			return err
		})
		if err != nil || gone < dropped {
			return err
		}
	}
}
