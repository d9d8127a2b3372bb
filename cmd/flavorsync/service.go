package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/flavorsync/flavorsync/internal/config"
	"github.com/flavorsync/flavorsync/internal/identity"
	"github.com/flavorsync/flavorsync/internal/marketplace"
	"github.com/flavorsync/flavorsync/internal/openstack"
	"github.com/flavorsync/flavorsync/internal/store"
)

// openStore opens the configured database, migrated, with its keyset.
func openStore(ctx context.Context, cfg *config.Config, log *slog.Logger) (*store.Store, error) {
	keyset, created, err := store.LoadKeyset(cfg.CredentialsKeyset)
	if err != nil {
		return nil, err
	}
	if created {
		log.Info("a new keyset was made: keep it, and its backup, as safe as the passwords it encrypts", "path", cfg.CredentialsKeyset)
	}
	db, err := store.Open(ctx, store.Config{
		Driver: cfg.Database.Driver, DSN: string(cfg.Database.DSN), Keyset: keyset, Log: log,
	})
	if err != nil {
		return nil, err
	}
	if err := db.Up(ctx); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	if err := db.BindKeyset(ctx); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

// service is the wired product, without its HTTP side.
type service struct {
	log    *slog.Logger
	db     *store.Store
	clouds *openstack.Clouds
	market *marketplace.Market
	chain  *identity.Chain
}

// newService wires the product on an open database, which it closes.
func newService(cfg *config.Config, db *store.Store, log *slog.Logger, unguarded bool) (*service, error) {
	chain, err := identity.New(cfg.Identity)
	if err != nil {
		return nil, err
	}
	clouds := openstack.New(openstack.Config{
		KeystoneURL:   cfg.KeystoneURL,
		RegionTimeout: cfg.Engine.RegionTimeout,
		MaxInFlight:   cfg.Engine.MaxInFlight,
		AllowHTTP:     cfg.Outgoing.AllowHTTP,
		AllowNetworks: cfg.Outgoing.AllowNetworks,
		Unguarded:     unguarded,
		Log:           log,
	})
	market := marketplace.New(marketplace.Config{
		Store: db, Clouds: clouds, Log: log,
		RegionTimeout: cfg.Engine.RegionTimeout,
		Sole:          cfg.Database.Driver == "sqlite",
	})
	return &service{log: log, db: db, clouds: clouds, market: market, chain: chain}, nil
}

// recover settles the flavor changes a crash left, now and every interval until
// ctx ends. What fails is logged by the market and tried again.
func (s *service) recover(ctx context.Context, interval time.Duration) {
	again := time.NewTicker(interval)
	defer again.Stop()
	for {
		if err := s.market.Recover(ctx); err != nil && ctx.Err() == nil {
			s.log.Warn("stored changes remain", "error", err.Error())
		}
		select {
		case <-ctx.Done():
			return
		case <-again.C:
		}
	}
}

func (s *service) close() error {
	s.market.Close()
	s.clouds.Close()
	s.chain.Close()
	if err := s.db.Close(); err != nil {
		return fmt.Errorf("while closing the database: %w", err)
	}
	return nil
}
