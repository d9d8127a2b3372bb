package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/spf13/cobra"

	"github.com/flavorsync/flavorsync/api"
	"github.com/flavorsync/flavorsync/internal/config"
	"github.com/flavorsync/flavorsync/internal/httpapi"
)

func serveCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "serve", Short: "Run the service", Args: cobra.NoArgs}
	path := configFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, err := config.Load(*path, os.Environ())
		if err != nil {
			return err
		}
		return serve(cmd.Context(), cfg, jsonLog(os.Stderr))
	}
	return cmd
}

// serve runs until ctx ends and what it was doing is done.
func serve(ctx context.Context, cfg *config.Config, log *slog.Logger) (err error) {
	for _, warning := range cfg.Warnings() {
		log.Warn(warning)
	}
	db, err := openStore(ctx, cfg, log)
	if err != nil {
		return err
	}
	demo, err := db.IsDemo(ctx)
	if err == nil && demo {
		err = errDemoDatabase
	}
	if err != nil {
		return errors.Join(err, db.Close())
	}
	s, err := newService(cfg, db, log, false)
	if err != nil {
		return errors.Join(err, db.Close())
	}
	defer func() { err = errors.Join(err, s.close()) }()
	listener, err := net.Listen("tcp", cfg.Listen)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	return s.serve(ctx, cfg, listener)
}

// serve answers on listener, and on metrics_listen, until ctx ends.
func (s *service) serve(ctx context.Context, cfg *config.Config, listener net.Listener) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	metrics := newMetrics()
	server := httpapi.New(httpapi.Config{
		Market: s.market, Identity: s.chain, Log: s.log, Ready: s.db.Ping,
		OpenAPI: api.OpenAPI, XSD: api.XSD,
		RequestsPerSecond: cfg.Limits.RequestsPerSecond, FailedLoginsPerMinute: cfg.Limits.FailedLoginsPerMinute,
		Observe: metrics.observe,
	})
	var working sync.WaitGroup
	defer working.Wait()
	working.Go(func() { s.recover(ctx, cfg.Engine.SweepInterval) })
	failed := make(chan error, 1)
	if cfg.MetricsListen != "" {
		l, err := net.Listen("tcp", cfg.MetricsListen)
		if err != nil {
			stop()
			return errors.Join(fmt.Errorf("metrics_listen: %w", err), listener.Close())
		}
		working.Go(func() {
			failed <- serveMetrics(ctx, l, metrics)
			stop()
		})
		s.log.Info("listening for metrics", "address", l.Addr().String())
	} else {
		failed <- nil
	}
	s.log.Info("listening", "address", listener.Addr().String(), "version", versionText())
	err := server.Serve(ctx, listener)
	stop()
	return errors.Join(err, <-failed)
}

// serveMetrics answers /metrics on l until ctx ends.
func serveMetrics(ctx context.Context, l net.Listener, m *metrics) error {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{}))
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: time.Minute}
	context.AfterFunc(ctx, func() { _ = server.Close() })
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("while serving metrics: %w", err)
	}
	return nil
}
