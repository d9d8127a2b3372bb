package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/flavorsync/flavorsync/internal/config"
	"github.com/flavorsync/flavorsync/internal/store"
)

func migrateCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "migrate", Short: "Bring the database to this version's schema, or back"}
	path := configFlag(cmd)
	cmd.AddCommand(
		migrateUp(path), migrateDown(path), migrateStatus(path), migrateImport(path),
	)
	return cmd
}

// withStore runs do with the configured database, unmigrated.
func withStore(ctx context.Context, path string, do func(*store.Store) error) error {
	cfg, err := config.Load(path, os.Environ())
	if err != nil {
		return err
	}
	return withOpen(ctx, store.Config{
		Driver: cfg.Database.Driver, DSN: string(cfg.Database.DSN), Log: jsonLog(os.Stderr),
	}, do)
}

func withOpen(ctx context.Context, cfg store.Config, do func(*store.Store) error) error {
	db, err := store.Open(ctx, cfg)
	if err != nil {
		return err
	}
	return errors.Join(do(db), db.Close())
}

func migrateUp(path *string) *cobra.Command {
	return &cobra.Command{
		Use: "up", Short: "Apply all migrations that are pending", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withStore(cmd.Context(), *path, func(db *store.Store) error { return db.Up(cmd.Context()) })
		},
	}
}

func migrateDown(path *string) *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use: "down", Short: "Take the last migration back", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withStore(cmd.Context(), *path, func(db *store.Store) error {
				if all {
					return db.Reset(cmd.Context())
				}
				return db.Down(cmd.Context())
			})
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "take all of them back: everything stored is lost")
	return cmd
}

func migrateStatus(path *string) *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "List the migrations and when each was applied", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withStore(cmd.Context(), *path, func(db *store.Store) error {
				statuses, err := db.Status(cmd.Context())
				if err != nil {
					return err
				}
				table := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
				_, _ = fmt.Fprintln(table, "VERSION\tNAME\tAPPLIED")
				for _, s := range statuses {
					applied := "pending"
					if s.AppliedAt != nil {
						applied = s.AppliedAt.UTC().Format(time.RFC3339)
					}
					_, _ = fmt.Fprintf(table, "%d\t%s\t%s\n", s.Version, s.Name, applied)
				}
				return table.Flush()
			})
		},
	}
}

func migrateImport(path *string) *cobra.Command {
	var dsn string
	cmd := &cobra.Command{
		Use:   "import-v1",
		Short: "Take over the database of a flavor-sync 1.0",
		Long: `Take over the regions, the public flavors and their nodes from the MySQL
database of a flavor-sync 1.0. What cannot be taken over is listed with the
reason; private flavors are not taken over, since each region's Nova has them.
Running it again changes nothing.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return importV1(cmd, *path, dsn)
		},
	}
	cmd.Flags().StringVar(&dsn, "dsn", "", "flavor-sync 1.0's database: `user:password@tcp(host:3306)/name`")
	_ = cmd.MarkFlagRequired("dsn")
	return cmd
}

func importV1(cmd *cobra.Command, path, dsn string) error {
	cfg, err := config.Load(path, os.Environ())
	if err != nil {
		return err
	}
	log := jsonLog(os.Stderr)
	db, err := openStore(cmd.Context(), cfg, log)
	if err != nil {
		return err
	}
	report, err := store.ImportV1(cmd.Context(), db, dsn, log)
	if err == nil {
		out := cmd.OutOrStdout()
		_, _ = fmt.Fprintf(out, "imported %d regions, %d flavors, %d installations; skipped %d rows\n",
			report.Regions, report.Flavors, report.Installations, len(report.Skipped))
		for _, s := range report.Skipped {
			_, _ = fmt.Fprintf(out, "skipped %s %s: %s\n", s.Table, s.Key, s.Reason)
		}
	}
	return errors.Join(err, db.Close())
}
