package main

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/singleflight"

	"github.com/flavorsync/flavorsync/internal/flavor"
)

// overview tells how the federation is, without asking any cloud;
// *marketplace.Market is one.
type overview interface {
	Overview(ctx context.Context) (flavor.FederationStatus, error)
}

// scrapeLimit is how long a scrape waits for the database. Prometheus has given up
// after 10 s unless it is told otherwise, and then sees nothing of the process.
const scrapeLimit = 700 * time.Millisecond

// engineMetrics is the collector of what the engine has found and has to do. It reads the
// database, once for each scrape; where that takes longer than limit its metrics are
// absent but for scrape_error, which is 1 then.
type engineMetrics struct {
	of    overview
	log   *slog.Logger
	limit time.Duration
	now   func() time.Time
	// breakers says of regions whether their breaker is open in this process; nil
	// where it does not look after regions.
	breakers func() map[string]bool
	flights  singleflight.Group
}

func engineDesc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("flavorsync_"+name, help, labels, nil)
}

var (
	scrapeError    = engineDesc("scrape_error", "1 if the database did not tell in time what the metrics of the engine are, which are absent then; else 0.")
	regionUp       = engineDesc("region_up", "1 if the last look at the region went well, 0 if not; absent before the first.", "region")
	regionSeen     = engineDesc("region_last_seen_timestamp_seconds", "When the region last answered.", "region")
	regionLook     = engineDesc("region_look_duration_seconds", "How long the last look at the region took.", "region")
	regionDrift    = engineDesc("drifted_nodes", "Flavors of the region that are missing or differ from what they should be.", "region", "kind")
	regionPending  = engineDesc("region_pending_nodes", "Nodes of operations that wait or run in the region.", "region")
	sweepLag       = engineDesc("sweep_lag_seconds", "How late the most overdue look at a region is; 0 if none is.")
	operationCount = engineDesc("operations", "Operations, by state.", "state")
	nodeCount      = engineDesc("operation_nodes", "Nodes of operations, by state.", "state")
	breakerOpen    = engineDesc("breaker_open", "1 if this process gives the region nothing to do for a while, because it failed again and again; else 0, or absent.", "region")
	engineDescs    = []*prometheus.Desc{
		scrapeError, regionUp, regionSeen, regionLook, regionDrift, regionPending, sweepLag, operationCount, nodeCount, breakerOpen,
	}
)

// Describe is prometheus.Collector's.
func (e *engineMetrics) Describe(descs chan<- *prometheus.Desc) {
	for _, d := range engineDescs {
		descs <- d
	}
}

// Collect is prometheus.Collector's.
func (e *engineMetrics) Collect(found chan<- prometheus.Metric) {
	put := func(d *prometheus.Desc, value float64, labels ...string) {
		found <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	if e.breakers != nil {
		for region, open := range e.breakers() {
			value := 0.0
			if open {
				value = 1
			}
			put(breakerOpen, value, region)
		}
	}
	status, err := e.ask()
	if err != nil {
		e.log.Warn("the metrics of the engine are absent", "error", err.Error())
		put(scrapeError, 1)
		return
	}
	put(scrapeError, 0)
	lag := time.Duration(0)
	now := e.now()
	for _, r := range status.Regions {
		switch r.State {
		case flavor.RegionUp:
			put(regionUp, 1, r.Name)
		case flavor.RegionUnreachable, flavor.RegionRefused:
			put(regionUp, 0, r.Name)
		case flavor.RegionUnknown:
		}
		if !r.SeenAt.IsZero() {
			put(regionSeen, float64(r.SeenAt.UnixMilli())/1000, r.Name)
		}
		if !r.LookedAt.IsZero() {
			put(regionLook, r.Took.Seconds(), r.Name)
		}
		put(regionPending, float64(r.Pending), r.Name)
		for _, d := range r.Drift {
			put(regionDrift, float64(d.Count), r.Name, string(d.Kind))
		}
		if !r.NextLook.IsZero() {
			lag = max(lag, now.Sub(r.NextLook))
		}
	}
	put(sweepLag, lag.Seconds())
	for _, s := range []struct {
		state string
		n     int
	}{
		{"running", status.Operations.Running}, {"succeeded", status.Operations.Succeeded},
		{"failed", status.Operations.Failed}, {"cancelled", status.Operations.Cancelled},
	} {
		put(operationCount, float64(s.n), s.state)
	}
	for _, s := range []struct {
		state string
		n     int
	}{
		{"waiting", status.Nodes.Waiting}, {"running", status.Nodes.Running}, {"succeeded", status.Nodes.Succeeded},
		{"failed", status.Nodes.Failed}, {"cancelled", status.Nodes.Cancelled},
	} {
		put(nodeCount, float64(s.n), s.state)
	}
}

var errScrape = errors.New("the database did not answer in time")

// ask waits for the database for limit, even where the driver would go on. Scrapes
// that come meanwhile share the question, so that they do not pile up.
func (e *engineMetrics) ask() (flavor.FederationStatus, error) {
	asked := e.flights.DoChan("", func() (any, error) {
		ctx, cancel := context.WithTimeout(context.Background(), e.limit)
		defer cancel()
		return e.of.Overview(ctx)
	})
	timer := time.NewTimer(e.limit)
	defer timer.Stop()
	select {
	case r := <-asked:
		if r.Err != nil {
			return flavor.FederationStatus{}, r.Err
		}
		return r.Val.(flavor.FederationStatus), nil
	case <-timer.C:
		return flavor.FederationStatus{}, errScrape
	}
}
