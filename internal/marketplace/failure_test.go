package marketplace

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/flavorsync/flavorsync/internal/flavor"
	"github.com/flavorsync/flavorsync/internal/simstack"
	"github.com/flavorsync/flavorsync/internal/store"
)

var user = flavor.Principal{ID: "u", Name: "user"}

// through puts h between us and the Nova of region.
func (w world) through(t *testing.T, region string, h func(nova http.Handler, rw http.ResponseWriter, r *http.Request)) {
	t.Helper()
	nova := w.cloud.Handler()
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { h(nova, rw, r) }))
	t.Cleanup(server.Close)
	base := strings.TrimSuffix(w.cloud.KeystoneURL(), "/identity/v3")
	w.cloud.SetEndpoint(region, server.URL+strings.TrimPrefix(w.cloud.NovaURL(region), base))
}

func (w world) operator() flavor.Secret {
	return flavor.Secret(w.cloud.IssueToken("operator", "operators"))
}

func (w world) stored(t *testing.T) []store.Change {
	t.Helper()
	var changes []store.Change
	if err := w.store.Read(t.Context(), func(tx *store.Tx) (err error) {
		changes, err = tx.Changes()
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return changes
}

// A create whose answer is lost must not be undone behind the change that then
// finds the flavor there: the caller would get 200 for a flavor that goes.
func TestALostAnswerToTheCreateOfAChange(t *testing.T) {
	w := newWorld(t, time.Second, "Trento")
	w.cloud.AddFlavor("Trento", flavor.NovaFlavor{ID: "d", Spec: spec("d"), IsPublic: true})
	var creates, deletes atomic.Int32
	w.through(t, "Trento", func(nova http.Handler, rw http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method == http.MethodPost && strings.HasSuffix(r.URL.Path, "/flavors") && creates.Add(1) == 2: // the first is the trial
			nova.ServeHTTP(httptest.NewRecorder(), r)
			<-r.Context().Done()
		case r.Method == http.MethodDelete && strings.HasSuffix(r.URL.Path, "/flavors/d"):
			deletes.Add(1)
			nova.ServeHTTP(rw, r)
		default:
			nova.ServeHTTP(rw, r)
		}
	})
	got, err := w.ChangeRegionFlavor(t.Context(), trento, "Trento", w.operator(), "d", flavor.Patch{RAM: new(4096)})
	if err != nil || got.RAM != 4096 {
		t.Fatalf("%+v, %v", got, err)
	}
	w.clouds.Close() // waits for undos
	if deletes.Load() != 1 || len(w.cloud.Flavors("Trento")) != 1 {
		t.Errorf("%d deletes; Nova has %+v", deletes.Load(), w.cloud.Flavors("Trento"))
	}
	if changes := w.stored(t); len(changes) > 0 {
		t.Errorf("stored: %+v", changes)
	}
}

// A DELETE that Nova acts on only after we gave it up still loses nothing: the
// change stays stored until it can have no effect any more.
func TestADeleteThatActsLate(t *testing.T) {
	w := newWorld(t, time.Second, "Trento")
	old := flavor.NovaFlavor{ID: "d", Spec: spec("d"), IsPublic: true}
	w.cloud.AddFlavor("Trento", old)
	late := make(chan func(), 1)
	w.through(t, "Trento", func(nova http.Handler, rw http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodDelete && strings.HasSuffix(r.URL.Path, "/flavors/d") {
			kept := r.Clone(context.Background())
			late <- func() { nova.ServeHTTP(httptest.NewRecorder(), kept) }
			<-r.Context().Done()
			return
		}
		nova.ServeHTTP(rw, r)
	})
	_, err := w.ChangeRegionFlavor(t.Context(), trento, "Trento", w.operator(), "d", flavor.Patch{RAM: new(4096)})
	if flavor.CodeOf(err) != flavor.CodeUnreachable {
		t.Fatalf("got %v", err)
	}
	if err := w.Recover(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(w.stored(t)) != 1 {
		t.Fatal("the change is forgotten while the DELETE may still act")
	}
	(<-late)()
	w.now = func() time.Time { return time.Now().Add(time.Hour) }
	if err := w.Recover(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := old
	want.RAM = 4096
	if diff := cmp.Diff([]flavor.NovaFlavor{want}, w.cloud.Flavors("Trento")); diff != "" {
		t.Error(diff)
	}
}

// A published flavor may be hidden from a member's token. That it looks gone to
// him takes it neither from the region nor from the catalogue.
func TestAMemberCannotUnpublishWhatIsHiddenFromHim(t *testing.T) {
	w := newWorld(t, 10*time.Second, "Trento")
	w.cloud.AddFlavor("Trento", flavor.NovaFlavor{ID: "hid", Spec: spec("hidden")})
	f, err := w.change(t.Context(), trento, "hid", "", flavor.Patch{Public: new(true)})
	if err != nil {
		t.Fatal(err)
	}
	token := flavor.Secret(w.cloud.IssueToken("member", "demo"))
	if err := w.DeleteRegionFlavor(t.Context(), user, "Trento", token, "hid"); flavor.CodeOf(err) != flavor.CodeNotFound {
		t.Errorf("got %v", err)
	}
	if rows := w.rows(t, f.ID); len(rows) != 1 || len(w.cloud.Flavors("Trento")) != 1 {
		t.Errorf("rows: %+v; Nova: %+v", rows, w.cloud.Flavors("Trento"))
	}
}

// Nova keeps the access of projects that Keystone has forgotten, and does not
// take it again: the change must not break on one.
func TestAChangeWithAccessOfADeadProject(t *testing.T) {
	w := newWorld(t, 10*time.Second, "Trento")
	demo := w.cloud.ProjectID("demo")
	w.cloud.AddFlavor("Trento", flavor.NovaFlavor{ID: "acc", Spec: spec("acc")}, "00000000000000000000000000000000", demo)
	if _, err := w.ChangeRegionFlavor(t.Context(), trento, "Trento", w.operator(), "acc", flavor.Patch{RAM: new(4096)}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{demo}, w.cloud.Access("Trento", "acc")); diff != "" {
		t.Error(diff)
	}
}

// An old flavor that was brought back without its extra specs gets them by the
// next try.
func TestBroughtBackInTwoTries(t *testing.T) {
	w := newWorld(t, 10*time.Second, "Trento")
	old := flavor.NovaFlavor{ID: "lost", Spec: spec("lost"), IsPublic: true}
	w.cloud.AddFlavor("Trento", flavor.NovaFlavor{ID: "other", Spec: spec("taken"), IsPublic: true})
	w.leaveChange(t, old, spec("taken"))
	works := w.cloud.Fault("Trento", simstack.Fault{Service: simstack.Nova, Kind: simstack.ServerError, Method: "POST", Path: "/flavors/lost"})
	if err := w.Recover(t.Context()); err == nil {
		t.Fatal("it worked: this tests nothing")
	}
	works()
	if err := w.Recover(t.Context()); err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(w.cloud.Flavors("Trento"), func(nf flavor.NovaFlavor) bool { return nf.ID == "lost" })
	if i < 0 {
		t.Fatal("the flavor is lost")
	}
	if diff := cmp.Diff(old, w.cloud.Flavors("Trento")[i]); diff != "" {
		t.Error(diff)
	}
}

// leaveChange stores what a process left that died while it changed old.
func (w world) leaveChange(t *testing.T, old flavor.NovaFlavor, to flavor.Spec) {
	t.Helper()
	changed := old
	changed.Spec = to
	if err := w.store.Write(t.Context(), func(tx *store.Tx) error {
		_, err := tx.InsertChange(store.Change{
			Region: "Trento", FlavorID: old.ID, TempID: temporaryID + "x", Old: old, New: changed,
			Owner: "a dead process", Until: time.Now().Add(time.Minute), CreatedAt: time.Now(),
		})
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

// A flavor that its owner deletes while a change of it is stored stays deleted.
func TestADeletedFlavorIsNotBroughtBack(t *testing.T) {
	w := newWorld(t, 10*time.Second, "Trento")
	old := flavor.NovaFlavor{ID: "z", Spec: spec("z"), IsPublic: true}
	w.cloud.AddFlavor("Trento", old)
	changed := spec("z")
	changed.RAM = 4096
	w.leaveChange(t, old, changed)
	if err := w.DeleteRegionFlavor(t.Context(), trento, "Trento", w.operator(), "z"); err != nil {
		t.Fatal(err)
	}
	if err := w.Recover(t.Context()); err != nil {
		t.Fatal(err)
	}
	if all := w.cloud.Flavors("Trento"); len(all) > 0 {
		t.Errorf("it is back: %+v", all)
	}
}

// A process that was stopped for too long finds its change ended by another,
// and must not bring back what was deleted since.
func TestGivingUpAChangeThatAnotherHasEnded(t *testing.T) {
	w := newWorld(t, 10*time.Second, "Trento")
	old := flavor.NovaFlavor{ID: "x", Spec: spec("x"), IsPublic: true}
	c := store.Change{ID: "00000000-0000-4000-8000-000000000000", Region: "Trento", FlavorID: "x", TempID: temporaryID + "x", Old: old, New: old, Owner: w.instance}
	r, err := w.region(t.Context(), "Trento")
	if err != nil {
		t.Fatal(err)
	}
	service := w.clouds.Service(r)
	if err := w.giveUp(t.Context(), service, c, w.deleteOld(t.Context(), service, c)); flavor.CodeOf(err) != flavor.CodeConflict {
		t.Errorf("got %v", err)
	}
	if all := w.cloud.Flavors("Trento"); len(all) > 0 {
		t.Errorf("it is back: %+v", all)
	}
}

// The same id in two regions is two flavors. While one region is down, a DELETE
// that does not say which it means must not take the other's.
func TestADeleteIsNotGuessed(t *testing.T) {
	w := newWorld(t, 10*time.Second, "Trento", "Spain2")
	w.cloud.AddFlavor("Trento", flavor.NovaFlavor{ID: "1", Spec: spec("mine"), IsPublic: true})
	w.cloud.AddFlavor("Spain2", flavor.NovaFlavor{ID: "1", Spec: spec("m1.tiny"), IsPublic: true})
	if err := w.DeleteFlavor(t.Context(), manager, "1", ""); flavor.CodeOf(err) != flavor.CodeConflict {
		t.Errorf("all are up: %v", err)
	}
	w.cloud.Fault("Trento", simstack.Fault{Service: simstack.Nova, Kind: simstack.ServerError})
	if err := w.DeleteFlavor(t.Context(), manager, "1", ""); flavor.CodeOf(err) != flavor.CodeUnreachable {
		t.Errorf("Trento is down: %v", err)
	}
	if len(w.cloud.Flavors("Spain2")) != 1 {
		t.Fatal("Spain2's flavor is gone")
	}
	if err := w.DeleteFlavor(t.Context(), manager, "1", "Spain2"); err != nil {
		t.Error(err)
	}
}

// "1" is m1.tiny everywhere: publishing Trento's under a new id must not be
// refused because of Spain2's.
func TestPublishingANonUUIDWithNodes(t *testing.T) {
	w := newWorld(t, 10*time.Second, "Trento", "Spain2")
	w.cloud.AddFlavor("Trento", flavor.NovaFlavor{ID: "1", Spec: spec("mine"), IsPublic: true})
	w.cloud.AddFlavor("Spain2", flavor.NovaFlavor{ID: "1", Spec: spec("m1.tiny"), IsPublic: true})
	f, err := w.change(t.Context(), manager, "1", "Trento", flavor.Patch{Public: new(true), Nodes: &[]string{"Trento", "Spain2"}})
	if err != nil || !slices.Equal(f.Nodes, []string{"Spain2", "Trento"}) || !flavor.IsUUID(f.ID) {
		t.Errorf("%+v, %v", f, err)
	}
}

// An install that began before a manager renamed the flavor must not be written
// down as a node of what the flavor has become.
func TestAnInstallOfWhatWasChangedMeanwhile(t *testing.T) {
	w := newWorld(t, 10*time.Second, "Trento")
	f := w.promoted(t, "a")
	r, err := w.region(t.Context(), "Trento")
	if err != nil {
		t.Fatal(err)
	}
	l := w.ask(t.Context(), r)
	if _, err := w.ChangePromoted(t.Context(), manager, f.ID, flavor.Patch{Name: new("b")}); err != nil {
		t.Fatal(err)
	}
	if err := w.Market.install(t.Context(), f, l, attempt{}); flavor.CodeOf(err) != flavor.CodeConflict {
		t.Errorf("got %v", err)
	}
	if rows := w.rows(t, f.ID); len(rows) > 0 || len(w.cloud.Flavors("Trento")) > 0 {
		t.Errorf("rows: %+v; Nova: %+v", rows, w.cloud.Flavors("Trento"))
	}
}

// The owner of the last node of a published flavor can end it, also when the
// node has changed or has gone behind our back; and his region can be deleted.
func TestTheLastOwnerCanEndAPublicFlavor(t *testing.T) {
	for name, happen := range map[string]func(*testing.T, world){
		"its description changed": func(t *testing.T, w world) {
			if _, err := w.ChangeRegionFlavor(t.Context(), trento, "Trento", w.operator(), "own", flavor.Patch{Description: new("new words")}); err != nil {
				t.Fatal(err)
			}
		},
		"it was deleted behind our back": func(_ *testing.T, w world) { w.cloud.DeleteFlavor("Trento", "own") },
		"it was changed, then deleted": func(t *testing.T, w world) {
			if _, err := w.ChangeRegionFlavor(t.Context(), trento, "Trento", w.operator(), "own", flavor.Patch{Description: new("new words")}); err != nil {
				t.Fatal(err)
			}
			w.cloud.DeleteFlavor("Trento", "own")
		},
	} {
		published := func(t *testing.T) (world, flavor.Flavor) {
			w := newWorld(t, 10*time.Second, "Trento")
			w.cloud.AddFlavor("Trento", flavor.NovaFlavor{ID: "own", Spec: spec("pub"), IsPublic: true})
			f, err := w.change(t.Context(), trento, "own", "", flavor.Patch{Public: new(true)})
			if err != nil {
				t.Fatal(err)
			}
			happen(t, w)
			if _, err := w.Flavors(t.Context(), trento, Filter{Fresh: true}); err != nil { // everyone looks
				t.Fatal(err)
			}
			return w, f
		}
		gone := func(t *testing.T, w world) {
			list, err := w.Flavors(t.Context(), trento, Filter{Public: new(true), Fresh: true})
			if err != nil || len(list.All()) > 0 {
				t.Errorf("still public: %+v, %v", list.All(), err)
			}
		}
		t.Run(name, func(t *testing.T) {
			w, f := published(t)
			if err := w.DeleteFlavor(t.Context(), trento, f.ID, ""); err != nil {
				t.Fatal(err)
			}
			gone(t, w)
		})
		t.Run(name+", and the region goes", func(t *testing.T) {
			w, _ := published(t)
			if err := w.DeleteInfrastructure(t.Context(), trento, "Trento", false); err != nil {
				t.Fatal(err)
			}
			gone(t, w)
		})
	}
}

// A node that its owner changes and then deletes in its region takes the public
// flavor with it, when it was the last.
func TestDeletingAChangedNodeInItsRegion(t *testing.T) {
	w := newWorld(t, 10*time.Second, "Trento")
	w.cloud.AddFlavor("Trento", flavor.NovaFlavor{ID: "own", Spec: spec("pub"), IsPublic: true})
	if _, err := w.change(t.Context(), trento, "own", "", flavor.Patch{Public: new(true)}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.ChangeRegionFlavor(t.Context(), trento, "Trento", w.operator(), "own", flavor.Patch{Description: new("mine")}); err != nil {
		t.Fatal(err)
	}
	if err := w.DeleteRegionFlavor(t.Context(), trento, "Trento", w.operator(), "own"); err != nil {
		t.Fatal(err)
	}
	if list, err := w.Flavors(t.Context(), trento, Filter{Fresh: true}); err != nil || len(list.All()) > 0 {
		t.Errorf("left: %+v, %v", list.All(), err)
	}
}

// A client that goes away says nothing of the region it did not wait for.
func TestAClientWhoGoesMarksNoRegion(t *testing.T) {
	w := newWorld(t, 10*time.Second, "Trento")
	if _, err := w.Flavors(t.Context(), manager, Filter{Fresh: true}); err != nil {
		t.Fatal(err)
	}
	answers := w.cloud.Fault("Trento", simstack.Fault{Service: simstack.Nova, Kind: simstack.Hang})
	ctx, leave := context.WithCancel(t.Context())
	done := make(chan Listing)
	go func() {
		l, _ := w.Flavors(ctx, manager, Filter{Fresh: true})
		done <- l
	}()
	if err := w.cloud.Await(t.Context(), 2, simstack.Nova, "Trento", "GET", "/flavors"); err != nil {
		t.Fatal(err)
	}
	leave()
	<-done
	answers()
	w.working.Wait()
	r, err := w.region(t.Context(), "Trento")
	if err != nil || r.Status.State != flavor.RegionUp {
		t.Errorf("%+v, %v", r.Status, err)
	}
}

// Many readers at once share their looks: a region of 100 ms answers them all,
// and is not called unreachable because we ask it too often.
func TestACrowdOfReadersSharesItsLooks(t *testing.T) {
	w := newWorld(t, 2*time.Second, "Trento", "Spain2")
	if _, err := w.Flavors(t.Context(), manager, Filter{Fresh: true}); err != nil {
		t.Fatal(err)
	}
	w.cloud.Delay("Trento", 100*time.Millisecond)
	w.cloud.ForgetRequests()
	var wg sync.WaitGroup
	var bad atomic.Int32
	for range 150 {
		wg.Go(func() {
			if l, err := w.Flavors(t.Context(), manager, Filter{Fresh: true}); err != nil || len(l.Unreachable) > 0 {
				bad.Add(1)
			}
		})
	}
	wg.Wait()
	if n := bad.Load(); n > 0 {
		t.Errorf("%d of 150 saw a region unreachable", n)
	}
	if n := w.cloud.Count(simstack.Nova, "Trento", "GET", "/flavors"); n > 20 {
		t.Errorf("Trento was asked %d times", n)
	}
}

// An older look of another replica does not drop a row that was written since,
// nor take from it that we created that node.
func TestAnotherReplicasOlderLook(t *testing.T) {
	w := newWorld(t, 10*time.Second, "Trento")
	other := New(Config{Store: w.store, Clouds: w.clouds, Log: slog.New(slog.DiscardHandler), RegionTimeout: time.Second})
	t.Cleanup(other.Close)
	f := w.promoted(t, "x")
	r, err := w.region(t.Context(), "Trento")
	if err != nil {
		t.Fatal(err)
	}
	older := other.ask(t.Context(), r)
	if _, err := w.install(t.Context(), trento, f.ID, "Trento"); err != nil {
		t.Fatal(err)
	}
	other.remember(t.Context(), older)
	if rows := w.rows(t, f.ID); len(rows) != 1 || !rows[0].Created {
		t.Errorf("rows: %+v", rows)
	}
}

// A node that waits behind another write costs its time limit, not more.
func TestAWriteThatWaitsEndsInTime(t *testing.T) {
	w := newWorld(t, 300*time.Millisecond, "Trento", "Spain2")
	f := w.promoted(t, "x")
	done, err := w.writing(t.Context(), "Trento", "x")
	if err != nil {
		t.Fatal(err)
	}
	defer done.done(t.Context())
	_, err = w.install(t.Context(), manager, f.ID, "Trento", "Spain2")
	if flavor.CodeOf(err) != flavor.CodeUnreachable || len(w.cloud.Flavors("Spain2")) != 1 {
		t.Errorf("got %v; Spain2 has %+v", err, w.cloud.Flavors("Spain2"))
	}
}

// Where the service account fails after all, before anything was deleted, that
// is the documented conflict, and the flavor stands.
func TestTheServiceAccountFailsAtTheTrial(t *testing.T) {
	w := newWorld(t, 10*time.Second, "Trento")
	old := flavor.NovaFlavor{ID: "k", Spec: spec("k"), IsPublic: true}
	w.cloud.AddFlavor("Trento", old)
	token := w.operator()
	var broken atomic.Bool
	w.through(t, "Trento", func(nova http.Handler, rw http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost && strings.HasSuffix(r.URL.Path, "/flavors") {
			broken.Store(true)
		}
		if broken.Load() && r.Header.Get("X-Auth-Token") != string(token) {
			rw.WriteHeader(http.StatusForbidden)
			return
		}
		nova.ServeHTTP(rw, r)
	})
	_, err := w.ChangeRegionFlavor(t.Context(), trento, "Trento", token, "k", flavor.Patch{RAM: new(4096)})
	if flavor.CodeOf(err) != flavor.CodeConflict {
		t.Errorf("got %v", err)
	}
	if diff := cmp.Diff([]flavor.NovaFlavor{old}, w.cloud.Flavors("Trento")); diff != "" {
		t.Error(diff)
	}
}

// What Nova refuses at one node of several is that node's conflict, not a
// mistake of the caller's.
func TestANodesRefusalIsAConflict(t *testing.T) {
	w := newWorld(t, 10*time.Second, "Trento")
	n := w.nodeError(t.Context(), "Trento", fmt.Errorf("wrapped: %w", flavor.Invalid("refused")))
	if err := several("not installed everywhere", []flavor.NodeError{n}); flavor.CodeOf(err) != flavor.CodeConflict {
		t.Errorf("got %s", flavor.CodeOf(err))
	}
}

// A crowd of owners publishes one flavor, each from a region of his own: all
// succeed, and it is in the catalogue once.
func TestACrowdPublishesOneFlavor(t *testing.T) {
	var regions []string
	for i := range 8 {
		regions = append(regions, fmt.Sprintf("R%d", i))
	}
	w := newWorld(t, 10*time.Second, regions...)
	for _, r := range regions {
		w.cloud.AddFlavor(r, flavor.NovaFlavor{ID: "0b1f2c3d-0000-4000-8000-000000000001", Spec: spec("crowd"), IsPublic: true})
	}
	var wg sync.WaitGroup
	errs := make([]error, len(regions))
	for i, r := range regions {
		wg.Go(func() {
			owner := flavor.Principal{Name: r, Regions: []string{r}}
			_, errs[i] = w.change(t.Context(), owner, "0b1f2c3d-0000-4000-8000-000000000001", "", flavor.Patch{Public: new(true)})
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			t.Error(err)
		}
	}
	list, err := w.Flavors(t.Context(), manager, Filter{Fresh: true})
	if err != nil || len(list.All()) != 1 || len(list.All()[0].Nodes) != len(regions) {
		t.Errorf("%+v, %v", list, err)
	}
}

// Whoever may write to a region's Nova, but does not own the region, cannot take
// a published flavor out of the catalogue by changing its description first.
func TestAForeignOperatorCannotUnpublishByDetour(t *testing.T) {
	w := newWorld(t, 10*time.Second, "Trento")
	w.cloud.AddFlavor("Trento", flavor.NovaFlavor{ID: "own", Spec: spec("pub"), IsPublic: true})
	f, err := w.change(t.Context(), trento, "own", "", flavor.Patch{Public: new(true)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.ChangeRegionFlavor(t.Context(), user, "Trento", w.operator(), "own", flavor.Patch{Description: new("x")}); err != nil {
		t.Fatal(err)
	}
	if err := w.DeleteRegionFlavor(t.Context(), user, "Trento", w.operator(), "own"); flavor.CodeOf(err) != flavor.CodeForbidden {
		t.Errorf("got %v", err)
	}
	if _, err := w.Flavor(t.Context(), user, f.ID, "", false); err != nil {
		t.Errorf("it has left the catalogue: %v", err)
	}
}

// An owner who asks for the removal of a flavor that we created in his region
// gets it, also when its description was changed there since.
func TestRemovingWhatWeCreatedAndHeDescribed(t *testing.T) {
	w := newWorld(t, 10*time.Second, "Trento")
	f := w.promoted(t, "x")
	if _, err := w.install(t.Context(), trento, f.ID, "Trento"); err != nil {
		t.Fatal(err)
	}
	if _, err := w.ChangeRegionFlavor(t.Context(), trento, "Trento", w.operator(), f.ID, flavor.Patch{Description: new("mine")}); err != nil {
		t.Fatal(err)
	}
	if err := w.DeleteFlavor(t.Context(), trento, f.ID, ""); err != nil {
		t.Fatal(err)
	}
	if all := w.cloud.Flavors("Trento"); len(all) > 0 {
		t.Errorf("Nova has %+v", all)
	}
}

// "403 not yours" comes before "409 state".
func TestUnpublishingWhatIsNotYours(t *testing.T) {
	w := newWorld(t, 10*time.Second, "Trento")
	f := w.promoted(t, "x")
	if _, err := w.install(t.Context(), trento, f.ID, "Trento"); err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		p     flavor.Principal
		patch flavor.Patch
		want  flavor.Code
	}{
		{user, flavor.Patch{Public: new(false)}, flavor.CodeForbidden},
		{user, flavor.Patch{Promoted: new(false)}, flavor.CodeForbidden},
		{trento, flavor.Patch{Public: new(false)}, flavor.CodeConflict},
		{manager, flavor.Patch{Promoted: new(false)}, flavor.CodeConflict},
	} {
		if _, err := w.change(t.Context(), row.p, f.ID, "", row.patch); flavor.CodeOf(err) != row.want {
			t.Errorf("%s: %v", row.p.Name, err)
		}
	}
}

// The answer to a publication names every region that turns out to have the
// flavor, as the next GET does.
func TestPublishingTellsAllNodes(t *testing.T) {
	w := newWorld(t, 10*time.Second, "Spain2", "Trento")
	for _, r := range []string{"Spain2", "Trento"} {
		w.cloud.AddFlavor(r, flavor.NovaFlavor{ID: "1", Spec: spec("m1.tiny"), IsPublic: true})
	}
	f, err := w.change(t.Context(), trento, "1", "", flavor.Patch{Public: new(true)})
	if err != nil || !slices.Equal(f.Nodes, []string{"Spain2", "Trento"}) {
		t.Errorf("%+v, %v", f, err)
	}
}

// A private flavor is one region's: to have it elsewhere, publish it.
func TestAPrivateFlavorIsNotInstalledElsewhere(t *testing.T) {
	w := newWorld(t, 10*time.Second, "Spain2", "Trento")
	w.cloud.AddFlavor("Trento", flavor.NovaFlavor{ID: "1", Spec: spec("mine"), IsPublic: true})
	if _, err := w.install(t.Context(), manager, "1", "Spain2"); flavor.CodeOf(err) != flavor.CodeConflict || len(w.cloud.Flavors("Spain2")) > 0 {
		t.Errorf("got %v; Spain2 has %+v", err, w.cloud.Flavors("Spain2"))
	}
	if f, err := w.install(t.Context(), manager, "1", "Trento"); err != nil || !slices.Equal(f.Nodes, []string{"Trento"}) {
		t.Errorf("where it is: %+v, %v", f, err)
	}
}

// A widget posts back what it read: of the nodes of a catalogue flavor, the
// caller's own is meant.
func TestPostingBackAFlavorOfSeveralNodes(t *testing.T) {
	w := newWorld(t, 10*time.Second, "Spain2", "Trento")
	f, err := w.CreateFlavor(t.Context(), trento, flavor.Patch{
		Name: new("back"), VCPUs: new(1), RAM: new(1), Disk: new(1), Nodes: &[]string{"Spain2", "Trento"},
	})
	if err != nil || !slices.Equal(f.Nodes, []string{"Trento"}) {
		t.Errorf("%+v, %v", f, err)
	}
}

// Where the change of a flavor does not reach a node at once, it is written down,
// and reaches it later.
func TestAChangeReachesANodeThatWasDown(t *testing.T) {
	w := newWorld(t, 10*time.Second, "Trento")
	f := w.promoted(t, "x")
	if _, err := w.install(t.Context(), manager, f.ID, "Trento"); err != nil {
		t.Fatal(err)
	}
	fixed := w.cloud.Fault("Trento", simstack.Fault{Kind: simstack.ServerError, Method: "PUT"})
	if _, err := w.ChangePromoted(t.Context(), manager, f.ID, flavor.Patch{Description: new("changed")}); flavor.CodeOf(err) != flavor.CodeUnreachable {
		t.Fatalf("got %v", err)
	}
	fixed()
	if err := w.TakeOver(t.Context()); err != nil { // what waits is due at once
		t.Fatal(err)
	}
	due, err := w.store.DueNodes(t.Context(), 10, nil)
	if err != nil || len(due) != 1 {
		t.Fatalf("%+v are due, %v", due, err)
	}
	if taken, err := w.store.TakeNode(t.Context(), &due[0], w.Claim()); err != nil || !taken {
		t.Fatal(taken, err)
	}
	if err := w.CarryOut(t.Context(), due[0]); err != nil {
		t.Fatal(err)
	}
	if got := w.cloud.Flavors("Trento")[0].Description; got != "changed" {
		t.Errorf("Nova has %q", got)
	}
}
