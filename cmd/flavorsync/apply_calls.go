package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/flavorsync/flavorsync/internal/declared"
	"github.com/flavorsync/flavorsync/internal/flavor"
)

// applying carries out a plan, one call after the other.
type applying struct {
	*client
	out, complaints io.Writer
	wait            func(context.Context, time.Duration) error // for a test to replace
}

const (
	// flavorsPage is how many flavors are asked for at once.
	flavorsPage = 1000
	// maxWait is how long Flavorsync may ask us to wait where we are too fast for it.
	maxWait = time.Minute
	// maxTries is how often one call is made that Flavorsync did not take up.
	maxTries = 5
)

// wireFlavor is a flavor as the API has it.
type wireFlavor struct {
	ID          string            `json:"id"`
	Name        string            `json:"name"`
	VCPUs       int               `json:"vcpus"`
	RAM         int               `json:"ram"`
	Disk        int               `json:"disk"`
	Swap        int               `json:"swap"`
	Ephemeral   int               `json:"ephemeral"`
	RxTxFactor  *float64          `json:"rxtx_factor"`
	Description string            `json:"description"`
	ExtraSpecs  map[string]string `json:"extra_specs"`
	Promoted    bool              `json:"promoted"`
	Public      bool              `json:"public"`
	Retired     bool              `json:"retired"`
	Nodes       []string          `json:"nodes"`
}

func (w wireFlavor) flavor() flavor.Flavor {
	f := flavor.Flavor{ID: w.ID, Promoted: w.Promoted, Public: w.Public, Retired: w.Retired, Nodes: w.Nodes, Spec: flavor.Spec{
		Name: w.Name, VCPUs: w.VCPUs, RAM: w.RAM, Disk: w.Disk, Swap: w.Swap, Ephemeral: w.Ephemeral,
		RxTxFactor: 1, Description: w.Description, ExtraSpecs: w.ExtraSpecs,
	}}
	if w.RxTxFactor != nil {
		f.RxTxFactor = *w.RxTxFactor
	}
	return f
}

// oneFlavor is the body of an answer.
type oneFlavor struct {
	Flavor *wireFlavor `json:"flavor"`
}

// errNotFlavorsync is an answer with another body than Flavorsync's.
var errNotFlavorsync = errors.New("what answers there is no Flavorsync: check FLAVORSYNC_URL")

// catalogue reads what there is: every page of the flavors and, where the file names
// any region, the regions.
func (a *applying) catalogue(ctx context.Context, file declared.File) (declared.Catalogue, error) {
	var now declared.Catalogue
	// What the regions have is asked of them now, once: whoever compares wants no
	// view from before.
	with := http.Header{"Cache-Control": {"no-cache"}}
	for marker := ""; ; with = nil {
		var page struct {
			Flavors []wireFlavor `json:"flavors"`
		}
		query := url.Values{"limit": {strconv.Itoa(flavorsPage)}}
		if marker != "" {
			query.Set("marker", marker)
		}
		header, err := a.send(ctx, http.MethodGet, "/flavors?"+query.Encode(), with, nil, &page)
		if err != nil {
			return now, err
		}
		if page.Flavors == nil {
			return now, errNotFlavorsync
		}
		for _, w := range page.Flavors {
			if f := w.flavor(); f.Public {
				now.Flavors = append(now.Flavors, f)
			} else {
				now.Private = append(now.Private, f)
			}
		}
		next := nextMarker(header)
		if next == "" {
			break
		}
		if next == marker {
			return now, errNotFlavorsync // it would never end
		}
		marker = next
	}
	if !slices.ContainsFunc(file.Flavors, func(f declared.Flavor) bool { return len(f.Nodes) > 0 }) {
		return now, nil
	}
	var regions struct {
		Infrastructures []struct{ Name string }
	}
	if _, err := a.send(ctx, http.MethodGet, "/regions", nil, nil, &regions); err != nil {
		return now, err
	}
	for _, r := range regions.Infrastructures {
		now.Regions = append(now.Regions, r.Name)
	}
	var me struct{ Whoami struct{ Regions []string } }
	if _, err := a.send(ctx, http.MethodGet, "/whoami", nil, nil, &me); err != nil {
		return now, err
	}
	now.Mine = me.Whoami.Regions
	return now, nil
}

// nextMarker is the marker of the page that follows, "" behind the last. The rest of
// the link is Flavorsync's view of its own address, and our credential goes where
// FLAVORSYNC_URL says only.
func nextMarker(header http.Header) string {
	for _, link := range header.Values("Link") {
		target, relation, _ := strings.Cut(strings.TrimPrefix(link, "<"), ">")
		if !strings.Contains(relation, `rel="next"`) {
			continue
		}
		if at, err := url.Parse(target); err == nil {
			return at.Query().Get("marker")
		}
	}
	return ""
}

// send is a call that waits where Flavorsync says that we are too fast: nothing was
// done then.
func (a *applying) send(ctx context.Context, method, path string, with http.Header, in, out any) (http.Header, error) {
	for try := 1; ; try++ {
		header, err := a.callWith(ctx, method, path, with, in, out)
		e, ok := errors.AsType[*callError](err)
		if !ok || e.status != http.StatusTooManyRequests || e.retryAfter > maxWait || try == maxTries {
			return header, err
		}
		if err := a.wait(ctx, max(e.retryAfter, time.Second)); err != nil {
			return nil, err
		}
	}
}

// pause waits for d, or for the end of ctx.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("while waiting for Flavorsync: %w", ctx.Err())
	}
}

// all does the steps, and is how many failed. It is an error where nothing more can
// be done: what answers nothing now will answer nothing to the rest either.
func (a *applying) all(ctx context.Context, steps []declared.Step) (failed int, err error) {
	for i := range steps {
		s := &steps[i]
		if len(s.Blocked) > 0 {
			failed++
			fmt.Fprintf(a.complaints, "flavorsync: %s is left as it is: %s\n", s.Name, strings.Join(s.Blocked, "; "))
			continue
		}
		done, err := a.step(ctx, s)
		if err == nil {
			fmt.Fprintln(a.out, done)
			continue
		}
		failed++
		fmt.Fprintf(a.complaints, "flavorsync: %s: %v\n", s.Name, err)
		if _, answered := errors.AsType[*callError](err); !answered && !errors.Is(err, errMeanwhile) {
			rest := len(steps) - i - 1
			return failed, fmt.Errorf("the last change may or may not have been made, and %d more were not tried: run it again, it goes on where it was", rest)
		}
	}
	return failed, nil
}

// step does one, and tells what was done.
func (a *applying) step(ctx context.Context, s *declared.Step) (string, error) {
	switch s.Verb {
	case declared.Create:
		f, err := a.create(ctx, s)
		return fmt.Sprintf("%s is created, with the id %s", s.Name, f.ID), err
	case declared.Change:
		return s.Name + " is changed", a.change(ctx, s)
	default:
		return s.Name + " is deleted", a.delete(ctx, s.Found)
	}
}

// create makes the flavor, and installs it in the regions where it is wanted besides.
func (a *applying) create(ctx context.Context, s *declared.Step) (flavor.Flavor, error) {
	f, err := a.make(ctx, s)
	if err != nil {
		return f, fmt.Errorf("cannot be created: %w", err)
	}
	install := s.Install
	if !s.Promote {
		install = install[1:] // it was made in the first
	}
	if len(install) > 0 {
		if f, err = a.put(ctx, public(f), f, map[string]any{"nodes": install}); err != nil {
			return f, fmt.Errorf("is created, but cannot be installed: %w", err)
		}
	}
	if s.Wanted.Retired != nil && *s.Wanted.Retired {
		if f, err = a.put(ctx, promoted(f), f, map[string]any{"retired": true}); err != nil {
			return f, fmt.Errorf("is created, but cannot be retired: %w", err)
		}
	}
	return f, nil
}

// make is what puts the flavor into the catalogue.
func (a *applying) make(ctx context.Context, s *declared.Step) (flavor.Flavor, error) {
	if s.Publish != nil {
		return a.put(ctx, public(*s.Publish)+"?"+url.Values{"node": s.Publish.Nodes}.Encode(), *s.Publish, map[string]any{"public": true})
	}
	path, body := "/promotedflavors", s.New()
	if !s.Promote {
		path, body["public"], body["nodes"] = "/flavors", true, s.Install[:1]
	}
	var made oneFlavor
	if _, err := a.send(ctx, http.MethodPost, path, nil, body, &made); err != nil {
		return flavor.Flavor{}, err
	}
	if made.Flavor == nil {
		return flavor.Flavor{}, errNotFlavorsync
	}
	return made.Flavor.flavor(), nil
}

// public is the path of a flavor where it is promoted and installed, promoted that
// where it is changed.
func public(f flavor.Flavor) string   { return "/flavors/" + url.PathEscape(f.ID) }
func promoted(f flavor.Flavor) string { return "/promotedflavors/" + url.PathEscape(f.ID) }

func (a *applying) change(ctx context.Context, s *declared.Step) error {
	f := s.Found
	var err error
	if s.Promote {
		if f, err = a.put(ctx, public(f), f, map[string]any{"promoted": true}); err != nil {
			return fmt.Errorf("cannot be promoted: %w", err)
		}
	}
	if body := s.Changes(); len(body) > 0 {
		if f, err = a.put(ctx, promoted(f), f, body); err != nil {
			return fmt.Errorf("cannot be changed (%s): %w", strings.Join(slices.Sorted(maps.Keys(body)), ", "), err)
		}
	}
	if len(s.Install) > 0 {
		if _, err = a.put(ctx, public(f), f, map[string]any{"nodes": s.Install}); err != nil {
			return fmt.Errorf("cannot be installed: %w", err)
		}
	}
	return nil
}

// delete drops a promoted flavor that no region has. One that is gone is as wanted.
func (a *applying) delete(ctx context.Context, f flavor.Flavor) error {
	for try := 1; ; try++ {
		same, err := a.unchanged(ctx, promoted(f), f)
		if err == nil {
			_, err = a.send(ctx, http.MethodDelete, promoted(f), same, nil, nil)
		}
		switch status := statusOf(err); {
		case err == nil, status == http.StatusNotFound:
			return nil
		case status == http.StatusPreconditionFailed && try < maxTries:
		default:
			return fmt.Errorf("cannot be deleted: %w", err)
		}
	}
}

// put changes a flavor that is still as it was seen, and is what it is then. Its
// nodes come and go by themselves: where they did, it is read again.
func (a *applying) put(ctx context.Context, path string, seen flavor.Flavor, body map[string]any) (flavor.Flavor, error) {
	for try := 1; ; try++ {
		same, err := a.unchanged(ctx, path, seen)
		if err != nil {
			return seen, err
		}
		var changed oneFlavor
		_, err = a.send(ctx, http.MethodPut, path, same, body, &changed)
		switch {
		case statusOf(err) == http.StatusPreconditionFailed && try < maxTries:
		case err != nil:
			return seen, err
		case changed.Flavor == nil:
			return seen, errNotFlavorsync
		default:
			return changed.Flavor.flavor(), nil
		}
	}
}

// errMeanwhile is that somebody else changed the flavor since it was shown.
var errMeanwhile = errors.New("somebody changed it meanwhile, and nothing more was done with it: run it again to see what differs now")

// unchanged is the condition that a flavor is still what it is now, which is as it
// was seen, but for its nodes.
func (a *applying) unchanged(ctx context.Context, path string, seen flavor.Flavor) (same http.Header, err error) {
	var now oneFlavor
	header, err := a.send(ctx, http.MethodGet, path, nil, nil, &now)
	switch {
	case err != nil:
		return nil, err
	case now.Flavor == nil:
		return nil, errNotFlavorsync
	}
	f := now.Flavor.flavor()
	if !f.Equal(seen.Spec) || f.Promoted != seen.Promoted || f.Retired != seen.Retired {
		return nil, errMeanwhile
	}
	tag := header.Get("ETag")
	if tag == "" {
		return nil, errors.New("its ETag is missing, so that somebody else's change could be overwritten: have the proxy in front of Flavorsync leave it")
	}
	return http.Header{"If-Match": {tag}}, nil
}

// statusOf is the status of the answer that err is, or 0.
func statusOf(err error) int {
	if e, ok := errors.AsType[*callError](err); ok {
		return e.status
	}
	return 0
}
