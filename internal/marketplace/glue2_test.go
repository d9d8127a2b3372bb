package marketplace

import (
	"encoding/json"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/flavorsync/flavorsync/internal/flavor"
	"github.com/flavorsync/flavorsync/internal/glue2"
	"github.com/flavorsync/flavorsync/internal/simstack"
)

// EGI's information system is public: what a region keeps for itself is told to
// its owner alone, and nobody is told of a flavor that his VO cannot use.
func TestGLUE2ShowsWhatTheCallerMaySee(t *testing.T) {
	w := newWorld(t, time.Second, "Trento")
	w.glue2 = glue2.Config{Sites: map[string]glue2.Site{"Trento": {
		GOCDB: "UNITN", Endpoint: "https://k.example.org/v3", VOs: []glue2.VO{{Name: "ops", Auth: glue2.Auth{ProjectID: "p1"}}},
	}}}
	f := w.promoted(t, "shared")
	if _, err := w.install(t.Context(), trento, f.ID, "Trento"); err != nil {
		t.Fatal(err)
	}
	w.cloud.AddFlavor("Trento", flavor.NovaFlavor{ID: "own", Spec: spec("own"), IsPublic: true})
	w.cloud.AddFlavor("Trento", flavor.NovaFlavor{ID: "ops", Spec: spec("for-ops")}, "p1")
	w.cloud.AddFlavor("Trento", flavor.NovaFlavor{ID: "others", Spec: spec("for-others")}, "p2")
	for _, c := range []struct {
		who  flavor.Principal
		want []string
	}{
		{user, []string{"shared"}}, {trento, []string{"for-ops", "own", "shared"}}, {manager, []string{"for-ops", "own", "shared"}},
	} {
		body, err := w.GLUE2(t.Context(), c.who, "Trento")
		if err != nil {
			t.Fatal(err)
		}
		var got struct {
			CloudComputingService      []struct{ Name string }
			CloudComputingInstanceType []struct{ Name string }
		}
		if err := json.Unmarshal(body, &got); err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, i := range got.CloudComputingInstanceType {
			names = append(names, i.Name)
		}
		slices.Sort(names)
		if diff := cmp.Diff(c.want, names); diff != "" || got.CloudComputingService[0].Name != "Cloud Compute service at UNITN" {
			t.Errorf("%s: %s, %+v", c.who.Name, diff, got.CloudComputingService)
		}
	}
	if _, err := w.GLUE2(t.Context(), user, "Mordor"); flavor.CodeOf(err) != flavor.CodeNotFound {
		t.Errorf("an unknown region: %v", err)
	}
	// A document says that the region works.
	w.cloud.Fault("Trento", simstack.Fault{Service: simstack.Nova, Kind: simstack.Unavailable})
	if _, err := w.GLUE2(t.Context(), manager, "Trento"); flavor.CodeOf(err) != flavor.CodeUnreachable {
		t.Errorf("a region that is down: %v", err)
	}
}
