package webhooks

import (
	"cmp"
	"context"
	"log/slog"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/google/uuid"

	"github.com/flavorsync/flavorsync/internal/events"
	"github.com/flavorsync/flavorsync/internal/flavor"
	"github.com/flavorsync/flavorsync/internal/outgoing"
	"github.com/flavorsync/flavorsync/internal/store"
)

// Settings are what a Sender needs.
type Settings struct {
	Webhooks      []Config // valid ones
	Store         *store.Store
	Log           *slog.Logger
	AllowHTTP     bool
	AllowNetworks []netip.Prefix
	Poll          time.Duration    // how often the database is asked for what others did; 0 is a second
	Now           func() time.Time // nil: time.Now
	// Observe, where it is not nil, is told of every call: of which webhook, what
	// came of it (taken or failed), and its time.
	Observe func(webhook, outcome string, took time.Duration)
}

const (
	// timeout is of one call, leaseFor of a webhook's lease, after which another
	// takes over from a process that was killed, and renewAt how much of it must be
	// left before a call: more than the call can take.
	timeout  = 10 * time.Second
	leaseFor = 20 * time.Second
	renewAt  = 15 * time.Second
	// atOnce is how many events are read at one time.
	atOnce = 100
	// The first pause after a failure, and the longest; of one who asks to be
	// left alone, and of one who says that he is gone.
	firstPause   = time.Second
	longestPause = 5 * time.Minute
	longestWish  = time.Hour
)

// Sender calls the webhooks.
type Sender struct {
	cfg    Settings
	client *http.Client
	close  func()
	owner  string // of leases: this process
}

// New makes a Sender. It calls nobody until Run.
func New(cfg Settings) *Sender {
	cfg.Poll = cmp.Or(cfg.Poll, time.Second)
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	transport := outgoing.New(outgoing.Config{AllowHTTP: cfg.AllowHTTP, AllowNetworks: cfg.AllowNetworks, Timeout: timeout, MaxAnswer: 64 << 10})
	return &Sender{cfg: cfg, client: transport.Client(), close: transport.CloseIdleConnections, owner: uuid.NewString()}
}

// Run tells each webhook what happens until ctx ends. Of several replicas one at a
// time is at a webhook. What fails is logged and tried again.
func (s *Sender) Run(ctx context.Context) {
	defer s.close()
	var running sync.WaitGroup
	defer running.Wait()
	for _, c := range s.cfg.Webhooks {
		running.Go(func() { s.follow(ctx, c) })
	}
}

func (s *Sender) follow(ctx context.Context, c Config) {
	tick := time.NewTicker(s.cfg.Poll)
	defer tick.Stop()
	complaint := ""
	for {
		ours := s.cfg.Store.NextEvents() // before the look: what comes during it is not missed
		err := s.step(ctx, c)
		switch {
		case err == nil:
			complaint = ""
		case ctx.Err() == nil && err.Error() != complaint:
			complaint = err.Error()
			s.cfg.Log.WarnContext(ctx, "a webhook is not told now", "webhook", c.Name, "error", complaint)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-ours:
		}
	}
}

// behind is how w stands, and what it has not been told yet.
type behind struct {
	store.Webhook
	known bool
	found []flavor.Event
	lost  int64
}

func (s *Sender) read(ctx context.Context, name string) (b behind, err error) {
	err = s.cfg.Store.Read(ctx, func(tx *store.Tx) error {
		b = behind{}
		if b.Webhook, b.known, err = tx.Webhook(name); err != nil || !b.known {
			return err
		}
		b.found, b.lost, err = tx.Events(b.Position, atOnce)
		return err
	})
	return b, err
}

// due says whether there is something to do for it now.
func (b behind) due(now time.Time) bool {
	return !b.known || (len(b.found) > 0 || b.lost > 0) && !now.Before(b.NextAttempt)
}

// step tells the webhook what it has not been told yet, if it is its time and no
// other process is at it.
func (s *Sender) step(ctx context.Context, c Config) error {
	b, err := s.read(ctx, c.Name)
	if err != nil || !b.due(s.cfg.Now()) {
		return err
	}
	// Not cut short: nobody would know that the lease is taken.
	lease, taken, err := s.cfg.Store.TakeLease(context.WithoutCancel(ctx), "webhook "+c.Name, s.owner, leaseFor)
	if err != nil || !taken {
		return err
	}
	t := &telling{Sender: s, Config: c, lease: lease, until: s.cfg.Now().Add(leaseFor)}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		if err := s.cfg.Store.ReleaseLease(ctx, lease); err != nil {
			s.cfg.Log.WarnContext(ctx, "a lease ends by itself only", "webhook", c.Name, "error", err.Error())
		}
	}()
	for {
		// What was read before the lease was ours another may have told since.
		if b, err = s.read(ctx, c.Name); err != nil || !b.due(s.cfg.Now()) {
			return err
		}
		if !b.known {
			return t.save(ctx, b.Webhook)
		}
		if goOn, err := t.tell(ctx, b); err != nil || !goOn {
			return err
		}
	}
}

// telling is one webhook while its lease is this process's.
type telling struct {
	*Sender
	Config
	lease store.Lease
	until time.Time // when the lease ends, or earlier
}

// save notes how the webhook stands, if the lease is held still. What was sent has
// to be noted, even while the service ends.
func (t *telling) save(ctx context.Context, w store.Webhook) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), timeout)
	defer cancel()
	return t.cfg.Store.Write(ctx, func(tx *store.Tx) error {
		if err := tx.Hold(t.lease); err != nil {
			return err
		}
		return tx.PutWebhook(w)
	})
}

// tell sends what b has, one by one, and says whether there may be more to send.
func (t *telling) tell(ctx context.Context, b behind) (goOn bool, err error) {
	w := b.Webhook
	filter := flavor.EventFilter{Types: t.Types, Regions: t.Regions}
	if b.lost > 0 {
		if sent, err := t.send(ctx, &w, lostMessage(w.Position, w.Position+b.lost, t.cfg.Now()), w.Position+b.lost); err != nil || !sent {
			return false, err
		}
	}
	for _, e := range b.found {
		if !filter.Passes(e) {
			w.Position = e.ID
			continue
		}
		if sent, err := t.send(ctx, &w, eventMessage(e), e.ID); err != nil || !sent {
			return false, err
		}
	}
	if last := len(b.found) - 1; last >= 0 && !filter.Passes(b.found[last]) {
		if err := t.save(ctx, w); err != nil {
			return false, err
		}
	}
	return len(b.found) == atOnce, nil
}

// send makes one call, and notes what came of it: w stands at position from then
// on, or waits for its next attempt.
func (t *telling) send(ctx context.Context, w *store.Webhook, m message, position int64) (sent bool, err error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	if t.until.Sub(t.cfg.Now()) < renewAt {
		until := t.cfg.Now().Add(leaseFor)
		kept, err := t.cfg.Store.ExtendLease(ctx, t.lease, leaseFor)
		if err != nil || !kept {
			return false, err
		}
		t.until = until
	}
	begun := time.Now()
	// What is begun is finished, within its timeout, though the service ends: it
	// would be sent again.
	failure := t.call(context.WithoutCancel(ctx), m)
	if t.cfg.Observe != nil {
		outcome := "taken"
		if failure != nil {
			outcome = "failed"
		}
		t.cfg.Observe(t.Name, outcome, time.Since(begun))
	}
	if failure == nil {
		if w.Attempts > 0 {
			t.cfg.Log.InfoContext(ctx, "a webhook takes events again", "webhook", t.Name, "attempts", w.Attempts+1)
		}
		*w = store.Webhook{Name: t.Name, Position: position, NextAttempt: time.UnixMilli(0)}
		return true, t.save(ctx, *w)
	}
	w.Attempts++
	pause := max(pauseAfter(w.Attempts), min(failure.wish, longestWish))
	w.NextAttempt, w.LastError = t.cfg.Now().Add(pause), failure.Error()
	t.cfg.Log.WarnContext(ctx, "a webhook has not taken an event", "webhook", t.Name, "message", m.id, "attempts", w.Attempts,
		"again_in", pause.Round(time.Millisecond).String(), "error", w.LastError)
	return false, t.save(ctx, *w)
}

// pauseAfter is how long to wait after so many failures.
func pauseAfter(attempts int) (pause time.Duration) {
	growing := &backoff.ExponentialBackOff{InitialInterval: firstPause, Multiplier: 2, RandomizationFactor: 0.2, MaxInterval: longestPause}
	growing.Reset()
	for range min(attempts, 12) { // by then it grows no more
		pause = growing.NextBackOff()
	}
	return min(pause, longestPause)
}

// lostMessage tells that events are not kept any more.
func lostMessage(after, until int64, now time.Time) message {
	return message{id: lostID(until), body: body(events.Lost, now, events.LostJSON(after, until))}
}

func eventMessage(e flavor.Event) message {
	return message{id: eventID(e.ID), body: body(string(e.Type), e.At, events.JSON(e))}
}
