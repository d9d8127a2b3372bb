package bench_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"testing"

	"github.com/google/uuid"

	"github.com/flavorsync/flavorsync/internal/flavor"
	"github.com/flavorsync/flavorsync/internal/store"
	"github.com/flavorsync/flavorsync/internal/store/storetest"
)

// A catalogue of thousands, whole and with a KeyRock token, against an echo
// handler that only writes the same bytes.
func BenchmarkLargeCatalogue(b *testing.B) {
	const flavors = 5000
	for _, driver := range storetest.Drivers {
		b.Run(driver, func(b *testing.B) {
			p := serve(b, "", simulate(b), stocked(b, driver, flavors))
			for _, path := range []string{"/promotedflavors", "/flavors"} {
				body := answer(b, p.get(b, path), http.StatusOK)
				var listed struct{ Flavors []json.RawMessage }
				if err := json.Unmarshal(body, &listed); err != nil || len(listed.Flavors) != flavors {
					b.Fatalf("%d flavors are listed, not %d: %v", len(listed.Flavors), flavors, err)
				}
				ratio, _ := againstBare(b, p.address, "/v1"+path, http.Header{"X-Auth-Token": {"user"}}, body)
				report(b, fmt.Sprintf("GET /v1%s, %d flavors in %d bytes on %s, of a bare echo handler's rate", path, flavors, len(body), driver), ratio, ">=", 0.8)
			}
		})
	}
}

// stocked is the setting of a database that has so many promoted flavors.
func stocked(b *testing.B, driver string, flavors int) map[string]any {
	b.Helper()
	dsn := storetest.DSN(b, driver)
	s := storetest.Connect(b, driver, dsn, storetest.Keyset(b))
	ctx := context.WithoutCancel(b.Context())
	if err := s.Up(ctx); err != nil {
		b.Fatal(err)
	}
	err := s.Write(ctx, func(tx *store.Tx) error {
		for i := range flavors {
			if err := tx.InsertFlavor(flavor.Flavor{
				ID: uuid.NewString(), Promoted: true, Public: true, Nodes: []string{},
				Spec: flavor.Spec{
					Name: fmt.Sprintf("promoted.%d", i), VCPUs: 1 + i%64, RAM: 2048, Disk: 20, RxTxFactor: 1,
					ExtraSpecs: map[string]string{"hw:cpu_policy": "shared"},
				},
			}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
	return map[string]any{"database": map[string]any{"driver": driver, "dsn": dsn}}
}
