package openstack

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/flavorsync/flavorsync/internal/flavor"
)

// The refusal comes after names are resolved and before anything is sent, and
// tells the operator which setting allows it.
func TestGuardedDialing(t *testing.T) {
	f := newFake(t)
	guarded := func(cfg *Config) { cfg.Unguarded = false }
	for _, host := range []string{"127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "169.254.1.1", "10.0.0.1", "0.0.0.0"} {
		r := f.region()
		r.KeystoneURL = "http://" + host + ":1"
		clouds := f.clouds(t, guarded)
		_, err := clouds.Service(r).List(t.Context())
		message(t, err, "Keystone", "outgoing.allow_networks")
		r.Trusted = true
		_, err = clouds.Delegated(t.Context(), r, goodToken, "")
		message(t, err, "Keystone", "outgoing.allow_networks")
	}
	// A Keystone that may be called names a Nova that may not.
	f.catalog = "http://10.0.0.1/v2.1"
	clouds := f.clouds(t, guarded, func(cfg *Config) { cfg.AllowNetworks = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")} })
	_, err := clouds.Service(f.region()).List(t.Context())
	message(t, err, "Nova", "outgoing.allow_networks")
	if got := clouds.Service(f.region()).Check(t.Context()); got.State != flavor.RegionUnreachable {
		t.Errorf("the status is %+v", got)
	}
	// With its network allowed, all works.
	f.catalog = ""
	clouds = f.clouds(t, guarded, func(cfg *Config) { cfg.AllowNetworks = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")} })
	if _, err := clouds.Service(f.region()).List(t.Context()); err != nil {
		t.Error(err)
	}
	// Plain http needs another setting.
	clouds = f.clouds(t, func(cfg *Config) { cfg.AllowHTTP = false })
	n := len(f.requests)
	_, err = clouds.Service(f.region()).List(t.Context())
	message(t, err, "Keystone", "outgoing.allow_http")
	_, err = clouds.Delegated(t.Context(), f.region(), goodToken, "")
	message(t, err, "Keystone", "outgoing.allow_http")
	// ... which its owner, and whoever runs this service, read in its status.
	if got := clouds.Service(f.region()).Check(t.Context()); got.State != flavor.RegionUnreachable || !strings.Contains(got.LastError, "outgoing.allow_http") {
		t.Errorf("the status is %+v", got)
	}
	if len(f.requests) != n {
		t.Error("a password or a token was sent in the clear")
	}
}

// Registered URLs come in every shape.
func TestURLs(t *testing.T) {
	for raw, want := range map[string]string{
		"https://h:8774":                "https://h:8774/v2.1/",
		"https://h:8774/":               "https://h:8774/v2.1/",
		"https://H/compute":             "https://h/compute/v2.1/",
		"https://h/compute/v2.1":        "https://h/compute/v2.1/",
		"https://h/compute/v2.1/":       "https://h/compute/v2.1/",
		"https://h/v2":                  "https://h/v2.1/",
		"https://h/v2/0123456789abcdef": "https://h/v2.1/0123456789abcdef/",
		"https://h/v2.1/p/":             "https://h/v2.1/p/",
		" https://h/v2.0 ":              "https://h/v2.1/", //nolint:gocritic // its blanks are the case
		"h:8774":                        "", "ftp://h": "", "https://": "", "https://u:p@h/": "", "https://h/?a=b": "", "https://h/#x": "", "": "",
	} {
		got, err := novaEndpoint(raw)
		if (err == nil) != (want != "") || err == nil && got.String() != want {
			t.Errorf("Nova at %q: %v, %v; not %q", raw, got, err, want)
		}
	}
	for raw, want := range map[string]string{
		"https://h:5000": "https://h:5000/", "https://h:5000/v3": "https://h:5000/", "https://h/identity/v3/": "https://h/identity/",
		"https://h/identity": "https://h/identity/", "https://h/v2.0": "https://h/", "https://h/v3.14": "https://h/",
	} {
		if got, err := keystoneBase(raw); err != nil || got.String() != want {
			t.Errorf("Keystone at %q: %v, %v; not %q", raw, got, err, want)
		}
	}
}
