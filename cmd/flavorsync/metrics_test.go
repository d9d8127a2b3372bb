package main

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/flavorsync/flavorsync/internal/flavor"
	"github.com/flavorsync/flavorsync/internal/identity"
	"github.com/flavorsync/flavorsync/internal/openstack"
	"github.com/flavorsync/flavorsync/internal/store"
)

// scrape is what /metrics prints, without comments, Go's own and the process's.
func scrape(t *testing.T, m *metrics) string {
	t.Helper()
	w := httptest.NewRecorder()
	promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{}).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if w.Code != http.StatusOK {
		t.Fatalf("%d: %s", w.Code, w.Body)
	}
	var ours []string
	for line := range strings.Lines(w.Body.String()) {
		if strings.HasPrefix(line, "flavorsync_") {
			ours = append(ours, line)
		}
	}
	return strings.Join(ours, "")
}

func wantMetrics(t *testing.T, m *metrics, lines ...string) {
	t.Helper()
	got := scrape(t, m)
	for _, line := range lines {
		if !strings.Contains("\n"+got, "\n"+line+"\n") {
			t.Errorf("/metrics does not print\n%s\nbut\n%s", line, got)
		}
	}
}

// Operators alert on these: what is counted, under which name and labels.
func TestMetrics(t *testing.T) {
	m := newMetrics()
	m.observe("BREW", "/v1/flavors", 418, time.Second)
	m.regionCall(openstack.Call{Region: "Trento", Service: "Nova", Name: "list_flavors", Outcome: "timeout", Took: 10 * time.Second})
	m.identityCall(identity.Call{Provider: "keyrock", Outcome: "ok", Took: time.Millisecond})
	m.transaction(store.Transaction{Write: true, Attempts: 3, Took: time.Second})
	m.transaction(store.Transaction{Attempts: 1, Err: flavor.NotFound("no")})
	m.transaction(store.Transaction{Attempts: 1, Err: errors.Join(errors.New("x"), context.Canceled)})
	m.transaction(store.Transaction{Write: true, Attempts: 1, Err: errors.New("the disk is full")})
	wantMetrics(t, m,
		`flavorsync_http_request_duration_seconds_count{method="other",route="/v1/flavors",status="418"} 1`,
		`flavorsync_region_calls_total{call="list_flavors",outcome="timeout",region="Trento"} 1`,
		`flavorsync_region_call_duration_seconds_sum{call="list_flavors",outcome="timeout"} 10`,
		`flavorsync_identity_call_duration_seconds_count{outcome="ok",provider="keyrock"} 1`,
		`flavorsync_database_transaction_duration_seconds_count{kind="write",outcome="committed"} 1`,
		`flavorsync_database_transaction_duration_seconds_count{kind="read",outcome="refused"} 1`,
		`flavorsync_database_transaction_duration_seconds_count{kind="read",outcome="cancelled"} 1`,
		`flavorsync_database_transaction_duration_seconds_count{kind="write",outcome="failed"} 1`,
		`flavorsync_database_retries_total{kind="write"} 2`,
		`flavorsync_database_retries_total{kind="read"} 0`,
	)
	if !strings.Contains(scrape(t, m), `flavorsync_build_info{goversion="go1`) {
		t.Error("nothing tells the version")
	}
}

// asked is an overview that a test decides.
type asked func(context.Context) (flavor.FederationStatus, error)

func (f asked) Overview(ctx context.Context) (flavor.FederationStatus, error) { return f(ctx) }

var noon = time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)

// aFederation is one where everything is in some disorder.
var aFederation = flavor.FederationStatus{
	Regions: []flavor.RegionOverview{
		{Name: "Lannion2", State: flavor.RegionUnknown},
		{
			Name: "Spain2", State: flavor.RegionUp, SeenAt: noon.Add(-30 * time.Second), LookedAt: noon.Add(-30 * time.Second), NextLook: noon.Add(30 * time.Second),
			Took: 1500 * time.Millisecond, Drift: []flavor.DriftCount{{Kind: "differs", Count: 1}, {Kind: "missing", Count: 2}}, Whole: true,
		},
		{
			Name: "Trento", State: flavor.RegionUnreachable, SeenAt: noon.Add(-time.Hour), LookedAt: noon.Add(-time.Minute), NextLook: noon.Add(-5 * time.Second),
			Took: 10 * time.Second, LastError: "its Nova did not answer in time", Pending: 3, Failed: 1, Whole: true,
		},
	},
	Operations: flavor.OperationCounts{Running: 1, Succeeded: 2, Failed: 3, Cancelled: 4},
	Nodes:      flavor.NodeCounts{Waiting: 5, Running: 6, Succeeded: 7, Failed: 8, Cancelled: 9},
	Failed: []flavor.FailedNode{{
		Operation: "0197a4f2-6b01-7c44-8f3e-51d2b7a9e610", Flavor: "567b200e-0000-4000-8000-000000000640", Name: "insane", Node: "Trento",
		Attempts: 4, LastError: "Trento has another flavor under this name", UpdatedAt: noon,
	}},
}

func withEngine(e *engineMetrics) *metrics {
	m := newMetrics()
	e.log, e.now = slog.New(slog.DiscardHandler), func() time.Time { return noon }
	m.registry.MustRegister(e)
	return m
}

// The disorder shows: who is down and since when, how late the looks are, what is
// undone and what failed.
func TestEngineMetrics(t *testing.T) {
	m := withEngine(&engineMetrics{
		of:       asked(func(context.Context) (flavor.FederationStatus, error) { return aFederation, nil }),
		limit:    time.Minute,
		breakers: func() map[string]bool { return map[string]bool{"Spain2": false, "Trento": true} },
	})
	wantMetrics(t, m,
		`flavorsync_scrape_error 0`,
		`flavorsync_region_up{region="Spain2"} 1`, `flavorsync_region_up{region="Trento"} 0`,
		`flavorsync_region_last_seen_timestamp_seconds{region="Trento"} 1.7956908e+09`,
		`flavorsync_region_look_duration_seconds{region="Spain2"} 1.5`,
		`flavorsync_sweep_lag_seconds 5`,
		`flavorsync_region_pending_nodes{region="Trento"} 3`,
		`flavorsync_drifted_nodes{kind="missing",region="Spain2"} 2`,
		`flavorsync_breaker_open{region="Spain2"} 0`, `flavorsync_breaker_open{region="Trento"} 1`,
		`flavorsync_operations{state="failed"} 3`, `flavorsync_operations{state="running"} 1`,
		`flavorsync_operation_nodes{state="waiting"} 5`, `flavorsync_operation_nodes{state="failed"} 8`,
	)
	for _, absent := range []string{`region_up{region="Lannion2"}`, `last_seen_timestamp_seconds{region="Lannion2"}`, `look_duration_seconds{region="Lannion2"}`} {
		if strings.Contains(scrape(t, m), absent) {
			t.Errorf("a region that was never asked has a %s", absent)
		}
	}
}

// A database that hangs, and a driver that does not notice that nobody waits any
// more, hold up no scrape: everything else is there, and that it hangs too.
func TestMetricsWhileTheDatabaseHangs(t *testing.T) {
	hung := make(chan struct{})
	defer close(hung)
	var questions atomic.Int64
	m := withEngine(&engineMetrics{
		of: asked(func(context.Context) (flavor.FederationStatus, error) {
			questions.Add(1)
			<-hung
			return aFederation, nil
		}),
		limit: 20 * time.Millisecond,
	})
	m.observe(http.MethodGet, "/v1/flavors", 200, time.Second)
	for range 3 {
		began := time.Now()
		wantMetrics(t, m, `flavorsync_scrape_error 1`, `flavorsync_http_request_duration_seconds_count{method="GET",route="/v1/flavors",status="200"} 1`)
		if took := time.Since(began); took > time.Second {
			t.Errorf("a scrape took %s", took)
		}
		if strings.Contains(scrape(t, m), "flavorsync_operations") {
			t.Error("it tells of operations that it has not read")
		}
	}
	if n := questions.Load(); n != 1 {
		t.Errorf("%d questions hang, not 1", n)
	}

	m = withEngine(&engineMetrics{of: asked(func(context.Context) (flavor.FederationStatus, error) {
		return flavor.FederationStatus{}, errors.New("gone")
	}), limit: time.Minute})
	wantMetrics(t, m, `flavorsync_scrape_error 1`)
}
