package reconcile_test

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/flavorsync/flavorsync/internal/flavor"
	"github.com/flavorsync/flavorsync/internal/marketplace"
	"github.com/flavorsync/flavorsync/internal/openstack"
	"github.com/flavorsync/flavorsync/internal/reconcile"
	"github.com/flavorsync/flavorsync/internal/simstack"
	"github.com/flavorsync/flavorsync/internal/store"
	"github.com/flavorsync/flavorsync/internal/store/storetest"
)

// federation is a Market whose installs the engine alone carries out, and its
// regions.
type federation struct {
	*marketplace.Market
	engine *reconcile.Engine
	cloud  *simstack.Stack
	db     *store.Store
}

var manager = flavor.Principal{ID: "m", Name: "manager", Provider: "test", Manager: true}

func newFederation(t *testing.T, timeout time.Duration, policy flavor.Policy, regions ...string) federation {
	t.Helper()
	cloud := simstack.New(simstack.Options{Regions: regions})
	_, stop, err := cloud.Start("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	log := slog.New(slog.DiscardHandler)
	clouds := openstack.New(openstack.Config{KeystoneURL: cloud.KeystoneURL(), RegionTimeout: timeout, MaxInFlight: 32, AllowHTTP: true, Unguarded: true, Log: log})
	t.Cleanup(clouds.Close)
	db := storetest.Open(t, "sqlite")
	market := marketplace.New(marketplace.Config{
		Store: db, Clouds: clouds, Log: log, RegionTimeout: timeout, Promotion: policy, SweepInterval: time.Hour, Sole: true, AnswersOnly: true,
	})
	t.Cleanup(market.Close)
	t.Cleanup(cloud.ClearFaults)
	f := federation{
		Market: market, cloud: cloud, db: db,
		engine: reconcile.New(reconcile.Config{Market: market, Store: db, Log: log, MaxInFlight: 32, RegionTimeout: timeout}),
	}
	for _, name := range regions {
		f.register(t, name)
	}
	return f
}

func (f federation) register(t *testing.T, name string) {
	t.Helper()
	url, user, password, tenant := f.cloud.KeystoneURL(), "operator", flavor.Secret("operator-secret"), "operators"
	patch := flavor.RegionPatch{Name: &name, KeystoneURL: &url, Username: &user, Password: &password, Tenant: &tenant}
	if _, err := f.CreateInfrastructure(t.Context(), manager, patch); err != nil {
		t.Fatal(err)
	}
}

func (f federation) promoted(t *testing.T, name string) flavor.Flavor {
	t.Helper()
	one, gb := 1, 1024
	made, err := f.CreatePromoted(t.Context(), manager, flavor.Patch{
		Name: &name, VCPUs: &one, RAM: &gb, Disk: &one, ExtraSpecs: &map[string]string{"hw:cpu_policy": "shared"},
	})
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// wish asks for an install that nobody waits for.
func (f federation) wish(t *testing.T, id string, regions ...string) *flavor.Operation {
	t.Helper()
	_, o, err := f.ChangeFlavor(t.Context(), manager, id, "", flavor.Patch{Nodes: &regions}, true)
	if err != nil || o == nil {
		t.Fatalf("%+v, %v", o, err)
	}
	return o
}

// run lets the engine work until the test ends.
func (f federation) run(t *testing.T) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); f.engine.Run(ctx) }()
	t.Cleanup(func() { f.cloud.ClearFaults(); stop(); <-ended })
}

// await waits for an operation to be as wanted.
func (f federation) await(t *testing.T, id string, limit time.Duration, wanted func(flavor.Operation) bool) flavor.Operation {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	var turn int64 = -1
	for {
		o, err := f.WaitForOperation(ctx, manager, id, turn, limit)
		if err != nil {
			t.Fatal(err)
		}
		if wanted(o) {
			return o
		}
		if ctx.Err() != nil {
			t.Fatalf("after %s it is still %+v", limit, o)
		}
		turn = o.Turn
	}
}

func ended(o flavor.Operation) bool { return !o.State.Open() }

func count(o flavor.Operation, state flavor.OperationState) (n int) {
	for _, node := range o.Nodes {
		if node.State == state {
			n++
		}
	}
	return n
}

// due makes the next look at a region due.
func (f federation) due(t *testing.T, region string) {
	t.Helper()
	if err := f.db.Write(t.Context(), func(tx *store.Tx) error { return tx.Postpone(region, 0) }); err != nil {
		t.Fatal(err)
	}
}

// One region among fifty hangs, and has more to do than its share: the forty-nine
// others have their flavors long before the first call of that one has timed out.
func TestAHangingRegionSlowsNoOther(t *testing.T) {
	const timeout = time.Minute
	var regions []string
	for i := range 50 {
		regions = append(regions, fmt.Sprintf("R%02d", i))
	}
	f := newFederation(t, timeout, flavor.Policy{}, regions...)
	var wishes []*flavor.Operation
	for i := range 6 {
		wishes = append(wishes, f.wish(t, f.promoted(t, fmt.Sprintf("f%d", i)).ID, regions...))
	}
	f.cloud.Fault("R00", simstack.Fault{Service: simstack.Nova, Kind: simstack.Hang})
	begun := time.Now()
	f.run(t)
	for _, w := range wishes {
		o := f.await(t, w.ID, timeout/2, func(o flavor.Operation) bool { return count(o, flavor.Succeeded) == 49 })
		if o.State != flavor.Running {
			t.Errorf("with one region to come it is %s", o.State)
		}
	}
	t.Logf("49 regions have 6 flavors each after %s; the time limit of the one that hangs is %s", time.Since(begun), timeout)
}

// A region that is down gets nothing to do but the looks; when one of those finds
// it back it has its whole queue at once, however long the pauses had become.
func TestARegionThatIsBackHasItsQueueAtOnce(t *testing.T) {
	f := newFederation(t, 2*time.Second, flavor.Policy{}, "Trento")
	f.cloud.Fault("Trento", simstack.Fault{Service: simstack.Nova, Kind: simstack.Refuse})
	var wishes []*flavor.Operation
	for i := range 8 {
		wishes = append(wishes, f.wish(t, f.promoted(t, fmt.Sprintf("f%d", i)).ID, "Trento"))
	}
	f.run(t)
	for _, w := range wishes[:3] { // as many failures as open a breaker
		f.await(t, w.ID, 20*time.Second, func(o flavor.Operation) bool { return o.Nodes[0].LastError != "" })
	}
	for deadline := time.Now().Add(10 * time.Second); !f.engine.Broken()["Trento"]; {
		if time.Now().After(deadline) {
			t.Fatal("its breaker does not open")
		}
	}
	f.cloud.ClearFaults()
	f.due(t, "Trento")
	for _, w := range wishes {
		if o := f.await(t, w.ID, 10*time.Second, ended); o.State != flavor.Succeeded {
			t.Errorf("%+v", o)
		}
	}
	if n := len(f.cloud.Flavors("Trento")); n != len(wishes) {
		t.Errorf("Trento has %d flavors", n)
	}
}

// What a region refuses is not tried again; what it fails at for a while is.
func TestOnlyWhatMayPassIsTriedAgain(t *testing.T) {
	f := newFederation(t, 2*time.Second, flavor.Policy{}, "Trento", "Spain2")
	wanted := f.promoted(t, "x")
	o := f.wish(t, wanted.ID, "Trento", "Spain2")
	other := flavor.NovaFlavor{ID: "other", Spec: flavor.Spec{Name: "x", VCPUs: 64, RAM: 1, Disk: 1, RxTxFactor: 1}, IsPublic: true}
	f.cloud.AddFlavor("Trento", other)
	f.cloud.Fault("Spain2", simstack.Fault{Service: simstack.Nova, Kind: simstack.Unavailable, Method: "POST", Times: 2})
	f.run(t)
	got := f.await(t, o.ID, 30*time.Second, ended)
	for _, n := range got.Nodes {
		switch {
		case n.Region == "Trento" && (n.State != flavor.Failed || n.Attempts != 1 || n.LastError == ""):
			t.Errorf("a conflict is final: %+v", n)
		case n.Region == "Spain2" && (n.State != flavor.Succeeded || n.Attempts < 2):
			t.Errorf("a 503 is not: %+v", n)
		}
	}
	if left := f.cloud.Flavors("Trento"); len(left) != 1 || !left[0].Equal(other.Spec) {
		t.Errorf("Trento has %+v", left)
	}
}
