package events_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/flavorsync/flavorsync/internal/events"
	"github.com/flavorsync/flavorsync/internal/flavor"
	"github.com/flavorsync/flavorsync/internal/store"
	"github.com/flavorsync/flavorsync/internal/store/storetest"
)

var manager = flavor.Principal{ID: "m", Name: "m", Manager: true}

func tell(t *testing.T, s *store.Store, texts ...string) {
	t.Helper()
	err := s.Write(t.Context(), func(tx *store.Tx) error {
		for _, text := range texts {
			if err := tx.Event(flavor.Event{Type: flavor.NodeFailed, Region: "Trento", Message: text}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// run starts a hub over s, which ends with the test.
func run(t *testing.T, s *store.Store, poll time.Duration) *events.Hub {
	t.Helper()
	h := events.New(events.Config{Store: s, Log: slog.New(slog.DiscardHandler), Poll: poll, Keep: time.Hour})
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { h.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		running.Wait()
	})
	return h
}

// follow reads n messages behind after.
func follow(ctx context.Context, h *events.Hub, after int64, n int) (texts []string, err error) {
	for len(texts) < n {
		found, lost, more, err := h.Behind(ctx, after)
		if err != nil {
			return texts, err
		}
		if lost > 0 {
			texts, after = append(texts, fmt.Sprintf("%d lost", lost)), after+lost
		}
		for _, e := range found {
			if e.ID != after+1 {
				return texts, fmt.Errorf("behind %d comes %d", after, e.ID)
			}
			texts, after = append(texts, e.Message), e.ID
		}
		if len(found) > 0 || lost > 0 {
			continue
		}
		select {
		case <-more:
		case <-ctx.Done():
			return texts, ctx.Err()
		}
	}
	return texts, nil
}

func patience(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// Whatever this process writes is handed on at once, and what another does when the
// database is asked for it; to all who listen, in one order, from wherever they begin.
func TestEverybodyIsToldEverything(t *testing.T) {
	for _, driver := range []string{"sqlite", "mysql"} {
		t.Run(driver, func(t *testing.T) {
			s := storetest.Open(t, driver)
			h := run(t, s, time.Hour) // it never asks by itself
			ctx := patience(t)
			tell(t, s, "before")
			begin, err := h.Begin(ctx, events.Now)
			if err != nil {
				t.Fatal(err)
			}
			const writers, each = 10, 30
			var all sync.WaitGroup
			heard := make([][]string, 20)
			for i := range heard {
				all.Go(func() {
					var err error
					if heard[i], err = follow(ctx, h, begin, writers*each); err != nil {
						t.Error(err)
					}
				})
			}
			for w := range writers {
				all.Go(func() {
					for i := range each / 2 {
						tell(t, s, fmt.Sprintf("%d %d", w, i), fmt.Sprintf("%d %d again", w, i))
					}
				})
			}
			all.Wait()
			late, err := follow(ctx, h, begin, writers*each)
			if err != nil {
				t.Fatal(err)
			}
			for i, texts := range heard {
				if fmt.Sprint(texts) != fmt.Sprint(late) {
					t.Errorf("listener %d heard something else", i)
				}
			}
		})
	}
}

// Two processes on one database: each hands on what the other wrote, when it polls.
func TestOthersEventsAreFoundByAsking(t *testing.T) {
	dsn := storetest.DSN(t, "mysql")
	one := storetest.Connect(t, "mysql", dsn, nil)
	if err := one.Up(t.Context()); err != nil {
		t.Fatal(err)
	}
	other := storetest.Connect(t, "mysql", dsn, nil)
	h := run(t, one, time.Millisecond)
	ctx := patience(t)
	begin, err := h.Begin(ctx, events.Now)
	if err != nil {
		t.Fatal(err)
	}
	tell(t, other, "theirs")
	if texts, err := follow(ctx, h, begin, 1); err != nil || texts[0] != "theirs" {
		t.Errorf("%v, %v", texts, err)
	}
}

// Who is far behind reads the database, and who comes from before what is kept is
// told how much is lost.
func TestFarBehind(t *testing.T) {
	s := storetest.Open(t, "sqlite")
	h := run(t, s, time.Hour)
	ctx := patience(t)
	begin, err := h.Begin(ctx, events.Now)
	if err != nil {
		t.Fatal(err)
	}
	texts := make([]string, 500)
	for i := range texts {
		texts[i] = fmt.Sprint(i)
	}
	for range 6 { // 3,000, more than a hub remembers
		tell(t, s, texts...)
	}
	if heard, err := follow(ctx, h, begin, 3000); err != nil || heard[0] != "0" || heard[2999] != "499" {
		t.Errorf("%d, %v", len(heard), err)
	}
	late := events.New(events.Config{Store: s, Log: slog.New(slog.DiscardHandler), Keep: time.Hour, Now: func() time.Time { return time.Now().Add(2 * time.Hour) }})
	if first, err := late.Begin(ctx, events.Kept); err != nil || first != begin {
		t.Errorf("the oldest is behind %d, not %d: %v", first, begin, err)
	}
	tell(t, s, "last")
	if _, err := follow(ctx, h, begin+3000, 1); err != nil {
		t.Fatal(err)
	}
	if err := late.Tidy(ctx); err != nil {
		t.Fatal(err)
	}
	if heard, err := follow(ctx, h, begin, 1); err != nil || heard[0] != "3001 lost" {
		t.Errorf("%v, %v", heard, err)
	}
	if first, err := late.Begin(ctx, events.Kept); err != nil || first != begin+3001 {
		t.Errorf("where none is kept the oldest is behind %d, not %d: %v", first, begin+3001, err)
	}
	forever := events.New(events.Config{Store: s, Log: slog.New(slog.DiscardHandler), Now: func() time.Time { return time.Now().Add(1e6 * time.Hour) }})
	tell(t, s, "kept")
	if err := forever.Tidy(ctx); err != nil {
		t.Fatal(err)
	}
	if page, next, lost, err := forever.Page(ctx, manager, flavor.EventFilter{}, begin+3001, 10); err != nil || len(page) != 1 || next != begin+3002 || lost != 0 {
		t.Errorf("%v, %d, %d, %v", page, next, lost, err)
	}
}

// Who has seen what the database does not know is waited for a moment, for another
// node may know it, and then begins where the database is.
func TestBeginFromAnotherTime(t *testing.T) {
	s := storetest.Open(t, "sqlite")
	var mu sync.Mutex
	now := time.Now()
	h := events.New(events.Config{Store: s, Log: slog.New(slog.DiscardHandler), Poll: 4 * time.Millisecond, Now: func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		now = now.Add(10 * time.Millisecond)
		return now
	}})
	last, err := h.Last(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if begin, err := h.Begin(patience(t), last+5); err != nil || begin != last {
		t.Errorf("%d, not %d: %v", begin, last, err)
	}
	stands := events.New(events.Config{Store: s, Log: slog.New(slog.DiscardHandler), Poll: 4 * time.Millisecond, Now: func() time.Time { return time.Unix(0, 0) }})
	begun := make(chan int64)
	ctx := patience(t)
	go func() {
		begin, err := stands.Begin(ctx, last+1)
		if err != nil {
			t.Error(err)
		}
		begun <- begin
	}()
	tell(t, s, "now it knows")
	if begin := <-begun; begin != last+1 {
		t.Errorf("%d, not %d", begin, last+1)
	}
}

// Pages hold what one may see, and tell where to go on.
func TestPage(t *testing.T) {
	s := storetest.Open(t, "sqlite")
	h := events.New(events.Config{Store: s, Log: slog.New(slog.DiscardHandler)})
	begin, err := h.Last(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	tell(t, s, make([]string, 600)...)
	user := flavor.Principal{ID: "u", Name: "u"}
	owner := flavor.Principal{ID: "o", Name: "o", Regions: []string{"Trento"}}
	if page, next, _, err := h.Page(t.Context(), user, flavor.EventFilter{}, begin, 10); err != nil || len(page) != 0 || next != begin+600 {
		t.Errorf("%d, %d, %v", len(page), next-begin, err)
	}
	if page, next, _, err := h.Page(t.Context(), owner, flavor.EventFilter{}, begin, 550); err != nil || len(page) != 550 || next != begin+550 {
		t.Errorf("%d, %d, %v", len(page), next-begin, err)
	}
	if page, next, _, err := h.Page(t.Context(), owner, flavor.EventFilter{Types: []flavor.EventType{flavor.NodeDrifted}}, begin, 10); err != nil || len(page) != 0 || next != begin+600 {
		t.Errorf("%d, %d, %v", len(page), next-begin, err)
	}
	if page, next, lost, err := h.Page(t.Context(), owner, flavor.EventFilter{}, begin+600, 10); err != nil || len(page) != 0 || next != begin+600 || lost != 0 {
		t.Errorf("%d, %d, %d, %v", len(page), next-begin, lost, err)
	}
}

// A message is one line, whatever it tells: a line break in it would end it.
func TestJSONIsOneLine(t *testing.T) {
	e := flavor.Event{ID: 7, At: time.Date(2026, 11, 26, 8, 0, 1, 3_900_000, time.FixedZone("", 3600)), Type: flavor.NodeInstalled, Name: "a\r\nb\u2028\"</script>", Created: true}
	text := events.JSON(e)
	var got map[string]any
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	for _, c := range text {
		if c < ' ' {
			t.Errorf("it holds the byte %d: %s", c, text)
		}
	}
	if got["name"] != e.Name || got["at"] != "2026-11-26T07:00:01.003Z" || got["created"] != true || len(got) != 5 {
		t.Errorf("%v", got)
	}
}
