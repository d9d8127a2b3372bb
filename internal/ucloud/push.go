package ucloud

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/flavorsync/flavorsync/internal/flavor"
	"github.com/flavorsync/flavorsync/internal/store"
)

const (
	leaseName = "ucloud-push"
	// leaseFor is longer than the longest call, before each of which the lease is
	// extended.
	leaseFor = 60 * time.Second
	// runFor is how long one push may take, however many calls it is, and
	// rehearseFor a look without one.
	runFor      = 10 * time.Minute
	rehearseFor = 2 * time.Minute
)

var (
	errUnderWay = flavor.Conflict("a push to UCloud is under way already: GET /v1/products/push tells how it ends")
	errLost     = flavor.Conflict("this push to UCloud took too long, and another one has taken over: GET /v1/products/push tells how it ends")
)

// Push makes Core have the products as they are here, what it refused before
// too, and tells what came of it. dryRun sends and stores nothing, and tells
// what would be sent. Where something failed there is a Report, and an error:
// CodeConflict where something was refused, here or by Core, else
// CodeUnreachable. CodeConflict, too, where nothing can be pushed: it is not
// configured, or a push is under way.
func (p *Provider) Push(ctx context.Context, who flavor.Principal, dryRun bool) (Report, error) {
	if err := who.May(flavor.RunPush); err != nil {
		return Report{}, err
	}
	switch {
	case p == nil:
		return p.report(), flavor.Conflict("no UCloud provider is configured here: an operator can set ucloud.provider_id, public_key, core_url, refresh_token and push")
	case !p.pushes():
		return p.report(), flavor.Conflict("products are not pushed to UCloud here (ucloud.push is off): an operator can set ucloud.push to v2, or v1, with core_url and refresh_token")
	case dryRun:
		return p.rehearse(ctx)
	}
	// What is done at Core has to be stored, whether or not the caller waits.
	r, err := p.push(context.WithoutCancel(ctx), func(state, *marks) Trigger { return Manual })
	if err == nil {
		err = r.err()
	}
	return r, err
}

// rehearse is a push that only looks.
func (p *Provider) rehearse(ctx context.Context) (Report, error) {
	r := p.report()
	r.DryRun, r.Trigger, r.StartedAt = true, Manual, p.cfg.Now()
	ctx, done := p.bounded(ctx, rehearseFor)
	defer done()
	offers, err := p.cfg.Products.ProductsNow(ctx)
	if err != nil {
		return r, err
	}
	todo, err := p.plan(ctx, &session{core: p.core}, offers)
	failed, err := failureOf(err)
	if err != nil {
		return r, err
	}
	if failed != nil {
		r.LastError = failed.message
	}
	for _, b := range todo.batches {
		r.Sent = append(r.Sent, Batch{b.category, b.names()})
	}
	r.Unchanged, r.Failed, r.FinishedAt = todo.unchanged, todo.refused, p.cfg.Now()
	r.State = Succeeded
	if len(r.Failed) > 0 || r.LastError != "" {
		r.State = Failed
	}
	if r.LastError != "" {
		return r, r.err()
	}
	return r, nil
}

// plan asks Core what it has, and compares.
func (p *Provider) plan(ctx context.Context, s *session, offers []flavor.Offer) (plan, error) {
	items, err := s.browse(ctx, p.gen.browse, p.gen.perPage)
	if err != nil {
		return plan{}, err
	}
	found, err := p.gen.found(p.cfg.ProviderID, items)
	if err != nil {
		return plan{}, request{method: "GET", path: p.gen.browse}.nonsense("an item is not what UCloud answers there")
	}
	var pushed map[string]store.Pushed
	err = p.cfg.Store.Read(ctx, func(tx *store.Tx) (err error) {
		pushed, err = tx.Pushed(p.cfg.ProviderID)
		return err
	})
	if err != nil {
		return plan{}, err
	}
	return newPlanner(p.gen, p.cfg.ProviderID, found, pushed).compare(offers)
}

// push pushes if why, which is asked once this process alone is at it, says so
// by a trigger.
func (p *Provider) push(ctx context.Context, why func(state, *marks) Trigger) (Report, error) {
	ctx, done := p.bounded(ctx, runFor)
	defer done()
	lease, taken, err := p.cfg.Store.TakeLease(ctx, leaseName, p.newID(), leaseFor)
	if err != nil {
		return p.report(), err
	}
	if !taken {
		return p.report(), errUnderWay
	}
	defer p.release(ctx, lease)
	// Only now, and as they are in the database: another process may have changed
	// them a moment ago, and pushed that.
	offers, err := p.cfg.Products.ProductsNow(ctx)
	if err != nil {
		return p.report(), err
	}
	m, err := p.mark(offers)
	if err != nil {
		return p.report(), err
	}
	last, err := p.state(ctx)
	if err != nil {
		return p.report(), err
	}
	trigger := why(last, m)
	if trigger == "" {
		return p.told(last), nil
	}
	r := p.begin(lease, last, trigger, m)
	if err := p.save(ctx, lease, r.state); err != nil {
		return p.report(), lost(err)
	}
	if err := r.work(ctx, offers); err != nil {
		return p.told(r.state), lost(err)
	}
	r.finish()
	if err := p.save(context.WithoutCancel(ctx), lease, r.state); err != nil {
		return p.told(r.state), lost(err)
	}
	r.tell(ctx)
	return p.told(r.state), nil
}

// bounded is ctx for at most so long, and no longer than until Close, which waits
// for done.
func (p *Provider) bounded(ctx context.Context, limit time.Duration) (_ context.Context, done func()) {
	p.running.Add(1)
	ctx, cancel := context.WithTimeout(ctx, limit)
	unhook := context.AfterFunc(p.ending, cancel)
	return ctx, func() {
		unhook()
		cancel()
		p.running.Done()
	}
}

func (p *Provider) release(ctx context.Context, lease store.Lease) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	if err := p.cfg.Store.ReleaseLease(ctx, lease); err != nil {
		p.log.WarnContext(ctx, "the lease for pushing to UCloud could not be given back; it ends by itself", "within", leaseFor, "error", err.Error())
	}
}

// lost is err as a caller is told: the store's word on a lost lease is about the
// lease, not about the push.
func lost(err error) error {
	if flavor.CodeOf(err) == flavor.CodeConflict {
		return errLost
	}
	return err
}

// run is one push under way.
type run struct {
	*Provider
	lease   store.Lease
	session *session
	marks   *marks
	refused map[string]refusedCategory // before this run
	state   state

	stopped *failure      // Core does not answer: nothing more is sent
	passing bool          // something failed in a way that may pass
	after   time.Duration // how long Core asks us to wait
	cause   error         // of the last failure, for the log
}

func (p *Provider) begin(lease store.Lease, last state, trigger Trigger, m *marks) *run {
	now := p.cfg.Now()
	r := &run{Provider: p, lease: lease, marks: m, refused: last.Refused, state: state{
		State: Running, Trigger: trigger, StartedAt: now, NextAt: now.Add(leaseFor),
		Digest: last.Digest, Failures: last.Failures, Refused: last.Refused,
	}}
	r.session = &session{core: p.core, before: r.extend}
	return r
}

// extend keeps the lease for one more call.
func (r *run) extend(ctx context.Context) error {
	kept, err := r.cfg.Store.ExtendLease(ctx, r.lease, leaseFor)
	if err == nil && !kept {
		err = errLost
	}
	return err
}

// work does the run. What Core fails at is in r.state then; an error is this
// service's own, and the run is over.
func (r *run) work(ctx context.Context, offers []flavor.Offer) error {
	todo, err := r.plan(ctx, r.session, offers)
	failed, err := failureOf(err)
	if err != nil {
		return err
	}
	if failed != nil {
		r.state.LastError = failed.message
		r.note(failed)
		return nil
	}
	if err := r.adopt(ctx, todo); err != nil {
		return err
	}
	r.state.Unchanged, r.state.Failed, r.state.Refused = todo.unchanged, todo.refused, nil
	for _, b := range todo.batches {
		if err := r.category(ctx, b); err != nil {
			return err
		}
	}
	slices.SortStableFunc(r.state.Failed, compareFailures)
	return nil
}

// adopt writes down what Core turned out to have.
func (r *run) adopt(ctx context.Context, todo plan) error {
	var known map[string]flavor.Unit
	err := r.cfg.Store.Read(ctx, func(tx *store.Tx) (err error) {
		known, err = tx.Categories(r.cfg.ProviderID)
		return err
	})
	if err != nil {
		return err
	}
	news := maps.Clone(todo.categories)
	maps.DeleteFunc(news, func(name string, u flavor.Unit) bool { return known[name] == u })
	if len(news) == 0 && len(todo.adopted) == 0 {
		return nil
	}
	return r.record(ctx, todo.adopted, news)
}

// category sends what of one category there is to send.
func (r *run) category(ctx context.Context, b batch) error {
	before, known := r.refused[b.category]
	if known && before.Digest == r.marks.category[b.category] && (r.state.Trigger != Manual || r.over()) {
		r.state.refuse(b.category, before)
		return nil
	}
	left := b.entries
	for _, chunk := range b.chunks() {
		if r.over() {
			r.failed(b.category, names(left), r.stopped)
			return nil
		}
		failed, err := failureOf(r.session.create(ctx, r.gen.create, items(chunk)))
		if err != nil {
			return err
		}
		if failed != nil {
			r.note(failed)
			r.failed(b.category, names(left), failed)
			return nil
		}
		// It may be listed from now on, and not before.
		if err := r.record(ctx, chunk, map[string]flavor.Unit{b.category: b.unit}); err != nil {
			return err
		}
		r.state.sent(b.category, names(chunk))
		left = left[len(chunk):]
	}
	return nil
}

func items(entries []entry) []jsontext.Value {
	all := make([]jsontext.Value, len(entries))
	for i, e := range entries {
		all[i] = e.item
	}
	return all
}

// record writes down what Core has, while the lease is ours.
func (r *run) record(ctx context.Context, entries []entry, categories map[string]flavor.Unit) error {
	return r.cfg.Store.Write(context.WithoutCancel(ctx), func(tx *store.Tx) error {
		if err := tx.Hold(r.lease); err != nil {
			return err
		}
		for _, e := range entries {
			err := tx.PutPushed(e.flavorID, e.ref, string(e.item))
			if err != nil && flavor.CodeOf(err) != flavor.CodeNotFound { // it was deleted meanwhile
				return err
			}
		}
		for _, name := range slices.Sorted(maps.Keys(categories)) {
			if err := tx.PutCategory(r.cfg.ProviderID, name, categories[name]); err != nil {
				return err
			}
		}
		return nil
	})
}

// note draws the conclusions of a failure for the rest of the run.
func (r *run) note(f *failure) {
	r.cause = f
	r.after = max(r.after, f.after)
	if f.class == again {
		r.passing = true
	}
	if f.gone || f.after > 0 || f.class == barred {
		r.stopped = f
	}
}

// over says whether nothing more is to be sent in this run.
func (r *run) over() bool { return r.stopped != nil }

func (st *state) sent(category string, products []string) {
	if n := len(st.Sent); n > 0 && st.Sent[n-1].Category == category {
		st.Sent[n-1].Products = append(st.Sent[n-1].Products, products...)
		return
	}
	st.Sent = append(st.Sent, Batch{category, products})
}

func (r *run) failed(category string, products []string, f *failure) {
	told := Failure{Category: category, Products: products, Status: f.status, Message: f.message}
	if f.class == refusal {
		r.state.refuse(category, refusedCategory{r.marks.category[category], told})
		return
	}
	r.state.Failed = append(r.state.Failed, told)
}

func (st *state) refuse(category string, r refusedCategory) {
	if st.Refused == nil {
		st.Refused = map[string]refusedCategory{}
	}
	r.Failure.final = true
	st.Refused[category] = r
	st.Failed = append(st.Failed, r.Failure)
}

const (
	backoffFirst = 5 * time.Second
	backoffLast  = 5 * time.Minute
)

// finish says how the run ended, and when the next is due.
func (r *run) finish() {
	now, st := r.cfg.Now(), &r.state
	st.FinishedAt, st.Digest, st.State = now, r.marks.all, Succeeded
	if len(st.Failed) > 0 || st.LastError != "" {
		st.State = Failed
	}
	if st.LastError == "" && len(st.Failed) > 0 {
		st.LastError = st.Failed[0].Category + ": " + st.Failed[0].Message
	}
	if r.after > 0 {
		st.NotBefore = now.Add(r.after)
	}
	if !r.passing {
		st.Failures = 0
		// One tenth more or less, so that the services of many providers part.
		st.NextAt = now.Add(time.Duration(float64(r.cfg.PushInterval) * (0.9 + 0.2*r.cfg.Jitter())))
		return
	}
	st.Failures++
	wait := min(backoffFirst<<min(st.Failures-1, 10), backoffLast, r.cfg.PushInterval)
	wait -= time.Duration(float64(wait) / 5 * r.cfg.Jitter())
	st.NextAt = now.Add(max(wait, r.after))
}

func (r *run) tell(ctx context.Context) {
	var sent int
	for _, b := range r.state.Sent {
		sent += len(b.Products)
	}
	attrs := []any{"provider", r.cfg.ProviderID, "trigger", r.state.Trigger, "sent", sent, "unchanged", r.state.Unchanged}
	if err := r.told(r.state).err(); err != nil {
		attrs = append(attrs, "next_at", r.state.NextAt, "error", err.Error())
		if r.cause != nil {
			attrs = append(attrs, "cause", r.cause.Error())
		}
		r.log.WarnContext(ctx, "not all products could be pushed to UCloud", attrs...)
		return
	}
	if sent > 0 || r.state.Trigger == Manual {
		r.log.InfoContext(ctx, "products were pushed to UCloud", attrs...)
	}
}
