package main

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/flavorsync/flavorsync/internal/httpapi"
	"github.com/flavorsync/flavorsync/internal/identity"
	"github.com/flavorsync/flavorsync/internal/openstack"
	"github.com/flavorsync/flavorsync/internal/store"
	"github.com/flavorsync/flavorsync/internal/tracing"
)

// watching makes metrics, and traces where they are configured, of what the packages
// tell their observers.
type watching struct {
	*metrics
	traces *tracing.Tracer
}

func (w watching) regionCall(ctx context.Context, c openstack.Call) {
	w.metrics.regionCall(c)
	if w.traces != nil {
		w.traces.Done(ctx, c.Name, c.Started, c.Took, c.Outcome != "ok",
			tracing.Attribute{Key: "flavorsync.region", Value: c.Region}, tracing.Attribute{Key: "flavorsync.service", Value: c.Service},
			tracing.Attribute{Key: "flavorsync.outcome", Value: c.Outcome})
	}
}

func (w watching) identityCall(ctx context.Context, c identity.Call) {
	w.metrics.identityCall(c)
	if w.traces != nil {
		w.traces.Done(ctx, "ask identity provider", c.Started, c.Took, c.Outcome == "unavailable",
			tracing.Attribute{Key: "flavorsync.identity_provider", Value: c.Provider}, tracing.Attribute{Key: "flavorsync.outcome", Value: c.Outcome})
	}
}

func (w watching) transaction(ctx context.Context, tx store.Transaction) {
	w.metrics.transaction(tx)
	if w.traces != nil {
		outcome := outcomeOf(tx)
		w.traces.Done(ctx, kindOf(tx)+" transaction", tx.Started, tx.Took, outcome == "failed",
			tracing.Attribute{Key: "flavorsync.outcome", Value: outcome}, tracing.Attribute{Key: "flavorsync.attempts", Value: strconv.Itoa(tx.Attempts)})
	}
}

// span is httpapi.Config.Span; nil where no traces are made.
func (w watching) span() func(*http.Request) (context.Context, func(httpapi.Answered)) {
	if w.traces == nil {
		return nil
	}
	return func(r *http.Request) (context.Context, func(httpapi.Answered)) {
		ctx, ended := w.traces.Request(r)
		return ctx, func(a httpapi.Answered) {
			ended(tracing.Request{Method: methodOf(a.Method), Route: a.Route, Status: a.Status, ID: a.RequestID, Provider: a.Provider})
		}
	}
}

// step is reconcile.Config.Step; nil where no traces are made.
func (w watching) step() func(ctx context.Context, doing, region string) (context.Context, func(error)) {
	if w.traces == nil {
		return nil
	}
	return func(ctx context.Context, doing, region string) (context.Context, func(error)) {
		ctx, ended := w.traces.Step(ctx, doing, tracing.Attribute{Key: "flavorsync.region", Value: region})
		return ctx, func(err error) { ended(err != nil) }
	}
}

// close sends the traces that are left, for 5 s at most.
func (w watching) close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	return w.traces.Close(ctx)
}

// methodOf is method where it is one of ours: a client may send anything as one.
func methodOf(method string) string {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodOptions:
		return method
	}
	return "other"
}
