package openstack

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/flavorsync/flavorsync/internal/flavor"
)

// observed are the calls that Config.Observe was told of.
type observed struct {
	mu    sync.Mutex
	calls []Call
}

func (o *observed) config(cfg *Config) {
	cfg.Observe = func(_ context.Context, c Call) {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.calls = append(o.calls, c)
	}
}

// told are the calls so far, as "region service name outcome", and none from then on.
func (o *observed) told() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	var all []string
	for _, c := range o.calls {
		all = append(all, strings.Join([]string{c.Region, c.Service, c.Name, c.Outcome}, " "))
	}
	o.calls = nil
	return strings.Join(all, ", ")
}

// Whoever watches the metrics sees which region fails, at what, and in which way.
func TestObserve(t *testing.T) {
	answers := func(status int, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status); _, _ = w.Write([]byte(body)) }
	}
	hangs := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	list := func(ctx context.Context, c *Compute) { _, _ = c.List(ctx) }
	create := func(ctx context.Context, c *Compute) {
		_, _ = c.Create(ctx, flavor.NovaFlavor{ID: "f", Spec: flavor.Spec{Name: "n", VCPUs: 1, RAM: 1}})
	}
	for _, c := range []struct {
		name           string
		keystone, nova http.HandlerFunc
		do             func(context.Context, *Compute)
		want           string
	}{
		{"all is well", nil, nil, list, "R Keystone authenticate ok, R Nova list_flavors ok"},
		{"made", nil, nil, create, "R Keystone authenticate ok, R Nova create_flavor ok"},
		{"the account is refused", answers(401, `{"error": {"message": "c4n4ry"}}`), nil, list, "R Keystone authenticate refused"},
		{"Nova forbids it", nil, answers(403, ""), list, "R Keystone authenticate ok, R Nova list_flavors refused"},
		{"the token is refused", nil, answers(401, ""), list, "R Keystone authenticate ok, R Nova list_flavors refused, R Keystone authenticate ok, R Nova list_flavors refused"},
		{"down", nil, answers(503, ""), list, "R Keystone authenticate ok, R Nova list_flavors unreachable"},
		{"nonsense", nil, answers(200, "c4n4ry"), list, "R Keystone authenticate ok, R Nova list_flavors unreachable"},
		{"taken", nil, answers(409, `{"conflictingRequest": {"message": "Flavor with name n already exists."}}`), create, "R Keystone authenticate ok, R Nova create_flavor conflict"},
		{"not accepted", nil, answers(400, `{"badRequest": {"message": "c4n4ry"}}`), create, "R Keystone authenticate ok, R Nova create_flavor invalid"},
		{"not there", nil, answers(404, `{"itemNotFound": {"message": "c4n4ry"}}`), func(ctx context.Context, c *Compute) { _, _ = c.Get(ctx, "x") }, "R Keystone authenticate ok, R Nova show_flavor not_found"},
		{"hangs", nil, hangs, list, "R Keystone authenticate ok, R Nova list_flavors timeout"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, seen := newFake(t), new(observed)
			f.keystone, f.nova = c.keystone, c.nova
			clouds := f.clouds(t, seen.config, func(cfg *Config) {
				if c.name == "hangs" {
					cfg.RegionTimeout = 200 * time.Millisecond
				}
			})
			c.do(t.Context(), clouds.Service(f.region()))
			calls := slices.Clone(seen.calls)
			if got := seen.told(); got != c.want {
				t.Errorf("told is %q, not %q", got, c.want)
			}
			for _, call := range calls {
				if call.Started.IsZero() || call.Took <= 0 || !slices.Contains(Calls, call.Name) || !slices.Contains(Outcomes, call.Outcome) {
					t.Errorf("%+v", call)
				}
			}
		})
	}

	t.Run("a caller's own token", func(t *testing.T) {
		f, seen := newFake(t), new(observed)
		if _, err := f.clouds(t, seen.config).Delegated(t.Context(), f.region(), goodToken, ""); err != nil {
			t.Fatal(err)
		}
		if got := seen.told(); got != "R Keystone validate_token ok" {
			t.Error(got)
		}
	})

	t.Run("whose a token is", func(t *testing.T) {
		f, seen := newFake(t), new(observed)
		f.keystone = answers(404, `{"error": {"message": "c4n4ry"}}`)
		_, _, _ = f.clouds(t, seen.config).Whose(t.Context(), goodToken, false)
		if got := seen.told(); got != " Keystone identify_token refused" {
			t.Error(got)
		}
	})
}

// What was never sent is told from what was not answered: the first is a matter of
// max_in_flight.
func TestOutcomeOfABusyRegion(t *testing.T) {
	a := attempt{clouds: newFake(t).clouds(t), region: "R", party: nova, doing: "listing flavors of R"}
	for err, want := range map[error]string{
		&busyError{region: true, limit: 4, cause: context.DeadlineExceeded}: "busy",
		&busyError{limit: 32, cause: context.Canceled}:                      "cancelled",
		context.DeadlineExceeded:                                            "timeout",
	} {
		if got := a.outcome(err); got != want {
			t.Errorf("%v is %s, not %s", err, got, want)
		}
		if got := a.outcome(a.explain(err)); got != want {
			t.Errorf("explained, %v is %s, not %s", err, got, want)
		}
	}
}

// A region that hangs shows before its callers give up: its slots are taken, and
// the next one waits.
func TestLoad(t *testing.T) {
	f, seen := newFake(t), new(observed)
	begun := make(chan struct{})
	f.nova = func(_ http.ResponseWriter, r *http.Request) {
		begun <- struct{}{}
		<-r.Context().Done()
	}
	clouds := f.clouds(t, seen.config, func(cfg *Config) { cfg.PerRegion = 1 })
	if running, waiting := clouds.Load(); running != 0 || waiting != 0 {
		t.Errorf("%d and %d before anything was asked", running, waiting)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var asking sync.WaitGroup
	ask := func() { _, _ = clouds.Service(f.region()).List(ctx) }
	asking.Go(ask)
	<-begun
	if running, waiting := clouds.Load(); running != 1 || waiting != 0 {
		t.Errorf("%d run and %d wait, not 1 and 0", running, waiting)
	}
	asking.Go(ask)
	eventually(t, func() bool { running, waiting := clouds.Load(); return running == 1 && waiting == 1 })
	cancel()
	asking.Wait()
	eventually(t, func() bool { running, waiting := clouds.Load(); return running == 0 && waiting == 0 })
	if got := seen.told(); strings.Count(got, "cancelled") != 2 {
		t.Error(got)
	}
}
