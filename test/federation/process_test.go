package federation

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/flavorsync/flavorsync/internal/flavor"
	"github.com/flavorsync/flavorsync/internal/marketplace"
	"github.com/flavorsync/flavorsync/internal/openstack"
	"github.com/flavorsync/flavorsync/internal/reconcile"
	"github.com/flavorsync/flavorsync/internal/store"
)

func TestMain(m *testing.M) {
	if told := os.Getenv(victimVariable); told != "" {
		if err := beVictim(told); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

var manager = flavor.Principal{Provider: "test", ID: "m", Name: "manager", Manager: true}

// owner is who owns a region.
func owner(region string) flavor.Principal {
	return flavor.Principal{Provider: "test", ID: region, Name: "owner of " + region, Regions: []string{region}}
}

// place is where a process finds its database and its cloud.
type place struct {
	Driver, DSN, Keyset, Keystone string
	Timeout                       time.Duration // of a region
}

// process is what one serve has, without its HTTP API.
type process struct {
	place
	store  *store.Store
	clouds *openstack.Clouds
	market *marketplace.Market
	engine *reconcile.Engine
	direct *sql.DB // the store's database, for what no process does
}

// migrate prepares the database of p.
func (p place) migrate(ctx context.Context) error {
	db, err := store.Open(ctx, store.Config{Driver: p.Driver, DSN: p.DSN, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	return errors.Join(db.Up(ctx), db.Close())
}

// begin makes a process at p.
func begin(ctx context.Context, p place, policy flavor.Policy, sole bool, committing func()) (*process, error) {
	keyset, _, err := store.LoadKeyset(p.Keyset, nil)
	if err != nil {
		return nil, err
	}
	log := slog.New(slog.DiscardHandler)
	db, err := store.Open(ctx, store.Config{Driver: p.Driver, DSN: p.DSN, Keyset: keyset, Log: log, Committing: committing})
	if err != nil {
		return nil, err
	}
	if err := db.BindKeyset(ctx); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	q := &process{place: p, store: db}
	if q.direct, err = p.connect(ctx); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	q.clouds = openstack.New(openstack.Config{KeystoneURL: p.Keystone, RegionTimeout: p.Timeout, AllowHTTP: true, Unguarded: true, Log: log})
	q.market = marketplace.New(marketplace.Config{
		Store: db, Clouds: q.clouds, Log: log, RegionTimeout: p.Timeout, Sole: sole, Promotion: policy, SweepInterval: time.Hour,
	})
	q.engine = reconcile.New(reconcile.Config{Market: q.market, Store: db, Log: log, MaxInFlight: 8, RegionTimeout: p.Timeout})
	return q, nil
}

// takeOver is what the engine begins with.
func (q *process) takeOver(ctx context.Context) error {
	return errors.Join(q.store.PrepareLooks(ctx), q.market.TakeOver(ctx))
}

// end is the end of a process that ends in peace.
func (q *process) end() error {
	q.engine.Wait()
	q.market.Close()
	q.clouds.Close()
	return errors.Join(q.direct.Close(), q.store.Close())
}

// settle does what serve does at its start and then on and on, until nothing is
// open or due. When something is due is time's to say: every turn may be preceded
// by a leap of the database's clock.
func (q *process) settle(ctx context.Context, leap func() error) error {
	if err := q.takeOver(ctx); err != nil {
		return err
	}
	idle := 0
	for range 40 {
		if err := errors.Join(leap(), q.market.Recover(ctx)); err != nil {
			return err
		}
		q.engine.Step(ctx)
		q.engine.Wait()
		open, err := q.open(ctx)
		if err != nil {
			return err
		}
		if idle++; open > 0 {
			idle = 0
		}
		if idle == 2 { // what the last look found is wanted in the next turn
			return nil
		}
	}
	return errors.New("something stays open, whatever is done")
}

// step makes turns of the engine until it finds nothing that is due.
func (q *process) step(ctx context.Context) error {
	for {
		q.engine.Step(ctx)
		q.engine.Wait()
		q.market.Close()
		if open, err := q.open(ctx); err != nil || open == 0 {
			return err
		}
	}
}

// open counts what there is still to do: operations, changes, and looks that are
// due.
func (q *process) open(ctx context.Context) (n int, err error) {
	return q.count(ctx, `SELECT (SELECT COUNT(*) FROM operation_nodes WHERE state IN ('waiting', 'running'))
		+ (SELECT COUNT(*) FROM flavor_changes) + (SELECT COUNT(*) FROM looks WHERE due <= ?)`, time.Now().UnixMilli())
}

// later makes the claims of dead processes run out, and all that waits due, as
// time does: it goes by the database's clock, which no test can turn.
func (q *process) later(ctx context.Context) error {
	return q.exec(ctx,
		"UPDATE leases SET deadline = 0",
		"UPDATE operation_nodes SET due = 0 WHERE state IN ('waiting', 'running')",
		"UPDATE flavor_changes SET deadline = '2020-01-01 00:00:00'",
	)
}

// connect is one connection to the database.
func (p place) connect(ctx context.Context) (*sql.DB, error) {
	db, err := sql.Open(p.Driver, p.DSN)
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	if p.Driver == "sqlite" {
		_, err = db.ExecContext(ctx, "PRAGMA busy_timeout = 5000")
	}
	return db, err
}

// count is the one number that a query answers with.
func (q *process) count(ctx context.Context, query string, args ...any) (n int, err error) {
	err = q.direct.QueryRowContext(ctx, query, args...).Scan(&n)
	return n, err
}

func (q *process) exec(ctx context.Context, statements ...string) error {
	var err error
	for _, statement := range statements {
		if _, failed := q.direct.ExecContext(ctx, statement); failed != nil {
			err = errors.Join(err, fmt.Errorf("%s: %w", statement, failed))
		}
	}
	return err
}
