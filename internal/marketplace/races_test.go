package marketplace

import (
	"errors"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/flavorsync/flavorsync/internal/flavor"
	"github.com/flavorsync/flavorsync/internal/openstack"
	"github.com/flavorsync/flavorsync/internal/simstack"
	"github.com/flavorsync/flavorsync/internal/store"
	"github.com/flavorsync/flavorsync/internal/store/storetest"
)

// An id in a POST that a case-blind Nova has in capitals is replaced, not a 409.
func TestAnIDThatABlindNovaHas(t *testing.T) {
	cloud := simstack.New(simstack.Options{Regions: []string{"Trento"}, Collation: simstack.Blind})
	_, stop, err := cloud.Start("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	clouds := openstack.New(openstack.Config{KeystoneURL: cloud.KeystoneURL(), AllowHTTP: true, Unguarded: true, Log: slog.New(slog.DiscardHandler)})
	t.Cleanup(clouds.Close)
	m := New(Config{Store: storetest.Open(t, "sqlite"), Clouds: clouds, Log: slog.New(slog.DiscardHandler), RegionTimeout: 10 * time.Second, Sole: true})
	t.Cleanup(m.Close)
	url := cloud.KeystoneURL()
	if _, err := m.CreateInfrastructure(t.Context(), manager, flavor.RegionPatch{Name: new("Trento"), KeystoneURL: &url, Username: new("operator"), Password: new(flavor.Secret("operator-secret")), Tenant: new("operators")}); err != nil {
		t.Fatal(err)
	}
	cloud.AddFlavor("Trento", flavor.NovaFlavor{ID: strings.ToUpper("0b1f2c3d-0000-4000-8000-000000000001"), Spec: spec("upper"), IsPublic: true})
	f, err := m.CreateFlavor(t.Context(), trento, flavor.Patch{ID: new("0b1f2c3d-0000-4000-8000-000000000001"), Name: new("lower"), VCPUs: new(1), RAM: new(1), Disk: new(0)})
	if err != nil || !flavor.IsUUID(f.ID) {
		t.Errorf("%+v, %v", f, err)
	}
	// and its name, which is taken, is a conflict as before
	if _, err := m.CreateFlavor(t.Context(), trento, flavor.Patch{Name: new("LOWER"), VCPUs: new(1), RAM: new(1), Disk: new(0)}); flavor.CodeOf(err) != flavor.CodeConflict || !strings.Contains(err.Error(), "cannot tell") {
		t.Errorf("%v", err)
	}
}

// A flavor that somebody deletes in Nova during its change, before we did, is not
// brought back.
func TestAFlavorThatSomebodyDeletesDuringItsChange(t *testing.T) {
	w := newWorld(t, 10*time.Second, "Trento")
	w.cloud.AddFlavor("Trento", flavor.NovaFlavor{ID: "d", Spec: spec("d"), IsPublic: true})
	w.through(t, "Trento", func(nova http.Handler, rw http.ResponseWriter, req *http.Request) {
		if req.Method == http.MethodDelete && strings.Contains(req.URL.Path, temporaryID) {
			w.cloud.DeleteFlavor("Trento", "d")
		}
		nova.ServeHTTP(rw, req)
	})
	got, err := w.ChangeRegionFlavor(t.Context(), trento, "Trento", w.operator(), "d", flavor.Patch{RAM: new(4096)})
	if flavor.CodeOf(err) != flavor.CodeNotFound || len(w.cloud.Flavors("Trento")) > 0 {
		t.Errorf("%+v, %v; Nova: %+v", got, err, w.cloud.Flavors("Trento"))
	}
}

// A node that we created is marked so, also where a row of it was there before.
func TestWhatWeCreatedIsMarked(t *testing.T) {
	t.Run("adopted, gone, installed", func(t *testing.T) {
		w := newWorld(t, 10*time.Second, "Trento")
		w.cloud.AddFlavor("Trento", flavor.NovaFlavor{ID: "0b1f2c3d-0000-4000-8000-000000000001", Spec: spec("x"), IsPublic: true})
		f, err := w.change(t.Context(), trento, "0b1f2c3d-0000-4000-8000-000000000001", "", flavor.Patch{Public: new(true)})
		if err != nil {
			t.Fatal(err)
		}
		w.cloud.DeleteFlavor("Trento", "0b1f2c3d-0000-4000-8000-000000000001")
		if _, err := w.install(t.Context(), manager, f.ID, "Trento"); err != nil {
			t.Fatal(err)
		}
		if rows := w.rows(t, f.ID); len(rows) != 1 || !rows[0].Created {
			t.Errorf("we created it: %+v", rows)
		}
	})
	t.Run("seen by a look just before", func(t *testing.T) {
		w := newWorld(t, 10*time.Second, "Trento")
		f := w.promoted(t, "x")
		r, _ := w.region(t.Context(), "Trento")
		w.through(t, "Trento", func(nova http.Handler, rw http.ResponseWriter, req *http.Request) {
			nova.ServeHTTP(rw, req)
			if strings.HasSuffix(req.URL.Path, "/os-extra_specs") {
				w.remember(t.Context(), w.ask(t.Context(), r))
			}
		})
		if _, err := w.install(t.Context(), manager, f.ID, "Trento"); err != nil {
			t.Fatal(err)
		}
		if rows := w.rows(t, f.ID); len(rows) != 1 || !rows[0].Created {
			t.Errorf("we created it: %+v", rows)
		}
	})
}

// An install that ends while its region is looked at before a DELETE of it is not
// taken for a node that is gone.
func TestDeletingARegionDuringAnInstall(t *testing.T) {
	w := newWorld(t, 10*time.Second, "Trento")
	f := w.promoted(t, "x")
	r, _ := w.region(t.Context(), "Trento")
	var once sync.Once
	w.through(t, "Trento", func(nova http.Handler, rw http.ResponseWriter, req *http.Request) {
		if req.Method == http.MethodGet && strings.HasSuffix(req.URL.Path, "/flavors/detail") {
			once.Do(func() {
				rec := httptest.NewRecorder()
				nova.ServeHTTP(rec, req)
				if err := w.Market.install(t.Context(), f, &look{region: r}, attempt{}); err != nil {
					t.Error(err)
				}
				maps.Copy(rw.Header(), rec.Header())
				rw.WriteHeader(rec.Code)
				_, _ = rw.Write(rec.Body.Bytes())
			})
			if rw.Header().Get("Content-Type") != "" {
				return
			}
		}
		nova.ServeHTTP(rw, req)
	})
	err := w.DeleteInfrastructure(t.Context(), manager, "Trento", false)
	if flavor.CodeOf(err) != flavor.CodeConflict {
		t.Errorf("got %v; Nova has %+v, rows %+v", err, w.cloud.Flavors("Trento"), w.rows(t, f.ID))
	}
}

// Where all nodes of a public flavor are gone at once, one row stays: it says who
// may end the flavor.
func TestAllNodesVanishAtOnce(t *testing.T) {
	for range 10 {
		w := newWorld(t, 10*time.Second, "Spain2", "Trento")
		for _, r := range []string{"Spain2", "Trento"} {
			w.cloud.AddFlavor(r, flavor.NovaFlavor{ID: "0b1f2c3d-0000-4000-8000-000000000001", Spec: spec("pub"), IsPublic: true})
		}
		f, err := w.change(t.Context(), trento, "0b1f2c3d-0000-4000-8000-000000000001", "", flavor.Patch{Public: new(true)})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Flavors(t.Context(), trento, Filter{Fresh: true}); err != nil {
			t.Fatal(err)
		}
		if rows := w.rows(t, f.ID); len(rows) != 2 {
			t.Fatalf("rows: %+v", rows)
		}
		w.cloud.DeleteFlavor("Spain2", "0b1f2c3d-0000-4000-8000-000000000001")
		w.cloud.DeleteFlavor("Trento", "0b1f2c3d-0000-4000-8000-000000000001")
		if _, err := w.Flavors(t.Context(), trento, Filter{Fresh: true}); err != nil {
			t.Fatal(err)
		}
		if rows := w.rows(t, f.ID); len(rows) != 1 {
			t.Fatalf("rows: %+v", rows)
		}
	}
}

// A look that began before the region was changed, or registered anew, says nothing
// of the region as it is now.
func TestALookWithOlderSettings(t *testing.T) {
	t.Run("status", func(t *testing.T) {
		w := newWorld(t, 10*time.Second, "Trento")
		if _, err := w.ChangeInfrastructure(t.Context(), manager, "Trento", flavor.RegionPatch{Password: new(flavor.Secret("wrong"))}); err != nil {
			t.Fatal(err)
		}
		r, _ := w.region(t.Context(), "Trento")
		older := w.ask(t.Context(), r)
		if _, err := w.ChangeInfrastructure(t.Context(), manager, "Trento", flavor.RegionPatch{Password: new(flavor.Secret("operator-secret"))}); err != nil {
			t.Fatal(err)
		}
		w.remember(t.Context(), older)
		got, err := w.Infrastructure(t.Context(), manager, "Trento")
		if err != nil || got.Status.State != flavor.RegionUp {
			t.Errorf("%+v, %v", got.Status, err)
		}
	})
	t.Run("nodes", func(t *testing.T) {
		w := newWorld(t, 10*time.Second, "Trento")
		f := w.promoted(t, "x")
		w.cloud.AddFlavor("Trento", flavor.NovaFlavor{ID: f.ID, Spec: f.Spec, IsPublic: true})
		r, _ := w.region(t.Context(), "Trento")
		older := w.ask(t.Context(), r)
		if err := w.DeleteInfrastructure(t.Context(), manager, "Trento", true); err != nil {
			t.Fatal(err)
		}
		r.NovaURL = "http://127.0.0.1:1"
		if err := w.store.Write(t.Context(), func(tx *store.Tx) error { return tx.InsertRegion(r) }); err != nil {
			t.Fatal(err)
		}
		w.remember(t.Context(), older)
		if rows := w.rows(t, f.ID); len(rows) > 0 {
			t.Errorf("rows: %+v", rows)
		}
	})
}

// A flavor that is deleted or changed while it is being published does not become
// a public flavor that no region has.
func TestPublishingWhatGoesMeanwhile(t *testing.T) {
	for name, happen := range map[string]func(w world){
		"deleted": func(w world) { w.cloud.DeleteFlavor("Trento", "0b1f2c3d-0000-4000-8000-000000000001") },
		"changed": func(w world) {
			w.cloud.DeleteFlavor("Trento", "0b1f2c3d-0000-4000-8000-000000000001")
			s := spec("x")
			s.RAM = 77
			w.cloud.AddFlavor("Trento", flavor.NovaFlavor{ID: "0b1f2c3d-0000-4000-8000-000000000001", Spec: s, IsPublic: true})
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, 10*time.Second, "Trento")
			w.cloud.AddFlavor("Trento", flavor.NovaFlavor{ID: "0b1f2c3d-0000-4000-8000-000000000001", Spec: spec("x"), IsPublic: true})
			w.through(t, "Trento", func(nova http.Handler, rw http.ResponseWriter, req *http.Request) {
				nova.ServeHTTP(rw, req)
				if strings.HasSuffix(req.URL.Path, "/flavors/detail") {
					happen(w)
				}
			})
			if f, err := w.change(t.Context(), trento, "0b1f2c3d-0000-4000-8000-000000000001", "", flavor.Patch{Public: new(true)}); err == nil {
				t.Errorf("published %+v, which no region has", f)
			}
		})
	}
}

// A flavor that is retired while it is being installed takes that install no more.
func TestRetiringDuringAnInstall(t *testing.T) {
	w := newWorld(t, 10*time.Second, "Trento")
	f := w.promoted(t, "x")
	r, _ := w.region(t.Context(), "Trento")
	l := w.ask(t.Context(), r)
	if _, err := w.ChangePromoted(t.Context(), manager, f.ID, flavor.Patch{Retired: new(true)}); err != nil {
		t.Fatal(err)
	}
	if err := w.Market.install(t.Context(), f, l, attempt{}); flavor.CodeOf(err) != flavor.CodeConflict || len(w.cloud.Flavors("Trento")) > 0 {
		t.Errorf("got %v, %+v", err, w.cloud.Flavors("Trento"))
	}
}

// Of two changes the later one is what the nodes have in the end, however slowly
// the earlier one spreads.
func TestTwoManagersDescribeAFlavor(t *testing.T) {
	w := newWorld(t, 10*time.Second, "Trento")
	f := w.promoted(t, "x")
	if _, err := w.install(t.Context(), manager, f.ID, "Trento"); err != nil {
		t.Fatal(err)
	}
	first, err := w.ChangePromoted(t.Context(), manager, f.ID, flavor.Patch{Description: new("first")})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.ChangePromoted(t.Context(), manager, f.ID, flavor.Patch{Description: new("second")}); err != nil {
		t.Fatal(err)
	}
	r, err := w.region(t.Context(), "Trento")
	if err != nil {
		t.Fatal(err)
	}
	if err := w.spreadTo(t.Context(), first, r); err != nil { // it was slower
		t.Fatal(err)
	}
	if got := w.cloud.Flavors("Trento")[0].Description; got != "second" {
		t.Errorf("Nova has %q", got)
	}
}

// A node that is installed again while the others are still removed keeps the
// flavor in the catalogue.
func TestAnInstallDuringAnUninstall(t *testing.T) {
	w := newWorld(t, 10*time.Second, "Trento", "Spain2")
	f := w.promoted(t, "x")
	r, err := w.region(t.Context(), "Trento")
	if err != nil {
		t.Fatal(err)
	}
	w.through(t, "Spain2", func(nova http.Handler, rw http.ResponseWriter, req *http.Request) {
		if req.Method == http.MethodDelete {
			for len(w.rows(t, f.ID)) > 1 && req.Context().Err() == nil {
				runtime.Gosched() // Trento's removal is under way beside this one
			}
			if err := w.Market.install(t.Context(), f, &look{region: r}, attempt{}); err != nil {
				t.Error(err)
			}
		}
		nova.ServeHTTP(rw, req)
	})
	if _, err := w.install(t.Context(), manager, f.ID, "Trento", "Spain2"); err != nil {
		t.Fatal(err)
	}
	err = w.DeletePromoted(t.Context(), manager, f.ID, true)
	if flavor.CodeOf(err) != flavor.CodeNotAllowed || len(w.rows(t, f.ID)) != 1 {
		t.Errorf("got %v; Trento has %+v", err, w.cloud.Flavors("Trento"))
	}
}

// A region that refuses the service account is told as such by a look, too.
func TestALookTellsRefusedFromUnreachable(t *testing.T) {
	w := newWorld(t, 10*time.Second, "Trento")
	if _, err := w.ChangeInfrastructure(t.Context(), manager, "Trento", flavor.RegionPatch{Password: new(flavor.Secret("wrong"))}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Flavors(t.Context(), manager, Filter{Fresh: true}); err != nil && flavor.CodeOf(err) != flavor.CodeUnreachable {
		t.Fatal(err)
	}
	r, err := w.Infrastructure(t.Context(), manager, "Trento")
	if err != nil || r.Status.State != flavor.RegionRefused {
		t.Errorf("%+v, %v", r.Status, err)
	}
}

// That our own database failed says nothing of the region.
func TestADatabaseFailureIsNotTheRegions(t *testing.T) {
	w := newWorld(t, 10*time.Second, "Trento")
	r, err := w.region(t.Context(), "Trento")
	if err != nil {
		t.Fatal(err)
	}
	w.remember(t.Context(), &look{region: r, err: errors.New("the database is locked")})
	if r, err = w.region(t.Context(), "Trento"); err != nil || r.Status.State != flavor.RegionUnknown {
		t.Errorf("%+v, %v", r.Status, err)
	}
}

// A manager who forgets a region just while one of its flavors is deleted and
// created again does not lose that flavor: a claim on it is waited for.
func TestForgettingARegionDuringAChange(t *testing.T) {
	w := newWorld(t, 10*time.Second, "Trento")
	w.cloud.AddFlavor("Trento", flavor.NovaFlavor{ID: "d", Spec: spec("d"), IsPublic: true})
	w.through(t, "Trento", func(nova http.Handler, rw http.ResponseWriter, r *http.Request) {
		nova.ServeHTTP(rw, r)
		if r.Method == http.MethodDelete && strings.HasSuffix(r.URL.Path, "/flavors/d") {
			if err := w.DeleteInfrastructure(t.Context(), manager, "Trento", true); flavor.CodeOf(err) != flavor.CodeConflict {
				t.Errorf("got %v", err)
			}
		}
	})
	if _, err := w.ChangeRegionFlavor(t.Context(), trento, "Trento", w.operator(), "d", flavor.Patch{RAM: new(4096)}); err != nil {
		t.Error(err)
	}
	if len(w.cloud.Flavors("Trento")) != 1 {
		t.Error("the flavor is lost")
	}
}

// What a look misses while a flavor of that name is being written there is no drift
// yet: it is whoever writes that has deleted it, and the audit tells of his deed. Who
// looks may be another process than who writes.
func TestALookDuringARemovalTellsOfNoDrift(t *testing.T) {
	for _, sole := range []bool{true, false} {
		w := newWorld(t, 10*time.Second, "Trento")
		w.sole = sole
		f := w.promoted(t, "removed")
		if _, err := w.install(t.Context(), trento, f.ID, "Trento"); err != nil {
			t.Fatal(err)
		}
		other := w
		if !sole {
			other.Market = New(Config{
				Store: w.store, Clouds: w.clouds, Log: slog.New(slog.DiscardHandler), RegionTimeout: 10 * time.Second,
			})
			t.Cleanup(other.Close)
		}
		drift := func() bool {
			t.Helper()
			if err := other.Observe(t.Context(), "Trento"); err != nil {
				t.Fatal(err)
			}
			cat, err := w.store.Catalogue(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			_, drifted := cat.DriftIn(f.ID, "Trento")
			return drifted
		}
		writing, err := w.writing(t.Context(), "Trento", f.Name)
		if err != nil {
			t.Fatal(err)
		}
		w.cloud.DeleteFlavor("Trento", f.ID)
		if drift() || len(w.rows(t, f.ID)) != 1 {
			t.Errorf("sole is %t: what is being removed has drifted", sole)
		}
		writing.done(t.Context())
		if !drift() || len(w.rows(t, f.ID)) != 0 {
			t.Errorf("sole is %t: what nobody writes any more is gone, and has not drifted", sole)
		}
	}
}

// An owner's DELETE that overtakes an install of the policy's own, or one that
// somebody asked for before, is what holds: the flavor does not come back a moment
// after the 204.
func TestAnOwnersDELETEOvertakesAnInstall(t *testing.T) {
	for at, call := range map[string]func(*http.Request) bool{
		"after it has looked": func(req *http.Request) bool { return strings.HasSuffix(req.URL.Path, "/flavors/detail") },
		"while it creates":    func(req *http.Request) bool { return req.Method == http.MethodPost },
	} {
		for _, origin := range []flavor.Origin{flavor.Automatic, flavor.Asked} {
			there := at == "after it has looked"
			t.Run(string(origin)+" "+at, func(t *testing.T) {
				w := newWorld(t, 10*time.Second, "Trento")
				w.policy = flavor.Policy{PolicyPart: flavor.PolicyPart{Install: new(true)}}
				f := w.promoted(t, "x")
				var begun, once atomic.Bool
				w.through(t, "Trento", func(nova http.Handler, rw http.ResponseWriter, req *http.Request) {
					if !begun.Load() || !call(req) || once.Swap(true) {
						nova.ServeHTTP(rw, req)
						return
					}
					rec := httptest.NewRecorder()
					nova.ServeHTTP(rec, req)
					if err := w.DeleteFlavor(t.Context(), trento, f.ID, "Trento"); err != nil {
						t.Errorf("the DELETE: %v", err)
					}
					maps.Copy(rw.Header(), rec.Header())
					rw.WriteHeader(rec.Code)
					_, _ = rw.Write(rec.Body.Bytes())
				})
				if there {
					if _, err := w.install(t.Context(), manager, f.ID, "Trento"); err != nil {
						t.Fatal(err)
					}
				}
				due := w.wants(t, origin, f)
				begun.Store(true)
				if err := w.CarryOut(t.Context(), due); flavor.CodeOf(err) != flavor.CodeConflict {
					t.Errorf("the install: %v", err)
				}
				if left := w.cloud.Flavors("Trento"); len(left) > 0 || len(w.rows(t, f.ID)) > 0 {
					t.Errorf("Nova has %+v, rows %+v", left, w.rows(t, f.ID))
				}
			})
		}
	}
}

// Nor does it come back where the policy wrote down its wish a moment after that
// DELETE, from what it had read a moment before.
func TestThePolicyIsLateForARefusal(t *testing.T) {
	w := newWorld(t, 10*time.Second, "Trento")
	w.policy = flavor.Policy{PolicyPart: flavor.PolicyPart{Install: new(true)}}
	f := w.promoted(t, "x")
	if err := w.DeleteFlavor(t.Context(), trento, f.ID, "Trento"); err != nil {
		t.Fatal(err)
	}
	due := w.wants(t, flavor.Automatic, f)
	if err := w.CarryOut(t.Context(), due); flavor.CodeOf(err) != flavor.CodeConflict {
		t.Errorf("the install: %v", err)
	}
	if left := w.cloud.Flavors("Trento"); len(left) > 0 {
		t.Errorf("Nova has %+v", left)
	}
}

// wants is an install in Trento that is due, and taken.
func (w world) wants(t *testing.T, origin flavor.Origin, f flavor.Flavor) store.Due {
	t.Helper()
	o := flavor.Operation{Kind: flavor.Install, Origin: origin, FlavorID: f.ID, Name: f.Name}
	err := w.store.Write(t.Context(), func(tx *store.Tx) error {
		return tx.Want(o, []flavor.OperationNode{{Region: "Trento", State: flavor.Waiting}})
	})
	if err != nil {
		t.Fatal(err)
	}
	return w.due(t)
}

// due is the one thing that is due, taken.
func (w world) due(t *testing.T) store.Due {
	t.Helper()
	due, err := w.store.DueNodes(t.Context(), 9, nil)
	if err != nil || len(due) != 1 {
		t.Fatalf("%+v, %v", due, err)
	}
	if taken, err := w.store.TakeNode(t.Context(), &due[0], w.Claim()); err != nil || !taken {
		t.Fatal(taken, err)
	}
	return due[0]
}

// A node that a change of its flavor has yet to reach is nobody's deed: that it is
// as it was is no drift, and no event.
func TestWhatIsYetToBeChangedIsNoDrift(t *testing.T) {
	w := newWorld(t, 10*time.Second, "Trento")
	f := w.promoted(t, "x")
	if _, err := w.install(t.Context(), manager, f.ID, "Trento"); err != nil {
		t.Fatal(err)
	}
	w.cloud.Fault("Trento", simstack.Fault{Kind: simstack.ServerError, Method: http.MethodPut})
	if _, err := w.ChangePromoted(t.Context(), manager, f.ID, flavor.Patch{Description: new("now told")}); err == nil {
		t.Fatal("this tests nothing")
	}
	drift := func() []flavor.Drift {
		t.Helper()
		if _, err := w.Flavors(t.Context(), manager, Filter{Fresh: true}); err != nil {
			t.Fatal(err)
		}
		cat, err := w.store.CatalogueNow(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return cat.Drift
	}
	if d := drift(); len(d) > 0 {
		t.Errorf("while it waits to be changed: %+v", d)
	}
	// Where it cannot be changed any more, it has drifted.
	w.cloud.ClearFaults()
	w.cloud.Fault("Trento", simstack.Fault{Kind: simstack.Conflict, Method: http.MethodPut})
	if err := w.store.Write(t.Context(), func(tx *store.Tx) error { return tx.ReleaseAll() }); err != nil {
		t.Fatal(err)
	}
	if err := w.CarryOut(t.Context(), w.due(t)); err == nil {
		t.Fatal("this tests nothing")
	}
	if cat, err := w.store.CatalogueNow(t.Context()); err != nil || len(cat.Drift) != 1 {
		t.Errorf("once it cannot be changed: %+v, %v", cat.Drift, err)
	}
}
