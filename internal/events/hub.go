// Package events hands on what has happened to all who follow it: one look at the
// database for each process, however many listen.
package events

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/flavorsync/flavorsync/internal/flavor"
	"github.com/flavorsync/flavorsync/internal/store"
)

// Config is what a Hub needs.
type Config struct {
	Store *store.Store
	Log   *slog.Logger
	Keep  time.Duration    // how long events are kept; 0 is for ever
	Poll  time.Duration    // how often the database is asked for what others did; 0 is a second
	Now   func() time.Time // nil: time.Now
}

const (
	// pageSize is how many events are read, and handed on, at one time.
	pageSize = 500
	// remembered is how many of the latest events are kept in memory: who is not
	// further behind costs the database nothing.
	remembered = 2000
	// readers is how many of those who are further behind read at one time.
	readers = 4
	// dropped is how many old events one transaction removes.
	dropped = 1000
	// MaxPage is how many events Page gives at most, and scanned how many it looks
	// at for them.
	MaxPage = 1000
	scanned = 10_000
)

// Hub follows the events in the store. Its methods may be called side by side.
type Hub struct {
	cfg     Config
	reading chan struct{}

	mu     sync.Mutex
	recent []flavor.Event // the latest, without a gap
	at     int64          // the id of the last one seen
	known  bool           // at is
	more   chan struct{}  // closed when there are others behind at
}

// New makes a Hub. It knows of nothing until Run.
func New(cfg Config) *Hub {
	cfg.Poll = cmp.Or(cfg.Poll, time.Second)
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Hub{cfg: cfg, reading: make(chan struct{}, readers), more: make(chan struct{})}
}

// Run looks for events until ctx ends: at once for those of this process, each
// second for those of others. What fails is logged and tried again.
func (h *Hub) Run(ctx context.Context) {
	tick := time.NewTicker(h.cfg.Poll)
	defer tick.Stop()
	complaint := ""
	for {
		ours := h.cfg.Store.NextEvents() // before the look: what comes during it is not missed
		err := h.look(ctx)
		switch {
		case err == nil:
			complaint = ""
		case ctx.Err() == nil && err.Error() != complaint:
			complaint = err.Error()
			h.cfg.Log.WarnContext(ctx, "events are not handed on now", "error", complaint)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-ours:
		}
	}
}

// look takes what is new, as much as there is.
func (h *Hub) look(ctx context.Context) error {
	h.mu.Lock()
	at, known := h.at, h.known
	h.mu.Unlock()
	if !known {
		last, err := h.Last(ctx)
		if err == nil {
			h.took(last, nil, 0)
		}
		return err
	}
	for {
		found, lost, err := h.read(ctx, at, pageSize)
		if err != nil {
			return err
		}
		if len(found) > 0 {
			at = found[len(found)-1].ID
			h.took(at, found, lost)
		}
		if len(found) < pageSize {
			return nil
		}
	}
}

// took remembers found, up to the one with the id at, and wakes who waits.
func (h *Hub) took(at int64, found []flavor.Event, lost int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if lost > 0 {
		h.recent = nil
	}
	// Not in place: who was handed a part of it reads it still.
	recent := slices.Concat(h.recent, found)
	if n := len(recent) - remembered; n > 0 {
		recent = recent[n:]
	}
	h.recent, h.at, h.known = recent, at, true
	close(h.more)
	h.more = make(chan struct{})
}

func (h *Hub) read(ctx context.Context, after int64, limit int) (found []flavor.Event, lost int64, err error) {
	err = h.cfg.Store.Read(ctx, func(tx *store.Tx) error {
		found, lost, err = tx.Events(after, limit)
		return err
	})
	return found, lost, err
}

// Last is the id of the last event that was written, in whatever process.
func (h *Hub) Last(ctx context.Context) (last int64, err error) {
	err = h.cfg.Store.Read(ctx, func(tx *store.Tx) error {
		last, err = tx.LastEvent()
		return err
	})
	return last, err
}

// Behind are events behind the one with the id after, the oldest first: change
// nothing of them. Where there are none yet, more is closed when there may be; else
// ask for the next behind the last of these. lost is how many there were before them
// that are not kept any more.
func (h *Hub) Behind(ctx context.Context, after int64) (found []flavor.Event, lost int64, more <-chan struct{}, err error) {
	h.mu.Lock()
	recent, more, upToDate := h.recent, h.more, !h.known || after >= h.at
	h.mu.Unlock()
	switch {
	case upToDate:
		return nil, 0, more, nil
	case len(recent) > 0 && after+1 >= recent[0].ID:
		found = recent[after+1-recent[0].ID:]
		return found[:min(len(found), pageSize)], 0, more, nil
	}
	select {
	case h.reading <- struct{}{}:
		defer func() { <-h.reading }()
	case <-ctx.Done():
		return nil, 0, more, fmt.Errorf("while waiting to read events: %w", context.Cause(ctx))
	}
	found, lost, err = h.read(ctx, after, pageSize)
	return found, lost, more, err
}

// Now is to begin with what comes from now on, and Kept with the oldest that is kept.
const (
	Now  int64 = -1
	Kept int64 = 0
)

// catchUp is how long a node of the database may take to have applied what the
// client has seen of another.
const catchUp = 2 * time.Second

// Begin is where who has seen the event with the id after, or asks for Now or Kept,
// begins. It is below after, and all between is lost, where the database was put
// back to an older state.
func (h *Hub) Begin(ctx context.Context, after int64) (int64, error) {
	if after == Kept {
		found, _, err := h.read(ctx, 0, 1)
		switch {
		case err != nil:
			return 0, err
		case len(found) > 0:
			return found[0].ID - 1, nil
		}
		return h.Last(ctx)
	}
	begun := h.cfg.Now()
	for {
		last, err := h.Last(ctx)
		switch {
		case err != nil:
			return 0, err
		case after != Now && after <= last:
			return after, nil
		case after == Now || h.cfg.Now().Sub(begun) > catchUp:
			return last, nil
		}
		h.mu.Lock()
		more := h.more
		h.mu.Unlock()
		wait := time.NewTimer(h.cfg.Poll / 4)
		select {
		case <-more:
		case <-wait.C:
		case <-ctx.Done():
			return 0, fmt.Errorf("while waiting for the database to catch up: %w", context.Cause(ctx))
		}
		wait.Stop()
	}
}

// Page is what p may see of the events behind the one with the id after that f lets
// through, at most limit of them. next is where to go on: the id of the last event
// that was looked at, after itself where there is nothing new. lost is how many
// there were behind after that are not kept any more.
func (h *Hub) Page(ctx context.Context, p flavor.Principal, f flavor.EventFilter, after int64, limit int) (page []flavor.Event, next, lost int64, err error) {
	next = after
	for looked := 0; looked < scanned; looked += pageSize {
		found, gone, err := h.read(ctx, next, pageSize)
		if err != nil {
			return nil, after, 0, err
		}
		lost, next = lost+gone, next+gone
		for _, e := range found {
			next = e.ID
			if seen, ok := e.For(p); ok && f.Passes(seen) {
				page = append(page, seen)
			}
			if len(page) == limit {
				return page, next, lost, nil
			}
		}
		if len(found) < pageSize {
			break
		}
	}
	return page, next, lost, nil
}

// Tidy drops what is older than events are kept for. It is called from time to time.
func (h *Hub) Tidy(ctx context.Context) error {
	if h.cfg.Keep == 0 {
		return nil
	}
	for {
		var gone int
		err := h.cfg.Store.Write(ctx, func(tx *store.Tx) (err error) {
			gone, err = tx.DropEvents(h.cfg.Now().Add(-h.cfg.Keep), dropped)
			return err
		})
		if err != nil || gone < dropped {
			return err
		}
	}
}

// Lost is the type of the message that stands for events which are not kept any
// more. It is no event: it is told to who comes from before them alone.
const Lost = "lost"

// message is an event in JSON. What says nothing is not there.
type message struct {
	ID      int64            `json:"id"`
	At      string           `json:"at"` // RFC 3339, UTC, to the millisecond
	Type    flavor.EventType `json:"type"`
	Flavor  string           `json:"flavor,omitempty"`
	Name    string           `json:"name,omitempty"`
	Region  string           `json:"region,omitempty"`
	Created *bool            `json:"created,omitempty"` // of node.installed
	Message string           `json:"message,omitempty"`
}

// Time is t as messages tell it.
func Time(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

// JSON is e as one line.
func JSON(e flavor.Event) []byte {
	m := message{ID: e.ID, At: Time(e.At), Type: e.Type, Flavor: e.Flavor, Name: e.Name, Region: e.Region, Message: e.Message}
	if e.Type == flavor.NodeInstalled {
		m.Created = &e.Created
	}
	text, _ := json.Marshal(m) // cannot fail: it holds numbers and texts only
	return text
}

// LostJSON is the message, as one line, that the events behind the one with the id
// after and up to the one with the id until are not kept any more.
func LostJSON(after, until int64) []byte {
	return fmt.Appendf(nil, `{"type":%q,"after":%d,"until":%d}`, Lost, after, until)
}
