package marketplace

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/flavorsync/flavorsync/internal/flavor"
	"github.com/flavorsync/flavorsync/internal/match"
)

func (w world) match(t *testing.T, r match.Requirement, limit int) Match {
	t.Helper()
	found, err := w.Match(t.Context(), user, []match.Requirement{r}, limit)
	if err != nil {
		t.Fatal(err)
	}
	return found[0]
}

func fitNames(m Match) []string {
	var names []string
	for _, f := range m.Fits {
		names = append(names, f.Name+" "+strings.Join(f.Regions, ","))
	}
	return names
}

// An orchestrator must get a flavor it can use: of the catalogue, in a region it
// wants; one that no region has yet comes last, and says so.
func TestMatchChoosesWhatCanBeUsed(t *testing.T) {
	w := newWorld(t, time.Second, "Spain2", "Trento")
	w.cloud.AddFlavor("Trento", flavor.NovaFlavor{ID: "own", Spec: spec("private"), IsPublic: true})
	waiting := w.promoted(t, "a-waiting")
	fits := match.Requirement{VCPUs: match.AtLeast(2)}
	only := w.match(t, fits, 0)
	if diff := cmp.Diff([]string{"a-waiting "}, fitNames(only)); diff != "" || !strings.Contains(only.Reason, `"a-waiting" is promoted, and can be used where PUT /v1/flavors/`+waiting.ID) {
		t.Errorf("%s, reason %q", diff, only.Reason)
	}
	if len(only.Fits[0].Nodes) != 0 {
		t.Errorf("its nodes are %q", only.Fits[0].Nodes)
	}
	there := w.promoted(t, "b-there")
	if _, err := w.install(t.Context(), manager, there.ID, "Spain2", "Trento"); err != nil {
		t.Fatal(err)
	}
	retired := w.promoted(t, "c-retired")
	if _, err := w.install(t.Context(), manager, retired.ID, "Trento"); err != nil {
		t.Fatal(err)
	}
	if _, err := w.ChangePromoted(t.Context(), manager, retired.ID, flavor.Patch{Retired: new(true)}); err != nil {
		t.Fatal(err)
	}
	w.put(t, there.ID, flavor.ProductPatch{Price: new("0.34"), Currency: new("DKK"), Period: new("hour")})

	both := w.match(t, fits, 0)
	if diff := cmp.Diff([]string{"b-there Spain2,Trento", "a-waiting "}, fitNames(both)); diff != "" || both.Reason != "" {
		t.Errorf("%s, reason %q", diff, both.Reason)
	}
	if f := both.Fits[0]; f.Price == nil || *f.Price != 340_000 || f.Currency != "DKK" || f.Period != flavor.Hour {
		t.Errorf("its price is %v %s each %s", f.Price, f.Currency, f.Period)
	}
	if diff := cmp.Diff([]string{"b-there Spain2,Trento"}, fitNames(w.match(t, fits, 1))); diff != "" {
		t.Error(diff)
	}
	fits.Regions = []string{"Trento"}
	if diff := cmp.Diff([]string{"b-there Trento"}, fitNames(w.match(t, fits, 0))); diff != "" {
		t.Error(diff)
	}
	large := w.match(t, match.Requirement{VCPUs: match.AtLeast(3)}, 0)
	if len(large.Fits) != 0 || large.Reason == "" {
		t.Errorf("3 vCPUs: %v, reason %q", fitNames(large), large.Reason)
	}
	fits.Regions = []string{"Mordor"}
	if _, err := w.Match(t.Context(), user, []match.Requirement{fits}, 0); flavor.CodeOf(err) != flavor.CodeConflict {
		t.Errorf("an unknown region: %v", err)
	}
	// What is removed is no choice any more.
	if err := w.DeletePromoted(t.Context(), manager, there.ID, true); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"a-waiting "}, fitNames(w.match(t, match.Requirement{}, 0))); diff != "" {
		t.Error(diff)
	}
}
