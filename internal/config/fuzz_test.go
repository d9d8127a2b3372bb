package config

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/flavorsync/flavorsync/internal/flavor"
)

// FuzzFile: no file may panic, and what is accepted can be served by: it has what
// check promises.
func FuzzFile(f *testing.F) {
	path := filepath.Join(f.TempDir(), "flavorsync.yaml")
	f.Fuzz(func(t *testing.T, text []byte) {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := Load(path, nil)
		if err != nil {
			told(t, err)
			return
		}
		if c.CredentialsKeyset == "" || c.Database.DSN == "" || c.Engine.MaxInFlight < 1 || c.Engine.RegionTimeout <= 0 || c.Engine.SweepInterval <= 0 ||
			c.Limits.RequestsPerSecond < 0 || !c.Outgoing.AllowHTTP && strings.HasPrefix(strings.ToLower(c.KeystoneURL), "http:") {
			t.Errorf("%s is accepted as %+v", text, c)
		}
		for _, p := range c.Identity {
			if err := p.Validate(); err != nil {
				t.Errorf("%s is accepted: %v", text, err)
			}
		}
		c.Warnings()
	})
}

// FuzzEnvironment: what stands in a variable is taken as it is, or refused, and
// no error shows a secret.
func FuzzEnvironment(f *testing.F) {
	all := settings(reflect.TypeFor[Config](), "")
	f.Fuzz(func(t *testing.T, which uint, value string) {
		s := all[which%uint(len(all))]
		c, err := Load("", []string{s.variable() + "=" + value})
		if err != nil {
			told(t, err)
			if s.kind == reflect.TypeFor[flavor.Secret]() && len(value) > 8 && strings.Contains(err.Error(), value) {
				t.Errorf("%s is told: %v", s.path, err)
			}
			return
		}
		if s.path == "database.dsn" && string(c.Database.DSN) != value || s.path == "listen" && c.Listen != value || s.path == "credentials_keyset" && c.CredentialsKeyset != value {
			t.Errorf("%s=%q is taken for %+v", s.variable(), value, c)
		}
	})
}

func told(t *testing.T, err error) {
	t.Helper()
	lines := strings.Split(err.Error(), "\n")
	if len(lines) < 2 {
		t.Errorf("no word on what is wrong: %v", err)
	}
}
