// Command flavorsync is the marketplace of flavors for a federation of OpenStack
// clouds: the service, its database's migrations, and a demo of it all.
package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := root().ExecuteContext(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "flavorsync:", err)
		os.Exit(1)
	}
}

func root() *cobra.Command {
	cmd := &cobra.Command{
		Use:           "flavorsync",
		Short:         "The marketplace of flavors for a federation of OpenStack clouds",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	cmd.AddCommand(serveCommand(), migrateCommand(), demoCommand(), versionCommand())
	return cmd
}

// configFlag adds --config, whose default is FLAVORSYNC_CONFIG.
func configFlag(cmd *cobra.Command) *string {
	return cmd.PersistentFlags().String("config", os.Getenv("FLAVORSYNC_CONFIG"),
		"the configuration `file`; without one, the environment (FLAVORSYNC_*) and the defaults")
}

func jsonLog(w io.Writer) *slog.Logger { return slog.New(slog.NewJSONHandler(w, nil)) }
