package store_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/flavorsync/flavorsync/internal/flavor"
	"github.com/flavorsync/flavorsync/internal/store"
	"github.com/flavorsync/flavorsync/internal/store/storetest"
)

// onNodes is a store on each node of one cluster, with one database.
func onNodes(t *testing.T) []*store.Store {
	t.Helper()
	keyset := storetest.Keyset(t)
	var all []*store.Store
	for _, dsn := range storetest.GaleraDSNs(t) {
		all = append(all, storetest.Connect(t, "galera", dsn, keyset))
	}
	if err := all[0].Up(t.Context()); err != nil {
		t.Fatal(err)
	}
	return all
}

// A lock is known to one node of Galera only: if a lease were more than a row that is
// changed, two replicas at two nodes would hold it at once.
func TestOneHolderOnSeveralNodes(t *testing.T) {
	nodes := onNodes(t)
	const rounds = 60
	var holders, taken atomic.Int64
	var fences sync.Map
	var wg sync.WaitGroup
	for i := range 4 * len(nodes) {
		s, owner := nodes[i%len(nodes)], fmt.Sprint("replica ", i)
		wg.Go(func() {
			for taken.Load() < rounds {
				l, mine, err := s.TakeLease(t.Context(), "the work", owner, time.Hour)
				if err != nil {
					t.Errorf("%s: %v", owner, err)
					return
				}
				if !mine {
					continue
				}
				if n := holders.Add(1); n != 1 {
					t.Errorf("%s holds it as one of %d", owner, n)
				}
				if other, twice := fences.LoadOrStore(l.Fence, owner); twice {
					t.Errorf("the fencing number %d was given to %s and to %s", l.Fence, other, owner)
				}
				taken.Add(1)
				if err := s.Write(t.Context(), func(tx *store.Tx) error { return tx.Hold(l) }); err != nil {
					t.Errorf("%s does not hold what it took: %v", owner, err)
				}
				holders.Add(-1)
				if err := s.ReleaseLease(t.Context(), l); err != nil {
					t.Errorf("%s: %v", owner, err)
				}
			}
		})
	}
	wg.Wait()
	t.Logf("taken %d times", taken.Load())
}

// Who was paused past its deadline, between looking at its lease and committing, must
// not write beside the one who has it now, though that one is at another node and
// waits for no lock.
func TestFencedOnAnotherNode(t *testing.T) {
	nodes := onNodes(t)
	paused, next := nodes[0], nodes[1]
	lease, taken, err := paused.TakeLease(t.Context(), "the work", "paused", time.Hour)
	if err != nil || !taken {
		t.Fatal(taken, err)
	}
	if _, err := paused.ExtendLease(t.Context(), lease, -time.Hour); err != nil {
		t.Fatal(err)
	}
	tries := 0
	err = paused.Write(t.Context(), func(tx *store.Tx) error {
		if err := tx.Hold(lease); err != nil {
			return err
		}
		if tries++; tries == 1 {
			if _, taken, err := next.TakeLease(context.WithoutCancel(t.Context()), "the work", "next", time.Hour); err != nil || !taken {
				t.Errorf("the next could not take it: %v", err)
			}
		}
		return tx.InsertFlavor(storetest.Flavor("fenced"))
	})
	if flavor.CodeOf(err) != flavor.CodeConflict {
		t.Errorf("the paused one's write: %v", err)
	}
	cat, err := next.CatalogueNow(t.Context())
	if err != nil || len(cat.Flavors) != 0 {
		t.Errorf("it was accepted: %v, %v", cat, err)
	}
}

// Two replicas at two nodes want one flavor by the same policy: with an operation for each
// of them it would be installed, and given up, twice.
func TestOnePolicyOperationOnSeveralNodes(t *testing.T) {
	nodes := onNodes(t)
	for _, s := range nodes {
		if err := s.BindKeyset(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := nodes[0].Write(t.Context(), func(tx *store.Tx) error { return tx.InsertRegion(storetest.Region("Trento")) }); err != nil {
		t.Fatal(err)
	}
	for range 20 {
		f := storetest.Flavor(uuid.NewString())
		if err := nodes[0].Write(t.Context(), func(tx *store.Tx) error { return tx.InsertFlavor(f) }); err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for _, s := range nodes {
			wg.Go(func() {
				err := s.Write(t.Context(), func(tx *store.Tx) error {
					return tx.Want(flavor.Operation{Kind: flavor.Install, Origin: flavor.Automatic, FlavorID: f.ID, Name: f.Name},
						[]flavor.OperationNode{{Region: "Trento", State: flavor.Waiting}})
				})
				if err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		var all []flavor.Operation
		err := nodes[1].Read(t.Context(), func(tx *store.Tx) (err error) {
			all, err = tx.PolicyOperations()
			return err
		})
		of := slices.DeleteFunc(all, func(o flavor.Operation) bool { return o.FlavorID != f.ID })
		if err != nil || len(of) != 1 {
			t.Fatalf("%d operations want one thing: %v", len(of), err)
		}
	}
}
