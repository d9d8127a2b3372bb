package store_test

import (
	"fmt"
	"testing"

	"github.com/flavorsync/flavorsync/internal/store"
	"github.com/flavorsync/flavorsync/internal/store/storetest"
)

// What any caller may rely on, on each database.
func TestConformance(t *testing.T) {
	for _, database := range storetest.Databases {
		t.Run(database, func(t *testing.T) {
			t.Parallel()
			storetest.Run(t, func(t *testing.T) *store.Store { return storetest.Open(t, database) })
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

// What another process has finished counts at once for who asks so: a push of an
// older price would be sent over a newer one.
func TestCatalogueNow(t *testing.T) {
	for _, driver := range storetest.Drivers {
		t.Run(driver, func(t *testing.T) {
			dsn, keyset := storetest.DSN(t, driver), storetest.Keyset(t)
			ours, theirs := storetest.Connect(t, driver, dsn, keyset), storetest.Connect(t, driver, dsn, keyset)
			if err := ours.Up(t.Context()); err != nil {
				t.Fatal(err)
			}
			for i := range 3 {
				if _, err := ours.Catalogue(t.Context()); err != nil {
					t.Fatal(err)
				}
				err := theirs.Write(t.Context(), func(tx *store.Tx) error { return tx.InsertFlavor(storetest.Flavor(fmt.Sprint("f", i))) })
				if err != nil {
					t.Fatal(err)
				}
				cat, err := ours.CatalogueNow(t.Context())
				if err != nil || len(cat.Flavors) != i+1 {
					t.Fatalf("after %d of their writes: %v, %v", i+1, cat, err)
				}
				again, err := ours.CatalogueNow(t.Context())
				if err != nil || again != cat {
					t.Errorf("without a change: another snapshot, %v", err)
				}
			}
		})
	}
}
