package marketplace

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/flavorsync/flavorsync/internal/flavor"
	"github.com/flavorsync/flavorsync/internal/openstack"
	"github.com/flavorsync/flavorsync/internal/store"
)

// What is wanted of regions is written down before any of them is called: see
// flavor.Operation. Whoever asks and waits works it off himself, and a node that
// fails is not wanted any more. What nobody waits for, and what a crash left,
// CarryOut brings to an end, however long that takes.

// operation is what p wants with f in these regions, not stored yet. The nodes are
// this process's own from the start.
func operation(kind flavor.OperationKind, p flavor.Principal, f flavor.Flavor, regions []string) flavor.Operation {
	o := flavor.Operation{Kind: kind, Origin: flavor.Asked, FlavorID: f.ID, Name: f.Name, Provider: p.Provider, Caller: p.ID}
	for _, r := range regions {
		o.Nodes = append(o.Nodes, flavor.OperationNode{Region: r, State: flavor.Running, Attempts: 1})
	}
	return o
}

// want stores an operation.
func (m *Market) want(ctx context.Context, o flavor.Operation) (flavor.Operation, error) {
	err := m.store.Write(ctx, func(tx *store.Tx) (err error) {
		o, err = tx.InsertOperation(o, m.Claim())
		return err
	})
	return o, err
}

// each does one thing at several regions side by side, at each within the time
// limit of a region: that of one which hangs is its own.
func (m *Market) each(ctx context.Context, looks []*look, do func(context.Context, *look) error) []flavor.NodeError {
	errs := make([]error, len(looks))
	var wg sync.WaitGroup
	for i, l := range looks {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, m.timeout)
			defer cancel()
			errs[i] = do(ctx, l)
		})
	}
	wg.Wait()
	var failed []flavor.NodeError
	for i, err := range errs {
		if err != nil {
			failed = append(failed, m.nodeError(ctx, looks[i].region.Name, err))
		}
	}
	return failed
}

// workOff makes the first attempt of o at each of the looks, whose regions are
// o's, and notes what came of it. retried says that what failed for a while is
// wanted still.
func (m *Market) workOff(ctx context.Context, o flavor.Operation, looks []*look, retried bool, do func(context.Context, *look) error) []flavor.NodeError {
	return m.each(ctx, looks, func(ctx context.Context, l *look) error {
		err := l.err
		if err == nil {
			err = do(ctx, l)
		}
		m.endNode(ctx, o, first(l.region.Name), err, retried)
		return err
	})
}

// first is a node at which the first attempt is made.
func first(region string) flavor.OperationNode {
	return flavor.OperationNode{Region: region, Attempts: 1}
}

// endNode notes what came of an attempt at a node. Where that cannot be written
// down, another attempt finds it done.
func (m *Market) endNode(ctx context.Context, o flavor.Operation, n flavor.OperationNode, err error, retried bool) {
	ctx = context.WithoutCancel(ctx)
	n.State, n.LastError = flavor.Succeeded, ""
	var in time.Duration
	if err != nil {
		n.State, n.LastError = flavor.Failed, m.nodeError(ctx, n.Region, err).Err.Message
		if retried && passing(err) {
			n.State, in = flavor.Waiting, m.pause(n.Attempts)
		}
	}
	var mine bool
	leftover, left := errors.AsType[*openstack.LeftError](err)
	noted := m.store.Write(ctx, func(tx *store.Tx) error {
		if mine, err = tx.EndNode(o.ID, n, in); err != nil {
			return err
		}
		if left {
			if err := tx.Undo(o, n.Region, markOf(leftover.Spec)); err != nil {
				return err
			}
		}
		if !mine {
			return nil
		}
		if n.State == flavor.Failed {
			return tx.Event(flavor.Event{Type: flavor.NodeFailed, Flavor: o.FlavorID, Name: o.Name, Region: n.Region, Message: n.LastError})
		}
		if o.Kind == flavor.Unlist && n.State == flavor.Succeeded {
			return dropUnlisted(tx, o.ID)
		}
		return nil
	})
	switch {
	case noted != nil:
		m.log.WarnContext(ctx, "what came of an operation is not written down yet", "operation", o.ID, "region", n.Region, "error", noted.Error())
	case !mine:
		m.log.WarnContext(ctx, "an attempt has ended that was cancelled meanwhile, or that another process has taken over", "operation", o.ID, "region", n.Region)
	case o.Kind == flavor.Spread && n.State == flavor.Failed:
		// Until now that the node is not as the catalogue has it was to be expected.
		m.recompare(ctx, o.FlavorID)
	}
	m.turned()
	if left {
		m.wake()
	}
}

// dropUnlisted takes a flavor out of the catalogue when the last of its nodes has
// gone, unless it was installed somewhere meanwhile.
func dropUnlisted(tx *store.Tx, id string) error {
	o, err := tx.Operation(id)
	if err != nil || o.Outcome() != flavor.Succeeded {
		return err
	}
	installed, err := tx.Installations(o.FlavorID)
	if err != nil || len(installed) > 0 {
		return err
	}
	if err := tx.DeleteFlavor(o.FlavorID); flavor.CodeOf(err) != flavor.CodeNotFound {
		return err
	}
	return nil
}

// passing says whether what failed with err may succeed when it is tried again,
// with nothing changed: a region that is down comes back. What it refuses it
// refuses until somebody changes something.
func passing(err error) bool {
	switch flavor.CodeOf(err) {
	case flavor.CodeUnreachable, flavor.CodeUnavailable, flavor.CodeInternal:
		return true
	}
	return errors.Is(err, errChangedMeanwhile)
}

// The pauses between the attempts at a node, while its region does not say that
// it is back.
const (
	firstPause = time.Second
	lastPause  = 5 * time.Minute
)

// pause is how long to wait after so many attempts.
func (m *Market) pause(attempts int) time.Duration {
	next := backoff.ExponentialBackOff{InitialInterval: firstPause, Multiplier: 2, MaxInterval: lastPause, RandomizationFactor: 0.2}
	next.Reset()
	for range min(attempts-1, 16) {
		next.NextBackOff()
	}
	return next.NextBackOff()
}

// CarryOut makes one attempt at what is wanted of a region, which the caller has
// taken, and notes what came of it. Its error is what the region said.
func (m *Market) CarryOut(ctx context.Context, d store.Due) error {
	ctx = flavor.WithActor(context.WithoutCancel(ctx), actor(d.Operation))
	limited, cancel := context.WithTimeout(ctx, 2*m.timeout)
	defer cancel()
	err := m.attempt(limited, d)
	m.endNode(ctx, d.Operation, d.Node, err, true)
	return err
}

// actor is in whose name an operation is carried out.
func actor(o flavor.Operation) flavor.Actor {
	a := flavor.Actor{Provider: o.Provider, ID: o.Caller, Action: flavor.InstallFlavor}
	if o.Origin != flavor.Asked {
		a = flavor.Actor{Provider: "flavorsync", ID: "engine", Name: "Flavorsync", Action: flavor.InstallFlavor}
	}
	switch o.Kind {
	case flavor.Remove, flavor.Unlist:
		a.Action = flavor.DeleteFlavor
	case flavor.Spread:
		a.Action = flavor.ChangePromoted
	}
	return a
}

func (m *Market) attempt(ctx context.Context, d store.Due) error {
	removes := d.Operation.Kind == flavor.Remove || d.Operation.Kind == flavor.Unlist
	cat, err := m.store.CatalogueNow(ctx)
	if err != nil {
		return err
	}
	f, ok := cat.ByID(d.Operation.FlavorID)
	switch {
	case !ok && removes:
		return nil
	case !ok && d.Operation.Kind == flavor.Undo:
		f = flavor.Flavor{ID: d.Operation.FlavorID, Spec: flavor.Spec{Name: d.Operation.Name}}
	case !ok:
		return flavor.Conflict("%s: %q was deleted from the catalogue meanwhile", d.Node.Region, d.Operation.Name)
	}
	r, err := m.region(ctx, d.Node.Region)
	if err != nil {
		return err
	}
	switch d.Operation.Kind {
	case flavor.Spread:
		return m.spreadTo(ctx, f, r)
	case flavor.Undo:
		return m.takeBack(ctx, f, r, d.Node.Input)
	}
	l := m.lookAt(ctx, r, whole)
	if l.err != nil {
		return l.err
	}
	switch {
	case removes:
		return m.removeFrom(ctx, f, l)
	case d.Operation.Kind == flavor.Repair:
		return m.repair(ctx, f, l, attemptAt(d))
	}
	if _, there := l.node(f); !there && f.Retired {
		if _, left := m.left(ctx, f, l, 1, d.Node.Attempts > 1); left {
			if err := m.takeBack(ctx, f, l.region, ""); err != nil {
				return err
			}
		}
		return retired(f.Name)
	}
	// What was refused before it was written down is not cancelled by that.
	if d.Operation.Origin != flavor.Asked && cat.Refuses(f.ID, r.Name) {
		return flavor.Conflict("%s: its owner does not want %q there", r.Name, f.Name)
	}
	return m.install(ctx, f, l, attemptAt(d))
}

// attemptAt is the attempt of who has taken d.
func attemptAt(d store.Due) attempt {
	return attempt{again: d.Node.Attempts > 1, of: d.Operation.ID, node: d.Node}
}

// Operations lists what p may see of the operations, the newest first; next is the
// id behind which the next page begins, "" where there is none. A page may be
// shorter than filter.Limit.
func (m *Market) Operations(ctx context.Context, p flavor.Principal, filter flavor.OperationFilter) (seen []flavor.Operation, next string, err error) {
	wanted := filter.Limit
	filter.Limit++
	var all []flavor.Operation
	err = m.store.Read(ctx, func(tx *store.Tx) error {
		all, err = tx.Operations(filter)
		return err
	})
	if err != nil {
		return nil, "", err
	}
	if len(all) > wanted {
		all = all[:wanted]
		next = all[wanted-1].ID
	}
	seen = []flavor.Operation{}
	for _, o := range all {
		if o, visible := visible(p, o); visible {
			seen = append(seen, o)
		}
	}
	return seen, next, nil
}

// visible is what p may see of o: all of it who asked for it and a manager, an
// owner the rows of his regions.
func visible(p flavor.Principal, o flavor.Operation) (flavor.Operation, bool) {
	if p.Manager || o.Origin == flavor.Asked && o.Provider == p.Provider && o.Caller == p.ID {
		return o, true
	}
	o.Nodes = slices.DeleteFunc(slices.Clone(o.Nodes), func(n flavor.OperationNode) bool { return !slices.Contains(p.Regions, n.Region) })
	o.State = o.Outcome()
	return o, len(o.Nodes) > 0
}

// Operation is the operation with that id; CodeNotFound also where p may see
// nothing of it.
func (m *Market) Operation(ctx context.Context, p flavor.Principal, id string) (o flavor.Operation, err error) {
	err = m.store.Read(ctx, func(tx *store.Tx) error {
		o, err = tx.Operation(id)
		return err
	})
	if err != nil && flavor.CodeOf(err) != flavor.CodeNotFound {
		return o, err
	}
	o, mine := visible(p, o)
	if err != nil || !mine {
		return o, flavor.NotFound("there is no operation %q that you may see: GET /v1/operations lists them", id)
	}
	return o, nil
}

// askAgain is how often an operation is read while somebody waits for it, that
// another process may work on.
const askAgain = 200 * time.Millisecond

// WaitForOperation is Operation, once it is another than it was at that turn, has
// ended, or limit is over.
func (m *Market) WaitForOperation(ctx context.Context, p flavor.Principal, id string, turn int64, limit time.Duration) (flavor.Operation, error) {
	over := time.NewTimer(limit)
	defer over.Stop()
	again := time.NewTicker(askAgain)
	defer again.Stop()
	for {
		turned := m.turns.next()
		o, err := m.Operation(ctx, p, id)
		if err != nil || !o.State.Open() || o.Turn != turn {
			return o, err
		}
		select {
		case <-turned:
		case <-again.C:
		case <-over.C:
			return o, nil
		case <-ctx.Done():
			return o, nil // whoever waited has gone
		}
	}
}

// CancelOperation cancels what has not begun of an operation, as far as p may see
// it. What has begun goes on, and nothing is undone.
func (m *Market) CancelOperation(ctx context.Context, p flavor.Principal, id string) error {
	o, err := m.Operation(ctx, p, id)
	if err != nil {
		return err
	}
	regions := make([]string, len(o.Nodes))
	for i, n := range o.Nodes {
		regions[i] = n.Region
	}
	err = m.store.Write(ctx, func(tx *store.Tx) error { return tx.CancelOperation(id, regions) })
	m.turned()
	return err
}

// turns lets many wait for the next change of any operation.
type turns struct {
	mu   sync.Mutex
	wait chan struct{}
}

func (t *turns) next() <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.wait == nil {
		t.wait = make(chan struct{})
	}
	return t.wait
}

// turned tells those who wait that an operation of this process has changed.
func (m *Market) turned() {
	t := &m.turns
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.wait != nil {
		close(t.wait)
		t.wait = nil
	}
}

// keepOperations is how long operations can be read that have ended.
const keepOperations = 30 * 24 * time.Hour

// TidyOperations forgets old operations. It is called from time to time.
func (m *Market) TidyOperations(ctx context.Context) error {
	for {
		var gone int
		err := m.store.Write(ctx, func(tx *store.Tx) (err error) {
			gone, err = tx.DropOperations(m.now().Add(-keepOperations), dropped)
			return err
		})
		if err != nil || gone < dropped {
			return err
		}
	}
}

// TakeOver makes all that is open due at once, where this is the only process:
// whoever was at it is dead.
func (m *Market) TakeOver(ctx context.Context) error {
	if !m.sole {
		return nil
	}
	return m.store.Write(ctx, func(tx *store.Tx) error { return tx.ReleaseAll() })
}
