package openstack

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/flavorsync/flavorsync/internal/flavor"
	"github.com/flavorsync/flavorsync/internal/outgoing/dnstest"
)

// besieged is a fake cloud whose address alone may be called, with a listener
// at its port of another address, which nobody may reach: there every wrong turn
// of these tests leads.
func besieged(t *testing.T) (f *fakeCloud, forbidden string) {
	t.Helper()
	for range 20 {
		f = newFake(t)
		forbidden = strings.Replace(f.Listener.Addr().String(), "127.0.0.1", "127.0.0.2", 1)
		l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", forbidden)
		if err != nil {
			continue // somebody else has it
		}
		var reached atomic.Int64
		go func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				reached.Add(1)
				conn.Close()
			}
		}()
		t.Cleanup(func() {
			l.Close()
			if n := reached.Load(); n > 0 {
				t.Errorf("what must not be called got %d connections", n)
			}
		})
		return f, forbidden
	}
	t.Fatal("no port is free at both addresses")
	return nil, ""
}

// onlyHere lets nothing but the fake's own address be called.
func onlyHere(names *dnstest.Server) func(*Config) {
	return func(c *Config) {
		c.Unguarded, c.AllowNetworks, c.Resolver = false, []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}, names.Resolver()
	}
}

// both is a region's flavors asked for by its service account and by a caller.
func both(t *testing.T, c *Clouds, r flavor.Region) map[string]error {
	t.Helper()
	_, service := c.Service(r).List(t.Context())
	mine, delegated := c.Delegated(t.Context(), r, goodToken, "")
	if delegated == nil {
		_, delegated = mine.List(t.Context())
	}
	return map[string]error{"service": service, "delegated": delegated}
}

// Whoever runs the DNS of a registered host may change what it says at any time.
func TestRebinding(t *testing.T) {
	for _, next := range []string{"127.0.0.2", "169.254.169.254", "127.0.0.2 ::1", "64:ff9b::7f00:2"} {
		f, forbidden := besieged(t)
		_, port, _ := net.SplitHostPort(forbidden)
		names := dnstest.Start(t)
		for _, party := range []string{"Nova", "Keystone"} {
			t.Run(party+" moves to "+next, func(t *testing.T) {
				clouds := f.clouds(t, onlyHere(names))
				names.Says("moving.test", "127.0.0.1", next)
				r := f.region()
				f.catalog = "http://moving.test:" + port + "/v2.1"
				if party == "Keystone" {
					r.KeystoneURL, r.Trusted, f.catalog = "http://moving.test:"+port, true, ""
				}
				for who, err := range both(t, clouds, r) {
					if err != nil {
						t.Fatalf("%s, before: %v", who, err)
					}
				}
				// Its connections end, and its tokens are asked for again.
				clouds.base.CloseIdleConnections()
				clouds.Forget(r.Name)
				clouds.tokens.Purge()
				for _, err := range both(t, clouds, r) {
					message(t, err, party, "and is", "called")
				}
			})
		}
	}
}

// A catalog is written by whoever runs that Keystone.
func TestCatalogNamesWhatMayNotBeCalled(t *testing.T) {
	f, forbidden := besieged(t)
	_, port, _ := net.SplitHostPort(forbidden)
	names := dnstest.Start(t)
	names.Says("inside.test", "127.0.0.2")
	names.Alias("alias.test", "inside.test")
	names.Says("0x7f000002", "127.0.0.2")
	for _, host := range []string{"127.0.0.2", "inside.test", "alias.test", "INSIDE.test.", "0x7f000002", "[::ffff:127.0.0.2]", "[64:ff9b::7f00:2]", "[::1]", "169.254.169.254"} {
		t.Run(host, func(t *testing.T) {
			f.catalog = "http://" + host + ":" + port + "/v2.1"
			clouds := f.clouds(t, onlyHere(names))
			for _, err := range both(t, clouds, f.region()) {
				message(t, err, "Nova", "and is", "called")
			}
			// One region's open connection is no way in for another.
			f.catalog = ""
			clouds.Forget("R")
			clouds.tokens.Purge()
			for who, err := range both(t, clouds, f.region()) {
				if err != nil {
					t.Errorf("%s: %v", who, err)
				}
			}
			other := f.region()
			other.NovaURL, other.NovaURLTrusted = "http://"+host+":"+port, true
			for _, err := range both(t, clouds, other) {
				message(t, err, "Nova", "and is", "called")
			}
		})
	}
}

// A redirect is not followed, wherever it leads and whoever sends it.
func TestRedirectsAreNotFollowed(t *testing.T) {
	f, forbidden := besieged(t)
	clouds := f.clouds(t, onlyHere(dnstest.Start(t)))
	for _, status := range []int{300, 301, 302, 303, 307, 308} {
		for _, to := range []string{"http://" + forbidden + "/v3/auth/tokens", "//" + forbidden, f.URL + "/" + canary, "http://[" + canary} {
			redirect := func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Location", to)
				w.WriteHeader(status)
			}
			f.nova, f.keystone = redirect, nil
			for who, err := range both(t, clouds, f.region()) {
				message(t, err, "Nova", fmt.Sprintf("sends us elsewhere (%d)", status))
				discreet(t, who+err.Error())
			}
			f.nova, f.keystone = nil, redirect
			clouds.Forget("R")
			clouds.tokens.Purge()
			for who, err := range both(t, clouds, f.region()) {
				message(t, err, "Keystone", fmt.Sprintf("sends us elsewhere (%d)", status))
				discreet(t, who+err.Error())
			}
		}
	}
}
