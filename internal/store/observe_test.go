package store_test

import (
	"context"
	"errors"
	"log/slog"
	"testing"

	"github.com/go-sql-driver/mysql"

	"github.com/flavorsync/flavorsync/internal/flavor"
	"github.com/flavorsync/flavorsync/internal/store"
	"github.com/flavorsync/flavorsync/internal/store/storetest"
)

// Who watches the metrics sees what the database does and how often it had to be
// asked again, whatever came of it.
func TestObserve(t *testing.T) {
	var seen []store.Transaction
	s, err := store.Open(t.Context(), store.Config{
		Driver: "sqlite", DSN: storetest.DSN(t, "sqlite"), Keyset: storetest.Keyset(t), Log: slog.New(slog.DiscardHandler),
		Observe: func(_ context.Context, tx store.Transaction) { seen = append(seen, tx) },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	if err := s.Up(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, known := s.CatalogueAge(); known {
		t.Error("a catalogue that nobody has read has an age")
	}
	seen = nil
	refusal := flavor.Conflict("no")
	attempts := 0
	_ = s.Read(t.Context(), func(*store.Tx) error { return nil })
	_ = s.Write(t.Context(), func(*store.Tx) error { return refusal })
	_ = s.Write(t.Context(), func(*store.Tx) error {
		if attempts++; attempts < 3 {
			return &mysql.MySQLError{Number: 1213}
		}
		return nil
	})
	if len(seen) != 3 {
		t.Fatalf("%d transactions, not 3: %+v", len(seen), seen)
	}
	for i, want := range []struct {
		write    bool
		attempts int
		err      error
	}{{false, 1, nil}, {true, 1, refusal}, {true, 3, nil}} {
		if got := seen[i]; got.Write != want.write || got.Attempts != want.attempts || !errors.Is(got.Err, want.err) || got.Started.IsZero() || got.Took <= 0 {
			t.Errorf("%d: %+v, not %+v", i, got, want)
		}
	}
	if _, err := s.Catalogue(t.Context()); err != nil {
		t.Fatal(err)
	}
	if age, known := s.CatalogueAge(); !known || age < 0 {
		t.Errorf("the age of the catalogue: %s, %t", age, known)
	}
}
