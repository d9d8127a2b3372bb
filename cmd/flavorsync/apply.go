package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/flavorsync/flavorsync/internal/declared"
)

// errDifferences makes the exit status 2: a dry run found what is to be done.
var errDifferences = errors.New("the catalogue is not as declared")

type applyFlags struct {
	file          string
	dryRun        bool
	mandatoryOnly bool
	wish          declared.Wish
}

func applyCommand() *cobra.Command {
	var flags applyFlags
	cmd := &cobra.Command{
		Use:   "apply",
		Short: "Make the catalogue match a file of flavors",
		Long: `Make the catalogue of a running Flavorsync match a file of flavors: the one at
FLAVORSYNC_URL, as whom FLAVORSYNC_TOKEN, or FLAVORSYNC_USERNAME and
FLAVORSYNC_PASSWORD, say. What differs is shown first: + is created, ~ changed,
- deleted, ! cannot be done. Running it again changes nothing.

The file is YAML in a format of its own,

  flavors:
    - name: fed.small                 # with vcpus, ram (MB) and disk (GB)
      vcpus: 2
      ram: 4096
      disk: 20
      extra_specs: {"hw:cpu_policy": shared}
      nodes: [Spain2, Trento]         # regions to install it in; others keep it

with id, swap, ephemeral, rxtx_factor, description, promoted and retired where they
are wanted; or the flavor definitions that SovereignCloudStack and OSISM publish
(reference:, mandatory:, recommended:). What a flavor leaves out has Nova's default.

A new flavor is created promoted if it has no nodes, or the file or --promote says
so; else in the first of its nodes that you own, and published. A flavor is found by
its id, or by its name. Nothing is ever uninstalled.

The exit status is 0 where all is as declared, 1 where anything failed, and 2 where
a dry run leaves differences.`,
		Example: `  flavorsync apply -f flavors.yaml --dry-run
  flavorsync apply -f flavors.yaml
  flavorsync apply -f SCS-Spec.MandatoryFlavors.verbose.yaml --mandatory-only --promote
  generate-flavors | flavorsync apply -f - --prune`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if flags.file == "" {
				return errors.New("give -f FILE: which file declares the flavors, - for what comes in")
			}
			name, text, err := readDeclared(flags.file, cmd.InOrStdin())
			if err != nil {
				return err
			}
			file, err := declared.Parse(name, text, declared.Options{MandatoryOnly: flags.mandatoryOnly})
			if err != nil {
				return fmt.Errorf("nothing was done:\n%w", err)
			}
			c, err := newClient(os.Getenv)
			if err != nil {
				return err
			}
			return apply(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr(), c, file, flags)
		},
	}
	f := cmd.Flags()
	f.StringVarP(&flags.file, "file", "f", "", "the `FILE` that declares the flavors; - is what comes in")
	f.BoolVar(&flags.dryRun, "dry-run", false, "show what differs, and change nothing")
	f.BoolVar(&flags.wish.Prune, "prune", false, "delete the promoted flavors that the file does not name and no region has; those that a region has are told")
	f.BoolVar(&flags.wish.Promote, "promote", false, "promote every flavor that the file does not declare with promoted: false")
	f.BoolVar(&flags.mandatoryOnly, "mandatory-only", false, "of SovereignCloudStack's format, leave out what is recommended")
	return cmd
}

// readDeclared reads a file, or what comes in, and gives it a name for messages.
func readDeclared(path string, in io.Reader) (name string, text []byte, err error) {
	name = path
	if path == "-" {
		name = "standard input"
	} else {
		f, err := os.Open(path) //nolint:gosec // whoever runs the command names it
		if err != nil {
			return "", nil, fmt.Errorf("while reading the flavors: %w", err)
		}
		defer f.Close()
		in = f
	}
	// One byte more than may be tells that there is more.
	if text, err = io.ReadAll(io.LimitReader(in, declared.MaxBytes+1)); err != nil {
		return "", nil, fmt.Errorf("while reading the flavors: %w", err)
	}
	return name, text, nil
}

// apply shows what differs and, unless it is a dry run, does it. What fails is told
// on complaints, and the rest goes on.
func apply(ctx context.Context, out, complaints io.Writer, c *client, file declared.File, flags applyFlags) error {
	a := applying{client: c, out: out, complaints: complaints, wait: pause}
	now, err := a.catalogue(ctx, file)
	if err != nil {
		return fmt.Errorf("nothing was done, for the catalogue cannot be read: %w", err)
	}
	plan := declared.NewPlan(file, now, flags.wish)
	if err := plan.Show(out); err != nil {
		return fmt.Errorf("while showing what differs: %w", err)
	}
	if len(plan.Steps) == 0 {
		_, err := fmt.Fprintln(out, "nothing to do")
		return err
	}
	if flags.dryRun {
		return fmt.Errorf("%w: %d to do, %s", errDifferences, len(plan.Steps), possible(plan.Failing()))
	}
	failed, err := a.all(ctx, plan.Steps)
	switch {
	case err != nil:
		return err
	case failed > 0:
		return fmt.Errorf("%d of %d could not be done: correct what is told above, and run it again", failed, len(plan.Steps))
	}
	return nil
}

// possible tells how much of what a dry run shows would fail.
func possible(failing int) string {
	if failing == 0 {
		return "by running it without --dry-run"
	}
	return fmt.Sprintf("%d of which cannot be done (!)", failing)
}
