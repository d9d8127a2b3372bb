package openstack

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/flavorsync/flavorsync/internal/flavor"
	"github.com/flavorsync/flavorsync/internal/simstack"
)

const authenticate, validate = "POST /v3/auth/tokens", "GET /v3/auth/tokens"

// A token that Nova no longer believes is replaced once, behind the caller's
// back; where the new one does no better, the caller is told.
func TestServiceAuthenticatesAgain(t *testing.T) {
	f := newFake(t)
	c := f.clouds(t).Service(f.region())
	if _, err := c.List(t.Context()); err != nil {
		t.Fatal(err)
	}
	var refusals atomic.Int32
	f.nova = func(w http.ResponseWriter, r *http.Request) {
		if refusals.Add(1) == 1 {
			answering(http.StatusUnauthorized, "error")(w, r)
			return
		}
		goodNova(w, r)
	}
	if _, err := c.List(t.Context()); err != nil {
		t.Errorf("after one 401: %v", err)
	}
	if got := f.count(authenticate); got != 2 {
		t.Errorf("authenticated %d times, not 2", got)
	}
	f.nova = answering(http.StatusUnauthorized, "error")
	_, err := c.List(t.Context())
	wantError(t, err, flavor.CodeUnreachable, "R", "service account")
	if got := f.count(authenticate); got != 3 {
		t.Errorf("authenticated %d times, not 3", got)
	}
}

// A crowd that is refused at once makes one new token, not a hundred.
func TestCrowdAuthenticatesAgainOnce(t *testing.T) {
	f := newFake(t)
	c := f.clouds(t, func(cfg *Config) { cfg.PerRegion, cfg.MaxInFlight = 50, 50 }).Service(f.region())
	if _, err := c.List(t.Context()); err != nil {
		t.Fatal(err)
	}
	// 20 calls are in flight before the first of them is refused.
	var waiting sync.WaitGroup
	waiting.Add(20)
	var calls atomic.Int32
	f.nova = func(w http.ResponseWriter, r *http.Request) {
		if calls.Add(1) <= 20 {
			waiting.Done()
			waiting.Wait()
			answering(http.StatusUnauthorized, "error")(w, r)
			return
		}
		goodNova(w, r)
	}
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if _, err := c.List(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if got := f.count(authenticate); got != 2 {
		t.Errorf("authenticated %d times, not 2", got)
	}
}

// One session for each region: other credentials make another, the same do not.
func TestSessionsFollowCredentials(t *testing.T) {
	f := newFake(t)
	clouds := f.clouds(t)
	r := f.region()
	ask := func(times int) {
		t.Helper()
		if _, err := clouds.Service(r).List(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := f.count(authenticate); got != times {
			t.Errorf("authenticated %d times, not %d", got, times)
		}
	}
	ask(1)
	ask(1)
	r.Status = flavor.RegionStatus{State: flavor.RegionUp, CheckedAt: time.Now()}
	r.UserDomain, r.ProjectDomain = "Default", "Default" // what "" means
	ask(1)
	r.Password = "an0th3r"
	ask(2)
	ask(2)
	r.NovaURL = f.URL
	ask(3)
	clouds.Forget("R")
	ask(4)
	if n := clouds.accounts.Len(); n != 1 {
		t.Errorf("%d sessions are kept of one region", n)
	}
	for i := range maxAccounts + 10 {
		clouds.Service(flavor.Region{Name: fmt.Sprint("R", i)})
	}
	if n := clouds.accounts.Len(); n > maxAccounts {
		t.Errorf("%d sessions are kept", n)
	}
}

// A service token is replaced before it expires, a caller's is validated again
// once it has.
func TestTokensExpire(t *testing.T) {
	f := newFake(t)
	clouds := f.clouds(t)
	now := time.Now()
	clouds.now = func() time.Time { return now }
	r := f.region()
	ask := func(tokens, validations int) {
		t.Helper()
		mine, err := clouds.Delegated(t.Context(), r, goodToken, "")
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range []*Compute{mine, clouds.Service(r)} {
			if _, err := c.List(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if a, v := f.count(authenticate), f.count(validate); a != tokens || v != validations {
			t.Errorf("%d authentications and %d validations, not %d and %d", a, v, tokens, validations)
		}
	}
	ask(1, 1)
	now = now.Add(59 * time.Minute)
	ask(1, 1)
	now = now.Add(45 * time.Second)
	f.keystone = func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			w.Header().Set("X-Subject-Token", goodToken)
			w.WriteHeader(http.StatusCreated)
		}
		fmt.Fprintf(w, `{"token": {"expires_at": %q, "project": {}, "catalog": [{"type": "compute", "endpoints": [{"interface": "public", "region_id": "R", "url": %q}]}]}}`,
			now.Add(time.Hour).UTC().Format(time.RFC3339Nano), f.URL)
	}
	ask(2, 1)
	now = now.Add(20 * time.Second)
	ask(2, 2)
	// Keystone vouches for what has expired by our clock.
	f.keystone = saying(`{"token": {"expires_at": "2020-01-01T00:00:00.000000Z", "project": {}, "catalog": [{"type": "compute", "endpoints": [{"interface": "public", "region_id": "R", "url": "http://x"}]}]}}`)
	_, err := clouds.Delegated(t.Context(), r, "an0ther", "")
	wantError(t, err, flavor.CodeKeystone, "expired", "R")
}

// A remembered token that Nova refuses is forgotten at once.
func TestRefusedTokenIsForgotten(t *testing.T) {
	f := newFake(t)
	clouds := f.clouds(t)
	c := f.both(t, clouds)["delegated"]
	f.nova = answering(http.StatusUnauthorized, "error")
	_, err := c.List(t.Context())
	wantError(t, err, flavor.CodeKeystone, "R", "X-Auth-Token-KeyStone")
	f.keystone = answering(http.StatusUnauthorized, "error")
	_, err = clouds.Delegated(t.Context(), f.region(), goodToken, "")
	wantError(t, err, flavor.CodeKeystone, "R", "X-Auth-Token-KeyStone")
	if got := f.count(validate); got != 2 {
		t.Errorf("validated %d times, not 2", got)
	}
}

// The first to bring a token may go away; the others still get their answer.
func TestFirstCallerGoesAway(t *testing.T) {
	f := newFake(t)
	clouds := f.clouds(t)
	asked, answer := make(chan struct{}, 9), make(chan struct{})
	f.keystone = func(w http.ResponseWriter, r *http.Request) {
		asked <- struct{}{}
		<-answer
		f.goodKeystone(w, r)
	}
	for name, call := range map[string]func(context.Context) error{
		"delegated": func(ctx context.Context) error {
			_, err := clouds.Delegated(ctx, f.region(), goodToken, "")
			return err
		},
		"service": func(ctx context.Context) error {
			_, err := clouds.Service(f.region()).List(ctx)
			return err
		},
	} {
		first, cancel := context.WithCancel(t.Context())
		errs := make(chan error, 1)
		go func() { errs <- call(first) }()
		<-asked
		second := make(chan error, 1)
		go func() { second <- call(t.Context()) }()
		cancel()
		wantError(t, <-errs, flavor.CodeUnreachable, "R")
		answer <- struct{}{}
		if err := <-second; err != nil {
			t.Errorf("%s: the second caller: %v", name, err)
		}
		if len(asked) != 0 {
			t.Errorf("%s: Keystone was asked again", name)
		}
	}
}

// A caller's token is shown to a region's own Keystone only where that is
// trusted, and to nobody else then.
func TestWhoSeesTheToken(t *testing.T) {
	federation, own := newFake(t), newFake(t)
	clouds := federation.clouds(t)
	r := own.region()
	if _, err := clouds.Delegated(t.Context(), r, goodToken, ""); err != nil {
		t.Fatal(err)
	}
	if f, o := federation.count(validate), own.count(validate); f != 1 || o != 0 {
		t.Errorf("shown to the federation's Keystone %d times, to the region's own %d times", f, o)
	}
	r.Trusted = true
	c, err := clouds.Delegated(t.Context(), r, goodToken, "")
	if err != nil {
		t.Fatal(err)
	}
	if f, o := federation.count(validate), own.count(validate); f != 1 || o != 1 {
		t.Errorf("trusted: shown to the federation's Keystone %d times, to the region's own %d times", f, o)
	}
	if _, err := c.List(t.Context()); err != nil || own.count("GET /v2.1/flavors/detail") != 1 {
		t.Errorf("its own Nova was not asked: %v", err)
	}
	// A Nova that an owner registered gets no token of a caller.
	harvest := newFake(t)
	r = federation.region()
	r.NovaURL = harvest.URL
	if c, err = clouds.Delegated(t.Context(), r, goodToken, ""); err != nil {
		t.Fatal(err)
	}
	if _, err := c.List(t.Context()); err != nil || len(harvest.requests) != 0 || federation.count("GET /v2.1/flavors/detail") != 1 {
		t.Errorf("the token went to %v, %v", harvest.requests, err)
	}
}

// Tokens are remembered by their hash, so many at most.
func TestTokensAreBounded(t *testing.T) {
	f := newFake(t)
	clouds := f.clouds(t)
	clouds.tokens.Resize(10)
	for i := range 30 {
		if _, err := clouds.Delegated(t.Context(), f.region(), flavor.Secret(fmt.Sprint("token", i)), ""); err != nil {
			t.Fatal(err)
		}
	}
	if n := clouds.tokens.Len(); n != 10 {
		t.Errorf("%d tokens are remembered, not 10", n)
	}
}

// The time limit is one for the whole operation: Keystone's share, Nova's, and
// the wait for a slot.
func TestTimeLimitIsForTheWhole(t *testing.T) {
	s, clouds, r := simulated(t, simstack.Options{}, quick)
	defer s.Fault("", simstack.Fault{Service: simstack.Keystone, Kind: simstack.Slow, Delay: testTimeout * 6 / 10})()
	defer s.Fault("R", simstack.Fault{Kind: simstack.Slow, Delay: testTimeout * 6 / 10})()
	start := time.Now()
	_, err := clouds.Service(r).List(t.Context())
	wantError(t, err, flavor.CodeUnreachable, "R", "in time")
	if took := time.Since(start); took > testTimeout*15/10 {
		t.Errorf("it took %s, the limit is %s", took, testTimeout)
	}
}

// simulated is a simulated region R with Clouds for it.
func simulated(t *testing.T, opts simstack.Options, change ...func(*Config)) (*simstack.Stack, *Clouds, flavor.Region) {
	t.Helper()
	if opts.Regions == nil {
		opts.Regions = []string{"R"}
	}
	s := simstack.New(opts)
	_, stop, err := s.Start("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	cfg := Config{KeystoneURL: s.KeystoneURL(), RegionTimeout: 20 * time.Second, AllowHTTP: true, Unguarded: true}
	for _, c := range change {
		c(&cfg)
	}
	clouds := New(cfg)
	t.Cleanup(func() {
		clouds.Close()
		s.ClearFaults()
		allFree(t, clouds.slots)
		noTurns(t, clouds.turns)
	})
	return s, clouds, flavor.Region{
		Name: "R", KeystoneURL: s.KeystoneURL(), Username: "operator", Password: "operator-secret", Tenant: "operators",
	}
}

// Four calls at once reach a region, whoever makes them; a region is its name,
// not its host; and all regions together have their limit.
func TestCallsInFlight(t *testing.T) {
	names := make([]string, 12)
	for i := range names {
		names[i] = fmt.Sprint("R", i)
	}
	s, clouds, r := simulated(t, simstack.Options{Regions: names}, func(cfg *Config) { cfg.MaxInFlight = 12 })
	token := flavor.Secret(s.IssueToken("operator", "operators"))
	for _, name := range names {
		r.Name = name
		if got := clouds.Service(r).Check(t.Context()); got.State != flavor.RegionUp {
			t.Fatal(got)
		}
	}
	s.ForgetRequests()
	s.Delay("", 20*time.Millisecond)
	var peak atomic.Int32
	var wg sync.WaitGroup
	for _, name := range names {
		r := r
		r.Name = name
		for i := range 8 {
			wg.Go(func() {
				c := clouds.Service(r)
				if i%2 == 0 {
					var err error
					if c, err = clouds.Delegated(t.Context(), r, token, ""); err != nil {
						t.Error(err)
						return
					}
				}
				if _, err := c.List(t.Context()); err != nil {
					t.Error(err)
				}
				for n := int32(len(clouds.slots.all)); ; {
					old := peak.Load()
					if n <= old || peak.CompareAndSwap(old, n) {
						break
					}
				}
			})
		}
	}
	wg.Wait()
	for _, name := range names {
		if got := s.PeakInFlight(name); got > 4 {
			t.Errorf("%d calls were in flight to %s", got, name)
		}
	}
	if peak.Load() > 12 {
		t.Errorf("%d calls were in flight", peak.Load())
	}
}

// Who waits for a slot goes when its context ends, and leaves none behind.
func TestWaitingForASlot(t *testing.T) {
	s := newSlots(6, 4)
	var releases []func()
	take := func(region string, n int) {
		for range n {
			release, err := s.acquire(t.Context(), region)
			if err != nil {
				t.Fatal(err)
			}
			releases = append(releases, release)
		}
	}
	take("A", 4)
	waiting := func(region string) error {
		ended, cancel := context.WithCancel(t.Context())
		errs := make(chan error)
		go func() {
			_, err := s.acquire(ended, region)
			errs <- err
		}()
		cancel()
		return <-errs
	}
	if err := waiting("A"); err == nil {
		t.Error("a fifth slot of A was given")
	}
	take("B", 2)
	if err := waiting("C"); err == nil {
		t.Error("a seventh slot was given")
	}
	for _, release := range releases {
		release()
	}
	allFree(t, s)
	// Who waits behind a region that hangs is told so.
	f := newFake(t)
	clouds := f.clouds(t)
	c := f.both(t, clouds)["service"]
	if _, err := c.List(t.Context()); err != nil {
		t.Fatal(err)
	}
	reached := make(chan struct{}, 9)
	f.nova = func(_ http.ResponseWriter, r *http.Request) {
		reached <- struct{}{}
		<-r.Context().Done()
	}
	hung, letGo := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			_, err := c.List(hung)
			wantError(t, err, flavor.CodeUnreachable, "R", "before its Nova had answered")
		})
		<-reached
	}
	short, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	_, err := c.List(short)
	wantError(t, err, flavor.CodeUnreachable, "R", "the 4 calls that may run there at once", "try again later")
	letGo()
	wg.Wait()
}

// Every call under a context leaves OpenStack's id of it; what is no such id
// stays out of our log.
func TestTraceTakesIDsOnly(t *testing.T) {
	f := newFake(t)
	f.nova = func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Openstack-Request-Id", "req-1\t"+canary+" level=ERROR")
		goodNova(w, r)
	}
	f.keystone = func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Compute-Request-Id", "req-2")
		f.goodKeystone(w, r)
	}
	ctx, trace := WithTrace(t.Context())
	if _, err := f.clouds(t).Service(f.region()).List(ctx); err != nil {
		t.Fatal(err)
	}
	if got := trace.RequestIDs(); !slices.Equal(got, []string{"req-2"}) {
		t.Errorf("the trace has %q", got)
	}
}

// Connections are used again, after errors too, or the list of a region would
// cost more than asking its Nova.
func TestConnectionsAreUsedAgain(t *testing.T) {
	f := newFake(t)
	clouds := f.clouds(t)
	status := 0
	f.nova = func(w http.ResponseWriter, r *http.Request) {
		switch status++; status % 3 {
		case 0:
			answering(http.StatusInternalServerError, "computeFault")(w, r)
		case 1:
			w.WriteHeader(http.StatusBadGateway) // longer than is read
			_, _ = io.WriteString(w, strings.Repeat(canary, 16<<10))
		default:
			goodNova(w, r)
		}
	}
	for range 50 {
		c, err := clouds.Delegated(t.Context(), f.region(), goodToken, "")
		if err != nil {
			t.Fatal(err)
		}
		_, _ = c.List(t.Context())
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.conns != 1 {
		t.Errorf("51 requests took %d connections", f.conns)
	}
}
