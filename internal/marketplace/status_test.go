package marketplace

import (
	"testing"
	"time"

	"github.com/flavorsync/flavorsync/internal/flavor"
	"github.com/flavorsync/flavorsync/internal/simstack"
)

// An owner is told all of their own region and no secret of another's: why that
// does not answer is its owner's affair.
func TestStatus(t *testing.T) {
	w := newWorld(t, 10*time.Second, "Lannion2", "Spain2", "Trento")
	w.cloud.Fault("Trento", simstack.Fault{Service: simstack.Nova, Kind: simstack.ServerError})
	wrong := flavor.Secret("wrong")
	if _, err := w.ChangeInfrastructure(t.Context(), manager, "Spain2", flavor.RegionPatch{Password: &wrong}); err != nil {
		t.Fatal(err)
	}
	for _, region := range []string{"Spain2", "Trento"} {
		if _, err := w.Infrastructure(t.Context(), manager, region); err != nil {
			t.Fatal(err)
		}
	}
	asked := len(w.cloud.Requests())

	s, err := w.Status(t.Context(), trento)
	if err != nil || len(s.Regions) != 3 {
		t.Fatalf("%+v, %v", s, err)
	}
	if r := s.Regions[0]; r.Name != "Lannion2" || r.State != flavor.RegionUnknown || r.Whole || !r.SeenAt.IsZero() {
		t.Errorf("of a region that was never asked: %+v", r)
	}
	if r := s.Regions[1]; r.State != flavor.RegionUnreachable || r.Whole || r.LastError != "" || !r.LookedAt.IsZero() {
		t.Errorf("of another's region: %+v", r)
	}
	if r := s.Regions[2]; r.State != flavor.RegionUnreachable || !r.Whole || r.LastError == "" || r.LookedAt.IsZero() || !r.SeenAt.IsZero() {
		t.Errorf("of their own region: %+v", r)
	}
	s, err = w.Overview(t.Context())
	if err != nil || s.Regions[1].State != flavor.RegionRefused || s.Regions[1].LastError == "" {
		t.Errorf("of all: %+v, %v", s, err)
	}
	if now := len(w.cloud.Requests()); now != asked {
		t.Errorf("%d kinds of requests have reached the clouds, and %d before", now, asked)
	}
}
