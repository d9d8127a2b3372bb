package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"github.com/go-sql-driver/mysql"
	"github.com/google/uuid"

	"github.com/flavorsync/flavorsync/internal/flavor"
)

// ImportReport is what ImportV1 has done.
type ImportReport struct {
	Regions, Flavors, Installations int       // taken over
	Unchanged                       int       // rows of all three kinds that were here already
	Private                         int       // private flavors: they are always asked from Nova, and not kept
	Skipped                         []Skipped // everything else that was not taken over, and why
}

// Skipped is a row of flavor-sync 1.0 that was not taken over.
type Skipped struct {
	Table  string // as 1.0 names it
	Key    string // of the row
	Reason string
}

func (s Skipped) String() string { return fmt.Sprintf("%s %s: %s", s.Table, s.Key, s.Reason) }

// The rows of flavor-sync 1.0. Its columns may all be NULL but the keys.
type (
	v1Region struct {
		name                                    string
		keystoneURL, username, password, tenant sql.NullString
	}
	v1Flavor struct {
		id                     string
		name                   sql.NullString
		vcpus, ram, disk, swap sql.NullInt64
		public, promoted       sql.NullBool
	}
	v1Link struct{ flavor, region string }

	v1Database struct {
		regions []v1Region
		flavors []v1Flavor
		links   []v1Link
	}
)

// ImportV1 takes over a database of flavor-sync 1.0 (MySQL, dsn as in
// Config.DSN): its infrastructures, its public and promoted flavors, and where
// those are. It is one transaction, all or nothing; what is here already stays
// as it is, so that a second run changes nothing. A row that cannot be taken
// over is told in the report and keeps back no other.
func ImportV1(ctx context.Context, s *Store, dsn string, log *slog.Logger) (ImportReport, error) {
	old, err := readV1(ctx, dsn)
	if err != nil {
		return ImportReport{}, err
	}
	var report ImportReport
	err = s.Write(ctx, func(tx *Tx) error {
		report = ImportReport{}
		im := importer{tx: tx, report: &report, taken: map[string]string{}, private: map[string]bool{}}
		return im.everything(old)
	})
	if err != nil {
		return ImportReport{}, fmt.Errorf("while importing the database of flavor-sync 1.0: %w", err)
	}
	log.InfoContext(ctx, "flavor-sync 1.0 imported", "regions", report.Regions, "flavors", report.Flavors,
		"installations", report.Installations, "unchanged", report.Unchanged, "private", report.Private, "skipped", len(report.Skipped))
	return report, nil
}

func readV1(ctx context.Context, dsn string) (old v1Database, err error) {
	cfg, err := mysqlConfig(dsn, "the DSN of flavor-sync 1.0")
	if err != nil {
		return v1Database{}, err
	}
	connector, err := mysql.NewConnector(cfg)
	if err != nil {
		return v1Database{}, fmt.Errorf("while reading the DSN of flavor-sync 1.0 for %s: %w", cfg.Addr, err)
	}
	db := sql.OpenDB(connector)
	defer func() { err = errors.Join(err, db.Close()) }()
	// One state of all three tables, though the old service may still run.
	tx, err := db.BeginTx(ctx, &sql.TxOptions{ReadOnly: true, Isolation: sql.LevelRepeatableRead})
	if err != nil {
		return v1Database{}, fmt.Errorf("while connecting to the database %s of flavor-sync 1.0 at %s: %w", cfg.DBName, cfg.Addr, err)
	}
	defer func() { _ = tx.Rollback() }() // it has only read

	old.regions, err = v1Rows(ctx, tx, `SELECT name, keystone_url, username, password, tenant FROM infrastructure ORDER BY name`,
		func(r *v1Region) []any { return []any{&r.name, &r.keystoneURL, &r.username, &r.password, &r.tenant} })
	if err != nil {
		return v1Database{}, err
	}
	old.flavors, err = v1Rows(ctx, tx, `SELECT id, name, vcpus, ram, disk, swap, public, promoted FROM flavor ORDER BY id`,
		func(f *v1Flavor) []any {
			return []any{&f.id, &f.name, &f.vcpus, &f.ram, &f.disk, &f.swap, &f.public, &f.promoted}
		})
	if err != nil {
		return v1Database{}, err
	}
	old.links, err = v1Rows(ctx, tx, `SELECT flavor_id, infrastructure_name FROM flavor_infrastructure_link ORDER BY flavor_id, infrastructure_name`,
		func(l *v1Link) []any { return []any{&l.flavor, &l.region} })
	return old, err
}

func v1Rows[T any](ctx context.Context, tx *sql.Tx, query string, fields func(*T) []any) (all []T, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("while reading the tables of flavor-sync 1.0: %w", err)
		}
	}()
	rows, err := tx.QueryContext(ctx, query)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var row T
		if err := rows.Scan(fields(&row)...); err != nil {
			return nil, err
		}
		all = append(all, row)
	}
	return all, rows.Err()
}

// importer is one run of ImportV1's transaction.
type importer struct {
	tx      *Tx
	report  *ImportReport
	taken   map[string]string // 1.0's id of a flavor to the catalogue's
	private map[string]bool   // 1.0's ids of private flavors
}

func (im *importer) skip(table, key, format string, args ...any) {
	im.report.Skipped = append(im.report.Skipped, Skipped{Table: table, Key: key, Reason: fmt.Sprintf(format, args...)})
}

func (im *importer) everything(old v1Database) error {
	for _, r := range old.regions {
		if err := im.region(r); err != nil {
			return err
		}
	}
	// Of two with one name the promoted one is the better known.
	slices.SortStableFunc(old.flavors, func(a, b v1Flavor) int {
		switch {
		case a.promoted.Bool == b.promoted.Bool:
			return strings.Compare(a.id, b.id)
		case a.promoted.Bool:
			return -1
		}
		return 1
	})
	for _, f := range old.flavors {
		if err := im.flavor(f); err != nil {
			return err
		}
	}
	for _, l := range old.links {
		if err := im.link(l); err != nil {
			return err
		}
	}
	return nil
}

// refused tells a client's error, which keeps back its row only, from the
// database's.
func refused(err error) (*flavor.Error, error) {
	if refusal, ok := errors.AsType[*flavor.Error](err); ok {
		return refusal, nil
	}
	return nil, err
}

func (im *importer) region(old v1Region) error {
	const table = "infrastructure"
	r := flavor.Region{
		Name: old.name, KeystoneURL: old.keystoneURL.String,
		Username: old.username.String, Password: flavor.Secret(old.password.String), Tenant: old.tenant.String,
		UserDomain: "Default", ProjectDomain: "Default",
		Status: flavor.RegionStatus{State: flavor.RegionUnknown},
	}
	if err := r.Validate(); err != nil {
		refusal, err := refused(err)
		if err == nil {
			im.skip(table, old.name, "%s", refusal.Message)
		}
		return err
	}
	switch _, err := im.tx.Region(r.Name); flavor.CodeOf(err) {
	case "":
		im.report.Unchanged++
		return nil
	case flavor.CodeNotFound:
	default:
		return err
	}
	if err := im.tx.InsertRegion(r); err != nil {
		refusal, err := refused(err)
		if err == nil {
			im.skip(table, old.name, "%s", refusal.Message)
		}
		return err
	}
	im.report.Regions++
	return nil
}

func (im *importer) flavor(old v1Flavor) error {
	const table = "flavor"
	if !old.public.Bool && !old.promoted.Bool {
		im.report.Private++
		im.private[old.id] = true
		return nil
	}
	f := flavor.Flavor{
		ID: old.id,
		Spec: flavor.Spec{
			Name: old.name.String, VCPUs: int(old.vcpus.Int64), RAM: int(old.ram.Int64), Disk: int(old.disk.Int64),
			Swap: int(old.swap.Int64), RxTxFactor: 1,
		},
		Promoted: old.promoted.Bool, Public: true,
	}
	invalid := flavor.ValidateID(old.id)
	if invalid == nil {
		invalid = f.Validate()
	}
	if invalid != nil {
		refusal, err := refused(invalid)
		if err == nil {
			im.skip(table, old.id, "%s", refusal.Message)
		}
		return err
	}
	if !flavor.IsUUID(f.ID) {
		f.ID = uuid.NewString()
	}
	same, err := im.already(old.id, f)
	if err != nil {
		return err
	}
	if same == nil {
		im.report.Flavors++
		im.taken[old.id] = f.ID
		return im.tx.InsertFlavor(f)
	}
	for first, id := range im.taken {
		if id == same.ID {
			im.skip(table, old.id, "its name %q is that of flavor %s too, and names are unique among public flavors", f.Name, first)
			return nil
		}
	}
	if ds := sizes(f.Spec).Differences(sizes(same.Spec)); len(ds) > 0 {
		im.skip(table, old.id, "flavor %s of the catalogue has its id or its name, but %s", same.ID, join(ds))
		return nil
	}
	im.report.Unchanged++
	im.taken[old.id] = same.ID
	return nil
}

// already is the flavor of the catalogue that f would be: the one with its id,
// or with its name. A flavor that got a new UUID is found again by its name.
func (im *importer) already(oldID string, f flavor.Flavor) (*flavor.Flavor, error) {
	same, err := im.tx.findFlavor("id", oldID)
	if err != nil || same != nil {
		return same, err
	}
	return im.tx.findFlavor("name", f.Name)
}

// sizes is what flavor-sync 1.0 knew of a flavor; the rest may have been added
// here since.
func sizes(s flavor.Spec) flavor.Spec {
	return flavor.Spec{Name: s.Name, VCPUs: s.VCPUs, RAM: s.RAM, Disk: s.Disk, Swap: s.Swap}
}

func join(ds []flavor.Difference) string {
	var all []string
	for _, d := range ds {
		all = append(all, d.String())
	}
	return strings.Join(all, ", ")
}

func (im *importer) link(old v1Link) error {
	const table = "flavor_infrastructure_link"
	key := old.flavor + " in " + old.region
	id, ok := im.taken[old.flavor]
	switch {
	case im.private[old.flavor]:
		return nil
	case !ok:
		im.skip(table, key, "its flavor was not taken over")
		return nil
	}
	there, err := im.tx.lock(&regionRow{}, "name", old.region)
	if err != nil {
		return err
	}
	if !there {
		im.skip(table, key, "there is no region %s here", old.region)
		return nil
	}
	noted, err := im.tx.Installations(id)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(noted, func(i flavor.Installation) bool { return i.Region == old.region }) {
		im.report.Unchanged++
		return nil
	}
	im.report.Installations++
	return im.tx.PutInstallation(flavor.Installation{FlavorID: id, Region: old.region, NodeID: old.flavor})
}
