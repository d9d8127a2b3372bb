package main

import (
	"context"
	"errors"
	"runtime"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/flavorsync/flavorsync/internal/flavor"
	"github.com/flavorsync/flavorsync/internal/identity"
	"github.com/flavorsync/flavorsync/internal/openstack"
	"github.com/flavorsync/flavorsync/internal/store"
)

// metrics are what /metrics shows.
type metrics struct {
	registry *prometheus.Registry
	requests *prometheus.HistogramVec

	regionCalls    *prometheus.CounterVec
	regionCallTook *prometheus.HistogramVec
	identityCalls  *prometheus.HistogramVec
	transactions   *prometheus.HistogramVec
	retries        *prometheus.CounterVec
	webhooks       *prometheus.HistogramVec
}

func newMetrics() *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "flavorsync_http_request_duration_seconds",
			Help:    "How long requests to the HTTP API took, by route and status.",
			Buckets: []float64{.001, .005, .01, .05, .1, .5, 1, 5, 10, 30},
		}, []string{"method", "route", "status"}),
		// Regions are many, so only this has a series for each.
		regionCalls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "flavorsync_region_calls_total",
			Help: "Calls to the Keystone and the Nova of a region, by what was asked and how it went; region is empty where the federation's Keystone was asked who a caller is.",
		}, []string{"region", "call", "outcome"}),
		regionCallTook: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "flavorsync_region_call_duration_seconds",
			Help:    "How long calls to regions took, the wait for a slot included, by what was asked and how it went.",
			Buckets: []float64{.01, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
		}, []string{"call", "outcome"}),
		identityCalls: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "flavorsync_identity_call_duration_seconds",
			Help:    "How long questions to identity providers took, by provider and how it went. What is remembered is not asked.",
			Buckets: []float64{.005, .01, .05, .1, .5, 1, 5},
		}, []string{"provider", "outcome"}),
		transactions: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "flavorsync_database_transaction_duration_seconds",
			Help:    "How long transactions took, all attempts included, by kind (read, write) and outcome (committed, refused by a rule, cancelled, failed).",
			Buckets: []float64{.0005, .001, .005, .01, .05, .1, .5, 1, 5, 30},
		}, []string{"kind", "outcome"}),
		retries: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "flavorsync_database_retries_total",
			Help: "Transactions that the database could not serialize and that were run again, by kind.",
		}, []string{"kind"}),
		webhooks: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "flavorsync_webhook_duration_seconds",
			Help:    "How long calls of webhooks took, by webhook and by what came of them: taken or failed.",
			Buckets: []float64{.01, .05, .1, .5, 1, 5, 10},
		}, []string{"webhook", "outcome"}),
	}
	build := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "flavorsync_build_info", Help: "Always 1; which version runs, and which Go built it.",
	}, []string{"version", "goversion"})
	build.WithLabelValues(versionText(), runtime.Version()).Set(1)
	// From the first scrape on, so that an increase can be told.
	for _, kind := range transactionKinds {
		m.retries.WithLabelValues(kind)
	}
	m.registry.MustRegister(m.requests, m.regionCalls, m.regionCallTook, m.identityCalls, m.transactions, m.retries, m.webhooks, build,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// observe counts one request. route is the pattern, never the path, and method
// one of ours, so that no client decides how many series there are.
func (m *metrics) observe(method, route string, status int, took time.Duration) {
	m.requests.WithLabelValues(methodOf(method), route, strconv.Itoa(status)).Observe(took.Seconds())
}

// regionCall counts one call to a cloud.
func (m *metrics) regionCall(c openstack.Call) {
	m.regionCalls.WithLabelValues(c.Region, c.Name, c.Outcome).Inc()
	m.regionCallTook.WithLabelValues(c.Name, c.Outcome).Observe(c.Took.Seconds())
}

// identityCall counts one question to an identity provider.
func (m *metrics) identityCall(c identity.Call) {
	m.identityCalls.WithLabelValues(c.Provider, c.Outcome).Observe(c.Took.Seconds())
}

var transactionKinds = []string{"read", "write"}

// kindOf is the kind of a transaction.
func kindOf(tx store.Transaction) string {
	if tx.Write {
		return "write"
	}
	return "read"
}

// outcomeOf is how a transaction ended.
func outcomeOf(tx store.Transaction) string {
	_, told := errors.AsType[*flavor.Error](tx.Err)
	switch {
	case tx.Err == nil:
		return "committed"
	case told:
		return "refused"
	case errors.Is(tx.Err, context.Canceled):
		return "cancelled"
	}
	return "failed"
}

// transaction counts one transaction.
func (m *metrics) transaction(tx store.Transaction) {
	kind := kindOf(tx)
	m.transactions.WithLabelValues(kind, outcomeOf(tx)).Observe(tx.Took.Seconds())
	if again := tx.Attempts - 1; again > 0 {
		m.retries.WithLabelValues(kind).Add(float64(again))
	}
}

// watch adds what s is asked for at each scrape.
func (m *metrics) watch(s *service) {
	gauge := func(name, help string, value func() float64) {
		m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, value))
	}
	gauge("flavorsync_region_calls_in_flight", "Calls to clouds under way.", func() float64 {
		running, _ := s.clouds.Load()
		return float64(running)
	})
	gauge("flavorsync_region_calls_waiting", "Calls to clouds that wait for one of the slots of engine.max_in_flight, or of their region's.", func() float64 {
		_, waiting := s.clouds.Load()
		return float64(waiting)
	})
	e := &engineMetrics{of: s.market, log: s.log, limit: scrapeLimit, now: time.Now}
	if s.engine != nil {
		e.breakers = s.engine.Broken
	}
	m.registry.MustRegister(catalogueAge{s.db}, e)
}

// catalogueAge is how old the catalogue is that callers see; absent before the
// first of them.
type catalogueAge struct{ db *store.Store }

var catalogueAgeDesc = prometheus.NewDesc("flavorsync_catalogue_age_seconds",
	"How long ago the catalogue in memory was compared with the database. It is when somebody reads it.", nil, nil)

// Describe is prometheus.Collector's.
func (catalogueAge) Describe(descs chan<- *prometheus.Desc) { descs <- catalogueAgeDesc }

// Collect is prometheus.Collector's.
func (c catalogueAge) Collect(found chan<- prometheus.Metric) {
	if age, known := c.db.CatalogueAge(); known {
		found <- prometheus.MustNewConstMetric(catalogueAgeDesc, prometheus.GaugeValue, age.Seconds())
	}
}

// observeWebhook counts one call of a webhook.
func (m *metrics) observeWebhook(webhook, outcome string, took time.Duration) {
	m.webhooks.WithLabelValues(webhook, outcome).Observe(took.Seconds())
}

// countStreams shows how many streams of events are open.
func (m *metrics) countStreams(open func() int) {
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "flavorsync_event_streams",
		Help: "How many streams of events are open.",
	}, func() float64 { return float64(open()) }))
}
