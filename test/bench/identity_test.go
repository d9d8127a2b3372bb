package bench_test

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/flavorsync/flavorsync/internal/identity/oidctest"
)

// The first page with a JWT that is verified here, against an echo handler that
// only writes the same bytes; the issuer is asked nothing meanwhile.
func BenchmarkVerifiedJWT(b *testing.B) {
	idm := oidctest.New(b)
	p := serve(b, "", simulate(b), withOIDC(b, idm))
	for i := range 5 {
		timed(b, p.call(b, http.MethodPost, "/promotedflavors", map[string]any{"flavor": map[string]any{
			"name": fmt.Sprintf("promoted.%d", i), "vcpus": 1 << i, "ram": 2048 << i, "disk": 20,
		}}))
	}
	header := bearer(idm.JWT(b, oidctest.Grant{User: "ada", Claims: map[string]any{
		"groups": []string{"Trento-owners", "Spain2-owners", "staff", "everybody"}, "name": "Ada Lovelace", "email": "ada@example.org",
	}}).Access)
	r := p.get(b, "/promotedflavors")
	r.Header = header.Clone()
	body := answer(b, r, http.StatusOK)
	asked := idm.Asked("")
	ratio, _ := againstBare(b, p.address, "/v1/promotedflavors", header, body)
	report(b, fmt.Sprintf("GET /v1/promotedflavors with a verified JWT of %d bytes, of a bare echo handler's rate", len(header.Get("Authorization"))-len("Bearer ")), ratio, ">=", 0.45)
	report(b, "questions to the issuer meanwhile, about a remembered key", float64(idm.Asked("")-asked), "<=", 0)
}

// Tokens that nobody has seen yet: a thousand callers who come at once with the
// same one cost the identity provider one question, and whoever tries many, of
// whatever kind, fills no memory.
func BenchmarkUnknownTokens(b *testing.B) {
	idm := oidctest.New(b)
	// The limit of refused tokens would spare the service most of them.
	p := serve(b, "", simulate(b), withOIDC(b, idm), map[string]any{"limits": map[string]any{"failed_tokens_per_minute": 0}})
	warm(b, p, idm)
	flood(b, p, idm)
	crowd(b, p, idm)
}

func crowd(b *testing.B, p product, idm *oidctest.Provider) {
	const crowd = 1000
	token := idm.Opaque(b, oidctest.Grant{User: "ada"}).Access
	all := make(chan struct{})
	idm.Instead(func(w http.ResponseWriter, r *http.Request) {
		<-all // so that every one of them finds the token unknown
		_, _ = io.WriteString(w, `{"active": true, "sub": "ada", "aud": "flavorsync"}`)
	})
	asked := idm.Asked("")
	ask := request(p.address, "/v1/regions", bearer(token))
	conns := make([]net.Conn, crowd)
	for i := range conns {
		conns[i] = dial(b, p.address)
		b.Cleanup(func() { _ = conns[i].Close() })
	}
	for _, conn := range conns {
		if _, err := conn.Write(ask); err != nil {
			b.Fatal(err)
		}
	}
	close(all)
	for _, conn := range conns {
		if err := skipAnswer(bufio.NewReader(conn)); err != nil {
			b.Fatal(err)
		}
	}
	idm.Instead(nil)
	report(b, fmt.Sprintf("questions to the identity provider, %d callers at once with one unknown token", crowd), float64(idm.Asked("")-asked), "<=", 1)
}

func flood(b *testing.B, p product, idm *oidctest.Provider) {
	if runtime.GOOS != "linux" {
		b.Skip("the memory of another process is read from /proc")
	}
	const tokens, connections = 100_000, 16
	good := strings.Split(idm.Sign(b, idm.Claims("eve"), nil), ".")
	part := func(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }
	kinds := []func(i int) string{
		func(i int) string { return fmt.Sprintf("opaque-%032d", i) },
		func(i int) string { // signed wrongly, by a key that is known
			signature := bytes.Repeat([]byte(fmt.Sprintf("%016d", i)), 16)
			return good[0] + "." + good[1] + "." + base64.RawURLEncoding.EncodeToString(signature)
		},
		func(i int) string { // by a key that nobody knows
			return part(fmt.Sprintf(`{"alg":"RS256","kid":"%d"}`, i)) + "." + good[1] + "." + good[2]
		},
	}
	before := memory(b, p.pid, "VmRSS")
	var wg sync.WaitGroup
	errs := make([]error, connections)
	for c := range connections {
		wg.Go(func() {
			conn, err := net.Dial("tcp", p.address)
			if err != nil {
				errs[c] = err
				return
			}
			defer func() { _ = conn.Close() }()
			r := bufio.NewReader(conn)
			for i := c; i < tokens && errs[c] == nil; i += connections {
				if _, err := conn.Write(request(p.address, "/v1/regions", bearer(kinds[i%len(kinds)](i)))); err != nil {
					errs[c] = err
					return
				}
				errs[c] = skipAnswerOf(r, http.StatusUnauthorized)
			}
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			b.Fatal(err)
		}
	}
	after := memory(b, p.pid, "VmRSS")
	report(b, fmt.Sprintf("MiB that the service grows by %d different bad tokens, from %.0f to %.0f", tokens, before, after), after-before, "<=", 64)
}

// An identity provider that hangs costs who needs it its time limit, and others
// nothing.
func BenchmarkHangingIdentityProvider(b *testing.B) {
	const strangers, limit = 64, 2 * time.Second
	idm := oidctest.New(b)
	p := serve(b, "", simulate(b), withOIDC(b, idm))
	warm(b, p, idm)
	var ratios []float64
	var slowest time.Duration
	for round := range 5 {
		known := [][]byte{
			request(p.address, "/v1/promotedflavors", bearer(idm.Opaque(b, oidctest.Grant{User: "ada"}).Access)),
			request(p.address, "/v1/promotedflavors", bearer(idm.JWT(b, oidctest.Grant{User: "ada"}).Access)),
		}
		latencies(b, p.address, known, time.Second/4)
		quiet := percentile95(latencies(b, p.address, known, time.Second))
		idm.Instead(oidctest.Hang)
		var wg sync.WaitGroup
		took, errs := make([]time.Duration, strangers), make([]error, strangers)
		for i := range strangers {
			conn := dial(b, p.address)
			ask := request(p.address, "/v1/promotedflavors", bearer(fmt.Sprintf("stranger-%d-%d", round, i)))
			wg.Go(func() {
				defer conn.Close()
				begun := time.Now()
				if _, errs[i] = conn.Write(ask); errs[i] == nil {
					errs[i] = skipAnswerOf(bufio.NewReader(conn), http.StatusServiceUnavailable)
				}
				took[i] = time.Since(begun)
			})
		}
		hung := percentile95(latencies(b, p.address, known, time.Second))
		wg.Wait()
		idm.Instead(nil)
		for _, err := range errs {
			if err != nil {
				b.Fatal(err)
			}
		}
		slowest = max(slowest, slices.Max(took))
		ratios = append(ratios, float64(hung)/float64(quiet))
		fmt.Printf("p95 of callers whose token is remembered: %s, while the identity provider hangs %s\n", quiet.Round(time.Microsecond), hung.Round(time.Microsecond))
	}
	report(b, fmt.Sprintf("seconds of the slowest request that asks an identity provider that hangs, with a limit of %s", limit), slowest.Seconds(), "<=", 1.1*limit.Seconds())
	report(b, "p95 of remembered callers while it hangs, against the quiet run", median(ratios), "<=", 1.5)
}

// withOIDC is a KeyRock that knows the demo's tokens, and idm beside it.
func withOIDC(b *testing.B, idm *oidctest.Provider) map[string]any {
	cloud := simulate(b)
	return map[string]any{"identity": []any{
		map[string]any{"type": "keyrock", "url": cloud.KeyRockURL()},
		map[string]any{
			"type": "oidc", "issuer": idm.Issuer, "audience": oidctest.ClientID,
			"opaque": "introspection", "client_id": oidctest.ClientID, "client_secret": oidctest.ClientSecret,
			"regions": []any{map[string]any{"claim": "groups", "match": "(?P<region>.+)-owners"}},
		},
	}}
}

// warm has the service know idm's keys and endpoints.
func warm(b *testing.B, p product, idm *oidctest.Provider) {
	b.Helper()
	for _, token := range []string{idm.JWT(b, oidctest.Grant{User: "eve"}).Access, idm.Opaque(b, oidctest.Grant{User: "eve"}).Access} {
		r := p.get(b, "/regions")
		r.Header = bearer(token)
		answer(b, r, http.StatusOK)
	}
}

func bearer(token string) http.Header { return http.Header{"Authorization": {"Bearer " + token}} }

func dial(b *testing.B, address string) net.Conn {
	b.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		b.Fatal(err)
	}
	return conn
}

// latencies is how long each answer took to requests that eight callers send one
// after another for about d; each must be a 200.
func latencies(b *testing.B, address string, requests [][]byte, d time.Duration) []time.Duration {
	b.Helper()
	const callers = 8
	all, errs := make([][]time.Duration, callers), make([]error, callers)
	until := time.Now().Add(d)
	var wg sync.WaitGroup
	for i := range callers {
		conn := dial(b, address)
		wg.Go(func() {
			defer conn.Close()
			r := bufio.NewReaderSize(conn, 64<<10)
			for begun := time.Now(); errs[i] == nil && begun.Before(until); begun = time.Now() {
				if _, errs[i] = conn.Write(requests[i%len(requests)]); errs[i] == nil {
					errs[i] = skipAnswer(r)
				}
				all[i] = append(all[i], time.Since(begun))
			}
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			b.Fatal(err)
		}
	}
	return slices.Concat(all...)
}

func percentile95(all []time.Duration) time.Duration {
	slices.Sort(all)
	return all[len(all)*95/100]
}

// memory is a process's, in MiB: VmRSS is what is resident now, VmHWM the most
// that ever was.
func memory(b *testing.B, pid int, kind string) float64 {
	b.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, kind+":"); ok {
			kib, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			if err != nil {
				b.Fatal(err)
			}
			return kib / 1024
		}
	}
	b.Fatalf("/proc/%d/status does not tell %s", pid, kind)
	return 0
}
