package httpapi

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// authority signs certificates for 127.0.0.1, whose serial numbers tell them
// apart.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{key: key, pool: x509.NewCertPool()}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "tests"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.pool.AddCert(a.cert)
	return a
}

// issue is a certificate of that serial number and its key, as PEM.
func (a *authority) issue(t *testing.T, serial int64, notAfter time.Time) (cert, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), DNSNames: []string{"flavorsync.test"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: notAfter, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, private.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: encoded})
}

func put(t *testing.T, path string, text []byte) {
	t.Helper()
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// encrypted is a setup that serves over TLS, with a clock of its own for the
// files, on which a second passes whenever somebody looks.
type encrypted struct {
	*setup
	*authority
	files   *Certificate
	address string
}

// newEncrypted serves the certificate that is in these files.
func newEncrypted(t *testing.T, a *authority, certFile, keyFile string, minVersion uint16, change ...func(*Config)) *encrypted {
	t.Helper()
	e := &encrypted{authority: a}
	e.setup = newSetup(t, func(c *Config) {
		var err error
		if e.files, err = LoadCertificate(certFile, keyFile, c.Log); err != nil {
			t.Fatal(err)
		}
		var passed atomic.Int64
		start := time.Now()
		e.files.now = func() time.Time { return start.Add(time.Duration(passed.Add(1)) * certificateAge) }
		c.TLS = e.files.Config(minVersion)
		for _, change := range change {
			change(c)
		}
	})
	e.address, _ = listen(t, e.setup)
	return e
}

func (e *encrypted) client(change ...func(*http.Transport)) *http.Client {
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: e.pool}, ForceAttemptHTTP2: true}
	for _, c := range change {
		c(tr)
	}
	return &http.Client{Transport: tr}
}

// get is one request: the certificate's serial number, and the answer.
func (e *encrypted) get(client *http.Client) (serial int64, r *http.Response, err error) {
	q, err := http.NewRequest(http.MethodGet, "https://"+e.address+"/v1/promotedflavors", http.NoBody)
	if err != nil {
		return 0, nil, err
	}
	q.Header.Set("X-Auth-Token", "good")
	if r, err = client.Do(q); err != nil {
		return 0, nil, err
	}
	defer r.Body.Close()
	if _, err = io.Copy(io.Discard, r.Body); err == nil && r.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s", r.Status)
	}
	return r.TLS.PeerCertificates[0].SerialNumber.Int64(), r, err
}

func TestTLS(t *testing.T) {
	a, dir := newAuthority(t), t.TempDir()
	certFile, keyFile := filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	cert, key := a.issue(t, 7, time.Now().Add(time.Hour))
	put(t, certFile, cert)
	put(t, keyFile, key)
	e := newEncrypted(t, a, certFile, keyFile, tls.VersionTLS12)

	serial, r, err := e.get(e.client())
	if err != nil || serial != 7 || r.ProtoMajor != 2 {
		t.Fatalf("HTTP/2: %d, %v, %v", serial, r, err)
	}
	if got := r.Header.Get("Strict-Transport-Security"); got != "max-age=31536000" {
		t.Errorf("Strict-Transport-Security %q", got)
	}
	if _, r, err = e.get(e.client(func(tr *http.Transport) { tr.ForceAttemptHTTP2 = false })); err != nil || r.ProtoMajor != 1 {
		t.Errorf("HTTP/1.1: %v, %v", r, err)
	}
	for version, want := range map[uint16]bool{tls.VersionTLS10: false, tls.VersionTLS11: false, tls.VersionTLS12: true, tls.VersionTLS13: true} {
		_, _, err := e.get(e.client(func(tr *http.Transport) {
			tr.TLSClientConfig.MinVersion, tr.TLSClientConfig.MaxVersion = version, version
		}))
		if (err == nil) != want {
			t.Errorf("%s: %v", tls.VersionName(version), err)
		}
	}
	strict := newEncrypted(t, a, certFile, keyFile, tls.VersionTLS13)
	if _, _, err := strict.get(strict.client(func(tr *http.Transport) { tr.TLSClientConfig.MaxVersion = tls.VersionTLS12 })); err == nil {
		t.Error("TLS 1.2 where 1.3 is the least")
	}
	// What a scanner does is no line in the log.
	for _, text := range []string{"GET / HTTP/1.0\r\n\r\n", "\x16\x03\x01\x00\x05junk!"} {
		c, err := net.Dial("tcp", e.address)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprint(c, text)
		_, _ = io.ReadAll(c)
		c.Close()
	}
	if log := e.log.String(); strings.Contains(log, "handshake") {
		t.Errorf("the log: %s", log)
	}
}

// A renewed certificate is taken without a restart, whichever way it comes, and
// while clients come all the time: none of them is refused.
func TestCertificateIsChangedUnderLoad(t *testing.T) {
	a := newAuthority(t)
	for name, swap := range map[string]func(t *testing.T, dir string, cert, key []byte){
		// Kubernetes: ..data is a link to a directory, and is turned in one go.
		"one link": func(t *testing.T, dir string, cert, key []byte) {
			next := t.TempDir()
			put(t, filepath.Join(next, "tls.crt"), cert)
			put(t, filepath.Join(next, "tls.key"), key)
			if err := os.Symlink(next, filepath.Join(dir, "next")); err != nil {
				t.Fatal(err)
			}
			if err := os.Rename(filepath.Join(dir, "next"), filepath.Join(dir, "..data")); err != nil {
				t.Fatal(err)
			}
		},
		// certbot: a link for each, one after the other.
		"a link for each": func(t *testing.T, dir string, cert, key []byte) {
			for name, text := range map[string][]byte{"tls.crt": cert, "tls.key": key} {
				archived := filepath.Join(dir, "archived-"+name)
				put(t, archived, text)
				if err := os.Symlink(archived, filepath.Join(dir, "next")); err != nil {
					t.Fatal(err)
				}
				if err := os.Rename(filepath.Join(dir, "next"), filepath.Join(dir, "..data", name)); err != nil {
					t.Fatal(err)
				}
			}
		},
		"in place": func(t *testing.T, dir string, cert, key []byte) {
			put(t, filepath.Join(dir, "..data", "tls.crt"), cert)
			put(t, filepath.Join(dir, "..data", "tls.key"), key)
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			first := filepath.Join(dir, "first")
			if err := os.Mkdir(first, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(first, filepath.Join(dir, "..data")); err != nil {
				t.Fatal(err)
			}
			certFile, keyFile := filepath.Join(dir, "..data", "tls.crt"), filepath.Join(dir, "..data", "tls.key")
			cert, key := a.issue(t, 1, time.Now().Add(time.Hour))
			put(t, certFile, cert)
			put(t, keyFile, key)
			e := newEncrypted(t, a, certFile, keyFile, tls.VersionTLS12)

			staying := e.client() // of one connection
			if _, _, err := e.get(staying); err != nil {
				t.Fatal(err)
			}
			var load sync.WaitGroup
			ctx, end := context.WithCancel(t.Context())
			defer end()
			var before, after atomic.Int64
			for range 4 {
				load.Go(func() {
					client := e.client(func(tr *http.Transport) { tr.DisableKeepAlives = true })
					for ctx.Err() == nil {
						switch serial, _, err := e.get(client); {
						case err != nil:
							t.Error(err)
							return
						case serial == 1:
							before.Add(1)
						case serial == 2:
							after.Add(1)
						}
					}
				})
			}
			await(t, "some come before", func() bool { return before.Load() > 10 })
			cert, key = a.issue(t, 2, time.Now().Add(time.Hour))
			swap(t, dir, cert, key)
			await(t, "some come after", func() bool { return after.Load() > 10 })
			end()
			load.Wait()
			if serial, _, err := e.get(staying); err != nil || serial != 1 {
				t.Errorf("the connection from before: certificate %d, %v", serial, err)
			}
		})
	}
}

// await polls for what other goroutines do, each of which polls the network.
func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-ctx.Done():
			t.Fatalf("it does not happen that %s", what)
		case <-tick.C:
		}
	}
}

// While a new pair is half there the old one serves, and one line of the log says
// what is wrong with the new one.
func TestBrokenCertificateKeepsTheOld(t *testing.T) {
	a, dir := newAuthority(t), t.TempDir()
	certFile, keyFile := filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	cert, key := a.issue(t, 1, time.Now().Add(time.Hour))
	put(t, certFile, cert)
	put(t, keyFile, key)
	e := newEncrypted(t, a, certFile, keyFile, tls.VersionTLS12)
	newcomer := func() int64 {
		t.Helper()
		serial, _, err := e.get(e.client(func(tr *http.Transport) { tr.DisableKeepAlives = true }))
		if err != nil {
			t.Fatal(err)
		}
		return serial
	}
	nextCert, nextKey := a.issue(t, 2, time.Now().Add(time.Hour))
	for _, step := range []struct {
		name string
		do   func()
		want int64
		said string // in one new line; "" for none
	}{
		{"nothing", func() {}, 1, ""},
		{"the certificate without its key", func() { put(t, certFile, nextCert) }, 1, "private key does not match"},
		{"half the key", func() { put(t, keyFile, nextKey[:len(nextKey)/2]) }, 1, "find any PEM data in key"},
		{"no key", func() { put(t, keyFile, nil) }, 1, "find any PEM data in key"},
		{"no file of the key", func() { _ = os.Remove(keyFile) }, 1, "no such file"},
		{"the key as well", func() { put(t, keyFile, nextKey) }, 2, ""},
		{"no file of the certificate", func() { _ = os.Remove(certFile) }, 2, "no such file"},
		{"the certificate of before", func() { put(t, certFile, nextCert) }, 2, ""},
	} {
		lines := len(e.log.lines(t, changedCertificate))
		step.do()
		for range 3 {
			if got := newcomer(); got != step.want {
				t.Errorf("%s: certificate %d is shown, want %d", step.name, got, step.want)
			}
		}
		now := e.log.lines(t, changedCertificate)[lines:]
		switch {
		case step.said == "" && len(now) > 0, step.said != "" && len(now) != 1:
			t.Errorf("%s: %d lines in the log: %v", step.name, len(now), now)
		case step.said != "" && !strings.Contains(fmt.Sprint(now[0]["error"]), step.said):
			t.Errorf("%s: the log says %v", step.name, now[0]["error"])
		}
	}
	if strings.Contains(e.log.String(), "PRIVATE KEY") {
		t.Errorf("the log holds a key: %s", e.log)
	}

	over, overKey := a.issue(t, 3, time.Now().Add(-time.Minute))
	put(t, keyFile, overKey)
	put(t, certFile, over)
	var log syncBuffer
	if _, err := LoadCertificate(certFile, keyFile, slog.New(slog.NewJSONHandler(&log, nil))); err != nil {
		t.Errorf("a certificate that is over keeps the service from starting: %v", err)
	}
	if !strings.Contains(log.String(), "not valid now") {
		t.Errorf("nothing tells that the certificate is over: %s", log.String())
	}
	for _, missing := range []string{certFile, keyFile} {
		text, _ := os.ReadFile(missing)
		put(t, missing, []byte("nonsense"))
		if _, err := LoadCertificate(certFile, keyFile, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), missing) {
			t.Errorf("nonsense in %s: %v", missing, err)
		}
		put(t, missing, text)
	}
}

const changedCertificate = "the certificate was changed and cannot be used: the one before it stays until it can"
