package storetest

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/flavorsync/flavorsync/internal/flavor"
	"github.com/flavorsync/flavorsync/internal/store"
)

// told are the events behind after, as "type flavor's name region".
func told(t *testing.T, s *store.Store, after int64) (all []string, last int64) {
	t.Helper()
	events, lost := eventsBehind(t, s, after, 1000)
	if lost != 0 {
		t.Errorf("%d events are lost", lost)
	}
	last = after
	for _, e := range events {
		if e.ID != last+1 || time.Since(e.At) > time.Minute {
			t.Errorf("behind event %d comes %+v", last, e)
		}
		last = e.ID
		all = append(all, strings.Join(strings.Fields(string(e.Type)+" "+e.Name+" "+e.Region), " "))
	}
	return all, last
}

func eventsBehind(t *testing.T, s *store.Store, after int64, limit int) (events []flavor.Event, lost int64) {
	t.Helper()
	read(t, s, func(tx *store.Tx) (err error) {
		events, lost, err = tx.Events(after, limit)
		return err
	})
	return events, lost
}

func lastEvent(t *testing.T, s *store.Store) (last int64) {
	t.Helper()
	read(t, s, func(tx *store.Tx) (err error) {
		last, err = tx.LastEvent()
		return err
	})
	return last
}

// Every change that others may follow is told of in its own transaction, and what
// changes nothing, or is rolled back, is not.
func events(t *testing.T, s *store.Store) {
	f, plain := Flavor("f"), Flavor("plain")
	f.Promoted, plain.Promoted = false, false
	promoted, renamed := f, f
	promoted.Promoted = true
	retired := promoted
	retired.Retired = true
	renamed.Name = "renamed"
	node := flavor.Installation{FlavorID: f.ID, Region: "Trento", NodeID: "n", Created: true}
	another := node
	another.NodeID = "another"
	elsewhere := flavor.Installation{FlavorID: plain.ID, Region: "Trento", NodeID: "p"}
	status := func(state flavor.RegionState, text string) func(*store.Tx) error {
		return func(tx *store.Tx) error {
			return tx.SetRegionStatus("Trento", flavor.RegionStatus{State: state, LastError: text})
		}
	}
	up := Region("Up")
	up.Status.State = flavor.RegionUp
	undone := errors.New("no")
	last := lastEvent(t, s)
	for _, step := range []struct {
		what string
		do   func(*store.Tx) error
		want []string
	}{
		{"a new region", func(tx *store.Tx) error { return tx.InsertRegion(Region("Trento")) }, []string{"region.registered Trento"}},
		{"one that answers", func(tx *store.Tx) error { return tx.InsertRegion(up) }, []string{"region.registered Up", "region.up Up"}},
		{"its settings", func(tx *store.Tx) error { return tx.UpdateRegion(up) }, nil},
		{"unknown stays unknown", status(flavor.RegionUnknown, ""), nil},
		{"it answers", status(flavor.RegionUp, ""), []string{"region.up Trento"}},
		{"it still does", status(flavor.RegionUp, ""), nil},
		{"it does not", status(flavor.RegionUnreachable, "no route"), []string{"region.down Trento"}},
		{"it refuses us instead", status(flavor.RegionRefused, "401"), nil},
		{"it answers again", status(flavor.RegionUp, ""), []string{"region.up Trento"}},
		{"it is another now", status(flavor.RegionUnknown, ""), nil},
		{"which does not answer", status(flavor.RegionUnreachable, ""), []string{"region.down Trento"}},
		{"nobody's state", func(tx *store.Tx) error {
			return tx.SetRegionStatus("Mordor", flavor.RegionStatus{State: flavor.RegionUp})
		}, nil},
		{"a flavor", func(tx *store.Tx) error { return tx.InsertFlavor(f) }, []string{"flavor.published f"}},
		{"the same", func(tx *store.Tx) error { return tx.UpdateFlavor(f) }, nil},
		{"promoted", func(tx *store.Tx) error { return tx.UpdateFlavor(promoted) }, []string{"flavor.promoted f"}},
		{"retired", func(tx *store.Tx) error { return tx.UpdateFlavor(retired) }, []string{"flavor.retired f"}},
		{"taken back", func(tx *store.Tx) error { return tx.UpdateFlavor(promoted) }, []string{"flavor.changed f"}},
		{"promoted no more", func(tx *store.Tx) error { return tx.UpdateFlavor(f) }, []string{"flavor.changed f"}},
		{"several at once", func(tx *store.Tx) error {
			changed := retired
			changed.RAM++
			return cmp.Or(tx.UpdateFlavor(changed), tx.UpdateFlavor(f))
		}, []string{"flavor.promoted f", "flavor.retired f", "flavor.changed f", "flavor.changed f"}},
		{"a node", func(tx *store.Tx) error { return tx.PutInstallation(node) }, []string{"node.installed f Trento"}},
		{"it stays", func(tx *store.Tx) error { return cmp.Or(tx.PutInstallation(node), tx.PutInstallation(another)) }, nil},
		{"it goes", func(tx *store.Tx) error { return tx.DeleteInstallation(f.ID, "Trento") }, []string{"node.removed f Trento"}},
		{"it has gone", func(tx *store.Tx) error { return tx.DeleteInstallation(f.ID, "Trento") }, nil},
		{"a conflict", func(tx *store.Tx) error {
			twin := Flavor("f")
			if err := tx.InsertFlavor(twin); flavor.CodeOf(err) != flavor.CodeConflict {
				return fmt.Errorf("no conflict: %w", err)
			}
			return tx.InsertFlavor(plain)
		}, []string{"flavor.published plain"}},
		{"rolled back", func(tx *store.Tx) error { return cmp.Or(tx.DeleteFlavor(f.ID), undone) }, nil},
		{"two nodes", func(tx *store.Tx) error { return cmp.Or(tx.PutInstallation(node), tx.PutInstallation(elsewhere)) },
			[]string{"node.installed f Trento", "node.installed plain Trento"}},
		{"a new name", func(tx *store.Tx) error { return tx.UpdateFlavor(renamed) }, []string{"flavor.changed renamed"}},
		{"the flavor and its node", func(tx *store.Tx) error { return tx.DeleteFlavor(f.ID) }, []string{"node.removed renamed Trento", "flavor.deleted renamed"}},
		{"the region and its nodes", func(tx *store.Tx) error { return tx.DeleteRegion("Trento") }, []string{"node.removed plain Trento", "region.forgotten Trento"}},
		{"somebody else's", func(tx *store.Tx) error {
			return tx.Event(flavor.Event{Type: flavor.NodeFailed, Flavor: f.ID, Name: "f\xff", Region: "Trento", Message: strings.Repeat("大", 5000)})
		}, []string{"node.failed f\uFFFD Trento"}},
	} {
		rung := s.NextEvents()
		if err := s.Write(t.Context(), step.do); err != nil && !errors.Is(err, undone) {
			t.Fatalf("%s: %v", step.what, err)
		}
		got, now := told(t, s, last)
		same(t, step.what, got, step.want)
		select {
		case <-rung:
			if len(step.want) == 0 {
				t.Errorf("%s: woken for nothing", step.what)
			}
		default:
			if len(step.want) > 0 {
				t.Errorf("%s: nobody is woken", step.what)
			}
		}
		if counted := lastEvent(t, s); counted != now {
			t.Errorf("%s: the last event is %d by the counter, %d by the table", step.what, counted, now)
		}
		last = now
	}
	all, _ := eventsBehind(t, s, last-1, 10)
	if n := len([]rune(all[0].Message)); n != 4000 || all[0].Flavor != f.ID {
		t.Errorf("%d characters of the message of %s", n, all[0].Flavor)
	}
	refusesToRead := s.Read(t.Context(), func(tx *store.Tx) error { return tx.Event(flavor.Event{Type: flavor.NodeFailed}) })
	if refusesToRead == nil {
		t.Error("an event was told of in a transaction that only reads")
	}
}

// What each event says besides: whether we created the node, what is wrong, and
// nothing that is not so.
func eventFields(t *testing.T, s *store.Store) {
	f := Flavor("f")
	after := lastEvent(t, s)
	write(t, s, func(tx *store.Tx) error {
		return errors.Join(tx.InsertRegion(Region("A")), tx.InsertRegion(Region("B")), tx.InsertFlavor(f),
			tx.PutInstallation(flavor.Installation{FlavorID: f.ID, Region: "A", NodeID: "1", Created: true}),
			tx.PutInstallation(flavor.Installation{FlavorID: f.ID, Region: "B", NodeID: "2"}),
			tx.SetRegionStatus("A", flavor.RegionStatus{State: flavor.RegionRefused, LastError: "401 \xff"}))
	})
	events, _ := eventsBehind(t, s, after, 100)
	for i := range events {
		events[i].ID, events[i].At = 0, time.Time{}
	}
	same(t, "the events", events, []flavor.Event{
		{Type: flavor.RegionRegistered, Region: "A"}, {Type: flavor.RegionRegistered, Region: "B"},
		{Type: flavor.FlavorPublished, Flavor: f.ID, Name: "f"}, {Type: flavor.FlavorPromoted, Flavor: f.ID, Name: "f"},
		{Type: flavor.NodeInstalled, Flavor: f.ID, Name: "f", Region: "A", Created: true},
		{Type: flavor.NodeInstalled, Flavor: f.ID, Name: "f", Region: "B"},
		{Type: flavor.RegionWentDown, Region: "A", Message: "401 \uFFFD"},
	})
}

// Whoever has seen an event has seen all before it: many write at once, some roll
// back, and one who polls sees no number before a lower one, and none left out.
func eventsInOrder(t *testing.T, s *store.Store) {
	undone := errors.New("no")
	begin := lastEvent(t, s)
	writers := make(chan struct{})
	seen := make(chan []int64, 1)
	go func() {
		var ids []int64
		at := begin
		for {
			done := false
			select {
			case <-writers:
				done = true
			default:
			}
			var found []flavor.Event
			err := s.Read(t.Context(), func(tx *store.Tx) (err error) {
				found, _, err = tx.Events(at, 7)
				return err
			})
			if err != nil || done && len(found) == 0 {
				break
			}
			for _, e := range found {
				ids, at = append(ids, e.ID), e.ID
			}
		}
		seen <- ids
	}()
	together(t, func(i int) error {
		err := s.Write(t.Context(), func(tx *store.Tx) error {
			f := Flavor(fmt.Sprintf("flavor %d", i))
			f.Promoted = false
			for range i % 3 {
				if err := tx.Event(flavor.Event{Type: flavor.NodeDrifted, Region: "A", Message: f.Name}); err != nil {
					return err
				}
			}
			if err := tx.InsertFlavor(f); err != nil || i%10 != 9 {
				return err
			}
			return undone
		})
		if errors.Is(err, undone) {
			return nil
		}
		return err
	})
	close(writers)
	want := 0
	for i := range crowd {
		if i%10 != 9 {
			want += 1 + i%3
		}
	}
	ids := <-seen
	if len(ids) != want {
		t.Errorf("%d events were seen, not %d", len(ids), want)
	}
	for i, id := range ids {
		if id != begin+int64(i)+1 {
			t.Fatalf("the event %d behind the first has the number %d: %v", i, id-begin, ids)
		}
	}
	all, _ := eventsBehind(t, s, begin, 1000)
	if len(all) != want || !slices.IsSortedFunc(all, func(a, b flavor.Event) int { return cmp.Compare(a.ID, b.ID) }) {
		t.Errorf("%d events are kept, or not in order", len(all))
	}
}

// What is old goes, the oldest first, and who comes from before is told how many
// are lost.
func oldEvents(t *testing.T, s *store.Store) {
	begin := lastEvent(t, s)
	drop := func(then time.Time, limit int) (gone int) {
		write(t, s, func(tx *store.Tx) (err error) {
			gone, err = tx.DropEvents(then, limit)
			return err
		})
		return gone
	}
	if drop(time.Now().Add(time.Hour), 10) != 0 {
		t.Error("something was dropped of nothing")
	}
	for range 5 {
		write(t, s, func(tx *store.Tx) error { return tx.Event(flavor.Event{Type: flavor.NodeFailed}) })
	}
	if events, lost := eventsBehind(t, s, begin-3, 2); lost != 3 || len(events) != 2 || events[0].ID != begin+1 {
		t.Errorf("%d lost, then %+v", lost, events)
	}
	later := time.Now().Add(time.Hour)
	if gone := drop(time.Now().Add(-time.Hour), 10); gone != 0 {
		t.Errorf("%d that are not old were dropped", gone)
	}
	if gone := drop(later, 2); gone != 2 {
		t.Errorf("%d were dropped, not the 2 oldest", gone)
	}
	for after, want := range map[int64]int64{begin: 2, begin + 1: 1, begin + 2: 0, begin + 3: 0} {
		if events, lost := eventsBehind(t, s, after, 1); lost != want || len(events) != 1 || events[0].ID != after+1+want {
			t.Errorf("behind %d: %d lost, then %+v", after-begin, lost, events)
		}
	}
	drop(later, 10)
	if events, lost := eventsBehind(t, s, begin+1, 10); lost != 4 || len(events) != 0 {
		t.Errorf("where all are dropped, %d are lost, and there are %+v", lost, events)
	}
	// One from another time, of a database that was put back to an older state.
	if events, lost := eventsBehind(t, s, begin+1000, 10); lost != 0 || len(events) != 0 {
		t.Errorf("%d lost, %+v", lost, events)
	}
}

// webhooks: how each stands is kept, and a new one begins where the events are.
func webhooks(t *testing.T, s *store.Store) {
	write(t, s, func(tx *store.Tx) error { return tx.Event(flavor.Event{Type: flavor.NodeFailed}) })
	last := lastEvent(t, s)
	get := func(name string) (w store.Webhook, found bool) {
		read(t, s, func(tx *store.Tx) (err error) {
			w, found, err = tx.Webhook(name)
			return err
		})
		return w, found
	}
	if w, found := get("dash"); found || w != (store.Webhook{Name: "dash", Position: last}) {
		t.Errorf("a new webhook is %+v, %v", w, found)
	}
	w := store.Webhook{Name: "dash", Position: last, Attempts: 4, NextAttempt: time.UnixMilli(1_700_000_000_123).UTC(), LastError: "no \xff"}
	for range 2 {
		w.Position++
		write(t, s, func(tx *store.Tx) error { return tx.PutWebhook(w) })
	}
	w.LastError = "no \uFFFD"
	if got, found := get("dash"); !found || got != w {
		t.Errorf("%+v, %v", got, found)
	}
	if _, found := get("DASH"); found {
		t.Error("another one's is found")
	}
}
