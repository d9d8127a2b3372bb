package openstack

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"sync"
)

// Trace collects the request ids that Keystone and Nova gave to the calls made
// under one context, so that our log can be laid beside theirs.
type Trace struct {
	mu  sync.Mutex
	ids []string
}

type traceKey struct{}

// A trace keeps at most this many ids: a listing of many regions is many calls.
const maxTraced = 64

// WithTrace is ctx with a Trace that every call under it reports to.
func WithTrace(ctx context.Context) (context.Context, *Trace) {
	t := new(Trace)
	return context.WithValue(ctx, traceKey{}, t), t
}

// RequestIDs are the ids collected so far, in the order of the answers.
func (t *Trace) RequestIDs() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.ids)
}

// note puts an answer's request id into the trace of ctx, if there is one.
func note(ctx context.Context, header http.Header) {
	t, ok := ctx.Value(traceKey{}).(*Trace)
	if !ok {
		return
	}
	id := header.Get("X-Openstack-Request-Id")
	if id == "" {
		id = header.Get("X-Compute-Request-Id")
	}
	if !wellFormedRequestID(id) {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.ids) < maxTraced && !slices.Contains(t.ids, id) {
		t.ids = append(t.ids, id)
	}
}

// wellFormedRequestID keeps foreign bytes out of our log: OpenStack's ids are
// "req-" and a UUID.
func wellFormedRequestID(id string) bool {
	return id != "" && len(id) <= 64 && strings.Trim(id, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-") == ""
}
