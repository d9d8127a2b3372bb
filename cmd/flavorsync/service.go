package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/flavorsync/flavorsync/internal/config"
	"github.com/flavorsync/flavorsync/internal/events"
	"github.com/flavorsync/flavorsync/internal/identity"
	"github.com/flavorsync/flavorsync/internal/kms"
	"github.com/flavorsync/flavorsync/internal/marketplace"
	"github.com/flavorsync/flavorsync/internal/openstack"
	"github.com/flavorsync/flavorsync/internal/outgoing"
	"github.com/flavorsync/flavorsync/internal/reconcile"
	"github.com/flavorsync/flavorsync/internal/store"
	"github.com/flavorsync/flavorsync/internal/tracing"
	"github.com/flavorsync/flavorsync/internal/ucloud"
)

// owner says whose database one is. A demo's passwords are public, so nobody
// else may take its database, and it may take nobody else's.
type owner int

const (
	operators owner = iota
	demos
)

var (
	errDemoDatabase = errors.New("this database belongs to a demo, whose passwords are public: configure another database.dsn")
	errRealDatabase = errors.New("this database is not a demo's: choose another directory with --data")
)

// loadKeyset reads the configured keyset, or makes one that has no file yet.
func loadKeyset(cfg *config.Config) (keyset *store.Keyset, created bool, err error) {
	key, err := openKMS(cfg)
	if err != nil {
		return nil, false, err
	}
	return store.LoadKeyset(cfg.CredentialsKeyset, key)
}

// openKMS is the key that encrypts the keyset, nil for none.
func openKMS(cfg *config.Config) (tink.AEAD, error) {
	if cfg.CredentialsKMS == "" {
		return nil, nil //nolint:nilnil // no key is no error
	}
	return kms.Open(cfg.CredentialsKMS)
}

// openStore opens the configured database for its owner, migrated, with its
// keyset. What is another's is left as it was. With serving, another process
// that serves from the same SQLite file is refused until closeDB. A nil observe is
// told of nothing.
func openStore(ctx context.Context, cfg *config.Config, log *slog.Logger, who owner, serving bool, observe func(context.Context, store.Transaction)) (db *store.Store, closeDB func() error, err error) {
	keyset, created, err := loadKeyset(cfg)
	if err != nil {
		return nil, nil, err
	}
	db, err = store.Open(ctx, store.Config{
		Driver: cfg.Database.Driver, DSN: string(cfg.Database.DSN), Keyset: keyset, Log: log, Observe: observe,
	})
	if err != nil {
		return nil, nil, err
	}
	closeDB = db.Close
	if serving {
		release, err := db.HoldAlone()
		if err != nil {
			return nil, nil, errors.Join(err, db.Close())
		}
		closeDB = func() error { return errors.Join(db.Close(), release()) }
	}
	if err := prepare(ctx, db, who); err != nil {
		return nil, nil, errors.Join(err, closeDB())
	}
	if created {
		log.Info("a new keyset was made: keep it, and its backup, as safe as the passwords it encrypts", "path", cfg.CredentialsKeyset)
	}
	return db, closeDB, nil
}

func prepare(ctx context.Context, db *store.Store, who owner) error {
	if err := checkOwner(ctx, db, who); err != nil {
		return err
	}
	if err := db.Up(ctx); err != nil {
		return err
	}
	if who == demos {
		if err := db.MarkDemo(ctx); err != nil {
			return err
		}
	}
	return db.BindKeyset(ctx)
}

// checkOwner refuses another's database. One that holds nothing is anybody's.
func checkOwner(ctx context.Context, db *store.Store, who owner) error {
	steps, err := db.Status(ctx)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(steps, func(m store.MigrationStatus) bool { return m.AppliedAt != nil }) {
		return nil
	}
	switch demo, err := db.IsDemo(ctx); {
	case err != nil:
		return err
	case demo && who != demos:
		return errDemoDatabase
	case !demo && who == demos:
		return db.Read(ctx, func(tx *store.Tx) error {
			regions, regionsErr := tx.Regions() // fails where there are some: the keyset is another
			flavors, flavorsErr := tx.Flavors()
			if err := errors.Join(regionsErr, flavorsErr); err != nil || len(regions)+len(flavors) > 0 {
				return errors.Join(errRealDatabase, err)
			}
			return nil
		})
	}
	return nil
}

// service is the wired product, without its HTTP side.
type service struct {
	log     *slog.Logger
	db      *store.Store
	closeDB func() error
	clouds  *openstack.Clouds
	market  *marketplace.Market
	chain   *identity.Chain
	only    part
	engine  *reconcile.Engine // nil: other processes' alone
	ucloud  *ucloud.Provider  // nil: none is configured
	serving *store.Announced
	events  *events.Hub
	watching
}

// part is which of its two parts a process does: answering callers, or keeping the
// federation as it should be.
type part string

const (
	both       part = ""
	onlyAPI    part = "api"
	onlyEngine part = "engine"
)

// newService opens the database and wires the product. Close it.
func newService(ctx context.Context, cfg *config.Config, log *slog.Logger, who owner, only part) (*service, error) {
	traces, err := tracing.New(ctx, tracing.Config{Endpoint: cfg.Tracing.OTLPEndpoint, Sample: cfg.Tracing.Sample, Version: versionText(), Log: log})
	if err != nil {
		return nil, err
	}
	watching := watching{newMetrics(), traces}
	clouds := openstack.New(openstack.Config{
		KeystoneURL:   cfg.KeystoneURL,
		RegionTimeout: cfg.Engine.RegionTimeout,
		MaxInFlight:   cfg.Engine.MaxInFlight,
		AllowHTTP:     cfg.Outgoing.AllowHTTP,
		AllowNetworks: cfg.Outgoing.AllowNetworks,
		Log:           log,
		Observe:       watching.regionCall,
	})
	chain, err := identity.New(cfg.Identity, identity.WithKeystone(clouds), identity.WithObserver(watching.identityCall),
		identity.WithOutgoing(outgoing.Config{AllowHTTP: cfg.Outgoing.AllowHTTP, AllowNetworks: cfg.Outgoing.AllowNetworks}))
	if err != nil {
		return nil, err
	}
	db, closeDB, err := openStore(ctx, cfg, log, who, true, watching.transaction)
	if err != nil {
		chain.Close()
		return nil, err
	}
	serving, err := db.Announce(ctx)
	if err != nil {
		chain.Close()
		return nil, errors.Join(err, closeDB())
	}
	market := marketplace.New(marketplace.Config{
		Store: db, Clouds: clouds, Log: log,
		RegionTimeout: cfg.Engine.RegionTimeout,
		MaxInFlight:   cfg.Engine.MaxInFlight,
		SweepInterval: cfg.Engine.SweepInterval,
		Promotion:     cfg.Promotion.Policy(),
		AnswersOnly:   only == onlyAPI,
		Sole:          cfg.Database.Driver == "sqlite",
		Pricing:       cfg.Pricing.Formula(),
		Category:      cfg.UCloud.DefaultCategory,
		Provider:      cfg.UCloud.ProviderID,
		GLUE2:         cfg.GLUE2,
		KeepAudit:     cfg.Audit.Retention,
	})
	provider := cfg.Provider()
	provider.Store, provider.Products, provider.Log = db, market, log
	s := &service{log: log, db: db, closeDB: closeDB, clouds: clouds, market: market, chain: chain, serving: serving, watching: watching, only: only}
	if only != onlyAPI {
		s.engine = reconcile.New(reconcile.Config{
			Market: market, Store: db, Log: log, MaxInFlight: cfg.Engine.MaxInFlight, RegionTimeout: cfg.Engine.RegionTimeout,
			Step: watching.step(),
		})
	}
	s.events = events.New(events.Config{Store: db, Log: log, Keep: cfg.Events.Retention})
	if s.ucloud, err = ucloud.New(provider); err != nil {
		return nil, errors.Join(err, s.close(ctx))
	}
	s.watch(s)
	return s, nil
}

// tend settles the flavor changes a crash left and keeps the audit and the events
// tidy, now and every interval until ctx ends. What fails is logged and tried again.
func (s *service) tend(ctx context.Context, interval time.Duration) {
	again := time.NewTicker(interval)
	defer again.Stop()
	type chore struct {
		failed string
		do     func(context.Context) error
	}
	chores := []chore{
		{"the audit could not be tidied", s.market.TidyAudit},
		{"old operations could not be forgotten", s.market.TidyOperations},
		{"the events could not be tidied", s.events.Tidy},
	}
	if s.engine != nil {
		chores = append(chores, chore{"stored changes remain", s.market.Recover})
	}
	for {
		for _, c := range chores {
			if err := c.do(ctx); err != nil && ctx.Err() == nil {
				s.log.Warn("a chore was not done, and is due again", "failed", c.failed, "error", err.Error())
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-again.C:
		}
	}
}

func (s *service) close(ctx context.Context) error {
	s.ucloud.Close()
	s.market.Close()
	s.clouds.Close()
	s.chain.Close()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if err := s.serving.Withdraw(ctx); err != nil { // flavorsync keys waits for us then, for a while
		s.log.Warn("this process seems to serve still", "error", err.Error())
	}
	if err := s.watching.close(ctx); err != nil {
		s.log.Warn("the last traces could not be sent", "error", err.Error())
	}
	if err := s.closeDB(); err != nil {
		return fmt.Errorf("while closing the database: %w", err)
	}
	return nil
}
