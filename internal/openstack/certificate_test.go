package openstack

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/flavorsync/flavorsync/internal/flavor"
)

// authority is a certificate authority that nobody knows, and a server with a
// certificate of its: a Keystone and a Nova of an EGI site.
type authority struct {
	pem   string
	cloud *fakeCloud
}

func newAuthority(t *testing.T, configure ...func(*http.Server)) *authority {
	t.Helper()
	sign := func(template, parent *x509.Certificate, key, by *ecdsa.PrivateKey) []byte {
		template.SerialNumber, template.NotBefore, template.NotAfter = big.NewInt(1), time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
		der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, by)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	newKey := func() *ecdsa.PrivateKey {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
	caKey, key := newKey(), newKey()
	ca := &x509.Certificate{Subject: pkix.Name{CommonName: "a site's own"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	caDER := sign(ca, ca, caKey, caKey)
	leaf := &x509.Certificate{Subject: pkix.Name{CommonName: "site"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der := sign(leaf, ca, key, caKey)
	f := &fakeCloud{}
	f.Server = httptest.NewUnstartedServer(f)
	f.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	f.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	for _, c := range configure {
		c(f.Config)
	}
	f.StartTLS()
	t.Cleanup(f.Close)
	return &authority{string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: caDER})), f}
}

// A region's own certificates vouch for its Keystone and Nova, and for nobody
// else's.
func TestOwnCertificates(t *testing.T) {
	site, other := newAuthority(t), newAuthority(t)
	clouds := site.cloud.clouds(t)
	mine := site.cloud.region()
	mine.CACertificate = site.pem
	if _, err := clouds.Service(mine).List(t.Context()); err != nil {
		t.Fatalf("with the site's own authority: %v", err)
	}
	// Another region at the same address has not registered it: no connection
	// that was verified with it is lent to that one.
	for what, ca := range map[string]string{"none": "", "another": other.pem} {
		theirs := site.cloud.region()
		theirs.Name, theirs.CACertificate = "S", ca
		_, err := clouds.Service(theirs).List(t.Context())
		wantError(t, err, flavor.CodeUnreachable, "S", "authority unknown")
		if err == nil {
			t.Errorf("with %s of the site's certificates it was called", what)
		}
	}
	// One that replaces it counts from the next call on.
	mine.CACertificate = other.pem
	_, err := clouds.Service(mine).List(t.Context())
	wantError(t, err, flavor.CodeUnreachable, "R", "authority unknown")
	mine.CACertificate = other.pem + site.pem
	if _, err := clouds.Service(mine).List(t.Context()); err != nil {
		t.Errorf("with a bundle of both: %v", err)
	}
}

// What the system vouches for stays good beside a region's own certificates.
func TestOwnCertificatesBesideTheSystems(t *testing.T) {
	site := newAuthority(t)
	got := authorities(site.pem)
	wanted, err := x509.SystemCertPool()
	if err != nil {
		t.Skipf("this system has no certificates of its own: %v", err)
	}
	if wanted.AppendCertsFromPEM([]byte(site.pem)); !got.Equal(wanted) {
		t.Error("the system's certificates do not count there")
	}
}

// A caller's token goes by the word of a region's own certificates where a
// manager registered them: an owner could vouch for a server of their own.
func TestOwnCertificatesOfAnOwner(t *testing.T) {
	site := newAuthority(t)
	federation := newFake(t)
	federation.catalog = site.cloud.URL + "/v2.1"
	clouds := federation.clouds(t)
	r := site.cloud.region()
	r.CACertificate = site.pem
	ask := func() error {
		c, err := clouds.Delegated(t.Context(), r, goodToken, "")
		if err != nil {
			return err
		}
		_, err = c.List(t.Context())
		return err
	}
	wantError(t, ask(), flavor.CodeUnreachable, "R", "authority unknown")
	if _, err := clouds.Service(r).List(t.Context()); err != nil {
		t.Fatal(err) // and leaves a connection behind
	}
	wantError(t, ask(), flavor.CodeUnreachable, "R", "authority unknown")
	site.cloud.mu.Lock()
	for _, request := range site.cloud.requests {
		if request == validate {
			t.Error("the site was shown the caller's token")
		}
	}
	site.cloud.mu.Unlock()
	r.CACertificateTrusted = true
	if err := ask(); err != nil {
		t.Errorf("registered by a manager: %v", err)
	}
	// The region's own Keystone, where that is trusted.
	r.Trusted, r.CACertificateTrusted = true, false
	wantError(t, ask(), flavor.CodeUnreachable, "R", "authority unknown")
	r.CACertificateTrusted = true
	if err := ask(); err != nil {
		t.Errorf("at the region's own Keystone: %v", err)
	}
}

// However many regions come and go, the connections that are kept have a bound,
// and a region that is forgotten leaves none.
func TestOwnCertificatesAreBounded(t *testing.T) {
	open := make(chan struct{}, 16)
	closed := make(chan struct{}, 16)
	site := newAuthority(t, func(server *http.Server) {
		server.ConnState = func(_ net.Conn, state http.ConnState) {
			switch state {
			case http.StateNew:
				open <- struct{}{}
			case http.StateClosed:
				closed <- struct{}{}
			}
		}
	})
	clouds := site.cloud.clouds(t)
	r := site.cloud.region()
	r.CACertificate = site.pem
	if _, err := clouds.Service(r).List(t.Context()); err != nil {
		t.Fatal(err)
	}
	<-open
	clouds.Forget("R")
	<-closed
	for i := range maxPools + 10 {
		clouds.connections(fmt.Sprint("R", i), site.pem)
	}
	if n := clouds.pools.Len(); n != maxPools {
		t.Errorf("%d are kept", n)
	}
	clouds.Close()
	if n := clouds.pools.Len(); n != 0 {
		t.Errorf("%d are kept after the end", n)
	}
}
