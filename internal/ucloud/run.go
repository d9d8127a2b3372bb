package ucloud

import (
	"context"
	"errors"
	"time"
)

const (
	poll = time.Second
	// settle is how long changed products must stay as they are before they are
	// pushed. What other processes changed is seen a second or two late: without
	// it a replica would take its older view for a change, and push that.
	settle = 2 * time.Second
	// patience is how long changes that do not settle are waited for.
	patience = 4 * time.Second
)

// Run pushes until ctx ends: within five seconds of a change, and each
// PushInterval. Of several replicas one pushes.
func (p *Provider) Run(ctx context.Context) {
	if !p.pushes() {
		return
	}
	tick := time.NewTicker(poll)
	defer tick.Stop()
	var w watch
	var complained complaint
	for {
		if err := p.step(ctx, &w); ctx.Err() == nil && complained.news(err, p.cfg.Now()) {
			p.log.ErrorContext(ctx, "products could not be pushed to UCloud", "error", err.Error())
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// step pushes if that is due now.
func (p *Provider) step(ctx context.Context, w *watch) error {
	offers, err := p.cfg.Products.Products(ctx)
	if err != nil {
		return err
	}
	m, err := p.mark(offers)
	if err != nil {
		return err
	}
	st, err := p.state(ctx)
	if err != nil {
		return err
	}
	changed := w.settled(m.all, st.Digest, p.cfg.Now())
	if p.due(st, changed) == "" {
		return nil
	}
	// What was read before the lease was ours may be another's work by now.
	var pushed string
	_, err = p.push(ctx, func(st state, m *marks) Trigger {
		trigger := p.due(st, changed && m.all != st.Digest)
		if trigger != "" {
			pushed = m.all
		}
		return trigger
	})
	if errors.Is(err, errUnderWay) {
		return nil
	}
	if err == nil && pushed != "" {
		w.done = pushed
	}
	return err
}

// due says why to push now, "" for not at all.
func (p *Provider) due(st state, changed bool) Trigger {
	now := p.cfg.Now()
	switch {
	case now.Before(st.NotBefore), st.State == Running && now.Before(st.NextAt):
		return ""
	case changed:
		return Change
	case st.State == "" || now.Before(st.next(p.cfg.PushInterval)):
		return ""
	case st.Failures > 0 || st.State == Running: // cut short
		return Retry
	}
	return Period
}

// watch waits for changes to settle. It is one loop's.
type watch struct {
	digest       string
	first, since time.Time // when they began, and when digest was first seen
	// done is the last digest that was pushed, or seen pushed. Where another process
	// pushes other products, for its configuration is another, each pushes its own
	// once and then leaves it to the period: else they would for ever undo what the
	// other did.
	done string
}

// settled says whether digest differs from the known one, is news to this loop, and
// no longer changes.
func (w *watch) settled(digest, known string, now time.Time) bool {
	if digest == known || digest == w.done {
		*w = watch{done: digest}
		return false
	}
	if w.first.IsZero() {
		w.first = now
	}
	if w.digest != digest {
		w.digest, w.since = digest, now
	}
	return now.Sub(w.since) >= settle || now.Sub(w.first) >= patience
}

// complaint keeps a loop from saying the same each second.
type complaint struct {
	last string
	at   time.Time
}

func (c *complaint) news(err error, now time.Time) bool {
	if err == nil {
		c.last = ""
		return false
	}
	if err.Error() == c.last && now.Sub(c.at) < time.Minute {
		return false
	}
	c.last, c.at = err.Error(), now
	return true
}
