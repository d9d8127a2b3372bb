package httpapi

import (
	"bufio"
	"context"
	"encoding/xml"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/flavorsync/flavorsync/internal/events"
	"github.com/flavorsync/flavorsync/internal/flavor"
	"github.com/flavorsync/flavorsync/internal/identity"
)

// feed is events in memory, of which those up to the one with the id dropped are
// not kept.
type feed struct {
	mu      sync.Mutex
	all     []flavor.Event
	dropped int64
	more    chan struct{}
	err     error
}

func newFeed() *feed { return &feed{more: make(chan struct{})} }

func (f *feed) add(found ...flavor.Event) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, e := range found {
		e.ID = int64(len(f.all) + 1)
		e.At = time.Date(2026, 11, 26, 8, 0, 1, 3_900_000, time.UTC)
		f.all = append(f.all, e)
	}
	close(f.more)
	f.more = make(chan struct{})
}

func (f *feed) drop(until int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.dropped = until
}

func (f *feed) Begin(_ context.Context, after int64) (int64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	last := int64(len(f.all))
	switch {
	case after == events.Kept:
		return f.dropped, f.err
	case after == events.Now || after > last:
		return last, f.err
	}
	return after, f.err
}

func (f *feed) Behind(_ context.Context, after int64) ([]flavor.Event, int64, <-chan struct{}, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	lost := max(0, f.dropped-after)
	return slices.Clone(f.all[min(after+lost, int64(len(f.all))):]), lost, f.more, f.err
}

func (f *feed) Page(ctx context.Context, p flavor.Principal, filter flavor.EventFilter, after int64, limit int) (page []flavor.Event, next, lost int64, err error) {
	found, lost, _, err := f.Behind(ctx, after)
	next = after + lost
	for _, e := range found {
		if len(page) == limit {
			break
		}
		next = e.ID
		if seen, ok := e.For(p); ok && filter.Passes(seen) {
			page = append(page, seen)
		}
	}
	return page, next, lost, err
}

// listener is one client of a running server.
type listener struct {
	res   *http.Response
	lines *bufio.Reader
}

// following opens a stream, and wants the status 200.
func following(t *testing.T, url, query string, headers ...string) *listener {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/v1/events"+query, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X-Auth-Token", "good")
	for _, h := range headers {
		if name, value, there := strings.Cut(h, ": "); there {
			r.Header.Set(name, value)
		}
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { res.Body.Close() })
	if res.StatusCode != http.StatusOK {
		t.Fatalf("status %d", res.StatusCode)
	}
	return &listener{res, bufio.NewReader(res.Body)}
}

// next is the next block of lines, up to the empty one; "" at the end of the stream.
func (l *listener) next(t *testing.T) string {
	t.Helper()
	var block []string
	for {
		line, err := l.lines.ReadString('\n')
		if err == io.EOF && len(block) == 0 && line == "" {
			return ""
		}
		if err != nil {
			t.Fatalf("%v after %q", err, append(block, line))
		}
		if line == "\n" {
			return strings.Join(block, "\n")
		}
		block = append(block, strings.TrimSuffix(line, "\n"))
	}
}

func (l *listener) wants(t *testing.T, blocks ...string) {
	t.Helper()
	for _, want := range blocks {
		if got := l.next(t); got != want {
			t.Fatalf("it tells\n%s\nnot\n%s", got, want)
		}
	}
}

// streamsOf is a server with that feed, whose streams take so long over things.
func streamsOf(t *testing.T, f *feed, times streaming, change ...func(*Config)) (*setup, string) {
	t.Helper()
	s := newSetup(t, append(change, func(c *Config) { c.Events = f })...)
	s.streaming = times
	server := httptest.NewServer(s.Server)
	t.Cleanup(func() {
		s.endStreams()
		server.Close()
	})
	return s, server.URL
}

var (
	patient     = streaming{heartbeat: time.Hour, verify: time.Hour, write: 10 * time.Second}
	thePromoted = flavor.Event{Type: flavor.FlavorPromoted, Flavor: insane.ID, Name: "in\nsane"}
	theNode     = flavor.Event{Type: flavor.NodeInstalled, Flavor: insane.ID, Name: "insane", Region: "Mordor", Message: "why"}
	theFailed   = flavor.Event{Type: flavor.NodeFailed, Flavor: insane.ID, Name: "insane", Region: "Mordor", Message: "no"}
	theDown     = flavor.Event{Type: flavor.RegionWentDown, Region: "Trento", Message: "secret address"}
)

const (
	toldPromoted = "id: 1\nevent: flavor.promoted\n" + `data: {"id":1,"at":"2026-11-26T08:00:01.003Z","type":"flavor.promoted","flavor":"567b200e-0aca-49c4-8b52-6c3c2f0b4d11","name":"in\nsane"}`
	toldNode     = "id: 2\nevent: node.installed\n" + `data: {"id":2,"at":"2026-11-26T08:00:01.003Z","type":"node.installed","flavor":"567b200e-0aca-49c4-8b52-6c3c2f0b4d11","name":"insane","region":"Mordor","created":false}`
	toldDown     = "id: 4\nevent: region.down\n" + `data: {"id":4,"at":"2026-11-26T08:00:01.003Z","type":"region.down","region":"Trento"}`
)

// What a stream is, from its head to its end: what comes from now on, each event one
// message, whatever its text holds; and who comes back goes on where they were.
func TestStream(t *testing.T) {
	f := newFeed()
	f.add(thePromoted)
	_, url := streamsOf(t, f, patient, anyUser)
	l := following(t, url, "")
	for name, want := range map[string]string{"Content-Type": "text/event-stream", "Cache-Control": "no-store", "X-Accel-Buffering": "no", "Etag": "", "Content-Length": ""} {
		if got := l.res.Header.Get(name); got != want {
			t.Errorf("%s is %q, not %q", name, got, want)
		}
	}
	l.wants(t, "retry: 3000\nid: 1")
	f.add(theNode, theFailed, theDown)
	l.wants(t, toldNode, toldDown) // the caller owns no region
	for _, c := range []struct {
		query, header string
		want          []string
	}{
		{"?last_event_id=1", "", []string{"retry: 3000\nid: 1", toldNode, toldDown}},
		{"?last_event_id=0", "", []string{"retry: 3000\nid: 0", toldPromoted, toldNode, toldDown}},
		{"?last_event_id=1", "Last-Event-ID: 2", []string{"retry: 3000\nid: 2", toldDown}},
		{"?last_event_id=&type=&region=", "Last-Event-ID: 0", []string{"retry: 3000\nid: 0", toldPromoted}},
		{"?last_event_id=0&type=region.down,flavor.promoted", "", []string{"retry: 3000\nid: 0", toldPromoted, toldDown}},
		{"?last_event_id=0&region=Mordor", "", []string{"retry: 3000\nid: 0", toldNode}},
		{"?last_event_id=0&region=Mordor,Trento&type=region.down", "", []string{"retry: 3000\nid: 0", toldDown}},
		{"?last_event_id=9", "", []string{"retry: 3000\nid: 4", "id: 4\nevent: lost\n" + `data: {"type":"lost","after":9,"until":4}`}},
	} {
		following(t, url, c.query, c.header).wants(t, c.want...)
	}
	f.drop(3)
	following(t, url, "?last_event_id=1").wants(t, "retry: 3000\nid: 1", "id: 3\nevent: lost\n"+`data: {"type":"lost","after":1,"until":3}`, toldDown)
}

// Owners of the region and managers, and nobody else, are told what failed there and
// why; and no longer once they are no owners any more.
func TestStreamIsForWhoMaySeeIt(t *testing.T) {
	f := newFeed()
	var mu sync.Mutex
	who := flavor.Principal{ID: "o", Name: "o", Provider: "p", Regions: []string{"Mordor"}}
	var refused error
	s, url := streamsOf(t, f, streaming{heartbeat: time.Hour, verify: time.Millisecond, write: 10 * time.Second},
		func(c *Config) {
			c.Identity = authenticatorFunc(func(context.Context, identity.Credential) (flavor.Principal, error) {
				mu.Lock()
				defer mu.Unlock()
				return who, refused
			})
		})
	l := following(t, url, "?last_event_id=0")
	l.wants(t, "retry: 3000\nid: 0")
	f.add(theFailed, theDown)
	l.wants(t, `id: 1
event: node.failed
data: {"id":1,"at":"2026-11-26T08:00:01.003Z","type":"node.failed","flavor":"567b200e-0aca-49c4-8b52-6c3c2f0b4d11","name":"insane","region":"Mordor","message":"no"}`,
		strings.ReplaceAll(strings.ReplaceAll(toldDown, "id: 4", "id: 2"), `"id":4`, `"id":2`))
	mu.Lock()
	who.Regions = nil
	mu.Unlock()
	await(t, "the stream is no owner's any more", func() bool {
		f.add(theFailed, thePromoted)
		first := l.next(t)
		if theirs := strings.Contains(first, "node.failed"); theirs {
			l.next(t) // that of the other
			return false
		}
		return strings.Contains(first, "flavor.promoted")
	})
	mu.Lock()
	refused = flavor.Errorf(flavor.CodeUnauthorized, "the token has expired")
	mu.Unlock()
	for l.next(t) != "" { //nolint:revive // what was told before it was refused
	}
	await(t, "its line is in the log", func() bool { return strings.Contains(s.log.String(), "the token has expired") })
	if !strings.Contains(s.log.String(), `"status":200`) {
		t.Errorf("the log tells of another status: %s", s.log.String())
	}
}

// anyUser is who owns nothing, whatever they send.
func anyUser(c *Config) {
	c.Identity = authenticatorFunc(func(context.Context, identity.Credential) (flavor.Principal, error) {
		return flavor.Principal{ID: "u", Name: "u", Provider: "p"}, nil
	})
}

type authenticatorFunc func(context.Context, identity.Credential) (flavor.Principal, error)

func (f authenticatorFunc) Authenticate(ctx context.Context, c identity.Credential) (flavor.Principal, error) {
	return f(ctx, c)
}

// Silence is broken, and moves the place of who is told nothing by a message that no
// client sees, lest it falls behind what is kept.
func TestStreamHeartbeat(t *testing.T) {
	f := newFeed()
	_, url := streamsOf(t, f, streaming{heartbeat: time.Millisecond, verify: time.Hour, write: 10 * time.Second})
	l := following(t, url, "?type=flavor.deleted")
	l.wants(t, "retry: 3000\nid: 0", ":", ":")
	f.add(thePromoted)
	for {
		switch got := l.next(t); got {
		case ":":
			continue
		case ":\nid: 1":
			l.wants(t, ":")
			return
		default:
			t.Fatalf("it tells %q", got)
		}
	}
}

// A client that does not read is cut off when its time is over: nothing is kept for it.
func TestStreamOfASlowReaderIsCutOff(t *testing.T) {
	f := newFeed()
	s, url := streamsOf(t, f, streaming{heartbeat: time.Hour, verify: time.Hour, write: 50 * time.Millisecond})
	conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "GET /v1/events HTTP/1.1\r\nHost: x\r\nX-Auth-Token: good\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	await(t, "it is open", func() bool { return s.Streams() == 1 })
	long := theNode
	long.Name = strings.Repeat("x", 1<<20)
	added := 0
	await(t, "it is cut off", func() bool {
		if added++; added < 64 { // more than any socket's buffers take
			f.add(long)
		}
		return s.Streams() == 0
	})
}

// A shutdown waits for no stream, and a caller has no more than so many.
func TestStreamsEnd(t *testing.T) {
	f := newFeed()
	s := newSetup(t, func(c *Config) { c.Events = f })
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, l) }()
	url := "http://" + l.Addr().String()
	var open []*listener
	for range streamsPerCaller {
		open = append(open, following(t, url, ""))
	}
	if s.Streams() != streamsPerCaller {
		t.Errorf("%d are open", s.Streams())
	}
	r, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, url+"/v1/events", http.NoBody)
	r.Header.Set("X-Auth-Token", "good")
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusTooManyRequests || res.Header.Get("Retry-After") == "" {
		t.Errorf("one more is answered %d, Retry-After %q", res.StatusCode, res.Header.Get("Retry-After"))
	}
	open[0].res.Body.Close()
	await(t, "who has left makes room", func() bool { return s.Streams() < streamsPerCaller })
	cancel()
	if err := <-served; err != nil {
		t.Error(err)
	}
	for _, l := range open[1:] {
		l.wants(t, "retry: 3000\nid: 0", "")
	}
}

// What a stream takes is not the time of a request: the metrics hear when it began.
func TestStreamIsObservedByItsBeginning(t *testing.T) {
	f := newFeed()
	took := make(chan time.Duration, 1)
	_, url := streamsOf(t, f, patient, func(c *Config) {
		c.Observe = func(_, route string, status int, d time.Duration) {
			if route == "/v1/events" && status == 200 {
				took <- d
			}
		}
	})
	begun := time.Now()
	l := following(t, url, "")
	l.wants(t, "retry: 3000\nid: 0")
	head := time.Since(begun)
	for time.Since(begun) < 2*head { // as long again
		f.add(thePromoted)
		l.next(t)
	}
	l.res.Body.Close()
	if d := <-took; d > head {
		t.Errorf("it took %s, and had begun after %s", d, head)
	}
}

// HEAD is answered and ends; what cannot be meant is told before anything else.
func TestEventsQuery(t *testing.T) {
	f := newFeed()
	s := newSetup(t, func(c *Config) { c.Events = f })
	w := s.do(t, "HEAD /v1/events", "")
	wantStatus(t, w, 200)
	if w.Body.Len() > 0 || w.Header().Get("Content-Type") != "text/event-stream" {
		t.Errorf("HEAD: %v, %q", w.Header(), w.Body)
	}
	for query, words := range map[string]string{
		"?type=flavor": "type: ", "?type=flavor.promoted,x": "type: ", "?region=a/b": "region: ", "?last_event_id=x": "last_event_id: ",
		"?last_event_id=-1": "last_event_id: ", "?last_event_id=9223372036854775808": "last_event_id: ", "?type=node.failed&type=node.drifted": "type: ",
	} {
		w := s.do(t, "GET /v1/events"+query, "")
		wantStatus(t, w, 400)
		if !strings.Contains(w.Body.String(), words) {
			t.Errorf("%s: %s", query, w.Body)
		}
	}
	wantStatus(t, s.do(t, "GET /v1/events", "", "Last-Event-ID: x"), 400)
	for _, limit := range []string{"0", "1001", "x"} {
		wantStatus(t, s.do(t, "GET /v1/events?limit="+limit, "", "Accept: application/json"), 400)
	}
	wantStatus(t, s.do(t, "GET /v1/events", "", "anonymous"), 401)
}

// Who would rather ask now and then gets lists, in both formats.
func TestListOfEvents(t *testing.T) {
	f := newFeed()
	f.add(thePromoted, theNode, theFailed, theDown)
	s := newSetup(t, anyUser, func(c *Config) { c.Events = f })
	for query, want := range map[string]string{
		"":                                  `{"events": [` + data(toldPromoted) + `, ` + data(toldNode) + `, ` + data(toldDown) + `], "last_event_id": 4}`,
		"?last_event_id=1&limit=1":          `{"events": [` + data(toldNode) + `], "last_event_id": 2}`,
		"?last_event_id=4":                  `{"events": [], "last_event_id": 4}`,
		"?last_event_id=9":                  `{"events": [], "last_event_id": 4, "lost": true}`,
		"?type=flavor.deleted":              `{"events": [], "last_event_id": 4}`,
		"?last_event_id=2&region=Trento":    `{"events": [` + data(toldDown) + `], "last_event_id": 4}`,
		"?last_event_id=2&type=node.failed": `{"events": [], "last_event_id": 4}`,
	} {
		w := s.do(t, "GET /v1/events"+query, "", "Accept: application/json")
		wantStatus(t, w, 200)
		if w.Body.String() != want {
			t.Errorf("%s:\n%s\nnot\n%s", query, w.Body, want)
		}
	}
	f.drop(3)
	if w := s.do(t, "GET /v1/events?last_event_id=1", "", "Accept: application/json"); w.Body.String() != `{"events": [`+data(toldDown)+`], "last_event_id": 4, "lost": true}` {
		t.Errorf("where some are lost: %s", w.Body)
	}
	w := s.do(t, "GET /v1/events?last_event_id=1&region=Trento", "", "Accept: text/xml")
	wantStatus(t, w, 200)
	var list struct {
		Last   int64 `xml:"last_event_id,attr"`
		Lost   bool  `xml:"lost,attr"`
		Events []struct {
			ID     int64  `xml:"id,attr"`
			Type   string `xml:"type"`
			Region string `xml:"region"`
		} `xml:"event"`
	}
	if err := xml.Unmarshal(w.Body.Bytes(), &list); err != nil || list.Last != 4 || !list.Lost || len(list.Events) != 1 || list.Events[0].Region != "Trento" || list.Events[0].ID != 4 {
		t.Errorf("%v, %+v: %s", err, list, w.Body)
	}
}

func data(message string) string {
	_, text, _ := strings.Cut(message, "data: ")
	return text
}

// What Accept asks for decides; who asks for nothing follows.
func TestStreamOrList(t *testing.T) {
	s := newSetup(t, func(c *Config) { c.Events = newFeed() })
	for accept, want := range map[string]string{
		"": "text/event-stream", "*/*": "text/event-stream", "text/event-stream": "text/event-stream", "text/event-stream, application/json;q=0.5": "text/event-stream",
		"application/json": "application/json", "application/xml": "application/xml", "text/xml": "text/xml", "application/json, text/event-stream;q=0.1": "application/json",
	} {
		w := s.do(t, "HEAD /v1/events", "", "Accept: "+accept)
		wantStatus(t, w, 200)
		if got := w.Header().Get("Content-Type"); !strings.HasPrefix(got, want) {
			t.Errorf("Accept %q: %s", accept, got)
		}
	}
}
