package store_test

import (
	"bytes"
	"database/sql"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"

	"github.com/flavorsync/flavorsync/internal/flavor"
	"github.com/flavorsync/flavorsync/internal/store"
	"github.com/flavorsync/flavorsync/internal/store/storetest"
)

func load(t *testing.T, path string, created bool) *store.Keyset {
	t.Helper()
	ks, fresh, err := store.LoadKeyset(path)
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

// Rotation: a new key is spread to every replica as a non-primary one, then
// made primary. Each step must start, and read what was written before it.
func TestKeysetRotation(t *testing.T) {
	dir, dsn := t.TempDir(), storetest.DSN(t, "sqlite")
	manager := keyset.NewManager()
	add := func() uint32 {
		id, err := manager.Add(aead.AES256GCMKeyTemplate())
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	saved := func(name string) string {
		handle, err := manager.Handle()
		if err != nil {
			t.Fatal(err)
		}
		var content bytes.Buffer
		if err := insecurecleartextkeyset.Write(handle, keyset.NewJSONWriter(&content)); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, content.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	primary := func(id uint32) {
		if err := manager.SetPrimary(id); err != nil {
			t.Fatal(err)
		}
	}
	first := add()
	primary(first)
	before := saved("before")
	second := add()
	spread := saved("spread")
	primary(second)
	promoted := saved("promoted")
	if err := manager.Delete(first); err != nil {
		t.Fatal(err)
	}
	after := saved("after")

	start := func(path string) (*store.Store, error) {
		s := storetest.Connect(t, "sqlite", dsn, load(t, path, false))
		if err := s.Up(t.Context()); err != nil {
			t.Fatal(err)
		}
		err := s.BindKeyset(t.Context())
		return s, err
	}
	for i, path := range []string{before, spread, promoted, spread, promoted} {
		s, err := start(path)
		if err != nil {
			t.Fatalf("starting with %s: %v", path, err)
		}
		name := string(rune('A' + i))
		if err := s.Write(t.Context(), func(tx *store.Tx) error { return tx.InsertRegion(storetest.Region(name)) }); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := start(before); err == nil {
		t.Error("a replica without the new key started though passwords need it")
	}
	if _, err := start(after); err == nil || !strings.Contains(err.Error(), "region A does not decrypt") {
		t.Errorf("the old key was taken away while passwords need it: %v", err)
	}
	s, err := start(promoted)
	if err != nil {
		t.Fatal(err)
	}
	err = s.Write(t.Context(), func(tx *store.Tx) error {
		all, err := tx.Regions()
		for _, r := range all {
			if err == nil {
				err = tx.UpdateRegion(r) // encrypts it anew
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := start(after); err != nil {
		t.Errorf("after everything was encrypted anew the old key can go: %v", err)
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
		_, _, err := store.LoadKeyset(path)
		if err == nil || !strings.Contains(err.Error(), test.words) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: LoadKeyset = %v", name, err)
		}
	}
	if _, _, err := store.LoadKeyset(dir); err == nil {
		t.Error("a directory was taken for a keyset")
	}
	if _, _, err := store.LoadKeyset(filepath.Join(dir, "missing", "keyset.json")); err == nil || !strings.Contains(err.Error(), "create it") {
		t.Errorf("in a missing directory: %v", err)
	}
}

// Whoever can write the database must not learn a password by having it sent
// to a Keystone of his own.
func TestPasswordsAreBoundToTheirRow(t *testing.T) {
	eachDriver(t, func(t *testing.T, s *store.Store, _ string, raw *sql.DB) {
		if err := s.Up(t.Context()); err != nil {
			t.Fatal(err)
		}
		err := s.Write(t.Context(), func(tx *store.Tx) error {
			if err := tx.InsertRegion(storetest.Region("Trento")); err != nil {
				return err
			}
			return tx.InsertRegion(storetest.Region("Mordor"))
		})
		if err != nil {
			t.Fatal(err)
		}
		var stored []byte
		if err := raw.QueryRowContext(t.Context(), "SELECT password FROM regions WHERE name = 'Trento'").Scan(&stored); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(stored), "s3cret") {
			t.Error("the password is stored in clear text")
		}
		if _, err := raw.ExecContext(t.Context(), "UPDATE regions SET password = ? WHERE name = 'Mordor'", stored); err != nil {
			t.Fatal(err)
		}
		for _, read := range []func(*store.Tx) error{
			func(tx *store.Tx) error { _, err := tx.Region("Mordor"); return err },
			func(tx *store.Tx) error { _, err := tx.Regions(); return err },
		} {
			err := s.Read(t.Context(), read)
			if flavor.CodeOf(err) != flavor.CodeInternal || !strings.Contains(err.Error(), "region Mordor does not decrypt") {
				t.Errorf("another row's password = %v", err)
			}
		}
	})
}
