package tracing

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/flavorsync/flavorsync/internal/tracing/otlptest"
)

func start(t *testing.T, endpoint string, sample float64, log *slog.Logger) *Tracer {
	t.Helper()
	tracer, err := New(t.Context(), Config{Endpoint: endpoint, Sample: sample, Version: "v1", Log: log})
	if err != nil {
		t.Fatal(err)
	}
	return tracer
}

// request is one with what must not get into a trace.
func request(traceparent string) *http.Request {
	r := httptest.NewRequest(http.MethodGet, "/v1/flavors/s3cret?access_token=s3cret", nil)
	r.Header.Set("X-Auth-Token", "s3cret")
	r.Header.Set("Baggage", "s3cret=s3cret")
	if traceparent != "" {
		r.Header.Set("Traceparent", traceparent)
		r.Header.Set("Tracestate", "s3cret=s3cret")
	}
	return r
}

const theirTrace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-"

// Whoever looks for why a request took long sees what it asked, in the trace that
// the caller began, and nothing that is secret.
func TestSpans(t *testing.T) {
	received := otlptest.Start(t, nil)
	tracer := start(t, received.URL+"/", 1, slog.New(slog.DiscardHandler))
	tracer.Done(t.Context(), "alone", time.Now(), time.Second, false) // of no request

	// The caller's wish not to be sampled is not asked.
	ctx, ended := tracer.Request(request(theirTrace + "00"))
	tracer.Done(ctx, "list_flavors", time.Now(), time.Second, true, Attribute{"flavorsync.region", "Trento"})
	ended(Request{Method: "GET", Route: "/v1/flavors/{id}", Status: 502, ID: "req-1", Provider: "keyrock"})
	_, ended = tracer.Request(request(""))
	ended(Request{Method: "GET", Status: 404, ID: "req-2"})
	if err := tracer.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	spans := received.Spans()
	if len(spans) != 3 {
		t.Fatalf("%d spans, not 3: %+v", len(spans), spans)
	}
	call, whole, other := spans[0], spans[1], spans[2]
	if call.Name != "list_flavors" || !call.Failed || call.Parent != whole.ID || call.Attributes["flavorsync.region"] != "Trento" {
		t.Errorf("the call: %+v", call)
	}
	if !strings.HasPrefix(whole.Trace, "\x0a\xf7\x65") || whole.Trace != call.Trace || !strings.HasPrefix(whole.Parent, "\xb7\xad") {
		t.Errorf("the request is not in its caller's trace: %+v", whole)
	}
	want := map[string]string{
		"http.request.method": "GET", "http.route": "/v1/flavors/{id}", "http.response.status_code": "502",
		"flavorsync.request_id": "req-1", "flavorsync.identity_provider": "keyrock", "service.name": "flavorsync",
	}
	if diff := cmp.Diff(want, whole.Attributes); diff != "" || whole.Name != "GET /v1/flavors/{id}" || !whole.Failed {
		t.Errorf("the request: %q, %t, %s", whole.Name, whole.Failed, diff)
	}
	if other.Name != "GET no route" || other.Failed || other.Trace == whole.Trace || other.Parent != "" {
		t.Errorf("the other request: %+v", other)
	}
	if strings.Contains(received.Raw(), "s3cret") {
		t.Error("a secret is in the traces")
	}
}

// A caller decides neither that its requests are traced nor that they are not, and
// what is not traced is so as a whole.
func TestSample(t *testing.T) {
	for _, c := range []struct {
		sample float64
		want   int
	}{{0, 0}, {1, 4}} {
		received := otlptest.Start(t, nil)
		tracer := start(t, received.URL, c.sample, slog.New(slog.DiscardHandler))
		for _, flag := range []string{"00", "01"} {
			ctx, ended := tracer.Request(request(theirTrace + flag))
			tracer.Done(ctx, "call", time.Now(), time.Second, false)
			ended(Request{Method: "GET"})
		}
		if err := tracer.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := len(received.Spans()); n != c.want {
			t.Errorf("with %g there are %d spans, not %d", c.sample, n, c.want)
		}
	}
	kept, chance := 0, 0.0
	quarter := share{of: 0.25, chance: func() float64 { return chance }}
	for range 10 {
		if quarter.ShouldSample(sdktrace.SamplingParameters{ParentContext: t.Context()}).Decision == sdktrace.RecordAndSample {
			kept++
		}
		chance += 0.1
	}
	if kept != 3 {
		t.Errorf("of 10 requests a quarter is %d", kept)
	}
}

// lines is a log that is read while it is written.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(line)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// A receiver that is down, hangs or refuses holds up nobody, neither while the
// service runs nor at its end, and does not fill the log. What it says stays out of
// the log.
func TestAReceiverThatFails(t *testing.T) {
	hung := make(chan struct{})
	defer close(hung)
	gone := httptest.NewServer(nil)
	gone.Close()
	for name, endpoint := range map[string]string{
		"down": gone.URL,
		"hangs": otlptest.Start(t, func(_ http.ResponseWriter, r *http.Request) {
			select {
			case <-r.Context().Done():
			case <-hung:
			}
		}).URL,
		"refuses": otlptest.Start(t, func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "c4n4ry", http.StatusForbidden) }).URL,
	} {
		t.Run(name, func(t *testing.T) {
			logged := new(lines)
			tracer := start(t, endpoint, 1, slog.New(slog.NewJSONHandler(logged, nil)))
			began := time.Now()
			for range 3000 { // more spans than the queue takes
				ctx, ended := tracer.Request(request(""))
				tracer.Done(ctx, "call", time.Now(), time.Second, false)
				ended(Request{Method: "GET"})
			}
			if took := time.Since(began); took > 5*time.Second {
				t.Errorf("3,000 requests waited %s for the traces", took)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			defer cancel()
			began = time.Now()
			_ = tracer.Close(ctx)
			if took := time.Since(began); took > 2*time.Second {
				t.Errorf("the end waited %s for the traces", took)
			}
			if n := strings.Count(logged.String(), "\n"); n > 1 {
				t.Errorf("%d lines in the log: %s", n, logged.String())
			}
			if strings.Contains(logged.String(), "c4n4ry") {
				t.Errorf("the log repeats the receiver: %s", logged.String())
			}
		})
	}
}

// It is there where it is configured, and only there.
func TestNoEndpoint(t *testing.T) {
	tracer, err := New(t.Context(), Config{})
	if tracer != nil || err != nil {
		t.Errorf("%v, %v", tracer, err)
	}
	tracer.Done(t.Context(), "call", time.Now(), time.Second, false)
	if err := tracer.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if n := testing.AllocsPerRun(100, func() { tracer.Done(context.Background(), "call", time.Time{}, 0, false) }); n != 0 {
		t.Errorf("without an endpoint it allocates %g times", n)
	}
}
