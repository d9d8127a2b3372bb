package webhooks

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/flavorsync/flavorsync/internal/flavor"
	"github.com/flavorsync/flavorsync/internal/store"
	"github.com/flavorsync/flavorsync/internal/store/storetest"
)

const theSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

// receiver takes the messages of one webhook, and verifies them as the specification
// says, knowing nothing of how they are signed here.
type receiver struct {
	t      *testing.T
	url    string
	now    func() time.Time
	answer func(got received) (status int, header http.Header) // nil: 204
	mu     sync.Mutex
	all    []received // also those that were not taken
	taken  []string   // the messages' texts, of those that were
}

type received struct {
	ID   string
	Type string
	Data struct {
		ID            int64
		Type, Message string
		After, Until  int64
	}
}

func newReceiver(t *testing.T) *receiver {
	t.Helper()
	r := &receiver{t: t, now: time.Now}
	server := httptest.NewServer(r)
	t.Cleanup(server.Close)
	r.url = server.URL + "/hook?token=t"
	return r
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		r.t.Error(err)
	}
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(theSecret, "whsec_"))
	if err != nil {
		r.t.Error(err)
	}
	id, timestamp := req.Header.Get("webhook-id"), req.Header.Get("webhook-timestamp")
	mac := hmac.New(sha256.New, key)
	io.WriteString(mac, id+"."+timestamp+"."+string(body))
	if got, want := req.Header.Get("webhook-signature"), "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)); got != want {
		r.t.Errorf("the signature is %s, not %s", got, want)
	}
	if seconds, err := strconv.ParseInt(timestamp, 10, 64); err != nil || id == "" || r.now().Sub(time.Unix(seconds, 0)).Abs() > 5*time.Minute {
		r.t.Errorf("webhook-id %q, webhook-timestamp %q", id, timestamp)
	}
	if req.Method != http.MethodPost || req.URL.RequestURI() != "/hook?token=t" || req.Header.Get("Content-Type") != "application/json" {
		r.t.Errorf("%s %s, %v", req.Method, req.URL, req.Header)
	}
	got := received{ID: id}
	if err := json.Unmarshal(body, &got); err != nil || got.Type != got.Data.Type {
		r.t.Errorf("%v: %s", err, body)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, got)
	status, header := http.StatusNoContent, http.Header(nil)
	if r.answer != nil {
		status, header = r.answer(got)
	}
	maps.Copy(w.Header(), header)
	w.WriteHeader(status)
	if status < 300 {
		r.taken = append(r.taken, cmp.Or(got.Data.Message, got.Type))
	}
}

func (r *receiver) told() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Join(r.taken, " ")
}

func (r *receiver) calls() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.all)
}

// clock is one that can be put forward.
type clock struct{ ahead atomic.Int64 }

func (c *clock) now() time.Time       { return time.Now().Add(time.Duration(c.ahead.Load())) }
func (c *clock) move(d time.Duration) { c.ahead.Add(int64(d)) }

func (r *receiver) settings(s *store.Store, c *clock) Settings {
	r.now = c.now
	return Settings{
		Webhooks: []Config{{Name: "hook", URL: r.url, Secret: theSecret}}, Store: s, Log: slog.New(slog.DiscardHandler),
		AllowHTTP: true, AllowNetworks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, Poll: time.Millisecond, Now: c.now,
	}
}

// run has a sender at work until stop.
func run(t *testing.T, cfg Settings) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { New(cfg).Run(ctx) })
	stop = sync.OnceFunc(func() {
		cancel()
		running.Wait()
	})
	t.Cleanup(stop)
	return stop
}

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

func tell(t *testing.T, s *store.Store, texts ...string) {
	t.Helper()
	err := s.Write(t.Context(), func(tx *store.Tx) error {
		for _, text := range texts {
			e := flavor.Event{Type: flavor.NodeFailed, Region: "Trento", Message: text}
			if strings.HasPrefix(text, "-") {
				e.Type, e.Region = flavor.FlavorChanged, ""
			}
			if err := tx.Event(e); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func standing(t *testing.T, s *store.Store) (w store.Webhook, known bool) {
	t.Helper()
	err := s.Read(t.Context(), func(tx *store.Tx) (err error) {
		w, known, err = tx.Webhook("hook")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return w, known
}

func awaitKnown(t *testing.T, s *store.Store) {
	t.Helper()
	await(t, "the webhook is known", func() bool { _, known := standing(t, s); return known })
}

// A new webhook is told what comes from now on, in order; one that was stopped goes
// on where it was.
func TestInOrder(t *testing.T) {
	for _, driver := range []string{"sqlite", "mysql"} {
		t.Run(driver, func(t *testing.T) {
			s, r, c := storetest.Open(t, driver), newReceiver(t), &clock{}
			tell(t, s, "before")
			stop := run(t, r.settings(s, c))
			awaitKnown(t, s)
			tell(t, s, "1", "2")
			tell(t, s, "3")
			await(t, "it is told three", func() bool { return r.told() == "1 2 3" })
			stop()
			tell(t, s, "4")
			tell(t, s, "5")
			run(t, r.settings(s, c))
			await(t, "it goes on", func() bool { return r.told() == "1 2 3 4 5" })
		})
	}
}

// What is not taken is sent again, under the same id, later and later, and what comes
// behind it waits.
func TestRetries(t *testing.T) {
	s, r, c := storetest.Open(t, "sqlite"), newReceiver(t), &clock{}
	var outcomes []string
	var mu sync.Mutex
	cfg := r.settings(s, c)
	cfg.Observe = func(webhook, outcome string, _ time.Duration) {
		mu.Lock()
		defer mu.Unlock()
		outcomes = append(outcomes, webhook+" "+outcome)
	}
	statuses := []int{500, 302, 404, 429, 410, 200, 200}
	r.answer = func(received) (int, http.Header) {
		status := statuses[len(r.all)-1]
		if status == 429 {
			return status, http.Header{"Retry-After": {"1800"}}
		}
		return status, http.Header{"Location": {"http://127.0.0.1:1/"}}
	}
	run(t, cfg)
	awaitKnown(t, s)
	tell(t, s, "first", "second")
	for attempt, pauses := range [][2]time.Duration{
		{800 * time.Millisecond, 1200 * time.Millisecond}, {1600 * time.Millisecond, 2400 * time.Millisecond}, {3200 * time.Millisecond, 4800 * time.Millisecond},
		{30 * time.Minute, 30 * time.Minute}, {time.Hour, time.Hour},
	} {
		before := time.Now()
		await(t, "the attempt is noted", func() bool { w, _ := standing(t, s); return w.Attempts == attempt+1 })
		w, _ := standing(t, s)
		pause := w.NextAttempt.Sub(c.now())
		if slack := 5*time.Second + time.Since(before); pause < pauses[0]-slack || pause > pauses[1]+slack {
			t.Errorf("after attempt %d it waits %s, not %s to %s", attempt+1, pause, pauses[0], pauses[1])
		}
		if r.calls() != attempt+1 || strings.Contains(w.LastError, "127.0.0.1") || !strings.Contains(w.LastError, strconv.Itoa(statuses[attempt])) {
			t.Errorf("%d calls, %q", r.calls(), w.LastError)
		}
		c.move(pauses[1] + time.Second)
	}
	await(t, "it is told both", func() bool { return r.told() == "first second" })
	await(t, "it stands well", func() bool { w, _ := standing(t, s); return w.Attempts == 0 && w.LastError == "" })
	for i, got := range r.all[:6] {
		if got.ID != r.all[0].ID || got.Data.Message != "first" {
			t.Errorf("attempt %d brings %+v", i+1, got)
		}
	}
	if r.all[6].ID == r.all[0].ID {
		t.Error("two events have one id")
	}
	told := func() []string {
		mu.Lock()
		defer mu.Unlock()
		return outcomes
	}
	await(t, "the last call is observed", func() bool { return len(told()) == 7 })
	if got := strings.Join(told(), ", "); got != strings.Repeat("hook failed, ", 5)+"hook taken, hook taken" {
		t.Error(got)
	}
}

// Pauses grow to five minutes, and no further.
func TestPauses(t *testing.T) {
	for attempts, want := range map[int]time.Duration{1: time.Second, 2: 2 * time.Second, 5: 16 * time.Second, 20: 5 * time.Minute, 1_000_000: 5 * time.Minute} {
		for range 50 {
			if got := pauseAfter(attempts); got < want*8/10 || got > min(want*12/10, 5*time.Minute) {
				t.Errorf("after %d failures: %s", attempts, got)
			}
		}
	}
}

// Types and regions that are not for it are passed over, and its place moves on.
func TestFilter(t *testing.T) {
	s, r, c := storetest.Open(t, "sqlite"), newReceiver(t), &clock{}
	cfg := r.settings(s, c)
	cfg.Webhooks[0].Types, cfg.Webhooks[0].Regions = []flavor.EventType{flavor.NodeFailed}, []string{"Trento"}
	run(t, cfg)
	awaitKnown(t, s)
	before, _ := standing(t, s)
	tell(t, s, "-no", "yes", "-neither")
	await(t, "its place moves", func() bool { w, _ := standing(t, s); return w.Position == before.Position+3 })
	if r.told() != "yes" || r.calls() != 1 {
		t.Errorf("it is told %q in %d calls", r.told(), r.calls())
	}
}

// What is dropped before it was taken is told of as lost.
func TestLost(t *testing.T) {
	s, r, c := storetest.Open(t, "sqlite"), newReceiver(t), &clock{}
	stop := run(t, r.settings(s, c))
	awaitKnown(t, s)
	stop()
	before, _ := standing(t, s)
	tell(t, s, "1", "2", "3", "4")
	err := s.Write(t.Context(), func(tx *store.Tx) error { _, err := tx.DropEvents(time.Now().Add(time.Hour), 3); return err })
	if err != nil {
		t.Fatal(err)
	}
	run(t, r.settings(s, c))
	await(t, "it is told of that", func() bool { return r.told() == "lost 4" })
	if d := r.all[0].Data; d.After != before.Position || d.Until != before.Position+3 {
		t.Errorf("%+v, behind %d", d, before.Position)
	}
}

// Of several replicas one is at a webhook, and whoever loses the lease writes nothing.
func TestOneReplicaAtATime(t *testing.T) {
	dsn := storetest.DSN(t, "mysql")
	first := storetest.Connect(t, "mysql", dsn, nil)
	if err := first.Up(t.Context()); err != nil {
		t.Fatal(err)
	}
	r, c := newReceiver(t), &clock{}
	for range 3 {
		run(t, r.settings(storetest.Connect(t, "mysql", dsn, nil), c))
	}
	awaitKnown(t, first)
	var want []string
	for i := range 40 {
		tell(t, first, strconv.Itoa(i))
		want = append(want, strconv.Itoa(i))
	}
	await(t, "it is told all, each once and in order", func() bool { return r.told() == strings.Join(want, " ") })
}

// A process that wakes after another has taken over does not move the place back.
func TestALostLeaseWritesNothing(t *testing.T) {
	s, r, c := storetest.Open(t, "sqlite"), newReceiver(t), &clock{}
	stop := run(t, r.settings(s, c))
	awaitKnown(t, s)
	stop()
	before, _ := standing(t, s)
	tell(t, s, "1")
	sender := New(r.settings(s, c))
	owner := sender.owner
	r.answer = func(received) (int, http.Header) {
		// While it is told, the lease goes to another, who is through with it.
		err := s.Write(t.Context(), func(tx *store.Tx) error {
			w, _, err := tx.Webhook("hook")
			w.Position += 100
			return cmp.Or(err, tx.PutWebhook(w))
		})
		if err == nil {
			err = takeOver(t, s, owner)
		}
		if err != nil {
			t.Error(err)
		}
		return 200, nil
	}
	if err := sender.step(t.Context(), sender.cfg.Webhooks[0]); flavor.CodeOf(err) != flavor.CodeConflict {
		t.Errorf("it goes on: %v", err)
	}
	if w, _ := standing(t, s); w.Position != before.Position+100 {
		t.Errorf("its place is %d behind where it was", w.Position-before.Position)
	}
}

// takeOver ends the lease of owner, who is at the webhook, and takes it.
func takeOver(t *testing.T, s *store.Store, owner string) error {
	t.Helper()
	for fence := range int64(100) { // whichever it is
		if err := s.ReleaseLease(t.Context(), store.Lease{Name: "webhook hook", Owner: owner, Fence: fence}); err != nil {
			return err
		}
	}
	_, taken, err := s.TakeLease(t.Context(), "webhook hook", "another", time.Hour)
	if err == nil && !taken {
		t.Error("the lease is not to be had")
	}
	return err
}

// What is configured wrong is told, setting by setting.
func TestValidate(t *testing.T) {
	good := Config{Name: "a.b-1", URL: "https://example.org/x?y", Secret: theSecret, Types: []flavor.EventType{flavor.NodeFailed}, Regions: []string{"Trento"}}
	bare := good
	bare.Secret = "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	for _, c := range []Config{good, bare} {
		if err := c.Validate(false); err != nil {
			t.Error(err)
		}
	}
	plain := good
	plain.URL = "http://example.org"
	if plain.Validate(true) != nil || plain.Validate(false) == nil {
		t.Error("plain http is what outgoing.allow_http says")
	}
	for setting, change := range map[string]func(*Config){
		"name: ":       func(c *Config) { c.Name = "A" },
		"url: must":    func(c *Config) { c.URL = "https://u:p@example.org" },
		"url:  must":   func(c *Config) { c.URL = "ftp://example.org" },
		"secret: must": func(c *Config) { c.Secret = "c2hvcnQ=" },
		"secret: ":     func(c *Config) { c.Secret = "not base64 at all, however long it is!" },
		"types[0]: ":   func(c *Config) { c.Types[0] = "x" },
		"regions[0]: ": func(c *Config) { c.Regions[0] = "a/b" },
	} {
		c := good
		c.Types, c.Regions = []flavor.EventType{flavor.NodeFailed}, []string{"Trento"}
		change(&c)
		if err := c.Validate(false); err == nil || !strings.Contains(err.Error(), strings.ReplaceAll(setting, "  ", " ")) || strings.Contains(err.Error(), string(c.Secret)) {
			t.Errorf("%s: %v", setting, err)
		}
	}
	if err := Distinct([]Config{good, bare}); err == nil || !strings.HasPrefix(err.Error(), "webhooks[1].name: ") {
		t.Errorf("two of one name: %v", err)
	}
}

// retryAfter reads both of HTTP's forms, and nonsense as nothing.
func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 11, 26, 8, 0, 0, 0, time.UTC)
	for value, want := range map[string]time.Duration{
		"": 0, "7": 7 * time.Second, "-7": 0, "x": 0, "Thu, 26 Nov 2026 08:01:00 GMT": time.Minute, "Thu, 26 Nov 2026 07:00:00 GMT": 0, "99999999999999999999": 0,
	} {
		if got := retryAfter(value, now); got != want {
			t.Errorf("%q: %s", value, got)
		}
	}
}
