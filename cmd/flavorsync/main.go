// Command flavorsync is the marketplace of flavors for a federation of OpenStack
// clouds: the service, its database's migrations, what its operators call, and a
// demo of it all.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

func main() {
	if err := root().ExecuteContext(untilSignal()); err != nil {
		fmt.Fprintln(os.Stderr, "flavorsync:", err)
		os.Exit(exitStatus(err))
	}
}

// exitError is an error with which a command ends with a status of its own.
type exitError struct {
	status int
	error
}

func (e *exitError) Unwrap() error { return e.error }

// exitStatus is the status to end with after err: 1, unless it says another.
func exitStatus(err error) int {
	if e, ok := errors.AsType[*exitError](err); ok {
		return e.status
	}
	if errors.Is(err, errDifferences) {
		return 2
	}
	return 1
}

// untilSignal ends with the first signal, which asks to finish. The next one
// does what signals do: it ends the process.
func untilSignal() context.Context {
	ctx, end := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-signals
		// Before anybody notices: signal.NotifyContext would swallow a second
		// signal that comes at once.
		signal.Stop(signals)
		end()
	}()
	return ctx
}

func root() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "flavorsync",
		Short: "The marketplace of flavors for a federation of OpenStack clouds",
		Long: `Flavorsync is the marketplace of flavors for a federation of OpenStack clouds.
Operators register their regions, publish flavors and install each other's;
managers promote those that every region should have. All of it is an HTTP API
in JSON and XML, described at /openapi.yaml and /flavorsync.xsd.

Start with the demo: it needs no configuration and no OpenStack.

The exit status is 0, or 1 after a message that says what is wrong, unless a
command's help says more.`,
		Example: `  flavorsync demo
  flavorsync serve --config /etc/flavorsync/flavorsync.yaml
  flavorsync migrate status --config /etc/flavorsync/flavorsync.yaml
  flavorsync region add --os-cloud trento
  flavorsync apply -f flavors.yaml --dry-run`,
		Version:       versionText(),
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	cmd.SetVersionTemplate(versionLine())
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return fmt.Errorf("%w: see %s --help", err, cmd.CommandPath())
	})
	cmd.AddCommand(serveCommand(), migrateCommand(), keysCommand(), regionCommand(), applyCommand(), statusCommand(), demoCommand(), versionCommand())
	return cmd
}

// configFlag adds --config, whose default is FLAVORSYNC_CONFIG.
func configFlag(cmd *cobra.Command) *string {
	return cmd.PersistentFlags().String("config", os.Getenv("FLAVORSYNC_CONFIG"),
		"the configuration `file`, also FLAVORSYNC_CONFIG; without one, FLAVORSYNC_* and the defaults")
}

// jsonLog is the log of a command, and of the libraries that use the default.
func jsonLog(w io.Writer) *slog.Logger {
	log := slog.New(slog.NewJSONHandler(w, nil))
	slog.SetDefault(log)
	return log
}
