package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/flavorsync/flavorsync/internal/config"
	"github.com/flavorsync/flavorsync/internal/store"
)

func migrateCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "migrate",
		Short: "Bring the database to this version's schema, or back",
		Long: `Bring the database to this version's schema, or back. serve does the former by
itself at start: this is for those who want it done, or looked at, before.`,
		Example: `  flavorsync migrate status --config flavorsync.yaml
  flavorsync migrate up --config flavorsync.yaml`,
		Args: cobra.NoArgs, // else a mistyped command is no error
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
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
	return withDatabase(ctx, cfg, nil, do)
}

func withDatabase(ctx context.Context, cfg *config.Config, keyset *store.Keyset, do func(*store.Store) error) error {
	db, err := store.Open(ctx, store.Config{
		Driver: cfg.Database.Driver, DSN: string(cfg.Database.DSN), Keyset: keyset, Log: jsonLog(os.Stderr),
	})
	if err != nil {
		return err
	}
	return errors.Join(do(db), db.Close())
}

func migrateUp(path *string) *cobra.Command {
	return &cobra.Command{
		Use:     "up",
		Short:   "Apply all migrations that are pending",
		Example: "  flavorsync migrate up --config flavorsync.yaml",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withStore(cmd.Context(), *path, func(db *store.Store) error {
				if err := db.Up(cmd.Context()); err != nil {
					return err
				}
				return tellVersion(cmd.Context(), cmd.OutOrStdout(), db)
			})
		},
	}
}

func migrateDown(path *string) *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use:   "down",
		Short: "Take the last migration back, and lose what it holds",
		Long: `Take the last migration back, to the schema of the version before. What only the
newer schema can hold is lost: make a backup first, and stop every serve. The step
that bound stored passwords to their database needs the keyset to undo that.`,
		Example: `  flavorsync migrate down --config flavorsync.yaml
  flavorsync migrate down --all --config flavorsync.yaml`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := config.Load(*path, os.Environ())
			if err != nil {
				return err
			}
			var keyset *store.Keyset
			if !all {
				var missing bool
				keyset, missing, err = loadKeyset(cfg)
				if err != nil {
					return err
				}
				if missing {
					keyset = nil // it is not made here
				}
			}
			return withDatabase(cmd.Context(), cfg, keyset, func(db *store.Store) error {
				down := db.Down
				if all {
					down = db.Reset
				}
				if err := down(cmd.Context()); err != nil {
					return err
				}
				return tellVersion(cmd.Context(), cmd.OutOrStdout(), db)
			})
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "take all of them back: everything stored is lost")
	return cmd
}

func tellVersion(ctx context.Context, out io.Writer, db *store.Store) error {
	steps, err := db.Status(ctx)
	if err != nil {
		return err
	}
	var version int64
	for _, s := range steps {
		if s.AppliedAt != nil {
			version = max(version, s.Version)
		}
	}
	_, err = fmt.Fprintf(out, "the database's schema is at version %d\n", version)
	return err
}

func migrateStatus(path *string) *cobra.Command {
	return &cobra.Command{
		Use:     "status",
		Short:   "List the migrations and when each was applied",
		Example: "  flavorsync migrate status --config flavorsync.yaml",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withStore(cmd.Context(), *path, func(db *store.Store) error {
				steps, err := db.Status(cmd.Context())
				if err != nil {
					return err
				}
				table := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
				fmt.Fprintln(table, "VERSION\tNAME\tAPPLIED")
				for _, s := range steps {
					applied := "pending"
					if s.AppliedAt != nil {
						applied = s.AppliedAt.UTC().Format(time.RFC3339)
					}
					fmt.Fprintf(table, "%d\t%s\t%s\n", s.Version, s.Name, applied)
				}
				return table.Flush()
			})
		},
	}
}

// v1Variable keeps the password of flavor-sync 1.0's database out of the list of
// processes.
const v1Variable = "FLAVORSYNC_V1_DSN"

func migrateImport(path *string) *cobra.Command {
	var dsn string
	cmd := &cobra.Command{
		Use:   "import-v1",
		Short: "Take over the database of a flavor-sync 1.0",
		Long: `Take over the regions, the public flavors and their nodes from the MySQL
database of a flavor-sync 1.0, which is only read. What cannot be taken over is
listed with the reason; private flavors are not taken over, since each region's
Nova has them. Running it again changes nothing.

It brings the database to this version's schema first, and makes the keyset, as
serve does.`,
		Example: `  flavorsync migrate import-v1 --config flavorsync.yaml \
    --dsn 'flavorsync:PASSWORD@tcp(db.example.org:3306)/flavorsync1'
  read -rs ` + v1Variable + ` && export ` + v1Variable + `
  flavorsync migrate import-v1 --config flavorsync.yaml`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if dsn == "" {
				dsn = os.Getenv(v1Variable)
			}
			if dsn == "" {
				return fmt.Errorf("which database? give --dsn, or %s in the environment", v1Variable)
			}
			return importV1(cmd, *path, dsn)
		},
	}
	cmd.Flags().StringVar(&dsn, "dsn", "", "flavor-sync 1.0's database, `user:password@tcp(host:3306)/name`, also "+v1Variable)
	return cmd
}

func importV1(cmd *cobra.Command, path, dsn string) error {
	cfg, err := config.Load(path, os.Environ())
	if err != nil {
		return err
	}
	log := jsonLog(os.Stderr)
	db, closeDB, err := openStore(cmd.Context(), cfg, log, operators, false, nil)
	if err != nil {
		return err
	}
	report, err := store.ImportV1(cmd.Context(), db, dsn, log)
	if err == nil {
		out := cmd.OutOrStdout()
		fmt.Fprintf(out, "imported: %d regions, %d flavors, %d installations\n", report.Regions, report.Flavors, report.Installations)
		fmt.Fprintf(out, "here already: %d rows\n", report.Unchanged)
		fmt.Fprintf(out, "left to their regions: %d private flavors\n", report.Private)
		fmt.Fprintf(out, "skipped: %d rows\n", len(report.Skipped))
		for _, s := range report.Skipped {
			fmt.Fprintf(out, "  %s\n", s)
		}
	}
	return errors.Join(err, closeDB())
}
