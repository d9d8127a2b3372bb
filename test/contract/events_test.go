package contract_test

import (
	"bufio"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
)

// happened is one event; what is absent is zero.
type happened struct {
	ID      int64  `json:"id" xml:"id,attr"`
	At      string `json:"at" xml:"at"`
	Type    string `json:"type" xml:"type"`
	Flavor  string `json:"flavor" xml:"flavor"`
	Name    string `json:"name" xml:"name"`
	Region  string `json:"region" xml:"region"`
	Created *bool  `json:"created" xml:"created"`
	Message string `json:"message" xml:"message"`
}

func (h happened) String() string { return strings.Join(strings.Fields(h.Type+" "+h.Region), " ") }

// eventList is what GET /v1/events answers to who asks for JSON or XML.
type eventList struct {
	Events []happened `json:"events" xml:"event"`
	Last   int64      `json:"last_event_id" xml:"last_event_id,attr"`
	Lost   bool       `json:"lost" xml:"lost,attr"`
}

func (a *answer) events(t *testing.T) (list eventList) {
	t.Helper()
	var err error
	if a.isXML(t) {
		err = xml.Unmarshal(a.body, &list)
	} else {
		err = json.Unmarshal(a.body, &list)
	}
	if err != nil {
		t.Fatalf("%v: %s", err, a)
	}
	return list
}

// A follower reads the stream as a browser does, and knows nothing of events.
type follower struct {
	id    string // the last event's, as the stream told
	lines *bufio.Reader
	end   func()
}

// follow opens a stream behind the event with that id; "" is none.
func (c client) follow(t *testing.T, id string) *follower {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.pr.url+"/v1/events", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	maps.Copy(req.Header, c.caller.header)
	req.Header.Set("Accept", "text/event-stream")
	if id != "" {
		req.Header.Set("Last-Event-ID", id)
	}
	resp, err := (&http.Client{}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	if mediaType := resp.Header.Get("Content-Type"); resp.StatusCode != http.StatusOK || mediaType != "text/event-stream" {
		t.Fatalf("GET /v1/events: %d, %s", resp.StatusCode, mediaType)
	}
	f := &follower{id: id, lines: bufio.NewReader(resp.Body), end: cancel}
	for f.id == "" { // where it begins
		if _, _, err := f.message(); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

// message is what the stream dispatches next, or "" where a block of lines is none.
func (f *follower) message() (kind, data string, err error) {
	for {
		line, err := f.lines.ReadString('\n')
		if err != nil {
			return "", "", err
		}
		field, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ":")
		value = strings.TrimPrefix(value, " ")
		switch field {
		case "id":
			f.id = value
		case "event":
			kind = value
		case "data":
			data += value
		case "":
			if value == "" && line == "\n" {
				return kind, data, nil
			}
		}
	}
}

// next is the next event of that flavor, or of any where the name is "".
func (f *follower) next(t *testing.T, name string) (got happened) {
	t.Helper()
	for {
		kind, data, err := f.message()
		if err != nil {
			t.Fatalf("the stream broke off: %v", err)
		}
		if data == "" {
			continue
		}
		got = happened{}
		if err := json.Unmarshal([]byte(data), &got); err != nil || got.Type != kind {
			t.Fatalf("%v: event %s, data %s", err, kind, data)
		}
		if name == "" || got.Name == name {
			return got
		}
	}
}

// events: what happens is told in order, once, to whoever may know it.
func events(t *testing.T, s *setup) {
	t.Run("a stream tells what happens, and goes on where it was without loss or repetition", func(t *testing.T) {
		c := extra(t, "seen")
		c.register(t, s, s.product)
		region, name := c.regions[0], unique()("told")
		manager := s.product.as(s.manager)
		whole := s.product.as(s.user).follow(t, "")
		broken := s.product.as(s.user).follow(t, whole.id)
		made := manager.post(t, "/promotedflavors", sized(name)).want(t, 201).flavor(t)
		manager.put(t, "/flavors/"+made.ID, flavorOf("nodes", []string{region})).want(t, 200)
		manager.put(t, "/promotedflavors/"+made.ID, flavorOf("description", "told")).want(t, 200)
		manager.delete(t, "/promotedflavors/"+made.ID, query("uninstall", "true")).want(t, 204)
		var got []string
		for range 6 {
			e := whole.next(t, name)
			if e.Flavor != made.ID || (e.Created != nil) != (e.Type == "node.installed") || e.Created != nil && !*e.Created {
				t.Errorf("%+v", e)
			}
			got = append(got, e.String())
			// The other one is cut off after each, and comes back.
			again := broken.next(t, name)
			if again.ID != e.ID {
				t.Errorf("who comes back gets event %d, not %d", again.ID, e.ID)
			}
			broken.end()
			broken = s.product.as(s.user).follow(t, broken.id)
		}
		want := []string{"flavor.published", "flavor.promoted", "node.installed " + region, "flavor.changed", "node.removed " + region, "flavor.deleted"}
		if !slices.Equal(got, want) {
			t.Errorf("it tells %q, not %q", got, want)
		}
	})

	t.Run("a region that goes down is everybody's news, and why its owners' and managers'", func(t *testing.T) {
		c := extra(t, "down")
		region := c.regions[0]
		manager := s.product.as(s.manager)
		manager.post(t, "/infrastructures", c.infrastructure(region).and("keystone_url", closedPort(t)+"/v3")).want(t, 201)
		owner := s.product.as(s.owner(region))
		eventually(t, "it is seen to be down", func() bool {
			manager.get(t, "/flavors", fresh).wantOneOf(t, 200, 502)
			return manager.get(t, "/infrastructures/"+region).want(t, 200).infrastructure(t).Status.State == "unreachable"
		})
		for _, f := range formats {
			for _, row := range []struct {
				who  client
				told bool
			}{{owner, true}, {manager, true}, {s.product.as(s.user), false}} {
				list := row.who.get(t, "/events", query("region", region), query("last_event_id", "0"), in(f)).want(t, 200).events(t)
				if len(list.Events) != 2 || list.Events[0].String() != "region.registered "+region || list.Events[1].String() != "region.down "+region {
					t.Fatalf("%s is told %v", row.who.caller.name, list.Events)
				}
				if told := list.Events[1].Message != ""; told != row.told {
					t.Errorf("%s is told why: %q", row.who.caller.name, list.Events[1].Message)
				}
				if next := row.who.get(t, "/events", query("region", region), query("type", "region.down"), query("limit", "1"), in(f)).want(t, 200).events(t); len(next.Events) != 1 {
					t.Errorf("%+v", next)
				}
			}
			manager.get(t, "/events", query("type", "no.such"), in(f)).want(t, 400)
		}
		manager.delete(t, "/infrastructures/"+region, query("force", "true")).want(t, 204)
	})

	if s.real {
		return // what follows depends on no cloud
	}

	t.Run("a stream ends with the service, and goes on after a restart", func(t *testing.T) {
		pr := s.serve(t)
		n := unique()
		f := pr.as(s.manager).follow(t, "")
		pr.as(s.manager).post(t, "/promotedflavors", sized(n("before"))).want(t, 201)
		for _, want := range []string{"flavor.published", "flavor.promoted"} {
			if e := f.next(t, n("before")); e.String() != want {
				t.Errorf("it tells %+v, not %s", e, want)
			}
		}
		pr.terminate(t) // which waits for no stream
		for {
			if _, _, err := f.message(); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("it does not end well: %v", err)
			}
		}
		pr.run(t)
		pr.as(s.manager).post(t, "/promotedflavors", sized(n("after"))).want(t, 201)
		f = pr.as(s.manager).follow(t, f.id)
		if e := f.next(t, ""); e.String() != "flavor.published" || e.Name != n("after") {
			t.Errorf("it goes on with %+v", e)
		}
	})

	if s.database == "mysql" {
		t.Run("replicas tell of what the others do", func(t *testing.T) {
			one := s.serve(t)
			other := &product{command: one.command, config: one.config, database: one.database, log: newLogBuffer()}
			other.run(t)
			t.Cleanup(func() { other.terminate(t) })
			here, there := one.as(s.user).follow(t, ""), other.as(s.user).follow(t, "")
			n := unique()
			names := make([]string, 20)
			var working sync.WaitGroup
			for i := range names {
				pr := []*product{one, other}[i%2]
				names[i] = n(string(rune('a' + i)))
				working.Go(func() { pr.as(s.manager).post(t, "/promotedflavors", sized(names[i])) })
			}
			working.Wait()
			var last happened
			for range 2 * len(names) {
				a, b := here.next(t, ""), there.next(t, "")
				if a != b {
					t.Fatalf("one tells %+v, the other %+v", a, b)
				}
				if last.ID != 0 && a.ID != last.ID+1 {
					t.Errorf("behind %d comes %d", last.ID, a.ID)
				}
				last = a
			}
			// Whoever was at one goes on at the other.
			one.as(s.manager).post(t, "/promotedflavors", sized(n("more"))).want(t, 201)
			if e := other.as(s.user).follow(t, here.id).next(t, ""); e.Name != n("more") || e.ID != last.ID+1 {
				t.Errorf("it goes on with %+v", e)
			}
		})
	}

	t.Run("a webhook is told everything in order, though it fails and the service is killed", func(t *testing.T) {
		r := newHook(t)
		pr := s.serve(t, with("webhooks", []any{map[string]any{"name": "hook", "url": r.url, "secret": r.secret, "types": []string{"flavor.promoted"}}}))
		n := unique()
		var want []string
		promote := func(word string) {
			want = append(want, n(word))
			pr.as(s.manager).post(t, "/promotedflavors", sized(n(word))).want(t, 201)
		}
		// It begins with what comes when it is known: promote until the first arrives.
		r.fail(true)
		eventually(t, "it is called", func() bool {
			if r.calls() == 0 {
				pr.as(s.manager).post(t, "/promotedflavors", sized(unique()("first"))).want(t, 201)
			}
			return r.calls() > 0
		})
		for _, word := range []string{"a", "b", "c"} {
			promote(word)
		}
		pr.kill(t)
		r.fail(false)
		pr.run(t)
		promote("d")
		eventually(t, "it is told the last of the first", func() bool { return r.last() == n("d") })
		// Killed while it is told: what was not noted is told again.
		r.whenCalled(func() { pr.process.cmd.Process.Kill() })
		want = append(want, n("e"))
		if a, err := pr.as(s.manager).try(t, http.MethodPost, "/promotedflavors", sized(n("e"))); err == nil { // else it was killed before its answer
			a.want(t, 201)
		}
		<-pr.process.exited
		r.whenCalled(nil)
		pr.run(t)
		promote("f")
		eventually(t, "it is told the last of all", func() bool { return r.last() == n("f") })
		got := slices.DeleteFunc(r.names(), func(name string) bool { return !strings.HasPrefix(name, n("")) })
		if !slices.Equal(slices.Compact(got), want) {
			t.Errorf("it is told %q, not %q", got, want)
		}
	})
}

// A hook takes a webhook's calls, and verifies them by the algorithm that the
// Standard Webhooks specification tells receivers.
type hook struct {
	t      *testing.T
	url    string
	secret string
	mu     sync.Mutex
	failed bool
	called func()
	count  int
	taken  []string            // the flavors' names
	ids    map[string]happened // of the messages
}

func newHook(t *testing.T) *hook {
	t.Helper()
	raw := secret("webhook key of more than 24 bytes")
	encoded := base64.StdEncoding.EncodeToString([]byte(raw))
	secrets.add(encoded)
	r := &hook{t: t, secret: "whsec_" + encoded, ids: map[string]happened{}}
	server := httptest.NewServer(r)
	t.Cleanup(server.Close)
	r.url = server.URL
	return r
}

func (r *hook) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return // whoever called was killed
	}
	key, _ := base64.StdEncoding.DecodeString(strings.TrimPrefix(r.secret, "whsec_"))
	id := req.Header.Get("webhook-id")
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(id + "." + req.Header.Get("webhook-timestamp") + "." + string(body)))
	good := slices.ContainsFunc(strings.Fields(req.Header.Get("webhook-signature")), func(signature string) bool {
		version, encoded, _ := strings.Cut(signature, ",")
		sum, err := base64.StdEncoding.DecodeString(encoded)
		return version == "v1" && err == nil && hmac.Equal(sum, mac.Sum(nil))
	})
	var message struct {
		Type, Timestamp string
		Data            happened
	}
	if err := json.Unmarshal(body, &message); err != nil || !good || message.Type != "flavor.promoted" || message.Timestamp != message.Data.At {
		r.t.Errorf("signed well: %t, %v: %s", good, err, body)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if known, again := r.ids[id]; again && known != message.Data || id == "" {
		r.t.Errorf("the id %q is of %+v and of %+v", id, known, message.Data)
	}
	r.ids[id] = message.Data
	r.count++
	if r.failed {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	r.taken = append(r.taken, message.Data.Name)
	if r.called != nil {
		r.called()
	}
}

func (r *hook) fail(failed bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failed = failed
}

func (r *hook) whenCalled(do func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.called = do
}

func (r *hook) calls() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.count
}

func (r *hook) names() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.taken)
}

func (r *hook) last() string {
	if names := r.names(); len(names) > 0 {
		return names[len(names)-1]
	}
	return ""
}
