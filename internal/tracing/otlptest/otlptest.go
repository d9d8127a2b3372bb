// Package otlptest is a receiver of OTLP over HTTP that keeps what it gets. It is
// for tests.
package otlptest

import (
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"sync"
	"testing"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	"google.golang.org/protobuf/proto"
)

// Receiver is one that listens.
type Receiver struct {
	URL string

	mu    sync.Mutex
	spans []Span
	raw   []byte
}

// Span is one that came.
type Span struct {
	Name              string
	Trace, ID, Parent string // the raw bytes
	Failed            bool
	Attributes        map[string]string // of texts and whole numbers
}

// Start starts a receiver for as long as the test runs. It answers what answer says,
// and keeps the spans where that is nil.
func Start(t testing.TB, answer http.HandlerFunc) *Receiver {
	t.Helper()
	r := new(Receiver)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if answer != nil {
			answer(w, req)
			return
		}
		body, err := io.ReadAll(req.Body)
		var sent collector.ExportTraceServiceRequest
		if err != nil || req.URL.Path != "/v1/traces" || req.Header.Get("Content-Type") != "application/x-protobuf" || proto.Unmarshal(body, &sent) != nil {
			t.Errorf("%s %s is no OTLP: %v", req.Method, req.URL, err)
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		r.keep(&sent, body)
		w.Header().Set("Content-Type", "application/x-protobuf")
	}))
	t.Cleanup(server.Close)
	r.URL = server.URL
	return r
}

func (r *Receiver) keep(sent *collector.ExportTraceServiceRequest, body []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.raw = append(r.raw, body...)
	for _, of := range sent.GetResourceSpans() {
		about := attributes(of.GetResource().GetAttributes())
		for _, scope := range of.GetScopeSpans() {
			for _, s := range scope.GetSpans() {
				span := Span{
					Name: s.GetName(), Trace: string(s.GetTraceId()), ID: string(s.GetSpanId()), Parent: string(s.GetParentSpanId()),
					Failed: s.GetStatus().GetCode() == 2, Attributes: attributes(s.GetAttributes()),
				}
				span.Attributes["service.name"] = about["service.name"]
				r.spans = append(r.spans, span)
			}
		}
	}
}

func attributes(all []*common.KeyValue) map[string]string {
	m := map[string]string{}
	for _, a := range all {
		switch v := a.GetValue().GetValue().(type) {
		case *common.AnyValue_StringValue:
			m[a.GetKey()] = v.StringValue
		case *common.AnyValue_IntValue:
			m[a.GetKey()] = strconv.FormatInt(v.IntValue, 10)
		}
	}
	return m
}

// Spans are those that came so far.
func (r *Receiver) Spans() []Span {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.spans)
}

// Raw is all that came, to be searched for what must not be there.
func (r *Receiver) Raw() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return string(r.raw)
}
