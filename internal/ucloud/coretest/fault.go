package coretest

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
)

// Kind is what goes wrong.
type Kind string

// The kinds of faults. Where it is not said otherwise the request has no effect.
const (
	Answer    Kind = ""          // Status, with Why as JSON
	HTML      Kind = "html"      // 200, or Status, with a web page
	Nonsense  Kind = "json"      // 200 with JSON of another kind
	Empty     Kind = "empty"     // 200 with no body
	Half      Kind = "half"      // done, but the answer ends in the middle of its JSON
	Cut       Kind = "cut"       // done, but the connection breaks after half of the answer
	Lost      Kind = "lost"      // done, but the connection breaks before the answer
	Refuse    Kind = "refuse"    // the connection breaks before anything is done
	Garbage   Kind = "garbage"   // no HTTP, but the Authorization header back
	Huge      Kind = "huge"      // 200 with an object of nine MiB
	Elsewhere Kind = "elsewhere" // 302 to Why
	SamePage  Kind = "same-page" // a browse: the first page, and a next that leads to it
	Hang      Kind = "hang"      // no answer until the client goes or the fault is cancelled
	Serve     Kind = "serve"     // nothing but Before
)

// Fault is an order to fail.
type Fault struct {
	Kind         Kind
	Method, Path string // "": any; the path is a whole one
	Status       int
	Why          string
	RetryAfter   string
	After, Times int    // so many matching requests are served first; 0: strikes until it is cancelled
	Before       func() // is run first
}

type order struct {
	Fault
	skip, left int
	cancelled  chan struct{}
}

// Fault orders the Core to fail. Of several that match a request the oldest
// strikes.
func (c *Core) Fault(f Fault) (cancel func()) {
	o := &order{Fault: f, skip: f.After, left: f.Times, cancelled: make(chan struct{})}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.faults = append(c.faults, o)
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if i := slices.Index(c.faults, o); i >= 0 {
			c.faults = slices.Delete(c.faults, i, i+1)
		}
		select {
		case <-o.cancelled:
		default:
			close(o.cancelled)
		}
	}
}

// strike is the fault that r meets, nil for none.
func (c *Core) strike(r *http.Request) *order {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, o := range c.faults {
		if o.Method != "" && o.Method != r.Method || o.Path != "" && o.Path != r.URL.Path {
			continue
		}
		if o.skip > 0 {
			o.skip--
			continue
		}
		if o.left > 0 {
			if o.left--; o.left == 0 {
				c.faults = slices.Delete(c.faults, i, i+1)
			}
		}
		return o
	}
	return nil
}

// answer routes r, or does what a fault orders.
func (c *Core) answer(w http.ResponseWriter, r *http.Request, body []byte) {
	f := c.strike(r)
	if f == nil {
		c.route(w, r, body)
		return
	}
	if f.Before != nil {
		f.Before()
	}
	switch f.Kind {
	case Answer:
		if f.RetryAfter != "" {
			w.Header().Set("Retry-After", f.RetryAfter)
		}
		c.refuse(w, f.Status, cmp.Or(f.Why, "ordered by a test"))
	case HTML:
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.WriteHeader(cmp.Or(f.Status, http.StatusOK))
		io.WriteString(w, "<!doctype html>\n<html><head><title>Bad gateway</title></head><body><h1>"+f.Why+"</h1></body></html>\n")
	case Nonsense:
		writeJSON(w, http.StatusOK, map[string]int{"hello": 1})
	case Empty:
		w.WriteHeader(http.StatusOK)
	case Huge:
		writeJSON(w, http.StatusOK, map[string]any{"items": []int{}, "next": nil, "padding": strings.Repeat("x", 9<<20)})
	case Elsewhere:
		w.Header().Set("Location", f.Why)
		w.WriteHeader(http.StatusFound)
	case Half, Cut, Lost, SamePage:
		c.spoil(w, r, body, f.Kind)
	case Garbage:
		garbage(w, r)
	case Hang:
		select {
		case <-r.Context().Done():
			breakOff()
		case <-f.cancelled:
			c.route(w, r, body)
		}
	case Serve:
		c.route(w, r, body)
	default: // Refuse
		breakOff()
	}
}

// spoil does what r asks, and answers badly.
func (c *Core) spoil(w http.ResponseWriter, r *http.Request, body []byte, kind Kind) {
	if kind == SamePage {
		query := r.URL.Query()
		query.Del("next")
		r.URL.RawQuery = query.Encode()
	}
	done := httptest.NewRecorder()
	c.route(done, r, body)
	if kind == Lost {
		breakOff()
	}
	answer := done.Body.Bytes()
	if kind == SamePage {
		var page map[string]json.RawMessage
		if json.Unmarshal(answer, &page) == nil {
			page["next"] = json.RawMessage(`"aau@a@a"`)
		}
		writeJSON(w, done.Code, page)
		return
	}
	maps.Copy(w.Header(), done.Header())
	if kind == Cut {
		w.Header().Set("Content-Length", strconv.Itoa(max(len(answer), 2)))
	}
	w.WriteHeader(done.Code)
	w.Write(answer[:len(answer)/2])
	if kind == Cut {
		_ = http.NewResponseController(w).Flush() // the connection breaks now anyhow
		breakOff()
	}
}

// breakOff ends the connection.
func breakOff() { panic(http.ErrAbortHandler) }

func garbage(w http.ResponseWriter, r *http.Request) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		breakOff()
	}
	defer conn.Close()
	fmt.Fprintf(conn, "%s\r\n\r\n", r.Header.Get("Authorization"))
}
