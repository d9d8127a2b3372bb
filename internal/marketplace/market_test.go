package marketplace

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/flavorsync/flavorsync/internal/flavor"
	"github.com/flavorsync/flavorsync/internal/openstack"
	"github.com/flavorsync/flavorsync/internal/simstack"
	"github.com/flavorsync/flavorsync/internal/store"
	"github.com/flavorsync/flavorsync/internal/store/storetest"
)

// world is a market over a simulated federation.
type world struct {
	*Market
	cloud *simstack.Stack
}

var (
	manager = flavor.Principal{ID: "m", Name: "manager", Manager: true}
	trento  = flavor.Principal{ID: "t", Name: "owner of Trento", Regions: []string{"Trento"}}
)

func newWorld(t *testing.T, timeout time.Duration, regions ...string) world {
	t.Helper()
	cloud := simstack.New(simstack.Options{Regions: regions})
	_, stop, err := cloud.Start("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	clouds := openstack.New(openstack.Config{
		KeystoneURL: cloud.KeystoneURL(), RegionTimeout: timeout, AllowHTTP: true, Unguarded: true, Log: slog.New(slog.DiscardHandler),
	})
	t.Cleanup(clouds.Close)
	m := New(Config{
		Store: storetest.Open(t, "sqlite"), Clouds: clouds, Log: slog.New(slog.DiscardHandler), RegionTimeout: timeout, Sole: true,
	})
	t.Cleanup(m.Close)
	t.Cleanup(cloud.ClearFaults)
	for _, name := range regions {
		url, user, password, tenant := cloud.KeystoneURL(), "operator", flavor.Secret("operator-secret"), "operators"
		patch := flavor.RegionPatch{Name: &name, KeystoneURL: &url, Username: &user, Password: &password, Tenant: &tenant}
		if _, err := m.CreateInfrastructure(t.Context(), manager, patch); err != nil {
			t.Fatal(err)
		}
	}
	return world{m, cloud}
}

func spec(name string) flavor.Spec {
	return flavor.Spec{Name: name, VCPUs: 2, RAM: 2048, Disk: 20, RxTxFactor: 1, ExtraSpecs: map[string]string{"hw:cpu_policy": "dedicated"}}
}

// promoted creates a promoted flavor.
func (w world) promoted(t *testing.T, name string) flavor.Flavor {
	t.Helper()
	s := spec(name)
	f, err := w.CreatePromoted(t.Context(), manager, flavor.Patch{Name: &s.Name, VCPUs: &s.VCPUs, RAM: &s.RAM, Disk: &s.Disk, ExtraSpecs: &s.ExtraSpecs})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// change is ChangeFlavor by somebody who waits.
func (w world) change(ctx context.Context, p flavor.Principal, id, node string, patch flavor.Patch) (flavor.Flavor, error) {
	f, _, err := w.ChangeFlavor(ctx, p, id, node, patch, false)
	return f, err
}

func (w world) install(ctx context.Context, p flavor.Principal, id string, nodes ...string) (flavor.Flavor, error) {
	return w.change(ctx, p, id, "", flavor.Patch{Nodes: &nodes})
}

func (w world) rows(t *testing.T, id string) []flavor.Installation {
	t.Helper()
	cat, err := w.store.Catalogue(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return cat.Installed(id)
}

// A region that hangs costs its own time limit once: the page is there after
// it, the next page does not wait for it again, and once the region answers it
// is shown again without anyone's doing.
func TestAHangingRegionCostsItsTimeLimitOnce(t *testing.T) {
	const timeout = 500 * time.Millisecond
	w := newWorld(t, timeout, "Spain2", "Trento")
	w.cloud.AddFlavor("Spain2", flavor.NovaFlavor{ID: "1", Spec: spec("one"), IsPublic: true})
	if _, err := w.Flavors(t.Context(), manager, Filter{Fresh: true}); err != nil {
		t.Fatal(err)
	}
	stillHangs := w.cloud.Fault("Trento", simstack.Fault{Service: simstack.Nova, Kind: simstack.Hang})
	list := func(fresh bool) (Listing, time.Duration) {
		begun := time.Now()
		l, err := w.Flavors(t.Context(), manager, Filter{Fresh: fresh})
		if err != nil {
			t.Fatal(err)
		}
		return l, time.Since(begun)
	}
	first, took := list(true)
	if diff := cmp.Diff([]string{"Trento"}, first.Unreachable); diff != "" || len(first.All()) != 1 {
		t.Errorf("unreachable: %s; %d flavors", diff, len(first.All()))
	}
	if took < timeout || took > 3*timeout {
		t.Errorf("the first page took %s with a limit of %s", took, timeout)
	}
	second, took := list(false)
	if !slices.Equal(second.Unreachable, []string{"Trento"}) || took > timeout*3/4 {
		t.Errorf("the second page took %s; unreachable: %v", took, second.Unreachable)
	}
	stillHangs()
	for begun := time.Now(); ; {
		l, _ := list(true)
		if len(l.Unreachable) == 0 {
			break
		}
		if time.Since(begun) > 10*time.Second {
			t.Fatal("Trento answers again and is still shown as unreachable")
		}
	}
}

// Two operators who install the same flavor at once both succeed, and the
// region has it once, whole.
func TestInstallsSideBySideMakeOneFlavor(t *testing.T) {
	w := newWorld(t, 10*time.Second, "Trento")
	f := w.promoted(t, "crowd")
	var wg sync.WaitGroup
	errs := make([]error, 8)
	for i := range errs {
		wg.Go(func() { _, errs[i] = w.install(t.Context(), trento, f.ID, "Trento") })
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			t.Error(err)
		}
	}
	want := []flavor.NovaFlavor{{ID: f.ID, Spec: f.Spec, IsPublic: true}}
	if diff := cmp.Diff(want, w.cloud.Flavors("Trento")); diff != "" {
		t.Error(diff)
	}
	if rows := w.rows(t, f.ID); len(rows) != 1 || !rows[0].Created {
		t.Errorf("rows: %+v", rows)
	}
}

// A flavor that the region has already under an id of its own is adopted, not
// created twice; and the node's own id finds the public flavor for its owner.
func TestAdoptionUnderAnOwnID(t *testing.T) {
	w := newWorld(t, 10*time.Second, "Trento", "Spain2")
	w.cloud.AddFlavor("Trento", flavor.NovaFlavor{ID: "own", Spec: spec("adopted"), IsPublic: true})
	f := w.promoted(t, "adopted")
	got, err := w.install(t.Context(), trento, f.ID, "Trento")
	if err != nil || !slices.Equal(got.Nodes, []string{"Trento"}) {
		t.Fatalf("%+v, %v", got, err)
	}
	if all := w.cloud.Flavors("Trento"); len(all) != 1 {
		t.Errorf("the region has %+v", all)
	}
	if found, err := w.Flavor(t.Context(), trento, "own", "", false); err != nil || found.ID != f.ID {
		t.Errorf("the node's own id finds %+v, %v", found, err)
	}
	if _, err := w.Flavor(t.Context(), flavor.Principal{Name: "user"}, "own", "", false); flavor.CodeOf(err) != flavor.CodeNotFound {
		t.Errorf("a mere user finds it too: %v", err)
	}
	if err := w.DeleteFlavor(t.Context(), trento, f.ID, ""); err != nil {
		t.Fatal(err)
	}
	if all := w.cloud.Flavors("Trento"); len(all) != 0 {
		t.Errorf("the region still has %+v", all)
	}
}

// A node that someone deletes with the openstack client is no node any more,
// and one that appears is: the catalogue tells the truth after one look.
func TestLooksAreRemembered(t *testing.T) {
	w := newWorld(t, 10*time.Second, "Trento", "Spain2")
	f := w.promoted(t, "seen")
	if _, err := w.install(t.Context(), manager, f.ID, "Trento"); err != nil {
		t.Fatal(err)
	}
	w.cloud.DeleteFlavor("Trento", f.ID)
	w.cloud.AddFlavor("Spain2", flavor.NovaFlavor{ID: "by hand", Spec: f.Spec, IsPublic: true})
	if _, err := w.Flavors(t.Context(), trento, Filter{Fresh: true}); err != nil {
		t.Fatal(err)
	}
	got, err := w.PromotedFlavor(t.Context(), f.ID)
	if err != nil || !slices.Equal(got.Nodes, []string{"Spain2"}) {
		t.Errorf("%+v, %v", got, err)
	}
}

// A look that began before an install is older than the install's own row, and
// must not take that row for a flavor that is gone.
func TestAnOlderLookDoesNotForgetANewerInstall(t *testing.T) {
	w := newWorld(t, 10*time.Second, "Trento")
	f := w.promoted(t, "fresh")
	r, err := w.region(t.Context(), "Trento")
	if err != nil {
		t.Fatal(err)
	}
	older := w.ask(t.Context(), r)
	if _, err := w.install(t.Context(), manager, f.ID, "Trento"); err != nil {
		t.Fatal(err)
	}
	w.remember(t.Context(), older)
	if rows := w.rows(t, f.ID); len(rows) != 1 {
		t.Errorf("rows: %+v", rows)
	}
}

// When the database fails just after Nova has acted, the answer is no success;
// the flavor that is in Nova then is found by the next look, and not made twice.
func TestTheDatabaseFailsAfterNovaHasActed(t *testing.T) {
	w := newWorld(t, 10*time.Second, "Trento")
	f := w.promoted(t, "halfway")
	r, err := w.region(t.Context(), "Trento")
	if err != nil {
		t.Fatal(err)
	}
	l := w.ask(t.Context(), r)
	working := w.store
	broken := storetest.Open(t, "sqlite")
	if err := broken.Close(); err != nil {
		t.Fatal(err)
	}
	w.store = broken
	if err := w.Market.install(t.Context(), f, l, attempt{}); err == nil {
		t.Fatal("it was a success")
	}
	w.store = working
	if all := w.cloud.Flavors("Trento"); len(all) != 1 {
		t.Fatalf("Nova has %+v: this tests nothing", all)
	}
	got, err := w.install(t.Context(), manager, f.ID, "Trento")
	if err != nil || !slices.Equal(got.Nodes, []string{"Trento"}) {
		t.Errorf("%+v, %v", got, err)
	}
	if all := w.cloud.Flavors("Trento"); len(all) != 1 {
		t.Errorf("Nova has %+v", all)
	}
}

// What a manager changes of a promoted flavor reaches the nodes we created; an
// operator's own flavor that was adopted is left as it is, and is no node then.
func TestAChangedDescriptionReachesOurNodesOnly(t *testing.T) {
	w := newWorld(t, 10*time.Second, "Trento", "Spain2")
	w.cloud.AddFlavor("Spain2", flavor.NovaFlavor{ID: "own", Spec: spec("described"), IsPublic: true})
	f := w.promoted(t, "described")
	if _, err := w.install(t.Context(), manager, f.ID, "Spain2", "Trento"); err != nil {
		t.Fatal(err)
	}
	said, specs := "for databases", map[string]string{"hw:cpu_policy": "shared"}
	if _, err := w.ChangePromoted(t.Context(), manager, f.ID, flavor.Patch{Description: &said, ExtraSpecs: &specs}); err != nil {
		t.Fatal(err)
	}
	if got := w.cloud.Flavors("Trento")[0]; got.Description != said || !cmp.Equal(got.ExtraSpecs, specs) {
		t.Errorf("Trento has %+v", got)
	}
	if got := w.cloud.Flavors("Spain2")[0]; !got.Equal(spec("described")) {
		t.Errorf("Spain2 has %+v", got)
	}
	if got, err := w.Flavor(t.Context(), manager, f.ID, "", false); err != nil || !slices.Equal(got.Nodes, []string{"Trento"}) {
		t.Errorf("%+v, %v", got, err)
	}
}

// A region that failed half-way is told beside those that did not, whose work
// stays; the same call again does the rest.
func TestOneNodeOfSeveralFails(t *testing.T) {
	w := newWorld(t, 10*time.Second, "Lannion2", "Spain2", "Trento")
	f := w.promoted(t, "several")
	fixed := w.cloud.Fault("Spain2", simstack.Fault{Service: simstack.Nova, Kind: simstack.ServerError, Method: "POST"})
	_, err := w.install(t.Context(), manager, f.ID, "Lannion2", "Spain2", "Trento")
	if e, ok := errors.AsType[*flavor.Error](err); !ok || e.Code != flavor.CodeUnreachable || len(e.Nodes) != 1 || e.Nodes[0].Node != "Spain2" {
		t.Fatalf("got %+v", err)
	}
	for _, r := range []string{"Lannion2", "Trento"} {
		if len(w.cloud.Flavors(r)) != 1 {
			t.Errorf("%s has %+v", r, w.cloud.Flavors(r))
		}
	}
	fixed()
	got, err := w.install(t.Context(), manager, f.ID, "Lannion2", "Spain2", "Trento")
	if err != nil || len(got.Nodes) != 3 {
		t.Errorf("%+v, %v", got, err)
	}
}

// A flavor stored for a change that nobody finished is brought back even when
// its new form has become impossible meanwhile.
func TestAnImpossibleChangeIsUndone(t *testing.T) {
	w := newWorld(t, 10*time.Second, "Trento")
	old := flavor.NovaFlavor{ID: "lost", Spec: spec("lost"), IsPublic: false}
	changed := old
	changed.Spec = spec("taken")
	w.cloud.AddFlavor("Trento", flavor.NovaFlavor{ID: "other", Spec: spec("taken"), IsPublic: true})
	project := w.cloud.ProjectID("demo")
	err := w.store.Write(t.Context(), func(tx *store.Tx) error {
		_, err := tx.InsertChange(store.Change{
			Region: "Trento", FlavorID: "lost", TempID: temporaryID + "x", Old: old, New: changed,
			Access: []string{project}, Owner: "a dead process", Until: time.Now().Add(time.Hour), CreatedAt: time.Now(),
		})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Recover(t.Context()); err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(w.cloud.Flavors("Trento"), func(nf flavor.NovaFlavor) bool { return nf.ID == "lost" })
	if i < 0 {
		t.Fatalf("the flavor is lost: %+v", w.cloud.Flavors("Trento"))
	}
	if diff := cmp.Diff(old, w.cloud.Flavors("Trento")[i]); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{project}, w.cloud.Access("Trento", "lost")); diff != "" {
		t.Error(diff)
	}
}

// Where no service account could bring a flavor back, it is not deleted: the
// change is a conflict, and the flavor and the database are as they were.
func TestNoCarefulChangeWithoutAServiceAccount(t *testing.T) {
	for name, fault := range map[string]simstack.Fault{
		"it may not log in": {Service: simstack.Keystone, Kind: simstack.Unauthorized, Method: "POST"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, 10*time.Second, "Trento")
			old := flavor.NovaFlavor{ID: "kept", Spec: spec("kept"), IsPublic: true}
			w.cloud.AddFlavor("Trento", old)
			token := flavor.Secret(w.cloud.IssueToken("operator", "operators"))
			w.cloud.Fault("", fault)
			ram := 4096
			_, err := w.ChangeRegionFlavor(t.Context(), trento, "Trento", token, "kept", flavor.Patch{RAM: &ram})
			if flavor.CodeOf(err) != flavor.CodeConflict {
				t.Errorf("got %v", err)
			}
			if diff := cmp.Diff([]flavor.NovaFlavor{old}, w.cloud.Flavors("Trento")); diff != "" {
				t.Error(diff)
			}
		})
	}
	t.Run("it may only read", func(t *testing.T) {
		w := newWorld(t, 10*time.Second, "Trento")
		user, password, tenant := "member", flavor.Secret("member-secret"), "demo"
		if _, err := w.ChangeInfrastructure(t.Context(), manager, "Trento", flavor.RegionPatch{Username: &user, Password: &password, Tenant: &tenant}); err != nil {
			t.Fatal(err)
		}
		old := flavor.NovaFlavor{ID: "kept", Spec: spec("kept"), IsPublic: true}
		w.cloud.AddFlavor("Trento", old)
		ram := 4096
		_, err := w.ChangeRegionFlavor(t.Context(), trento, "Trento", flavor.Secret(w.cloud.IssueToken("operator", "operators")), "kept", flavor.Patch{RAM: &ram})
		if flavor.CodeOf(err) != flavor.CodeConflict {
			t.Errorf("got %v", err)
		}
		if diff := cmp.Diff([]flavor.NovaFlavor{old}, w.cloud.Flavors("Trento")); diff != "" {
			t.Error(diff)
		}
		if err := w.store.Read(t.Context(), func(tx *store.Tx) error {
			if left, err := tx.Changes(); err != nil || len(left) > 0 {
				return fmt.Errorf("%d changes are stored, %w", len(left), err)
			}
			return nil
		}); err != nil {
			t.Error(err)
		}
	})
}
