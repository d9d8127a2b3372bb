package store_test

import (
	"testing"

	"github.com/flavorsync/flavorsync/internal/store"
	"github.com/flavorsync/flavorsync/internal/store/storetest"
)

// What any caller may rely on, on each database.
func TestConformance(t *testing.T) {
	for _, driver := range storetest.Drivers {
		t.Run(driver, func(t *testing.T) {
			storetest.Run(t, func(t *testing.T) *store.Store { return storetest.Open(t, driver) })
		})
	}
}

// GET /v1/promotedflavors is served from here: it may cost next to nothing.
func BenchmarkCatalogue(b *testing.B) {
	s := storetest.Open(b, "sqlite")
	for _, name := range []string{"a", "b", "c", "d", "e"} {
		if err := s.Write(b.Context(), func(tx *store.Tx) error { return tx.InsertFlavor(storetest.Flavor(name)) }); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := s.Catalogue(b.Context()); err != nil {
				b.Error(err)
			}
		}
	})
}
