package ucloud

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/flavorsync/flavorsync/internal/flavor"
)

// State is how a push stands.
type State string

// The states of a push.
const (
	Never     State = "never"
	Running   State = "running"
	Succeeded State = "succeeded"
	Failed    State = "failed" // in part at least
)

// Trigger is why there was a push.
type Trigger string

// The triggers of a push.
const (
	Change Trigger = "change" // products have changed
	Period Trigger = "period" // it was time to compare
	Retry  Trigger = "retry"  // the last one failed in a way that may pass
	Manual Trigger = "manual" // a manager asked for it
)

// Report is what came of the last push, or what would come of one.
type Report struct {
	Mode       Mode
	Provider   string
	CoreURL    string
	State      State
	StartedAt  time.Time // zero: there was none; so the next two
	FinishedAt time.Time
	NextAt     time.Time
	Trigger    Trigger   // "": there was no push
	DryRun     bool      // nothing was sent or stored
	Sent       []Batch   // by category; of a dry run: what would be
	Unchanged  int       // products that Core has as they are to be
	Failed     []Failure // by category
	LastError  string    // of the push as a whole, or of the first of Failed; "" for none
}

// Batch are products of one category, by name.
type Batch struct {
	Category string   `json:"category"`
	Products []string `json:"products"`
}

// Failure are products of one category that could not be pushed.
type Failure struct {
	Category string   `json:"category"`
	Products []string `json:"products"`
	Status   int      `json:"status"` // Core's; 0: it was not asked, or did not answer
	Message  string   `json:"message"`

	final bool // it stays so until the products change
}

const seeReport = "; GET /v1/products/push tells all of it"

// err is the failure of the push that r tells of; nil where there is none.
// Something that was refused counts before what may pass.
func (r Report) err() error {
	var categories []string
	code := flavor.CodeUnreachable
	first := ""
	for _, f := range r.Failed {
		if !slices.Contains(categories, f.Category) {
			categories = append(categories, f.Category)
		}
		if f.final && code != flavor.CodeConflict || first == "" {
			first = f.Category + ": " + f.Message
		}
		if f.final {
			code = flavor.CodeConflict
		}
	}
	switch {
	case len(categories) > 0:
		return flavor.Errorf(code, "not all products were pushed to UCloud: of %s. %s%s", some(categories), first, seeReport)
	case r.LastError != "":
		return flavor.Errorf(code, "no products were pushed to UCloud: %s%s", r.LastError, seeReport)
	}
	return nil
}

// some names a few of categories.
func some(categories []string) string {
	const few = 5
	if more := len(categories) - few; more > 0 {
		return fmt.Sprintf("%s and %d more categories", strings.Join(categories[:few], ", "), more)
	}
	return strings.Join(categories, ", ")
}

// PushReport tells a manager how the pushes stand.
func (p *Provider) PushReport(ctx context.Context, who flavor.Principal) (Report, error) {
	if err := who.May(flavor.ReadPush); err != nil {
		return Report{}, err
	}
	if !p.pushes() {
		return p.report(), nil
	}
	st, err := p.state(ctx)
	return p.told(st), err
}

// report is one that tells of no push.
func (p *Provider) report() Report {
	r := Report{Mode: Off, State: Never}
	if p != nil {
		r.Mode, r.Provider, r.CoreURL = p.cfg.Push, p.cfg.ProviderID, p.cfg.CoreURL
	}
	return r
}

// told is the report of st.
func (p *Provider) told(st state) Report {
	r := p.report()
	if st.State == "" {
		return r
	}
	r.State, r.Trigger = st.State, st.Trigger
	r.StartedAt, r.FinishedAt = st.StartedAt, st.FinishedAt
	if st.State != Running {
		r.NextAt = st.next(p.cfg.PushInterval)
	}
	r.Sent, r.Unchanged, r.Failed, r.LastError = st.Sent, st.Unchanged, st.Failed, st.LastError
	return r
}
