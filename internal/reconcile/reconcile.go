// Package reconcile keeps the federation as it should be: it looks at each region
// from time to time, finds what is wanted and lacking, and carries it out, however
// often a region has to be asked. What is right the marketplace says; here is when
// and how much at a time.
package reconcile

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/sony/gobreaker/v2"
	"golang.org/x/time/rate"

	"github.com/flavorsync/flavorsync/internal/flavor"
	"github.com/flavorsync/flavorsync/internal/marketplace"
	"github.com/flavorsync/flavorsync/internal/store"
)

// perRegion is how many things at once are carried out in one region at most.
const perRegion = 4

// waiting is how many looks may be begun for each that is under way: those at
// regions that hung the last time wait for one another, and hold up no others.
const waiting = 4

// However many regions are due at once, after a pause of ours or as they were
// registered: all of them are looked at within a sweepTime, and whoever reads the
// catalogue meanwhile does not feel it. Few regions need not wait for that.
const (
	sweepTime = 30 * time.Second
	atOnce    = 32 // looks that may begin together
	perSecond = 40 // looks that may begin in any case
)

// idle is how long the engine waits at most before it asks the database whether
// something is due: other processes do not wake this one.
const idle = time.Second

// Config is what an Engine works with; all of it is required but Step.
type Config struct {
	Market *marketplace.Market
	Store  *store.Store
	Log    *slog.Logger
	// MaxInFlight is how many regions are asked at once, and how many things are
	// carried out besides.
	MaxInFlight int
	// RegionTimeout bounds one call of a region.
	RegionTimeout time.Duration
	// Step is told of each thing that is done in a region: ctx is the step's own
	// from then on, and ended is called once. nil: nobody is told.
	Step func(ctx context.Context, doing, region string) (_ context.Context, ended func(error))
}

// Engine is one of the processes that share the work.
type Engine struct {
	cfg    Config
	log    *slog.Logger
	pace   *rate.Limiter // of looks
	resume *time.Timer   // wakes the engine when its pace lets more looks begin

	mu       sync.Mutex
	breakers map[string]*gobreaker.CircuitBreaker[struct{}]
	at       map[string]int // what is being carried out, by region
	carrying int
	looking  int
	again    chan struct{} // something has ended: there is room

	working sync.WaitGroup
}

// New makes an Engine.
func New(cfg Config) *Engine {
	e := &Engine{
		cfg: cfg, log: cfg.Log, pace: rate.NewLimiter(perSecond, atOnce),
		breakers: map[string]*gobreaker.CircuitBreaker[struct{}]{}, at: map[string]int{}, again: make(chan struct{}, 1),
	}
	e.resume = time.AfterFunc(idle, e.roomAgain)
	return e
}

// Run works until ctx ends, and what it was at has ended too.
func (e *Engine) Run(ctx context.Context) {
	defer e.working.Wait()
	if err := e.begin(ctx); err != nil && ctx.Err() == nil {
		e.log.Warn("the engine begins without all that the last one left", "error", err.Error())
	}
	timer := time.NewTicker(idle)
	defer timer.Stop()
	for ctx.Err() == nil {
		e.Step(ctx)
		select {
		case <-ctx.Done():
		case <-e.cfg.Market.Work():
		case <-e.again:
		case <-timer.C:
		}
	}
}

func (e *Engine) begin(ctx context.Context) error {
	if err := e.cfg.Store.PrepareLooks(ctx); err != nil {
		return err
	}
	return e.cfg.Market.TakeOver(ctx)
}

// Step begins all that is due and has room, and waits for none of it. What fails
// is logged, and due again.
func (e *Engine) Step(ctx context.Context) {
	for _, part := range []struct {
		doing string
		do    func(context.Context) error
	}{
		{"looking at the regions", e.sweep},
		{"comparing the regions with the policy", e.cfg.Market.Discover},
		{"carrying out what is wanted", e.carryOut},
	} {
		if err := part.do(ctx); err != nil && ctx.Err() == nil {
			e.log.WarnContext(ctx, "the engine could not go on", "doing", part.doing, "error", err.Error())
		}
	}
}

// Wait waits until nothing is under way.
func (e *Engine) Wait() { e.working.Wait() }

// sweep begins the looks that are due, as many as there is room for.
func (e *Engine) sweep(ctx context.Context) error {
	e.mu.Lock()
	room := waiting*e.cfg.MaxInFlight - e.looking
	e.mu.Unlock()
	if room <= 0 {
		return nil
	}
	inv, err := e.cfg.Store.Inventory(ctx)
	if err != nil {
		return err
	}
	e.pace.SetLimit(max(perSecond, rate.Limit(float64(len(inv.Looks))/sweepTime.Seconds())))
	paced := int(e.pace.Tokens())
	if room = min(room, paced); room <= 0 {
		e.resume.Reset(idle / 10)
		return nil
	}
	// By then a look has ended, or its process has.
	due, err := e.cfg.Store.ClaimLooks(ctx, room, 3*e.cfg.RegionTimeout+5*time.Second)
	if err != nil {
		return err
	}
	e.pace.AllowN(time.Now(), len(due))
	if len(due) == paced {
		e.resume.Reset(idle / 10)
	}
	for _, l := range due {
		e.mu.Lock()
		e.looking++
		e.mu.Unlock()
		e.working.Go(func() {
			err := e.step(ctx, "look at a region", l.Region, func(ctx context.Context) error { return e.cfg.Market.Observe(ctx, l.Region) })
			if err == nil {
				e.close(l.Region)
			}
			e.mu.Lock()
			e.looking--
			e.mu.Unlock()
			e.roomAgain()
		})
	}
	return nil
}

// carryOut begins what is wanted and due, as much as there is room for: in each
// region a few things at a time, and in one that does not answer none.
func (e *Engine) carryOut(ctx context.Context) error {
	room, except := e.room()
	if room <= 0 {
		return nil
	}
	due, err := e.cfg.Store.DueNodes(ctx, room, except)
	if err != nil {
		return err
	}
	for _, d := range due {
		if !e.enter(d.Node.Region) {
			continue
		}
		e.working.Go(func() {
			defer e.leave(d.Node.Region)
			// A breaker that is open refuses before anything is taken.
			_, _ = e.breaker(d.Node.Region).Execute(func() (struct{}, error) { return struct{}{}, e.carry(ctx, d) })
		})
	}
	return nil
}

// carry makes one attempt at d, if no other process is faster.
func (e *Engine) carry(ctx context.Context, d store.Due) error {
	taken, err := e.cfg.Store.TakeNode(ctx, &d, e.cfg.Market.Claim())
	if err != nil {
		e.log.WarnContext(ctx, "what is wanted could not be begun", "region", d.Node.Region, "error", err.Error())
	}
	if !taken {
		return nil
	}
	// It has begun: the end of this process waits for its end.
	return e.step(context.WithoutCancel(ctx), "carry out "+string(d.Operation.Kind), d.Node.Region, func(ctx context.Context) error {
		return e.cfg.Market.CarryOut(ctx, d)
	})
}

func (e *Engine) step(ctx context.Context, doing, region string, do func(context.Context) error) error {
	if e.cfg.Step == nil {
		return do(ctx)
	}
	ctx, ended := e.cfg.Step(ctx, doing, region)
	err := do(ctx)
	ended(err)
	return err
}

// room is how much more may be begun, and the regions where nothing may.
func (e *Engine) room() (room int, except []string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for region, n := range e.at {
		if n >= perRegion {
			except = append(except, region)
		}
	}
	for region, b := range e.breakers {
		if e.at[region] < perRegion && b.State() == gobreaker.StateOpen {
			except = append(except, region)
		}
	}
	return e.cfg.MaxInFlight - e.carrying, except
}

func (e *Engine) enter(region string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.carrying >= e.cfg.MaxInFlight || e.at[region] >= perRegion {
		return false
	}
	e.carrying++
	e.at[region]++
	return true
}

func (e *Engine) leave(region string) {
	e.mu.Lock()
	e.carrying--
	if e.at[region]--; e.at[region] == 0 {
		delete(e.at, region)
	}
	e.mu.Unlock()
	e.roomAgain()
}

func (e *Engine) roomAgain() {
	select {
	case e.again <- struct{}{}:
	default:
	}
}

// failures is after how many in a row a region gets nothing more to do, until a
// look finds it back.
const failures = 3

// breaker is region's. While it is open the looks are the probes: they come every
// 30 seconds at least, and one that goes well closes it at once. That it lets a
// try through by itself is for a region that nobody looks at.
func (e *Engine) breaker(region string) *gobreaker.CircuitBreaker[struct{}] {
	e.mu.Lock()
	defer e.mu.Unlock()
	b := e.breakers[region]
	if b == nil {
		b = gobreaker.NewCircuitBreaker[struct{}](gobreaker.Settings{
			Name: region, Timeout: 30 * time.Second,
			ReadyToTrip:  func(c gobreaker.Counts) bool { return c.ConsecutiveFailures >= failures },
			IsSuccessful: func(err error) bool { return flavor.CodeOf(err) != flavor.CodeUnreachable },
			OnStateChange: func(region string, from, to gobreaker.State) {
				e.log.Info("a region's breaker", "region", region, "from", from.String(), "to", to.String())
			},
		})
		e.breakers[region] = b
	}
	return b
}

// close lets region have its queue again.
func (e *Engine) close(region string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if b := e.breakers[region]; b != nil && b.State() != gobreaker.StateClosed {
		e.log.Info("a region is back", "region", region)
		delete(e.breakers, region)
	}
}

// Broken are the regions whose breaker is open, by name.
func (e *Engine) Broken() map[string]bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	open := map[string]bool{}
	for region, b := range e.breakers {
		open[region] = b.State() == gobreaker.StateOpen
	}
	return open
}
