package marketplace

import (
	"testing"
	"time"

	"github.com/flavorsync/flavorsync/internal/flavor"
	"github.com/flavorsync/flavorsync/internal/simstack"
)

// What an operator changes of a node through us makes it none at once, and one
// again when it agrees again: nobody waits for the next look.
func TestANodeThatIsChangedThroughUsIsNoneAtOnce(t *testing.T) {
	w := newWorld(t, 10*time.Second, "Trento")
	f := w.promoted(t, "x")
	if _, err := w.install(t.Context(), manager, f.ID, "Trento"); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Flavors(t.Context(), manager, Filter{Fresh: true}); err != nil { // it is seen
		t.Fatal(err)
	}
	for _, step := range []struct {
		description string
		nodes       int
	}{{"mine", 0}, {"", 1}} {
		if _, err := w.ChangeRegionFlavor(t.Context(), trento, "Trento", w.operator(), f.ID, flavor.Patch{Description: &step.description}); err != nil {
			t.Fatal(err)
		}
		if got, err := w.PromotedFlavor(t.Context(), f.ID); err != nil || len(got.Nodes) != step.nodes {
			t.Errorf("described as %q it has the nodes %v, %v", step.description, got.Nodes, err)
		}
	}
}

// failsHalfWay has an install in Trento fail, and its undoing too.
func (w world) failsHalfWay(t *testing.T, f flavor.Flavor) {
	t.Helper()
	for _, broken := range []simstack.Fault{
		{Service: simstack.Nova, Kind: simstack.ServerError, Method: "POST", Path: "/flavors/"},
		{Service: simstack.Nova, Kind: simstack.ServerError, Method: "DELETE"},
	} {
		w.cloud.Fault("Trento", broken)
	}
	if _, err := w.install(t.Context(), manager, f.ID, "Trento"); flavor.CodeOf(err) != flavor.CodeUnreachable {
		t.Fatal(err)
	}
	w.cloud.ClearFaults()
	if left := w.cloud.Flavors("Trento"); len(left) != 1 || len(left[0].ExtraSpecs) > 0 {
		t.Fatalf("this tests nothing: %+v", left)
	}
}

// An install that failed half-way, and whose undoing failed too, leaves a flavor
// without its extra specs. Asking again finishes it; a flavor of that kind that
// somebody made himself is a conflict, and left alone.
func TestWhatAFailedInstallLeftIsFinishedWhenAskedAgain(t *testing.T) {
	for _, ours := range []bool{true, false} {
		w := newWorld(t, 2*time.Second, "Trento")
		f := w.promoted(t, "x")
		if ours {
			w.failsHalfWay(t, f)
		} else {
			bare := flavor.NovaFlavor{ID: f.ID, Spec: f.Spec.Clone(), IsPublic: true}
			bare.ExtraSpecs = nil
			w.cloud.AddFlavor("Trento", bare)
		}
		if left := w.cloud.Flavors("Trento"); len(left) != 1 || len(left[0].ExtraSpecs) > 0 {
			t.Fatalf("this tests nothing: %+v", left)
		}
		_, err := w.install(t.Context(), manager, f.ID, "Trento")
		left := w.cloud.Flavors("Trento")
		if ours && (err != nil || len(left) != 1 || !left[0].Equal(f.Spec)) {
			t.Errorf("ours: %v, %+v", err, left)
		}
		if !ours && (flavor.CodeOf(err) != flavor.CodeConflict || len(left) != 1 || len(left[0].ExtraSpecs) > 0) {
			t.Errorf("theirs: %v, %+v", err, left)
		}
	}
}

// What a failed install left, and could not undo, is removed when its region lets
// us; once somebody has asked again and has it, it stays.
func TestWhatAFailedInstallLeftIsRemoved(t *testing.T) {
	for _, again := range []bool{false, true} {
		w := newWorld(t, 2*time.Second, "Trento")
		f := w.promoted(t, "x")
		w.failsHalfWay(t, f)
		if again {
			if _, err := w.install(t.Context(), manager, f.ID, "Trento"); err != nil {
				t.Fatal(err)
			}
		}
		due := w.due(t)
		if due.Operation.Kind != flavor.Undo {
			t.Fatalf("%+v", due)
		}
		if err := w.CarryOut(t.Context(), due); err != nil {
			t.Error(err)
		}
		if left := w.cloud.Flavors("Trento"); again && (len(left) != 1 || !left[0].Equal(f.Spec)) || !again && len(left) > 0 {
			t.Errorf("asked again: %v: %+v", again, left)
		}
	}
}

// What was left may be removed while the next attempt, which has seen it, waits for
// its turn: it is made anew then.
func TestWhatWasLeftIsRemovedUnderTheNextAttempt(t *testing.T) {
	w := newWorld(t, 2*time.Second, "Trento")
	f := w.promoted(t, "x")
	half := flavor.NovaFlavor{ID: f.ID, Spec: f.Spec.Clone(), IsPublic: true}
	half.ExtraSpecs = nil
	w.cloud.AddFlavor("Trento", half)
	r, err := w.region(t.Context(), "Trento")
	if err != nil {
		t.Fatal(err)
	}
	l := w.ask(t.Context(), r)
	w.cloud.DeleteFlavor("Trento", f.ID)
	if err := w.Market.install(t.Context(), f, l, attempt{again: true}); err != nil {
		t.Error(err)
	}
	if there := w.cloud.Flavors("Trento"); len(there) != 1 || !there[0].Equal(f.Spec) {
		t.Errorf("Nova has %+v", there)
	}
}
