package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/flavorsync/flavorsync/internal/config"
	"github.com/flavorsync/flavorsync/internal/store"
)

func keysCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "keys",
		Short: "Look at and change the keys that encrypt the stored secrets",
		Long: `Look at and change the keys that encrypt the stored secrets, while serve runs.
A key is told by its id; none is ever printed.`,
		Example: `  flavorsync keys status --config flavorsync.yaml
  flavorsync keys rotate --config flavorsync.yaml`,
		Args: cobra.NoArgs, // else a mistyped command is no error
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	path := configFlag(cmd)
	cmd.AddCommand(keysStatus(path), keysRotate(path), keysPrune(path), keysConvert(path, true), keysConvert(path, false))
	return cmd
}

// withKeys runs do with the configured database and keyset, both as serve has made
// them.
func withKeys(ctx context.Context, path string, do func(*store.Store) error) error {
	cfg, err := config.Load(path, os.Environ())
	if err != nil {
		return err
	}
	keyset, created, err := loadKeyset(cfg)
	if err != nil {
		return err
	}
	if created {
		return fmt.Errorf("there is no credentials keyset %s: serve makes it at its first start", cfg.CredentialsKeyset)
	}
	return withDatabase(ctx, cfg, keyset, func(db *store.Store) error {
		if err := db.Ping(ctx); err != nil { // a schema that serve has not made yet is not made here
			return err
		}
		if err := db.BindKeyset(ctx); err != nil {
			return err
		}
		return do(db)
	})
}

func keysStatus(path *string) *cobra.Command {
	return &cobra.Command{
		Use:     "status",
		Short:   "List the keys, how much each encrypts, and the processes that serve",
		Example: "  flavorsync keys status --config flavorsync.yaml",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withKeys(cmd.Context(), *path, func(db *store.Store) error {
				keys, serving, err := db.KeyStatus(cmd.Context())
				if err != nil {
					return err
				}
				return tellKeys(cmd.OutOrStdout(), keys, serving)
			})
		},
	}
}

func tellKeys(out io.Writer, keys []store.Key, serving []store.Replica) error {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "KEY\tSECRETS\tSTATE")
	for _, k := range keys {
		state := "kept: flavorsync keys prune removes it"
		switch {
		case !k.InFile:
			state = "missing from the keyset"
		case k.Encrypts:
			state = "encrypts"
		case k.Added:
			state = "added: flavorsync keys rotate goes on with it"
		case k.Rows > 0:
			state = "old: flavorsync keys rotate encrypts these anew"
		}
		fmt.Fprintf(table, "%s\t%d\t%s\n", k.ID, k.Rows, state)
	}
	fmt.Fprintln(table)
	fmt.Fprintln(table, "SERVING\tKEYS")
	for _, r := range serving {
		fmt.Fprintf(table, "%s\t%s\n", r.Name, strings.Join(r.Keys, " "))
	}
	return table.Flush()
}

func keysRotate(path *string) *cobra.Command {
	var wait time.Duration
	var prune bool
	cmd := &cobra.Command{
		Use:   "rotate",
		Short: "Encrypt everything with a new key",
		Long: `Add a key to the keyset, wait until every process that serves has read it, have
it encrypt from then on, and encrypt with it what older keys have encrypted. No
process needs to be stopped, and none fails a request.

Where processes have copies of the keyset of their own, it stops before the new key
encrypts anything, and names them: copy the keyset there and run it again. It goes
on where it was, also after it was killed.

The old keys stay in the keyset, for backups of the database, until they are pruned.`,
		Example: `  flavorsync keys rotate --config flavorsync.yaml
  flavorsync keys rotate --prune --config flavorsync.yaml`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withKeys(cmd.Context(), *path, func(db *store.Store) error {
				out := cmd.OutOrStdout()
				err := db.Rotate(cmd.Context(), store.Rotation{
					Wait: wait,
					Tell: func(format string, args ...any) { fmt.Fprintf(out, format+"\n", args...) },
				})
				if err != nil || !prune {
					return err
				}
				return pruneKeys(cmd, db)
			})
		},
	}
	cmd.Flags().DurationVar(&wait, "wait", time.Minute, "how long processes that serve may take to read the new key; one that was killed is forgotten after half a minute")
	cmd.Flags().BoolVar(&prune, "prune", false, "remove the old keys, as flavorsync keys prune does")
	return cmd
}

func keysPrune(path *string) *cobra.Command {
	return &cobra.Command{
		Use:   "prune",
		Short: "Remove the keys that encrypt nothing any more",
		Long: `Remove all keys from the keyset but the one that encrypts. A backup of the database
from before the last rotation cannot be restored then without a copy of the keyset
as it was. It refuses while a rotation is unfinished.`,
		Example: "  flavorsync keys prune --config flavorsync.yaml",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withKeys(cmd.Context(), *path, func(db *store.Store) error { return pruneKeys(cmd, db) })
		},
	}
}

func pruneKeys(cmd *cobra.Command, db *store.Store) error {
	removed, err := db.PruneKeys(cmd.Context())
	if err != nil {
		return err
	}
	for _, id := range removed {
		fmt.Fprintf(cmd.OutOrStdout(), "key %s is removed\n", id)
	}
	if removed == nil {
		fmt.Fprintln(cmd.OutOrStdout(), "there is no key to remove")
	}
	return nil
}

// keysConvert is encrypt, or decrypt.
func keysConvert(path *string, encrypt bool) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "encrypt",
		Short: "Have the keyset encrypted by the KMS",
		Long: `Have the keyset, which is in clear text, encrypted by the KMS that credentials_kms
names. It is done already where it is encrypted so. Restart each serve with that
setting then. Copies of the keyset that are elsewhere stay in clear text: keys rotate
and keys prune make them worthless.`,
		Example: "  flavorsync keys encrypt --config flavorsync.yaml",
		Args:    cobra.NoArgs,
	}
	if !encrypt {
		cmd.Use, cmd.Short = "decrypt", "Have the keyset decrypted by the KMS"
		cmd.Long = `Have the keyset, which the KMS that credentials_kms names has encrypted, decrypted:
it is in clear text then. Remove that setting then, and restart each serve.`
		cmd.Example = "  flavorsync keys decrypt --config flavorsync.yaml"
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, err := config.Load(*path, os.Environ())
		if err != nil {
			return err
		}
		key, err := openKMS(cfg)
		if err != nil {
			return err
		}
		if key == nil {
			return errors.New("credentials_kms is not set: name the key of the KMS there")
		}
		from, to, is := tink.AEAD(nil), key, "encrypted by the KMS"
		if !encrypt {
			from, to, is = key, nil, "in clear text"
		}
		changed, err := store.ConvertKeyset(cfg.CredentialsKeyset, from, to)
		if err != nil {
			return err
		}
		now := "is now"
		if !changed {
			now = "is already"
		}
		fmt.Fprintf(cmd.OutOrStdout(), "%s %s %s\n", cfg.CredentialsKeyset, now, is)
		return nil
	}
	return cmd
}
