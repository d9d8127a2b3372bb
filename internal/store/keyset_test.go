package store_test

import (
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/flavorsync/flavorsync/internal/flavor"
	"github.com/flavorsync/flavorsync/internal/store"
	"github.com/flavorsync/flavorsync/internal/store/storetest"
)

func load(t *testing.T, path string, created bool) *store.Keyset {
	t.Helper()
	ks, fresh, err := store.LoadKeyset(path, nil)
	if err != nil || fresh != created {
		t.Fatalf("LoadKeyset = created %v, %v", fresh, err)
	}
	return ks
}

// A lost or wrong keyset must stop the start, before anything is encrypted
// with a second one.
func TestBindKeyset(t *testing.T) {
	for _, driver := range storetest.Drivers {
		t.Run(driver, func(t *testing.T) {
			ctx, dir, dsn := t.Context(), t.TempDir(), storetest.DSN(t, driver)
			path, other := filepath.Join(dir, "keyset.json"), filepath.Join(dir, "other.json")
			bind := func(ks *store.Keyset) (*store.Store, error) {
				s := storetest.Connect(t, driver, dsn, ks)
				if err := s.Up(ctx); err != nil {
					t.Fatal(err)
				}
				err := s.BindKeyset(ctx)
				return s, err
			}
			s, err := bind(load(t, path, true))
			if err != nil {
				t.Fatal(err)
			}
			if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
				t.Fatalf("the new keyset: %v, %v", st, err)
			}
			if left, _ := filepath.Glob(filepath.Join(dir, ".*")); len(left) > 0 {
				t.Errorf("left behind: %q", left)
			}
			if err := s.BindKeyset(ctx); err != nil {
				t.Errorf("binding twice: %v", err)
			}
			if _, err := bind(load(t, path, false)); err != nil {
				t.Errorf("binding the keyset again at the next start: %v", err)
			}

			// Nothing is encrypted: a missing keyset may be made anew.
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			s, err = bind(load(t, path, true))
			if err != nil {
				t.Fatalf("a new keyset while nothing is encrypted: %v", err)
			}
			if err := s.Write(ctx, func(tx *store.Tx) error { return tx.InsertRegion(storetest.Region("Trento")) }); err != nil {
				t.Fatal(err)
			}

			// Another one, that has its own file.
			if _, err := bind(load(t, other, true)); err == nil || !strings.Contains(err.Error(), "Trento") || !strings.Contains(err.Error(), "put that keyset back") {
				t.Errorf("a fresh keyset while something is encrypted = %v", err)
			}
			if _, err := os.Stat(other); !os.IsNotExist(err) {
				t.Errorf("the refused keyset was written: %v", err)
			}
			foreign, err := sibling(t, driver, other)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := bind(foreign); err == nil || !strings.Contains(err.Error(), "is not this database's") {
				t.Errorf("another database's keyset = %v", err)
			}
			if _, err := bind(nil); err == nil {
				t.Error("no keyset was bound")
			}
			// All that left the first alone.
			s, err = bind(load(t, path, false))
			if err != nil {
				t.Fatal(err)
			}
			err = s.Read(ctx, func(tx *store.Tx) error {
				r, err := tx.Region("Trento")
				if r.Password != "s3cret of Trento" {
					t.Error("the password is another")
				}
				return err
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
}

// sibling makes a keyset file at path by binding it to a database of its own.
func sibling(t *testing.T, driver, path string) (*store.Keyset, error) {
	s := storetest.Connect(t, driver, storetest.DSN(t, driver), load(t, path, true))
	if err := s.Up(t.Context()); err != nil {
		return nil, err
	}
	if err := s.BindKeyset(t.Context()); err != nil {
		return nil, err
	}
	return load(t, path, false), nil
}

// Who can read the file can read every password.
func TestLoadKeysetRefuses(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "keyset.json")
	if _, err := sibling(t, "sqlite", path); err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		mode    os.FileMode
		content string
		words   string
	}{
		"group may read":  {0o640, string(good), "chmod 600"},
		"world may read":  {0o604, string(good), "chmod 600"},
		"group may write": {0o620, string(good), "chmod 600"},
		"empty":           {0o600, "", "not a tink keyset"},
		"not JSON":        {0o600, "hunter2", "not a tink keyset"},
		"no key":          {0o600, "{}", "keyset"},
	} {
		if err := os.WriteFile(path, []byte(test.content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, test.mode); err != nil {
			t.Fatal(err)
		}
		_, _, err := store.LoadKeyset(path, nil)
		if err == nil || !strings.Contains(err.Error(), test.words) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: LoadKeyset = %v", name, err)
		}
	}
	if _, _, err := store.LoadKeyset(dir, nil); err == nil {
		t.Error("a directory was taken for a keyset")
	}
	if _, _, err := store.LoadKeyset(filepath.Join(dir, "missing", "keyset.json"), nil); err == nil || !strings.Contains(err.Error(), "create it") {
		t.Errorf("in a missing directory: %v", err)
	}
}

// Whoever can write the database must not learn a password by having it sent to a
// Keystone of his own: neither with another region's, nor with one of another
// database that has the same keyset, nor by another Keystone in the row.
func TestPasswordsAreBoundToTheirRow(t *testing.T) {
	for _, driver := range storetest.Drivers {
		t.Run(driver, func(t *testing.T) {
			ctx, keyset := t.Context(), storetest.Keyset(t)
			open := func(regions ...string) (*store.Store, *sql.DB) {
				dsn := storetest.DSN(t, driver)
				s := storetest.Connect(t, driver, dsn, keyset)
				if err := errors.Join(s.Up(ctx), s.BindKeyset(ctx)); err != nil {
					t.Fatal(err)
				}
				for _, name := range regions {
					if err := s.Write(ctx, func(tx *store.Tx) error { return tx.InsertRegion(storetest.Region(name)) }); err != nil {
						t.Fatal(err)
					}
				}
				return s, rawDB(t, driver, dsn)
			}
			s, raw := open("Trento", "Mordor")
			_, other := open("Mordor")
			take := func(from *sql.DB, region string) (stored []byte) {
				if err := from.QueryRowContext(ctx, "SELECT password FROM regions WHERE name = ?", region).Scan(&stored); err != nil {
					t.Fatal(err)
				}
				return stored
			}
			if strings.Contains(string(take(raw, "Trento")), "s3cret") {
				t.Error("the password is stored in clear text")
			}
			own := take(raw, "Mordor")
			before, err := s.EncryptAsBefore("Mordor", "of an older release")
			if err != nil {
				t.Fatal(err)
			}
			for whose, password := range map[string][]byte{
				"another region's": take(raw, "Trento"), "another database's": take(other, "Mordor"), "an older release's": before,
			} {
				if _, err := raw.ExecContext(ctx, "UPDATE regions SET password = ? WHERE name = 'Mordor'", password); err != nil {
					t.Fatal(err)
				}
				for _, read := range []func(*store.Tx) error{
					func(tx *store.Tx) error { _, err := tx.Region("Mordor"); return err },
					func(tx *store.Tx) error { _, err := tx.Regions(); return err },
				} {
					err := s.Read(ctx, read)
					if flavor.CodeOf(err) != flavor.CodeInternal || !strings.Contains(err.Error(), "region Mordor does not decrypt") {
						t.Errorf("%s password = %v", whose, err)
					}
				}
				if err := s.BindKeyset(ctx); err == nil || !strings.Contains(err.Error(), "region Mordor does not decrypt") {
					t.Errorf("starting with %s password = %v", whose, err)
				}
			}
			if _, err := raw.ExecContext(ctx, "UPDATE regions SET password = ? WHERE name = 'Mordor'", own); err != nil {
				t.Fatal(err)
			}
			exec(t, raw, "UPDATE regions SET keystone_url = 'https://elsewhere.example.org' WHERE name = 'Trento'")
			err = s.Read(ctx, func(tx *store.Tx) error { _, err := tx.Region("Trento"); return err })
			if err == nil || !strings.Contains(err.Error(), "region Trento does not decrypt") {
				t.Errorf("for a Keystone that another put there: %v", err)
			}
			exec(t, raw, "DELETE FROM regions WHERE name = 'Trento'")
			if err := s.BindKeyset(ctx); err != nil {
				t.Errorf("with its own again: %v", err)
			}
		})
	}
}

// What a release stored that knew no id of a database is read after the upgrade,
// and after the way back by it.
func TestPasswordsOfTheReleaseBefore(t *testing.T) {
	eachDriver(t, func(t *testing.T, s *store.Store, dsn string, raw *sql.DB) {
		ctx := t.Context()
		if err := errors.Join(s.Up(ctx), s.BindKeyset(ctx)); err != nil {
			t.Fatal(err)
		}
		if err := s.Write(ctx, func(tx *store.Tx) error { return tx.InsertRegion(storetest.Region("Trento")) }); err != nil {
			t.Fatal(err)
		}
		const want = "of an older release"
		before, err := s.EncryptAsBefore("Trento", want)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := raw.ExecContext(ctx, "UPDATE regions SET password = ? WHERE name = 'Trento'", before); err != nil {
			t.Fatal(err)
		}
		exec(t, raw, "DELETE FROM meta WHERE name = 'database_id'")
		check := func(when string) {
			t.Helper()
			err := s.Read(ctx, func(tx *store.Tx) error {
				r, err := tx.Region("Trento")
				if err == nil && string(r.Password) != want {
					t.Errorf("%s: the password is another", when)
				}
				return err
			})
			if err != nil {
				t.Errorf("%s: %v", when, err)
			}
		}
		if err := s.BindKeyset(ctx); err != nil {
			t.Fatal(err)
		}
		check("after the upgrade")
		for { // down to the release before
			steps, err := s.Status(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.ContainsFunc(steps, func(m store.MigrationStatus) bool {
				return m.AppliedAt != nil && strings.HasSuffix(m.Name, "_keyset_replicas")
			}) {
				break
			}
			if err := s.Down(ctx); err != nil {
				t.Fatal(err)
			}
		}
		var id string
		if err := raw.QueryRowContext(ctx, "SELECT value FROM meta WHERE name = 'database_id'").Scan(&id); err != nil || id != "" {
			t.Errorf("after the way back the database has the id %q, %v", id, err)
		}
		if err := errors.Join(s.Up(ctx), s.BindKeyset(ctx)); err != nil { // reads it as the older release would
			t.Fatal(err)
		}
		check("after the way back and up again")
	})
}
