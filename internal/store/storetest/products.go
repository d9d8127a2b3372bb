package storetest

import (
	"errors"
	"math"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/flavorsync/flavorsync/internal/flavor"
	"github.com/flavorsync/flavorsync/internal/store"
)

// What a manager said of a product comes back to the letter: a price that is
// rounded by the database would be somebody's money.
func products(t *testing.T, s *store.Store) {
	f, g := Flavor("f"), Flavor("g")
	said := flavor.Product{
		FlavorID: f.ID, Category: "uc-general", Price: new(flavor.Amount(math.MaxInt64)), Currency: "DKK", Period: flavor.Hour,
		Free: true, Hidden: true, CPUModel: "EPYC", MemoryModel: "DDR5", GPUModel: "T4 大", Description: strings.Repeat("é", 1000),
	}
	write(t, s, func(tx *store.Tx) error {
		return errors.Join(tx.InsertFlavor(f), tx.InsertFlavor(g), tx.PutProduct(said), tx.PutProduct(flavor.Product{FlavorID: g.ID, Price: new(flavor.Amount(1))}))
	})
	cat, err := s.Catalogue(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	same(t, "Products of the catalogue", cat.Products, map[string]flavor.Product{f.ID: said, g.ID: {FlavorID: g.ID, Price: new(flavor.Amount(1))}})

	// What is said later replaces all of it, and the snapshot is news.
	said = flavor.Product{FlavorID: f.ID, Ended: true}
	for range 2 {
		write(t, s, func(tx *store.Tx) error { return tx.PutProduct(said) })
	}
	write(t, s, func(tx *store.Tx) error { return tx.DeleteFlavor(g.ID) })
	read(t, s, func(tx *store.Tx) error {
		all, err := tx.Products()
		same(t, "Products after a change", all, map[string]flavor.Product{f.ID: said})
		return err
	})
	if cat, err = s.Catalogue(t.Context()); err != nil {
		t.Fatal(err)
	}
	same(t, "Products of the catalogue after a change", cat.Products, map[string]flavor.Product{f.ID: said})
	refuses(t, s, flavor.CodeNotFound, g.ID, func(tx *store.Tx) error { return tx.PutProduct(flavor.Product{FlavorID: g.ID}) })
}

// What Core was told decides what may be listed: nothing of another provider's,
// and nothing of a flavor that is gone.
func pushes(t *testing.T, s *store.Store) {
	f, g := Flavor("f"), Flavor("g")
	at := func(provider, category string) flavor.Reference {
		return flavor.Reference{Provider: provider, Category: category, Name: "Größe"}
	}
	write(t, s, func(tx *store.Tx) error {
		return errors.Join(tx.InsertFlavor(f), tx.InsertFlavor(g),
			tx.PutPushed(f.ID, at("aau", "a"), `{"price": 1}`), tx.PutPushed(g.ID, at("sdu", "b"), "{}"),
			tx.PutPushed(f.ID, at("aau", "c"), `{"price": 2}`))
	})
	cat, err := s.Catalogue(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ours := store.Pushed{FlavorID: f.ID, Reference: at("aau", "c"), Sent: `{"price": 2}`}
	same(t, "Pushed of the catalogue", cat.Pushed, map[string]store.Pushed{f.ID: ours, g.ID: {FlavorID: g.ID, Reference: at("sdu", "b"), Sent: "{}"}})
	read(t, s, func(tx *store.Tx) error {
		all, err := tx.Pushed("aau")
		same(t, "Pushed", all, map[string]store.Pushed{f.ID: ours})
		return err
	})
	write(t, s, func(tx *store.Tx) error { return tx.DeleteFlavor(f.ID) })
	read(t, s, func(tx *store.Tx) error {
		all, err := tx.Pushed("aau")
		same(t, "Pushed of a flavor that is gone", all, map[string]store.Pushed{})
		return err
	})
	refuses(t, s, flavor.CodeNotFound, f.ID, func(tx *store.Tx) error { return tx.PutPushed(f.ID, at("aau", "a"), "") })

	hourly := flavor.Unit{Currency: "DKK", Period: flavor.Hour, Free: true}
	write(t, s, func(tx *store.Tx) error {
		return errors.Join(tx.PutCategory("aau", "a", flavor.Unit{Currency: "EUR"}), tx.PutCategory("aau", "a", hourly),
			tx.PutCategory("aau", "A", flavor.Unit{Currency: "EUR"}), tx.PutCategory("sdu", "a", flavor.Unit{}))
	})
	read(t, s, func(tx *store.Tx) error {
		all, err := tx.Categories("aau")
		same(t, "Categories", all, map[string]flavor.Unit{"a": hourly, "A": {Currency: "EUR"}})
		return err
	})

	write(t, s, func(tx *store.Tx) error {
		return errors.Join(tx.SetPushState("aau", "one"), tx.SetPushState("aau", "two"), tx.SetPushState("sdu", "three"))
	})
	read(t, s, func(tx *store.Tx) error {
		aau, err1 := tx.PushState("aau")
		none, err2 := tx.PushState("AAU")
		same(t, "PushState", []string{aau, none}, []string{"two", ""})
		return errors.Join(err1, err2)
	})
}

// A lease is one process's, and who has lost it may not write any more.
func leases(t *testing.T, s *store.Store) {
	ctx := t.Context()
	take := func(owner string, ttl time.Duration) (store.Lease, bool) {
		l, taken, err := s.TakeLease(ctx, "push", owner, ttl)
		if err != nil {
			t.Fatal(err)
		}
		return l, taken
	}
	first, taken := take("a", time.Hour)
	if !taken || first != (store.Lease{Name: "push", Owner: "a", Fence: 1}) {
		t.Fatalf("the first lease is %+v, %v", first, taken)
	}
	for _, owner := range []string{"a", "b"} {
		if _, taken := take(owner, time.Hour); taken {
			t.Errorf("%s took a lease that is held", owner)
		}
	}
	if _, taken, err := s.TakeLease(ctx, "PUSH", "b", time.Hour); err != nil || !taken {
		t.Errorf("the lease of another name was not to be had: %v", err)
	}
	write(t, s, func(tx *store.Tx) error { return tx.Hold(first) })
	// Past its deadline, as when its owner was paused, it is still his until
	// another takes it.
	if kept, err := s.ExtendLease(ctx, first, -time.Hour); err != nil || !kept {
		t.Fatalf("extending: %v, %v", kept, err)
	}
	write(t, s, func(tx *store.Tx) error { return tx.Hold(first) })
	second, taken := take("b", time.Hour)
	if !taken || second.Fence != 2 {
		t.Fatalf("the second lease is %+v, %v", second, taken)
	}
	refuses(t, s, flavor.CodeConflict, "push", func(tx *store.Tx) error { return tx.Hold(first) })
	if kept, err := s.ExtendLease(ctx, first, time.Hour); err != nil || kept {
		t.Errorf("a lost lease was extended: %v, %v", kept, err)
	}
	if err := s.ReleaseLease(ctx, first); err != nil {
		t.Errorf("releasing a lost lease: %v", err)
	}
	if _, taken := take("c", time.Hour); taken {
		t.Error("releasing a lost lease has ended another's")
	}
	if err := s.ReleaseLease(ctx, second); err != nil {
		t.Error(err)
	}
	// The same owner's next lease is another lease.
	third, taken := take("b", time.Hour)
	if !taken || third.Fence != 3 {
		t.Fatalf("the third lease is %+v, %v", third, taken)
	}
	refuses(t, s, flavor.CodeConflict, "push", func(tx *store.Tx) error { return tx.Hold(second) })
}

func oneLeaseOfMany(t *testing.T, s *store.Store) {
	var taken atomic.Int64
	together(t, func(int) error {
		_, ok, err := s.TakeLease(t.Context(), "new", "somebody", time.Hour)
		if ok {
			taken.Add(1)
		}
		return err
	})
	if taken.Load() != 1 {
		t.Errorf("%d of %d took one lease", taken.Load(), crowd)
	}
}
