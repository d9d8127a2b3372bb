package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/spf13/cobra"

	"github.com/flavorsync/flavorsync/api"
	"github.com/flavorsync/flavorsync/internal/config"
	"github.com/flavorsync/flavorsync/internal/httpapi"
	"github.com/flavorsync/flavorsync/internal/webhooks"
)

func serveCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the service",
		Long: `Run the service until SIGTERM or Ctrl-C: then it takes no new requests, finishes
those that run and ends. A second signal ends it at once.

Several processes may serve from one MariaDB and share the work; with --only some of
them answer callers, and others look after the regions (those answer /healthz and
/readyz only).

At start it brings the database to this version's schema, and makes the keyset
that encrypts the service accounts' passwords where there is none and nothing is
encrypted yet. It logs to stderr, in lines of JSON; the line "listening" says
where it answers.`,
		Example: `  flavorsync serve --config /etc/flavorsync/flavorsync.yaml
  FLAVORSYNC_LISTEN=127.0.0.1:9090 flavorsync serve --config flavorsync.yaml`,
		Args: cobra.NoArgs,
	}
	path := configFlag(cmd)
	only := cmd.Flags().String("only", "", "api answers callers only, engine only looks after the regions; both do without it")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		switch part(*only) {
		case both, onlyAPI, onlyEngine:
		default:
			return fmt.Errorf("--only %q is unknown: write api or engine", *only)
		}
		cfg, err := config.Load(*path, os.Environ())
		if err != nil {
			return err
		}
		if part(*only) != both && cfg.Database.Driver == "sqlite" {
			return errors.New("--only needs a second process for the rest, and a SQLite file has one alone: use MariaDB (database.driver: mysql), or leave --only out")
		}
		return serve(cmd.Context(), cfg, jsonLog(os.Stderr), part(*only))
	}
	return cmd
}

// serve runs until ctx ends and what it was doing is done.
func serve(ctx context.Context, cfg *config.Config, log *slog.Logger, only part) (err error) {
	for _, warning := range cfg.Warnings() {
		log.Warn("is this configuration wanted?", "setting", warning)
	}
	s, err := newService(ctx, cfg, log, operators, only)
	if err != nil {
		return unlessStopped(ctx, log, err)
	}
	defer func() { err = errors.Join(err, s.close(ctx)) }()
	encryption, err := encrypt(cfg.TLS, log)
	if err != nil {
		return unlessStopped(ctx, log, err)
	}
	listener, err := listen(ctx, "listen", cfg.Listen)
	if err != nil {
		return unlessStopped(ctx, log, err)
	}
	return s.serve(ctx, cfg, listener, encryption)
}

// encrypt reads the configured certificate; nil where none is.
func encrypt(cfg config.TLS, log *slog.Logger) (*tls.Config, error) {
	if cfg.CertFile == "" {
		return nil, nil //nolint:nilnil // plain HTTP is no fault
	}
	certificate, err := httpapi.LoadCertificate(cfg.CertFile, cfg.KeyFile, log)
	if err != nil {
		return nil, fmt.Errorf("tls: %w", err)
	}
	return certificate.Config(cfg.Version()), nil
}

// unlessStopped is err, but nil where we were asked to stop before we served:
// then starting had to fail.
func unlessStopped(ctx context.Context, log *slog.Logger, err error) error {
	if ctx.Err() == nil {
		return err
	}
	log.Info("stopped before it served", "error", err.Error())
	return nil
}

// listen listens at an address; errors begin with the name of its setting.
func listen(ctx context.Context, setting, address string) (net.Listener, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	return l, listenError(setting, address, err)
}

func listenError(setting, address string, err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("%s: another process listens at %s: stop it, or choose another address", setting, address)
	case err != nil:
		return fmt.Errorf("%s: %w", setting, err)
	}
	return nil
}

// gcPercent is how much garbage may lie about, in percent of what lives.
const gcPercent = 200

// serve answers on listener, which it closes, and on metrics_listen, until ctx
// ends. A nil encryption is plain HTTP.
func (s *service) serve(ctx context.Context, cfg *config.Config, listener net.Listener, encryption *tls.Config) error {
	if os.Getenv("GOGC") == "" {
		// What lives for long is some MiB, and each request leaves some KiB behind:
		// to collect those whenever they are as much as it takes a tenth of the time.
		debug.SetGCPercent(gcPercent)
	}
	var working sync.WaitGroup
	defer working.Wait()
	ctx, stop := context.WithCancel(ctx)
	defer stop()

	failed := make(chan error, 1)
	if cfg.MetricsListen == "" {
		failed <- nil
	} else {
		l, err := listen(ctx, "metrics_listen", cfg.MetricsListen)
		if err != nil {
			return errors.Join(err, listener.Close())
		}
		s.log.Info("listening for metrics", "address", l.Addr().String())
		working.Go(func() {
			failed <- serveMetrics(ctx, l, s.metrics)
			stop()
		})
	}
	working.Go(func() { s.tend(ctx, cfg.Engine.SweepInterval) })
	if s.engine != nil {
		working.Go(func() { s.engine.Run(ctx) })
		working.Go(func() {
			webhooks.New(webhooks.Settings{
				Webhooks: cfg.Webhooks, Store: s.db, Log: s.log, Observe: s.metrics.observeWebhook,
				AllowHTTP: cfg.Outgoing.AllowHTTP, AllowNetworks: cfg.Outgoing.AllowNetworks,
			}).Run(ctx)
		})
	}
	working.Go(func() { s.ucloud.Run(ctx) })
	working.Go(func() { s.serving.Follow(ctx) })
	working.Go(func() { s.events.Run(ctx) })

	server := httpapi.New(httpapi.Config{
		Market: s.market, Identity: s.chain, Events: s.events, UCloud: s.ucloud, Log: s.log, Ready: s.db.Ping,
		OpenAPI: api.OpenAPI, XSD: api.XSD, HealthOnly: s.only == onlyEngine,
		TLS: encryption, TrustedProxies: cfg.TrustedProxies, AllowOrigins: cfg.CORS.AllowOrigins,
		RequestsPerSecond: cfg.Limits.RequestsPerSecond, FailedLoginsPerMinute: cfg.Limits.FailedLoginsPerMinute,
		FailedTokensPerMinute: cfg.Limits.FailedTokensPerMinute,
		Connections:           cfg.Limits.Connections, ConnectionsPerAddress: cfg.Limits.ConnectionsPerAddress,
		Observe: s.metrics.observe, Span: s.span(),
		// A change asks a region several times, each within its time limit.
		ShutdownGrace: max(30*time.Second, 4*cfg.Engine.RegionTimeout),
	})
	s.metrics.countStreams(server.Streams)
	told := context.AfterFunc(ctx, func() { s.log.Info("stopping: finishing the requests that run") })
	s.log.Info("listening", "address", listener.Addr().String(), "tls", encryption != nil, "version", versionText())
	err := server.Serve(ctx, listener)
	s.market.EndAudit(context.WithoutCancel(ctx))
	told()
	stop()
	return errors.Join(err, <-failed)
}

// serveMetrics answers /metrics on l until ctx ends.
func serveMetrics(ctx context.Context, l net.Listener, m *metrics) error {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{}))
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: time.Minute, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 8 << 10}
	context.AfterFunc(ctx, func() { _ = server.Close() })
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("while serving metrics: %w", err)
	}
	return nil
}
