package marketplace

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/flavorsync/flavorsync/internal/flavor"
	"github.com/flavorsync/flavorsync/internal/simstack"
)

// as is a context in p's name.
func as(t *testing.T, p flavor.Principal, a flavor.Action) context.Context {
	return flavor.WithActor(t.Context(), flavor.Actor{Provider: "test", ID: p.ID, Name: p.Name, RequestID: string(a), Action: a})
}

// told is the audit in the order in which it was written, a line each:
// object region outcome, and what came (+) or went (-).
func (w world) told(t *testing.T, f flavor.AuditFilter) []string {
	t.Helper()
	f.Limit = MaxAudit
	entries, _, err := w.Audit(t.Context(), manager, f)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, e := range slices.Backward(entries) {
		line := fmt.Sprintf("%s %s %s", e.Object, e.Region, e.Outcome)
		switch {
		case e.Before == nil && e.After == nil:
		case e.Before == nil:
			line += " +"
		case e.After == nil:
			line += " -"
		default:
			line += " ±"
		}
		if e.Count > 1 {
			line += fmt.Sprintf(" %dx", e.Count)
		}
		lines = append(lines, strings.Join(strings.Fields(line), " "))
	}
	return lines
}

func (w world) tells(t *testing.T, a flavor.Action, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, w.told(t, flavor.AuditFilter{Action: a})); diff != "" {
		t.Errorf("the audit of %s: %s", a, diff)
	}
}

// Each change tells of itself, once; a second one that changes nothing tells of
// nothing, and what is noticed on the way is nobody's deed.
func TestAuditOfChanges(t *testing.T) {
	w := newWorld(t, 5*time.Second, "Spain2", "Trento")
	w.cloud.AddFlavor("Spain2", flavor.NovaFlavor{ID: "1", Spec: spec("seen"), IsPublic: true})
	s, public := spec("made"), true
	f, err := w.CreateFlavor(as(t, manager, flavor.CreateFlavor), manager, flavor.Patch{
		Name: &s.Name, VCPUs: &s.VCPUs, RAM: &s.RAM, Disk: &s.Disk, Nodes: &[]string{"Spain2"}, Public: &public,
	})
	if err != nil {
		t.Fatal(err)
	}
	w.tells(t, flavor.CreateFlavor, "region_flavor Spain2 pending +", "region_flavor Spain2 success +", "flavor success +", "node Spain2 success +")
	for range 2 {
		if _, err := w.install(as(t, trento, flavor.ChangeFlavor), trento, f.ID, "Trento"); err != nil {
			t.Fatal(err)
		}
	}
	w.tells(t, flavor.ChangeFlavor, "region_flavor Trento pending +", "node Trento success +", "region_flavor Trento success +")
	for range 2 {
		if err := w.DeleteFlavor(as(t, trento, flavor.DeleteFlavor), trento, f.ID, "Trento"); err != nil && flavor.CodeOf(err) != flavor.CodeForbidden {
			t.Fatal(err)
		}
	}
	w.tells(t, flavor.DeleteFlavor, "region_flavor Trento pending -", "node Trento success -", "region_flavor Trento success -")

	// A list that notices a node of a flavor promoted since is no change of who asked.
	p := w.promoted(t, "seen")
	if _, err := w.Flavors(as(t, manager, flavor.ReadFlavors), manager, Filter{Fresh: true}); err != nil {
		t.Fatal(err)
	}
	if len(w.rows(t, p.ID)) != 1 {
		t.Fatal("the node was not noticed")
	}
	w.tells(t, flavor.ReadFlavors)
}

// The careful change, which may outlive its process, has a line before and one
// after it; so has one in place; and a region's own flavor that goes.
func TestAuditOfRegionFlavors(t *testing.T) {
	w := newWorld(t, 5*time.Second, "Spain2")
	w.cloud.AddFlavor("Spain2", flavor.NovaFlavor{ID: "1", Spec: spec("one"), IsPublic: true})
	token := w.operator()
	user := flavor.Principal{ID: "u", Name: "user"}
	for _, patch := range []flavor.Patch{{RAM: new(4096)}, {RAM: new(4096)}, {Description: new("d")}} {
		if _, err := w.ChangeRegionFlavor(as(t, user, flavor.ChangeRegionFlavor), user, "Spain2", token, "1", patch); err != nil {
			t.Fatal(err)
		}
	}
	w.tells(t, flavor.ChangeRegionFlavor,
		"region_flavor Spain2 pending ±", "region_flavor Spain2 success ±", "region_flavor Spain2 pending ±", "region_flavor Spain2 success ±")
	entries, _, err := w.Audit(t.Context(), manager, flavor.AuditFilter{Limit: 4})
	if err != nil || entries[2].Before["ram"] != "2048" || entries[2].After["ram"] != "4096" || len(entries[2].After) != 1 || entries[2].Flavor != "1" {
		t.Errorf("%v, %+v", err, entries)
	}
	if err := w.DeleteRegionFlavor(as(t, user, flavor.DeleteRegionFlavor), user, "Spain2", token, "1"); err != nil {
		t.Fatal(err)
	}
	w.tells(t, flavor.DeleteRegionFlavor, "region_flavor Spain2 pending -", "region_flavor Spain2 success -")
}

// A Nova that fails half-way leaves the line of what was begun, and one that says
// that the call failed.
func TestAuditOfFailures(t *testing.T) {
	w := newWorld(t, time.Second, "Spain2")
	f := w.promoted(t, "p")
	mend := w.cloud.Fault("Spain2", simstack.Fault{Service: simstack.Nova, Method: "POST", Kind: simstack.ServerError})
	ctx := as(t, manager, flavor.ChangeFlavor)
	_, err := w.install(ctx, manager, f.ID, "Spain2")
	if flavor.CodeOf(err) != flavor.CodeUnreachable {
		t.Fatal(err)
	}
	w.NotDone(ctx, err)
	mend()
	w.tells(t, flavor.ChangeFlavor, "region_flavor Spain2 pending +", "call failure")
}

// What a caller is refused again and again costs a line a minute, whatever they
// ask for; nobody else's lines suffer, and none is lost in the end.
func TestAuditOfRefusals(t *testing.T) {
	w := newWorld(t, time.Second)
	now := time.Now()
	w.now = func() time.Time { return now }
	refuse := func(p flavor.Principal, a flavor.Action) {
		w.NotDone(as(t, p, a), flavor.Forbidden("no"))
	}
	a, b := flavor.Principal{ID: "a", Name: "a"}, flavor.Principal{ID: "b", Name: "b"}
	for range 5 {
		refuse(a, flavor.DeleteFlavor)
	}
	refuse(b, flavor.DeleteFlavor)
	w.tells(t, flavor.DeleteFlavor, "call refused", "call refused")
	if !w.refusals.recent("test/a", now) {
		t.Error("what a begins would be written down each time")
	}
	now = now.Add(countFor)
	refuse(a, flavor.DeleteFlavor)
	w.tells(t, flavor.DeleteFlavor, "call refused", "call refused", "call refused 5x")
	refuse(a, flavor.DeleteFlavor)
	refuse(a, flavor.ChangeFlavor)
	if err := w.TidyAudit(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.tells(t, flavor.ChangeFlavor)
	now = now.Add(countFor)
	for range 2 {
		if err := w.TidyAudit(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	w.tells(t, flavor.ChangeFlavor, "call refused 2x")
	refuse(a, flavor.CreateFlavor)
	refuse(a, flavor.CreateFlavor)
	w.EndAudit(t.Context())
	w.tells(t, flavor.CreateFlavor, "call refused", "call refused")

	// In nobody's name there is nothing to tell; a failure of ours says nothing
	// that is not for the client; and what was done in part is told each time.
	w.NotDone(t.Context(), flavor.Forbidden("no"))
	w.NotDone(as(t, b, flavor.RunPush), fmt.Errorf("sql: password=hunter2"))
	entries, _, err := w.Audit(t.Context(), manager, flavor.AuditFilter{Action: flavor.RunPush, Limit: 10})
	if err != nil || len(entries) != 1 || entries[0].Outcome != flavor.Failure || strings.Contains(entries[0].Message, "hunter2") {
		t.Errorf("%v %+v", err, entries)
	}
	for range 3 {
		ctx := as(t, b, flavor.DeletePromoted)
		flavor.Acted(ctx)
		w.NotDone(ctx, flavor.Conflict("in part"))
	}
	w.tells(t, flavor.DeletePromoted, "call refused", "call refused", "call refused")
}

// A crowd of callers costs bounded memory, and those who make room lose nothing.
func TestRefusalsAreBounded(t *testing.T) {
	r, now := newRefusals(), time.Now()
	written := 0
	count := func(lines []flavor.AuditEntry) {
		for _, e := range lines {
			written += e.Count
		}
	}
	for i := range 2*maxCounted + 1 {
		e := flavor.AuditEntry{By: flavor.Actor{Provider: "test", ID: fmt.Sprint(i)}}
		count(r.add(e, now))
		count(r.add(e, now))
	}
	if n := r.callers.Len(); n != maxCounted {
		t.Errorf("%d callers are counted", n)
	}
	count(r.due(now, true))
	if written != 2*(2*maxCounted+1) {
		t.Errorf("of %d refusals %d are told", 2*(2*maxCounted+1), written)
	}
}

// The audit is kept as long as configured, however much there is, and read by
// managers only.
func TestAuditIsKeptAndRead(t *testing.T) {
	w := newWorld(t, time.Second)
	w.keepAudit = time.Hour
	for i := range dropped + 5 {
		w.NotDone(as(t, flavor.Principal{ID: fmt.Sprint(i)}, flavor.RunPush), flavor.Forbidden("no"))
	}
	if err := w.TidyAudit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, more, err := w.Audit(t.Context(), manager, flavor.AuditFilter{Limit: MaxAudit}); !more || err != nil {
		t.Errorf("young lines are gone: %v", err)
	}
	w.now = func() time.Time { return time.Now().Add(2 * time.Hour) }
	if err := w.TidyAudit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if entries, more, err := w.Audit(t.Context(), manager, flavor.AuditFilter{Limit: MaxAudit}); len(entries) > 0 || more || err != nil {
		t.Errorf("%d old lines are there, %v", len(entries), err)
	}
	if _, _, err := w.Audit(t.Context(), trento, flavor.AuditFilter{Limit: 1}); flavor.CodeOf(err) != flavor.CodeManagerOnly {
		t.Errorf("an owner reads the audit: %v", err)
	}
}

// An install that was finished, and of which that was not noted, is gone over once
// more: the audit tells of it once.
func TestAuditOfAnInstallGoneOverAgain(t *testing.T) {
	w := newWorld(t, 10*time.Second, "Trento")
	f := w.promoted(t, "x")
	r, err := w.region(t.Context(), "Trento")
	if err != nil {
		t.Fatal(err)
	}
	for _, again := range []bool{false, true} {
		if err := w.Market.install(as(t, manager, flavor.InstallFlavor), f, w.ask(t.Context(), r), attempt{again: again}); err != nil {
			t.Fatal(err)
		}
	}
	told := w.told(t, flavor.AuditFilter{Outcome: flavor.Success, Action: flavor.InstallFlavor})
	told = slices.DeleteFunc(told, func(line string) bool { return !strings.HasPrefix(line, string(flavor.AuditedRegionFlavor)) })
	if len(told) != 1 {
		t.Errorf("the audit tells %v", told)
	}
}
