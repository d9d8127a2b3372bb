package openstack

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/flavorsync/flavorsync/internal/flavor"
	"github.com/flavorsync/flavorsync/internal/simstack"
)

func wanted() flavor.NovaFlavor {
	return flavor.NovaFlavor{ID: "new", IsPublic: true, Spec: flavor.Spec{
		Name: "new", VCPUs: 1, RAM: 1, RxTxFactor: 1, ExtraSpecs: map[string]string{"k": "v"},
	}}
}

// Whatever goes wrong on the way, a flavor is there with its extra specs or not
// at all.
func TestCreateIsOneOperation(t *testing.T) {
	for _, test := range []struct {
		name   string
		faults []simstack.Fault
		code   flavor.Code
		words  string
	}{
		{"extra specs fail", []simstack.Fault{{Kind: simstack.ServerError, Method: "POST", Path: "/flavors/new/os-extra_specs"}}, flavor.CodeUnreachable, "removed again"},
		{"extra specs conflict", []simstack.Fault{{Kind: simstack.Conflict, Method: "POST", Path: "/flavors/new/os-extra_specs"}}, flavor.CodeConflict, "removed again"},
		{"extra specs are nonsense", []simstack.Fault{{Kind: simstack.Nonsense, Method: "POST", Path: "/flavors/new/os-extra_specs"}}, flavor.CodeUnreachable, "removed again"},
		{"extra specs break off", []simstack.Fault{{Kind: simstack.Cut, Method: "POST", Path: "/flavors/new/os-extra_specs"}}, flavor.CodeUnreachable, "removed again"},
		{"extra specs are lost", []simstack.Fault{{Kind: simstack.Lost, Method: "POST", Path: "/flavors/new/os-extra_specs"}}, flavor.CodeUnreachable, "removed again"},
		{"it vanishes before its extra specs", []simstack.Fault{{Kind: simstack.Vanish, Method: "POST", Path: "/flavors/new/os-extra_specs"}}, flavor.CodeConflict, "removed again"},
		{"the account is refused at the extra specs", []simstack.Fault{{Kind: simstack.Unauthorized, Method: "POST", Path: "/flavors/new/os-extra_specs"}}, flavor.CodeUnreachable, "removed again"},
		{"the creation breaks off", []simstack.Fault{{Kind: simstack.Cut, Method: "POST", Path: "/flavors"}}, flavor.CodeUnreachable, "broke its answer off"},
		{"the creation is lost", []simstack.Fault{{Kind: simstack.Lost, Method: "POST", Path: "/flavors"}}, flavor.CodeUnreachable, "broke its answer off"},
		{"the creation is refused", []simstack.Fault{{Kind: simstack.Denied, Method: "POST", Path: "/flavors"}}, flavor.CodeUnreachable, "forbids"},
		{"it vanishes while it is undone", []simstack.Fault{
			{Kind: simstack.ServerError, Method: "POST", Path: "/flavors/new/os-extra_specs"}, {Kind: simstack.Vanish, Method: "DELETE"},
		}, flavor.CodeUnreachable, "removed again"},
		{"the token is refused while it is undone", []simstack.Fault{
			{Kind: simstack.ServerError, Method: "POST", Path: "/flavors/new/os-extra_specs"}, {Kind: simstack.Unauthorized, Method: "DELETE", Times: 1},
		}, flavor.CodeUnreachable, "removed again"},
	} {
		t.Run(strings.ReplaceAll(test.name, " ", "-"), func(t *testing.T) {
			s, clouds, r := simulated(t, simstack.Options{})
			for _, f := range test.faults {
				s.Fault("R", f)
			}
			_, err := clouds.Service(r).Create(t.Context(), wanted())
			wantError(t, err, test.code, "R", test.words)
			if got := s.Flavors("R"); len(got) != 0 {
				t.Errorf("it is still there: %+v", got)
			}
		})
	}
}

// What was there before is nobody's to undo.
func TestUndoSparesOthers(t *testing.T) {
	s, clouds, r := simulated(t, simstack.Options{})
	other := wanted()
	other.RAM = 2
	s.AddFlavor("R", other)
	s.Fault("R", simstack.Fault{Kind: simstack.Cut, Method: "POST", Path: "/flavors"})
	_, err := clouds.Service(r).Create(t.Context(), wanted())
	wantError(t, err, flavor.CodeConflict, "R")
	s.ClearFaults()
	s.Fault("R", simstack.Fault{Kind: simstack.ServerError, Method: "POST", Path: "/flavors"})
	_, err = clouds.Service(r).Create(t.Context(), wanted())
	wantError(t, err, flavor.CodeUnreachable, "R")
	if got := s.Flavors("R"); len(got) != 1 || got[0].RAM != 2 {
		t.Errorf("the flavor that was there: %+v", got)
	}
	// Nor what is the same, but for the extra specs.
	s, clouds, r = simulated(t, simstack.Options{})
	other = wanted()
	other.ExtraSpecs = nil
	s.AddFlavor("R", other)
	s.Fault("R", simstack.Fault{Kind: simstack.ServerError, Method: "POST", Path: "/flavors"})
	_, err = clouds.Service(r).Create(t.Context(), wanted())
	wantError(t, err, flavor.CodeUnreachable, "R")
	if got := s.Flavors("R"); len(got) != 1 {
		t.Errorf("the flavor that was there: %+v", got)
	}
}

// The caller goes away, or time is up, between the flavor and its extra specs.
func TestUndoOutlivesTheCaller(t *testing.T) {
	s, clouds, r := simulated(t, simstack.Options{})
	defer s.Fault("R", simstack.Fault{Kind: simstack.Hang, Method: "POST", Path: "/flavors/new/os-extra_specs"})()
	ctx, cancel := context.WithCancel(t.Context())
	errs := make(chan error, 1)
	go func() {
		_, err := clouds.Service(r).Create(ctx, wanted())
		errs <- err
	}()
	eventually(t, func() bool { return s.Count(simstack.Nova, "R", "POST", "/flavors/new/os-extra_specs") > 0 })
	cancel()
	wantError(t, <-errs, flavor.CodeUnreachable, "R", "removed again")
	if got := s.Flavors("R"); len(got) != 0 {
		t.Errorf("it is still there: %+v", got)
	}

	s, clouds, r = simulated(t, simstack.Options{}, quick)
	defer s.Fault("R", simstack.Fault{Kind: simstack.Hang, Method: "POST", Path: "/flavors/new/os-extra_specs"})()
	_, err := clouds.Service(r).Create(t.Context(), wanted())
	wantError(t, err, flavor.CodeUnreachable, "R", "removed again")
	if got := s.Flavors("R"); len(got) != 0 {
		t.Errorf("it is still there: %+v", got)
	}
}

// A region that hangs altogether does not keep its caller for the undo: that
// goes on in the background, and Close waits for it.
func TestUndoInTheBackground(t *testing.T) {
	s, clouds, r := simulated(t, simstack.Options{}, quick)
	s.Fault("R", simstack.Fault{Kind: simstack.Hang, Method: "POST", Path: "/flavors/new/os-extra_specs"})
	answer := s.Fault("R", simstack.Fault{Kind: simstack.Hang, Method: "GET", Path: "/flavors/new", After: 1})
	start := time.Now()
	_, err := clouds.Service(r).Create(t.Context(), wanted())
	wantError(t, err, flavor.CodeUnreachable, "R", "could not be removed yet", `"new"`)
	if took := time.Since(start); took > testTimeout*17/10 {
		t.Errorf("the caller was kept for %s, the limit is %s", took, testTimeout)
	}
	answer()
	clouds.Close()
	if got := s.Flavors("R"); len(got) != 0 {
		t.Errorf("it is still there: %+v", got)
	}
}

// Who tries again while the undo of the first attempt still runs must get a whole
// flavor: neither a conflict with what we are about to remove, nor one that the
// late undo takes away again.
func TestCreateWaitsForTheUndo(t *testing.T) {
	s, clouds, r := simulated(t, simstack.Options{}, func(cfg *Config) { cfg.RegionTimeout = 8 * time.Second })
	first, giveUp := context.WithCancel(t.Context())
	var (
		mu       sync.Mutex
		said     []string
		deleting = make(chan struct{})
		goOn     = make(chan struct{})
	)
	say := func(what string) {
		mu.Lock()
		defer mu.Unlock()
		said = append(said, what)
	}
	upstream, err := url.Parse(s.NovaURL("R"))
	if err != nil {
		t.Fatal(err)
	}
	nova := &httputil.ReverseProxy{Rewrite: func(p *httputil.ProxyRequest) { p.SetURL(&url.URL{Scheme: upstream.Scheme, Host: upstream.Host}) }}
	var lost sync.Once
	gate := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method == http.MethodDelete:
			close(deleting)
			<-goOn
			say("deleting")
		case r.Method == http.MethodPost && strings.HasSuffix(r.URL.Path, "/flavors"):
			say("creating")
		case r.Method == http.MethodPost:
			answerIsLost := false
			lost.Do(func() { answerIsLost = true })
			if answerIsLost {
				giveUp()
				_, _ = io.Copy(io.Discard, r.Body) // else the server sees no end of the connection
				<-r.Context().Done()
				return
			}
		}
		nova.ServeHTTP(w, r)
	}))
	t.Cleanup(gate.Close)
	release := sync.OnceFunc(func() { close(goOn) })
	t.Cleanup(release)
	r.NovaURL = gate.URL + upstream.Path
	c := clouds.Service(r)

	_, err = c.Create(first, wanted())
	wantError(t, err, flavor.CodeUnreachable, "R", "could not be removed yet")
	<-deleting

	waiting := func(n int) func() bool {
		return func() bool { return clouds.turns.Users(place{"R", "new"}) == n }
	}
	errs := make(chan error, 2)
	again := func(ctx context.Context) {
		_, err := c.Create(ctx, wanted())
		errs <- err
	}
	impatient, leave := context.WithCancel(t.Context())
	go again(impatient)
	eventually(t, waiting(2))
	leave()
	wantError(t, <-errs, flavor.CodeUnreachable, "R", `"new"`, "try again later")
	// Another id is in nobody's way.
	other := wanted()
	other.ID, other.Name, other.ExtraSpecs = "other", "other", nil
	if _, err := c.Create(t.Context(), other); err != nil {
		t.Error(err)
	}

	go again(t.Context())
	eventually(t, waiting(2))
	release()
	if err := <-errs; err != nil {
		t.Errorf("the second attempt: %v", err)
	}
	clouds.Close()
	if got := s.Flavors("R"); len(got) != 2 || !got[0].Equal(wanted().Spec) {
		t.Errorf("these are there: %+v", got)
	}
	mu.Lock()
	defer mu.Unlock()
	if want := []string{"creating", "creating", "deleting", "creating"}; !slices.Equal(said, want) {
		t.Errorf("Nova was asked in the order %q, not %q", said, want)
	}
}

// eventually waits for something another goroutine does.
func eventually(t *testing.T, happened func() bool) {
	t.Helper()
	deadline, tick := time.After(10*time.Second), time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !happened() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("it did not happen within 10 s")
		}
	}
}

// Extra specs that are refused leave the old ones as they were.
func TestSetExtraSpecsLosesNothing(t *testing.T) {
	for kind, code := range map[simstack.Kind]flavor.Code{
		simstack.ServerError: flavor.CodeUnreachable, simstack.Conflict: flavor.CodeConflict, simstack.Nonsense: flavor.CodeUnreachable,
	} {
		s, clouds, r := simulated(t, simstack.Options{})
		s.AddFlavor("R", wanted())
		s.Fault("R", simstack.Fault{Kind: kind, Method: "POST"})
		err := clouds.Service(r).SetExtraSpecs(t.Context(), "new", map[string]string{"other": "v"})
		wantError(t, err, code, "R")
		if got := s.Flavors("R"); len(got) != 1 || !got[0].Equal(wanted().Spec) {
			t.Errorf("%s: the flavor is %+v", kind, got)
		}
	}
}

// A flavor that vanishes between two calls is a 404 and nothing else.
func TestVanished(t *testing.T) {
	for name, call := range map[string]func(context.Context, *Compute) error{
		"DELETE": func(ctx context.Context, c *Compute) error { return c.Delete(ctx, "new") },
		"PUT":    func(ctx context.Context, c *Compute) error { return c.Describe(ctx, "new", "x") },
		"POST": func(ctx context.Context, c *Compute) error {
			return c.SetExtraSpecs(ctx, "new", map[string]string{"a": "b"})
		},
	} {
		s, clouds, r := simulated(t, simstack.Options{})
		s.AddFlavor("R", wanted())
		s.Fault("R", simstack.Fault{Kind: simstack.Vanish, Method: name})
		wantError(t, call(t.Context(), clouds.Service(r)), flavor.CodeNotFound, "R", `"new"`)
	}
}
