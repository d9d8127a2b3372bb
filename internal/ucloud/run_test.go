package ucloud

import (
	"context"
	"database/sql"
	"errors"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/flavorsync/flavorsync/internal/flavor"
	"github.com/flavorsync/flavorsync/internal/store"
	"github.com/flavorsync/flavorsync/internal/store/storetest"
	"github.com/flavorsync/flavorsync/internal/ucloud/coretest"
)

// mustStep is one turn of the loop that saw the same a while ago.
func (w world) mustStep(t testing.TB) {
	t.Helper()
	if err := w.step(t.Context(), new(watch)); err != nil {
		t.Fatal(err)
	}
}

// settle is turns of the loop until a change has been waited for.
func (w world) settle(t testing.TB) {
	t.Helper()
	var seen watch
	for range 4 {
		if err := w.step(t.Context(), &seen); err != nil {
			t.Fatal(err)
		}
		w.clock.advance(poll)
	}
}

func (w world) report(t testing.TB) Report {
	t.Helper()
	r, err := w.PushReport(t.Context(), manager)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (w world) browses() int {
	n := len(w.core.Requests(http.MethodGet, w.gen.browse))
	w.core.ForgetRequests()
	return n
}

// A change is at Core within five seconds, and one that is still going on is
// waited for, but not for ever.
func TestAChangeIsPushedSoon(t *testing.T) {
	w := newWorld(t)
	var seen watch
	turns := func(n int) (creates int) {
		for range n {
			if err := w.step(t.Context(), &seen); err != nil {
				t.Fatal(err)
			}
			creates += len(w.creates())
			w.clock.advance(poll)
		}
		return creates
	}
	w.shelf.set(t, offer("a", "x", 1))
	if n := turns(2); n != 0 {
		t.Errorf("%d requests before the change has settled", n)
	}
	if n := turns(2); n != 1 || w.report(t).Trigger != Change {
		t.Errorf("%d requests after it; the report is %+v", n, w.report(t))
	}
	if n := turns(60); n != 0 {
		t.Errorf("%d requests without a change", n)
	}
	creates := 0
	for price := range flavor.Amount(5) {
		w.shelf.set(t, offer("a", "x", 10+price))
		creates += turns(1)
	}
	if creates != 1 {
		t.Errorf("%d requests in five seconds of changes", creates)
	}
	// What is only known otherwise is no change.
	turns(10)
	if err := w.cfg.Store.Write(t.Context(), func(tx *store.Tx) error {
		return tx.PutPushed(w.shelf.offers[0].FlavorID, flavor.Reference{Provider: "aau", Category: "other", Name: "a"}, "{}")
	}); err != nil {
		t.Fatal(err)
	}
	w.browses()
	turns(10)
	if n := w.browses(); n != 0 {
		t.Errorf("%d pushes after what was pushed was written down", n)
	}
}

// What somebody changed at Core is put right with the period, which a restart
// does not begin anew.
func TestPeriod(t *testing.T) {
	for jitter, wait := range map[float64]time.Duration{0: 9 * time.Minute, 0.5: 10 * time.Minute, 0.75: 10*time.Minute + 30*time.Second} {
		w := newWorld(t, func(c *Config) { c.PushInterval, c.Jitter = 10*time.Minute, func() float64 { return jitter } })
		w.shelf.set(t, offer("a", "x", 1))
		w.mustPush(t)
		if got := w.report(t).NextAt.Sub(w.clock.now()).Round(time.Second); got != wait.Round(time.Second) {
			t.Errorf("with a jitter of %v the next push is due in %s, not in %s", jitter, got, wait)
		}
		w.browses()
		restarted := w.replica(t, w.cfg.Store, func(c *Config) { c.PushInterval = 10 * time.Minute })
		restarted.shelf.offers = w.shelf.offers
		restarted.settle(t)
		w.clock.advance(wait - 10*time.Second)
		restarted.mustStep(t)
		if n := w.browses(); n != 0 {
			t.Errorf("%d pushes before the period", n)
		}
		w.clock.advance(15 * time.Second)
		restarted.mustStep(t)
		restarted.mustStep(t)
		if n := w.browses(); n != 1 || w.report(t).Trigger != Period {
			t.Errorf("%d pushes after the period; %+v", n, w.report(t))
		}
	}
	// Who shortens the period need not wait for the end of the old one.
	w := newWorld(t, func(c *Config) { c.PushInterval = 24 * time.Hour })
	w.shelf.set(t, offer("a", "x", 1))
	w.mustPush(t)
	shorter := w.replica(t, w.cfg.Store, func(c *Config) { c.PushInterval = time.Minute })
	shorter.shelf.offers = w.shelf.offers
	// Seen by its digest alone, this is not another set of products.
	w.browses()
	w.clock.advance(67 * time.Second)
	shorter.mustStep(t)
	if n := w.browses(); n != 1 {
		t.Errorf("%d pushes after the new period", n)
	}
}

// Trouble that passes is tried again, each time later, up to five minutes; and
// Core says how long at least.
func TestBackoff(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Jitter = func() float64 { return 0 } })
	w.shelf.set(t, offer("a", "x", 1))
	cancel := w.core.Fault(coretest.Fault{Path: browsePath, Status: 503})
	w.settle(t)
	var waits []time.Duration
	for range 9 {
		r := w.report(t)
		if r.State != Failed || r.LastError == "" {
			t.Fatalf("the report is %+v", r)
		}
		waits = append(waits, r.NextAt.Sub(r.FinishedAt))
		w.browses()
		w.clock.advance(r.NextAt.Sub(w.clock.now()) - time.Millisecond)
		w.mustStep(t)
		if n := w.browses(); n != 0 {
			t.Errorf("%d calls before it is time", n)
		}
		w.clock.advance(time.Millisecond)
		w.mustStep(t)
		if n := w.browses(); n != 1 || w.report(t).Trigger != Retry {
			t.Errorf("%d calls when it is time; %+v", n, w.report(t))
		}
	}
	s := time.Second
	equal(t, "the waits", waits, []time.Duration{5 * s, 10 * s, 20 * s, 40 * s, 80 * s, 160 * s, 300 * s, 300 * s, 300 * s})

	cancel()
	cancel = w.core.Fault(coretest.Fault{Path: browsePath, Status: 429, RetryAfter: "900"})
	w.clock.advance(5 * time.Minute)
	w.mustStep(t)
	w.browses()
	w.shelf.set(t, offer("a", "x", 2))
	for range 14 {
		w.clock.advance(time.Minute)
		w.settle(t)
	}
	// Not even a change is worth a call to a Core that asked to be left alone.
	if n := w.browses(); n > 0 {
		t.Errorf("%d calls before Retry-After", n)
	}
	cancel()
	w.clock.advance(time.Minute)
	w.settle(t)
	if r := w.report(t); r.State != Succeeded || w.browses() != 1 {
		t.Errorf("the report is %+v", r)
	}
	if st, err := w.state(t.Context()); err != nil || st.Failures != 0 {
		t.Errorf("the failures are not forgotten: %+v, %v", st, err)
	}
}

// A refresh token that Core does not know gets no better by being shown again
// and again: it is said, and tried with the next period.
func TestARefusedRefreshToken(t *testing.T) {
	for _, status := range []int{http.StatusUnauthorized, http.StatusForbidden} {
		w := newWorld(t)
		w.shelf.set(t, offer("a", "x", 1))
		w.core.Fault(coretest.Fault{Path: "/auth/providers/refresh", Status: status})
		w.settle(t)
		r := w.report(t)
		expectText(t, "the report", r.LastError, "ucloud.refresh_token")
		if r.State != Failed || r.NextAt.Sub(r.FinishedAt) < 13*time.Minute {
			t.Errorf("the report is %+v", r)
		}
		expectText(t, "the log", w.logs.String(), "ucloud.refresh_token")
	}
}

// Two processes on one database push once, whoever comes first, and what one
// knows the other knows.
func TestTwoReplicasPushOnce(t *testing.T) {
	for _, driver := range storetest.Drivers {
		t.Run(driver, func(t *testing.T) {
			dsn, keyset := storetest.DSN(t, driver), storetest.Keyset(t)
			one, two := storetest.Connect(t, driver, dsn, keyset), storetest.Connect(t, driver, dsn, keyset)
			if err := one.Up(t.Context()); err != nil {
				t.Fatal(err)
			}
			a := newWorldOf(t, coretest.Options{}, one)
			b := a.replica(t, two)
			a.shelf.set(t, offer("a", "x", 4), offer("b", "y", 4))
			b.shelf.set(t, offer("a", "x", 4), offer("b", "y", 4))
			var seenA, seenB watch
			for range 5 {
				var wg sync.WaitGroup
				wg.Go(func() {
					if err := a.step(t.Context(), &seenA); err != nil {
						t.Error(err)
					}
				})
				wg.Go(func() {
					if err := b.step(t.Context(), &seenB); err != nil {
						t.Error(err)
					}
				})
				wg.Wait()
				a.clock.advance(poll)
			}
			a.expectSent(t, []string{"a"}, []string{"b"})
			equal(t, "listed by the other", b.listed(t), a.listed(t))
			if ra, rb := a.report(t), b.report(t); ra.State != Succeeded || !ra.FinishedAt.Equal(rb.FinishedAt) {
				t.Errorf("the replicas tell of %+v and %+v", ra, rb)
			}
			// The period, too, is one for both.
			a.clock.advance(a.cfg.PushInterval * 2)
			a.browses()
			a.mustStep(t)
			b.mustStep(t)
			if n := a.browses(); n != 1 {
				t.Errorf("%d pushes in one period", n)
			}
		})
	}
}

// Two processes with different configurations, as while one is changed on one
// machine after the other, do not undo each other's work for ever.
func TestReplicasThatDisagreeLeaveEachOtherAlone(t *testing.T) {
	a := newWorld(t)
	b := a.replica(t, a.cfg.Store)
	a.shelf.set(t, offer("a", "x", 4))
	b.shelf.set(t, offer("a", "x", 8))
	var seenA, seenB watch
	turns := func(n int) int {
		for range n {
			for _, turn := range []func() error{
				func() error { return a.step(t.Context(), &seenA) }, func() error { return b.step(t.Context(), &seenB) },
			} {
				if err := turn(); err != nil {
					t.Fatal(err)
				}
			}
			a.clock.advance(poll)
		}
		return len(a.creates())
	}
	if n := turns(60); n == 0 || n > 2 {
		t.Errorf("%d requests in a minute of disagreement", n)
	}
	// What really changes is pushed all the same.
	a.shelf.set(t, offer("a", "x", 5))
	b.shelf.set(t, offer("a", "x", 5))
	if n := turns(10); n != 1 {
		t.Errorf("%d requests for a change that both see", n)
	}
}

// The database fails just after Core has taken the products, and the push ends in
// the middle: nothing is listed that is not written down, it is not tried again
// each second, and the next push finds at Core what was sent.
func TestCutShort(t *testing.T) {
	dsn := storetest.DSN(t, "sqlite")
	s := storetest.Connect(t, "sqlite", dsn, storetest.Keyset(t))
	if err := s.Up(t.Context()); err != nil {
		t.Fatal(err)
	}
	raw, err := sql.Open("sqlite", dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	order := func(statement string) {
		if _, err := raw.ExecContext(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	w := newWorldOf(t, coretest.Options{}, s)
	w.shelf.set(t, offer("a", "x", 4))
	order("CREATE TRIGGER broken BEFORE INSERT ON pushed_products BEGIN SELECT RAISE(ABORT, 'ordered by a test'); END")
	_, err = w.push(t)
	expectCode(t, err, flavor.CodeInternal)
	if r := w.report(t); r.State != Running || len(w.core.ProductsV2()) != 1 {
		t.Fatalf("the report is %+v", r)
	}
	equal(t, "listed", w.listed(t), []string{})
	order("DROP TRIGGER broken")
	w.browses()
	w.settle(t)
	w.settle(t)
	if n := w.browses(); n != 0 {
		t.Errorf("%d pushes within seconds", n)
	}
	w.clock.advance(leaseFor)
	w.mustStep(t)
	w.expectSent(t)
	if r := w.report(t); r.State != Succeeded || r.Trigger != Retry {
		t.Errorf("the report is %+v", r)
	}
	equal(t, "listed", w.listed(t), []string{"x/a"})
}

// A service that stops ends its push, and the next one goes on soon.
func TestStopped(t *testing.T) {
	w := newWorld(t)
	w.shelf.set(t, offer("a", "x", 4), offer("b", "y", 4))
	ctx, stop := context.WithCancel(t.Context())
	w.core.Fault(coretest.Fault{Kind: coretest.Hang, Path: createPath, Times: 1, Before: stop})
	if _, err := w.Provider.push(ctx, func(state, *marks) Trigger { return Change }); err != nil {
		t.Fatal(err)
	}
	r := w.report(t)
	if r.State != Failed || len(r.Failed) != 2 || r.NextAt.Sub(r.FinishedAt) != backoffFirst*9/10 {
		t.Errorf("the report is %+v", r)
	}
	w.creates()
	w.clock.advance(backoffFirst)
	w.mustStep(t)
	w.expectSent(t, []string{"a"}, []string{"b"})
}

// The caller of a push goes away in the middle: what Core was told is known here
// all the same.
func TestACallerWhoLeaves(t *testing.T) {
	w := newWorld(t)
	w.shelf.set(t, offer("a", "x", 4), offer("b", "y", 4))
	ctx, leave := context.WithCancel(t.Context())
	w.core.Fault(coretest.Fault{Kind: coretest.Serve, Path: createPath, Times: 1, Before: leave})
	if r, err := w.Push(ctx, manager, false); err != nil || len(r.Sent) != 2 {
		t.Errorf("%+v, %v", r, err)
	}
	equal(t, "listed", w.listed(t), []string{"x/a", "y/b"})
}

// The loop itself: it begins by itself, pushes, says what fails, and ends.
func TestRun(t *testing.T) {
	// Each look at this clock is a second later.
	at := newClock()
	w := newWorld(t, func(c *Config) {
		c.Now = func() time.Time {
			at.advance(time.Second)
			return at.now()
		}
	})
	w.shelf.set(t, offer("a", "x", 4))
	w.core.SetNow(at.now)
	arrived := make(chan struct{})
	w.core.Fault(coretest.Fault{Kind: coretest.Serve, Path: createPath, Times: 1, Before: func() { close(arrived) }})
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.Run(ctx)
	}()
	select {
	case <-arrived:
	case <-time.After(20 * time.Second):
		t.Error("nothing was pushed")
	}
	stop()
	<-done
}

// A failing database is told once a minute, not each second.
func TestComplaints(t *testing.T) {
	var c complaint
	at := newClock()
	one, other := errors.New("one"), errors.New("other")
	for i, step := range []struct {
		err  error
		news bool
	}{{one, true}, {one, false}, {other, true}, {other, false}, {nil, false}, {other, true}} {
		if got := c.news(step.err, at.now()); got != step.news {
			t.Errorf("%d: %v is news: %t", i, step.err, got)
		}
		at.advance(time.Second)
	}
	at.advance(time.Minute)
	if !c.news(other, at.now()) {
		t.Error("a trouble of a minute is not told again")
	}
}
