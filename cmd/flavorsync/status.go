package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/flavorsync/flavorsync/internal/flavor"
)

// The statuses with which flavorsync status ends, besides 0.
const (
	exitUnknown = 1 // it cannot tell
	exitWrong   = 2 // something is wrong
)

// overdue is how late the next look at a region may be before that is wrong: looks
// are spread over time, and one that hangs takes its time limit.
const overdue = 2 * time.Minute

func statusCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Print how the federation is",
		Long: `Print how the federation is, as a running Flavorsync knows it: the one at
FLAVORSYNC_URL, as whom FLAVORSYNC_TOKEN, or FLAVORSYNC_USERNAME and
FLAVORSYNC_PASSWORD, say. A manager is told all of every region, an owner of
theirs, any other user which are up. No region is asked for it.

The exit status is 0 if all is well, 2 if something is wrong (a region does not
answer or refuses us, its next look is overdue, an operation failed, a flavor has
drifted) and 1 if that cannot be told. What is wrong is said on stderr.`,
		Example: `  flavorsync status
  flavorsync status --json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := newClient(os.Getenv)
			if err != nil {
				return err
			}
			return printStatus(cmd.Context(), cmd.OutOrStdout(), c, asJSON, time.Now())
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the answer of GET /v1/status as it is")
	return cmd
}

// toldStatus is what GET /v1/status answers.
type toldStatus struct {
	Regions    []toldRegion `json:"regions"`
	Operations struct {
		Running, Succeeded, Failed, Cancelled int
	} `json:"operations"`
	Failed []struct {
		Operation string `json:"operation"`
		Name      string `json:"name"`
		Node      string `json:"node"`
		Attempts  int    `json:"attempts"`
		LastError string `json:"last_error"`
	} `json:"failed"`
}

// toldRegion is one region of it; what is nil is not for us to know.
type toldRegion struct {
	Region    string    `json:"region"`
	State     string    `json:"state"`
	LastSeen  time.Time `json:"last_seen"`
	LastLook  time.Time `json:"last_look"`
	NextLook  time.Time `json:"next_look"`
	Took      *int64    `json:"duration_ms"`
	LastError string    `json:"last_error"`
	Pending   *int      `json:"pending"`
	Failed    *int      `json:"failed"`
	Drifted   *int      `json:"drifted"`
}

// printStatus prints it, and its error is what is wrong.
func printStatus(ctx context.Context, out io.Writer, c *client, asJSON bool, now time.Time) error {
	var answer struct {
		Status json.RawMessage `json:"status"`
	}
	if err := c.call(ctx, http.MethodGet, "/status", nil, &answer); err != nil {
		return err
	}
	var s toldStatus
	if err := json.Unmarshal(answer.Status, &s); err != nil {
		return fmt.Errorf("%s does not answer as Flavorsync does: check FLAVORSYNC_URL", c.at.Host)
	}
	show := s.table
	if asJSON {
		show = func(out io.Writer, _ time.Time) error { return indented(out, answer.Status) }
	}
	if err := show(out, now); err != nil {
		return err
	}
	return s.verdict(now)
}

func indented(out io.Writer, text json.RawMessage) error {
	shown, err := json.MarshalIndent(map[string]json.RawMessage{"status": text}, "", "  ")
	if err != nil {
		return fmt.Errorf("while writing the status: %w", err)
	}
	_, err = fmt.Fprintf(out, "%s\n", shown)
	return err
}

// table is s for people.
func (s toldStatus) table(out io.Writer, now time.Time) error {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "REGION\tSTATE\tLAST SEEN\tLAST LOOK\tTOOK\tLAG\tPENDING\tFAILED\tDRIFTED\tLAST ERROR")
	for _, r := range s.Regions {
		took := "-"
		if r.Took != nil {
			took = (time.Duration(*r.Took) * time.Millisecond).String()
		}
		fmt.Fprintln(table, strings.Join([]string{
			r.Region, r.State, ago(r.LastSeen, now), ago(r.LastLook, now), took, lagOf(r.lag(now)),
			count(r.Pending), count(r.Failed), count(r.Drifted), cmp.Or(r.LastError, "-"),
		}, "\t"))
	}
	o := s.Operations
	fmt.Fprintf(table, "\nOperations: %d running, %d succeeded, %d failed, %d cancelled\n", o.Running, o.Succeeded, o.Failed, o.Cancelled)
	if len(s.Failed) > 0 {
		fmt.Fprintln(table, "\nNODE\tFLAVOR\tATTEMPTS\tOPERATION\tREASON")
	}
	for _, f := range s.Failed {
		fmt.Fprintf(table, "%s\t%s\t%d\t%s\t%s\n", f.Node, f.Name, f.Attempts, f.Operation, f.LastError)
	}
	return table.Flush()
}

// lag is how late the next look at the region is by our clock, 0 where it is not.
func (r toldRegion) lag(now time.Time) time.Duration {
	if r.NextLook.IsZero() {
		return 0
	}
	return max(0, now.Sub(r.NextLook).Truncate(time.Second))
}

func lagOf(lag time.Duration) string {
	if lag == 0 {
		return "-"
	}
	return lag.String()
}

// ago is how long ago t was, which may be ahead of our clock by a little.
func ago(t, now time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return max(0, now.Sub(t).Truncate(time.Second)).String() + " ago"
}

func count(n *int) string {
	if n == nil {
		return "-"
	}
	return strconv.Itoa(*n)
}

// verdict is nil where all is well, else an error with the status to exit with.
func (s toldStatus) verdict(now time.Time) error {
	var wrong, unknown []string
	some := func(n *int, format string, region string) {
		if n != nil && *n > 0 {
			wrong = append(wrong, fmt.Sprintf(format, region, *n))
		}
	}
	for _, r := range s.Regions {
		switch flavor.RegionState(r.State) {
		case flavor.RegionUp:
		case flavor.RegionUnreachable, flavor.RegionRefused:
			wrong = append(wrong, r.Region+" is "+r.State)
		default:
			unknown = append(unknown, r.Region+" was not asked yet")
		}
		if lag := r.lag(now); lag > overdue {
			wrong = append(wrong, fmt.Sprintf("the next look at %s is overdue by %s", r.Region, lag))
		}
		some(r.Failed, "%s has failed nodes of operations: %d", r.Region)
		some(r.Drifted, "%s has flavors that drifted: %d", r.Region)
	}
	switch {
	case len(wrong) > 0:
		return &exitError{exitWrong, errors.New(strings.Join(append(wrong, unknown...), "; "))}
	case len(unknown) > 0:
		return &exitError{exitUnknown, errors.New(strings.Join(unknown, "; "))}
	}
	return nil
}
