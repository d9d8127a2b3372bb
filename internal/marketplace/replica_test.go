package marketplace

import (
	"log/slog"
	"testing"
	"time"

	"github.com/flavorsync/flavorsync/internal/flavor"
	"github.com/flavorsync/flavorsync/internal/store/storetest"
)

// A client is told the id of a new flavor by one replica and asks another for it
// at once; the lists may take a second.
func TestFlavorOfAnotherReplica(t *testing.T) {
	for _, driver := range storetest.Drivers {
		t.Run(driver, func(t *testing.T) {
			dsn, keyset := storetest.DSN(t, driver), storetest.Keyset(t)
			replica := func() *Market {
				s := storetest.Connect(t, driver, dsn, keyset)
				if err := s.Up(t.Context()); err != nil {
					t.Fatal(err)
				}
				m := New(Config{Store: s, Log: slog.New(slog.DiscardHandler), RegionTimeout: time.Second})
				t.Cleanup(m.Close)
				return m
			}
			one, two := world{Market: replica()}, replica()
			known := one.promoted(t, "known")
			if list, err := two.PromotedFlavors(t.Context()); err != nil || len(list) != 1 { // the snapshot is there, and new
				t.Fatalf("%+v, %v", list, err)
			}
			made := one.promoted(t, "made")
			for _, id := range []string{known.ID, made.ID} {
				if f, err := two.PromotedFlavor(t.Context(), id); err != nil || f.ID != id || f.Nodes == nil {
					t.Errorf("the promoted flavor %s: %+v, %v", id, f, err)
				}
				if f, err := two.Flavor(t.Context(), flavor.Principal{ID: "u"}, id, "", false); err != nil || f.ID != id || f.Nodes == nil {
					t.Errorf("the flavor %s: %+v, %v", id, f, err)
				}
			}
			gone := two.newID()
			if _, err := two.PromotedFlavor(t.Context(), gone); flavor.CodeOf(err) != flavor.CodeNotFound {
				t.Errorf("a promoted flavor that nobody made: %v", err)
			}
			if _, err := two.Flavor(t.Context(), flavor.Principal{ID: "u"}, gone, "", false); flavor.CodeOf(err) != flavor.CodeNotFound {
				t.Errorf("a flavor that nobody made: %v", err)
			}
		})
	}
}
