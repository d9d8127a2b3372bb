package bench_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/flavorsync/flavorsync/internal/flavor"
	"github.com/flavorsync/flavorsync/internal/store"
	"github.com/flavorsync/flavorsync/internal/store/storetest"
)

// A catalogue of thousands, whole and with a KeyRock token, against an echo
// handler that only writes the same bytes. What is added is in the very next
// answer here, and within a second in another replica's.
func BenchmarkLargeCatalogue(b *testing.B) {
	const flavors = 5000
	for _, driver := range storetest.Drivers {
		b.Run(driver, func(b *testing.B) {
			cloud, settings := simulate(b), stocked(b, driver, flavors)
			p := serve(b, "", cloud, settings)
			others := []product{p}
			if driver == "mysql" {
				others = append(others, serve(b, "", cloud, settings))
			}
			for added, path := range []string{"/promotedflavors", "/flavors"} {
				body := answer(b, p.get(b, path), http.StatusOK)
				if n := listed(b, body); n != flavors+added {
					b.Fatalf("%d flavors are listed, not %d", n, flavors+added)
				}
				ratio, _ := againstBare(b, p.address, "/v1"+path, http.Header{"X-Auth-Token": {"user"}}, body)
				report(b, fmt.Sprintf("GET /v1%s, %d flavors in %d bytes on %s, of a bare echo handler's rate", path, flavors, len(body), driver), ratio, ">=", 0.8)
				for i, other := range others {
					if n := listed(b, answer(b, other.get(b, path), http.StatusOK)); n != flavors+added {
						b.Fatalf("%d flavors are listed by replica %d, not %d", n, i, flavors+added)
					}
				}
				timed(b, p.call(b, http.MethodPost, "/promotedflavors", map[string]any{"flavor": map[string]any{
					"name": fmt.Sprintf("added.%d", added), "vcpus": 1, "ram": 512, "disk": 1,
				}}))
				written := time.Now()
				for i, other := range others {
					seen := time.Now()
					for listed(b, answer(b, other.get(b, path), http.StatusOK)) == flavors+added {
						if i == 0 {
							b.Fatal("a flavor is not in the list that was asked for after it was made")
						}
						seen = time.Now()
					}
					if i > 0 {
						report(b, "seconds after a write of another replica that GET /v1"+path+" was without it at most", seen.Sub(written).Seconds(), "<=", 1)
					}
				}
			}
		})
	}
}

// listed is how many flavors a list in JSON has.
func listed(b *testing.B, body []byte) int {
	b.Helper()
	var list struct{ Flavors []json.RawMessage }
	if err := json.Unmarshal(body, &list); err != nil {
		b.Fatal(err)
	}
	return len(list.Flavors)
}

// stocked is the setting of a database that has so many promoted flavors.
func stocked(b *testing.B, driver string, flavors int) map[string]any {
	b.Helper()
	return filled(b, driver, func(tx *store.Tx) error {
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
}

// filled are the settings of a database that has been filled, and its keyset.
func filled(b *testing.B, driver string, fill func(*store.Tx) error) map[string]any {
	b.Helper()
	ctx, file := context.WithoutCancel(b.Context()), filepath.Join(b.TempDir(), "keyset.json")
	keyset, _, err := store.LoadKeyset(file, nil)
	if err != nil {
		b.Fatal(err)
	}
	dsn := storetest.DSN(b, driver)
	s, err := store.Open(ctx, store.Config{Driver: driver, DSN: dsn, Keyset: keyset, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	if err := errors.Join(s.Up(ctx), s.BindKeyset(ctx), s.Write(ctx, fill), s.Close()); err != nil {
		b.Fatal(err)
	}
	return map[string]any{
		"database":           map[string]any{"driver": driver, "dsn": dsn},
		"credentials_keyset": file,
	}
}
