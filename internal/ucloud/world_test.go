package ucloud

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/flavorsync/flavorsync/internal/flavor"
	"github.com/flavorsync/flavorsync/internal/store"
	"github.com/flavorsync/flavorsync/internal/store/storetest"
	"github.com/flavorsync/flavorsync/internal/ucloud/coretest"
)

var (
	manager = flavor.Principal{ID: "m", Name: "manager", Manager: true}
	nobody  = flavor.Principal{ID: "n", Name: "nobody"}
)

// clock stands still until it is told.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func newClock() *clock { return &clock{at: time.Unix(1_700_000_000, 0).UTC()} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// shelf is what a marketplace has on offer.
type shelf struct {
	store    *store.Store
	provider string

	mu     sync.Mutex
	offers []flavor.Offer
	err    error
	last   []flavor.Offer
}

func (s *shelf) Products(ctx context.Context) ([]flavor.Offer, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return nil, s.err
	}
	var pushed map[string]store.Pushed
	err := s.store.Read(ctx, func(tx *store.Tx) (err error) {
		pushed, err = tx.Pushed(s.provider)
		return err
	})
	if err != nil {
		return nil, err
	}
	next := slices.SortedFunc(slices.Values(s.offers), flavor.CompareOffers)
	for i := range next {
		next[i].Pushed = pushed[next[i].FlavorID].Reference
	}
	if !slices.Equal(next, s.last) || s.last == nil {
		s.last = next
	}
	return s.last, nil
}

func (s *shelf) ProductsNow(ctx context.Context) ([]flavor.Offer, error) { return s.Products(ctx) }

func (s *shelf) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

// set puts offers on the shelf, and their flavors into the database. Those of
// the same name keep their ids.
func (s *shelf) set(t testing.TB, offers ...flavor.Offer) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.store.Write(context.WithoutCancel(t.Context()), func(tx *store.Tx) error {
		for i := range offers {
			f, err := tx.FlavorByName(offers[i].Name)
			if flavor.CodeOf(err) == flavor.CodeNotFound {
				f = flavor.Flavor{ID: uuid.NewString(), Spec: flavor.Spec{Name: offers[i].Name, VCPUs: 1, RAM: 1, RxTxFactor: 1}, Promoted: true, Public: true}
				err = tx.InsertFlavor(f)
			}
			if err != nil {
				return err
			}
			offers[i].FlavorID = f.ID
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	s.offers = slices.Clone(offers)
}

func offer(name, category string, price flavor.Amount) flavor.Offer {
	return flavor.Offer{
		Name: name, Category: category, Price: price, Currency: "DKK", Period: flavor.Hour, VCPUs: 4, RAM: 16384, Description: "4 vCPU, 16 GB",
	}
}

// but is o with a change.
func but(o flavor.Offer, change func(*flavor.Offer)) flavor.Offer {
	change(&o)
	return o
}

// logs is what was logged. It is searched for secrets when the test ends.
type logs struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// key is one for all tests: making one takes longer than most of them.
var key = sync.OnceValue(func() *rsa.PrivateKey {
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return k
})

// world is a provider, its database and its Core.
type world struct {
	*Provider
	core  *coretest.Core
	url   string // of the Core
	shelf *shelf
	clock *clock
	logs  *logs
}

func newWorld(t *testing.T, change ...func(*Config)) world {
	t.Helper()
	return newWorldOf(t, coretest.Options{}, storetest.Open(t, "sqlite"), change...)
}

func classicWorld(t *testing.T, change ...func(*Config)) world {
	t.Helper()
	change = append(change, func(c *Config) { c.Push = V1 })
	return newWorldOf(t, coretest.Options{Generation: coretest.Classic}, storetest.Open(t, "sqlite"), change...)
}

func newWorldOf(t *testing.T, opts coretest.Options, s *store.Store, change ...func(*Config)) world {
	t.Helper()
	w := world{clock: newClock(), logs: new(logs)}
	opts.Now = w.clock.now
	opts.Key = key()
	var err error
	if w.core, err = coretest.New(opts); err != nil {
		t.Fatal(err)
	}
	var stop func()
	if w.url, stop, err = w.core.Start("127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	return w.replica(t, s, change...)
}

// replica is one more process of the same provider.
func (w world) replica(t *testing.T, s *store.Store, change ...func(*Config)) world {
	t.Helper()
	w.shelf = &shelf{store: s, provider: w.core.Provider()}
	cfg := Config{
		ProviderID: w.core.Provider(), PublicKey: w.core.PublicKey(), CoreURL: w.url, RefreshToken: flavor.Secret(w.core.RefreshToken()), Push: V2,
		AllowHTTP: true, AllowNetworks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
		Store: s, Products: w.shelf, Log: slog.New(slog.NewJSONHandler(w.logs, nil)), Now: w.clock.now, Jitter: func() float64 { return 0.5 },
	}
	for _, c := range change {
		c(&cfg)
	}
	var err error
	if w.Provider, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	t.Cleanup(func() { w.noSecrets(t, "the log", w.logs.String()) })
	return w
}

// noSecrets looks for our tokens, and for any JWT, in a text.
func (w world) noSecrets(t testing.TB, what, text string) {
	t.Helper()
	if token := w.core.RefreshToken(); strings.Contains(text, token[:12]) || strings.Contains(text, token[len(token)-12:]) || strings.Contains(text, "eyJ") {
		t.Errorf("%s holds a secret: %s", what, text)
	}
}

// push is one by a manager.
func (w world) push(t testing.TB) (Report, error) {
	t.Helper()
	r, err := w.Push(t.Context(), manager, false)
	w.noSecrets(t, "the report", fmt.Sprint(r, err))
	return r, err
}

// mustPush is one by a manager that goes well.
func (w world) mustPush(t testing.TB) Report {
	t.Helper()
	r, err := w.push(t)
	if err != nil || r.State != Succeeded || len(r.Failed) > 0 || r.LastError != "" {
		t.Fatalf("the push failed: %v\n%+v", err, r)
	}
	return r
}

// creates are the requests that sent definitions, and forgets all requests.
func (w world) creates() []coretest.Request {
	path := w.gen.create
	all := w.core.Requests(http.MethodPost, path)
	w.core.ForgetRequests()
	return all
}

// sentTo is what of each request counts: the names that were sent, in order.
func sentTo(t testing.TB, requests []coretest.Request) [][]string {
	t.Helper()
	var all [][]string
	for _, r := range requests {
		body, err := decodeAs[struct {
			Items []struct {
				Name string `json:"name"`
			} `json:"items"`
		}](r.Body)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, i := range body.Items {
			names = append(names, i.Name)
		}
		all = append(all, names)
	}
	return all
}

func (w world) expectSent(t testing.TB, want ...[]string) {
	t.Helper()
	if diff := cmp.Diff(want, sentTo(t, w.creates())); diff != "" {
		t.Errorf("sent to Core (-want +got):\n%s", diff)
	}
}

// serve is what the HTTP edge is to make of the provider.
func (w world) serve(t *testing.T) string {
	t.Helper()
	answer := func(body func(*http.Request) ([]byte, error)) http.HandlerFunc {
		return func(rw http.ResponseWriter, r *http.Request) {
			token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
			if err := w.Verify(token); err != nil {
				http.Error(rw, err.Error(), http.StatusUnauthorized)
				return
			}
			text, err := body(r)
			if err != nil {
				http.Error(rw, err.Error(), http.StatusInternalServerError)
				return
			}
			rw.Header().Set("Content-Type", "application/json")
			rw.Write(text)
		}
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /ucloud/aau/jobs/retrieveProducts", answer(func(r *http.Request) ([]byte, error) { return w.RetrieveProducts(r.Context()) }))
	mux.HandleFunc("GET /ucloud/aau/integration/retrieveManifest", answer(func(*http.Request) ([]byte, error) { return w.Manifest(), nil }))
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return server.URL
}

// listed are the names of what Core is told, with its category.
//
// Nothing, where it is not answered at all: see TestNeverEmptyByMistake.
func (w world) listed(t testing.TB) []string {
	t.Helper()
	body, err := w.RetrieveProducts(t.Context())
	if flavor.CodeOf(err) == flavor.CodeUnreachable {
		return []string{}
	}
	if err != nil {
		t.Fatal(err)
	}
	answer, err := decodeAs[struct {
		Responses []support `json:"responses"`
	}](body)
	if err != nil {
		t.Fatal(err)
	}
	all := []string{}
	for _, s := range answer.Responses {
		all = append(all, s.Product.Category+"/"+s.Product.ID)
	}
	return all
}

func expectCode(t testing.TB, err error, want flavor.Code) {
	t.Helper()
	if got := flavor.CodeOf(err); got != want {
		t.Errorf("the error is %q (%v), want %q", got, err, want)
	}
}

// messageOf is what a client is told.
func messageOf(err error) string {
	if e, ok := errors.AsType[*flavor.Error](err); ok {
		return e.Message
	}
	return fmt.Sprintf("nothing that a client can be told: %v", err)
}

func expectText(t testing.TB, what, text string, words ...string) {
	t.Helper()
	for _, word := range words {
		if !strings.Contains(text, word) {
			t.Errorf("%s does not say %q: %s", what, word, text)
		}
	}
}

func equal(t testing.TB, what string, got, want any) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}
