package store_test

import (
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/flavorsync/flavorsync/internal/flavor"
	"github.com/flavorsync/flavorsync/internal/store"
	"github.com/flavorsync/flavorsync/internal/store/storetest"
	"github.com/flavorsync/flavorsync/internal/toxic"
)

// behind is a store with its database behind a network that fails on demand, and one
// more with the same database at hand.
func behind(t *testing.T) (s, direct *store.Store, network *toxic.Network) {
	t.Helper()
	dsn, keyset := storetest.DSN(t, "mysql"), storetest.Keyset(t)
	cfg, err := mysql.ParseDSN(dsn)
	if err != nil {
		t.Fatal(err)
	}
	network = toxic.Before(t, cfg.Addr)
	cfg.Addr = network.Address
	s, direct = storetest.Connect(t, "mysql", cfg.FormatDSN(), keyset), storetest.Connect(t, "mysql", dsn, keyset)
	if err := errors.Join(direct.Up(t.Context()), direct.BindKeyset(t.Context()), s.BindKeyset(t.Context())); err != nil {
		t.Fatal(err)
	}
	return s, direct, network
}

// A node of the database that ends, a proxy that is restarted: what was not committed
// is undone, and nobody need hear of it.
func TestConnectionLost(t *testing.T) {
	s, direct, network := behind(t)
	tries := 0
	err := s.Write(t.Context(), func(tx *store.Tx) error {
		if err := tx.InsertFlavor(storetest.Flavor("small")); err != nil {
			return err
		}
		if tries++; tries == 1 {
			network.Mend()
		}
		return nil
	})
	if err != nil || tries != 2 {
		t.Errorf("a write whose connection broke, after %d tries: %v", tries, err)
	}
	if cat, err := direct.CatalogueNow(t.Context()); err != nil || len(cat.Flavors) != 1 {
		t.Errorf("what is there: %v, %v", cat, err)
	}
	tries = 0
	err = s.Read(t.Context(), func(tx *store.Tx) error {
		if tries++; tries == 1 {
			network.Mend()
		}
		all, err := tx.Flavors()
		if err == nil && len(all) != 1 {
			t.Errorf("%d flavors", len(all))
		}
		return err
	})
	if err != nil || tries != 2 {
		t.Errorf("a read whose connection broke, after %d tries: %v", tries, err)
	}
}

// A commit whose answer is lost may have taken place: done again, it would be done
// twice.
func TestConnectionLostWhileCommitting(t *testing.T) {
	s, direct, network := behind(t)
	lease, taken, err := s.TakeLease(t.Context(), "the work", "me", time.Hour)
	if err != nil || !taken {
		t.Fatal(taken, err)
	}
	tries := 0
	err = s.Write(t.Context(), func(tx *store.Tx) error {
		tries++
		if err := tx.Hold(lease); err != nil {
			return err
		}
		err := tx.PutCategory("aau", "a", flavor.Unit{Currency: "DKK"}) // after which nothing but the commit follows
		network.Poison(toxic.Deaf(100))
		return err
	})
	if !errors.Is(err, store.ErrUndecided) || tries != 1 {
		t.Errorf("after %d tries: %v", tries, err)
	}
	network.Mend()
	for name, s := range map[string]*store.Store{"over the network": s, "directly": direct} {
		err := s.Read(t.Context(), func(tx *store.Tx) error {
			there, err := tx.Categories("aau")
			if len(there) != 1 {
				t.Errorf("%s it is not there", name)
			}
			return err
		})
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Without a database a caller is told so, and not left hanging.
func TestDatabaseAway(t *testing.T) {
	s, _, network := behind(t)
	network.Cut()
	var wg sync.WaitGroup
	for name, call := range map[string]func() error{
		"Write": func() error { return s.Write(t.Context(), func(*store.Tx) error { return nil }) },
		"Read":  func() error { return s.Read(t.Context(), func(*store.Tx) error { return nil }) },
		"Ping":  func() error { return s.Ping(t.Context()) },
	} {
		wg.Go(func() {
			begun := time.Now()
			err := call()
			if took := time.Since(begun); err == nil || took > 15*time.Second {
				t.Errorf("%s after %v: %v", name, took, err)
			}
		})
	}
	wg.Wait()
	network.Mend()
	if err := s.Ping(t.Context()); err != nil {
		t.Errorf("after it has come back: %v", err)
	}
}

// A process that stands still in a transaction must not keep the others from their
// work, and goes on from the start of the transaction when it wakes.
func TestStoppedInATransaction(t *testing.T) {
	stopped, other, _ := behind(t)
	f := storetest.Flavor("small")
	if err := other.Write(t.Context(), func(tx *store.Tx) error { return tx.InsertFlavor(f) }); err != nil {
		t.Fatal(err)
	}
	more := func(tx *store.Tx) error {
		now, err := tx.Flavor(f.ID)
		if err != nil {
			return err
		}
		now.RAM++
		return tx.UpdateFlavor(now)
	}
	var wg sync.WaitGroup
	locked, woken := make(chan struct{}), make(chan struct{})
	wg.Go(func() {
		tries := 0
		err := stopped.Write(t.Context(), func(tx *store.Tx) error {
			if tries++; tries > 1 {
				return more(tx)
			}
			if _, err := tx.Flavor(f.ID); err != nil {
				return err
			}
			close(locked)
			<-woken
			return more(tx)
		})
		if err != nil || tries != 2 {
			t.Errorf("the one that stood still, after %d tries: %v", tries, err)
		}
	})
	<-locked
	begun := time.Now()
	if err := other.Write(t.Context(), more); err != nil {
		t.Errorf("the other one, after %v: %v", time.Since(begun), err)
	}
	close(woken)
	wg.Wait()
	cat, err := other.CatalogueNow(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if now, _ := cat.ByID(f.ID); now.RAM != f.RAM+2 {
		t.Errorf("of two increments %d are there", now.RAM-f.RAM)
	}
}
