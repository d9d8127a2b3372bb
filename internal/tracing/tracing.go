// Package tracing makes OpenTelemetry traces of what the service does, and sends
// them by OTLP over HTTP to where the operator says. A nil *Tracer makes none and
// costs a comparison.
//
// Spans hold routes, names of regions, words of ours for how something went, and
// request ids: never a path, a query, a header, a body, a value of a statement or a
// text that another server sent.
package tracing

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// Config says where traces go.
type Config struct {
	// Endpoint is the URL of an OTLP receiver, such as http://127.0.0.1:4318: spans
	// are posted to /v1/traces below it. The operator names it, so no rule for
	// calls that others decide about is asked. What the receiver wants in headers
	// OTEL_EXPORTER_OTLP_HEADERS says.
	Endpoint string
	Sample   float64 // how much of all traces is made, from 0 to 1
	Version  string  // of the service
	Log      *slog.Logger
}

// Tracer makes spans. Its methods are safe for concurrent use, block nobody, and do
// nothing where it is nil.
type Tracer struct {
	provider *sdktrace.TracerProvider
	tracer   trace.Tracer
}

// exportTimeout is how long the receiver may take to accept some spans.
const exportTimeout = 10 * time.Second

// New makes the Tracer of a process; nil where no endpoint is configured. It calls
// nobody. Close it.
func New(ctx context.Context, cfg Config) (*Tracer, error) {
	if cfg.Endpoint == "" {
		return nil, nil //nolint:nilnil // a nil Tracer is a good one
	}
	base, err := url.Parse(cfg.Endpoint)
	if err != nil {
		return nil, errors.New("the endpoint of the traces is no URL")
	}
	exporter, err := otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(base.JoinPath("v1", "traces").String()), otlptracehttp.WithTimeout(exportTimeout))
	if err != nil {
		return nil, fmt.Errorf("while preparing to send traces: %w", err)
	}
	about, err := resource.New(ctx,
		resource.WithAttributes(attribute.String("service.name", "flavorsync"), attribute.String("service.version", cfg.Version)),
		resource.WithFromEnv(), // OTEL_RESOURCE_ATTRIBUTES
	)
	if err != nil {
		return nil, fmt.Errorf("while reading OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	patient := &quiet{SpanExporter: exporter, log: cfg.Log, to: base.Host, now: time.Now}
	// The library tells of some failures only here, and of them on stderr otherwise.
	otel.SetErrorHandler(otel.ErrorHandlerFunc(patient.tell))
	provider := sdktrace.NewTracerProvider(
		// Its queue is bounded: what finds it full is dropped.
		sdktrace.WithBatcher(patient),
		sdktrace.WithResource(about),
		sdktrace.WithSampler(share{cfg.Sample, rand.Float64}),
	)
	return &Tracer{provider: provider, tracer: provider.Tracer("github.com/flavorsync/flavorsync")}, nil
}

// Close sends what is left, until ctx ends.
func (t *Tracer) Close(ctx context.Context) error {
	if t == nil {
		return nil
	}
	if err := t.provider.Shutdown(ctx); err != nil {
		return fmt.Errorf("traces are lost: %w", cmp.Or(ctx.Err(), err))
	}
	return nil
}

// Request is what a request came to.
type Request struct {
	Method, Route string // the pattern, "" where none matched
	Status        int
	ID            string // X-Request-Id
	Provider      string // the identity provider that vouches for the caller; "" for nobody
}

// Request begins the span of a request: ctx is the request's from then on, and ended
// is called once, with what it came to. Where the caller sends a traceparent (W3C)
// the span belongs to that trace; whether it is made at all is ours to say, as it
// costs us.
func (t *Tracer) Request(r *http.Request) (ctx context.Context, ended func(Request)) {
	ctx = propagation.TraceContext{}.Extract(r.Context(), propagation.HeaderCarrier(r.Header))
	ctx, span := t.tracer.Start(ctx, "request", trace.WithSpanKind(trace.SpanKindServer))
	return ctx, func(q Request) {
		if span.IsRecording() {
			span.SetName(q.Method + " " + cmp.Or(q.Route, "no route"))
			span.SetAttributes(
				attribute.String("http.request.method", q.Method), attribute.String("http.route", q.Route),
				attribute.Int("http.response.status_code", q.Status), attribute.String("flavorsync.request_id", q.ID),
			)
			if q.Provider != "" {
				span.SetAttributes(attribute.String("flavorsync.identity_provider", q.Provider))
			}
			if q.Status >= http.StatusInternalServerError {
				span.SetStatus(codes.Error, "")
			}
		}
		span.End()
	}
}

// Attribute is one fact about a span.
type Attribute struct{ Key, Value string }

// Step begins the span of something that nobody asked for, which is a trace of its
// own: ctx is the step's from then on, and ended is called once.
func (t *Tracer) Step(ctx context.Context, name string, about ...Attribute) (_ context.Context, ended func(failed bool)) {
	attributes := make([]attribute.KeyValue, len(about))
	for i, a := range about {
		attributes[i] = attribute.String(a.Key, a.Value)
	}
	ctx, span := t.tracer.Start(ctx, name, trace.WithNewRoot(), trace.WithAttributes(attributes...))
	return ctx, func(failed bool) {
		if failed {
			span.SetStatus(codes.Error, "")
		}
		span.End()
	}
}

// Done makes the span of something that was done under ctx and has ended. What
// belongs to no trace has none.
func (t *Tracer) Done(ctx context.Context, name string, started time.Time, took time.Duration, failed bool, about ...Attribute) {
	if t == nil || !trace.SpanContextFromContext(ctx).IsSampled() {
		return
	}
	attributes := make([]attribute.KeyValue, len(about))
	for i, a := range about {
		attributes[i] = attribute.String(a.Key, a.Value)
	}
	_, span := t.tracer.Start(ctx, name, trace.WithTimestamp(started), trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(attributes...))
	if failed {
		span.SetStatus(codes.Error, "")
	}
	span.End(trace.WithTimestamp(started.Add(took)))
}

// share samples a share of all traces. It decides by chance, not by the trace's id
// and not by the flag that came with it: callers choose both, and would choose that
// all of theirs are made. What is within a span of ours goes with that.
type share struct {
	of     float64
	chance func() float64 // from 0 to below 1
}

// ShouldSample is sdktrace.Sampler's.
func (s share) ShouldSample(p sdktrace.SamplingParameters) sdktrace.SamplingResult {
	parent := trace.SpanContextFromContext(p.ParentContext)
	sampled := parent.IsSampled()
	if !parent.IsValid() || parent.IsRemote() {
		sampled = s.chance() < s.of
	}
	if sampled {
		return sdktrace.SamplingResult{Decision: sdktrace.RecordAndSample}
	}
	return sdktrace.SamplingResult{Decision: sdktrace.Drop}
}

// Description is sdktrace.Sampler's.
func (s share) Description() string { return fmt.Sprintf("a share of %g", s.of) }

// quiet is an exporter that fails without a line for each attempt.
type quiet struct {
	sdktrace.SpanExporter
	log *slog.Logger
	to  string // host
	now func() time.Time

	mu   sync.Mutex
	told time.Time
}

// tellEvery is how often it is told that traces are lost.
const tellEvery = time.Minute

// ExportSpans is sdktrace.SpanExporter's.
func (q *quiet) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	if err := q.SpanExporter.ExportSpans(ctx, spans); err != nil {
		q.tell(err)
	}
	return nil
}

// tell logs that spans are lost, without what the receiver says of it.
func (q *quiet) tell(err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := q.now()
	if !q.told.IsZero() && now.Sub(q.told) < tellEvery {
		return
	}
	q.told = now
	why := "it does not accept them"
	if broken, ok := errors.AsType[*net.OpError](err); ok {
		why = broken.Err.Error()
	} else if errors.Is(err, context.DeadlineExceeded) {
		why = "it does not answer in time"
	}
	q.log.Warn("traces are lost: check tracing.otlp_endpoint", "receiver", q.to, "error", why)
}
