package ucloud

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/flavorsync/flavorsync/internal/flavor"
	"github.com/flavorsync/flavorsync/internal/store"
)

// state is what all replicas know of the pushes. Its names stay what they are:
// it outlives the binary that stored it.
type state struct {
	State      State     `json:"state"` // "": there was no push yet
	Trigger    Trigger   `json:"trigger"`
	StartedAt  time.Time `json:"started_at"`
	FinishedAt time.Time `json:"finished_at"`
	// NextAt is when to push again where nothing changes; while one is under way,
	// when to believe that it was cut short.
	NextAt time.Time `json:"next_at"`
	// NotBefore is until when Core asked to be left alone.
	NotBefore time.Time `json:"not_before"`
	Digest    string    `json:"digest"`   // of the products that the last push was about
	Failures  int       `json:"failures"` // in a row, that may pass
	Sent      []Batch   `json:"sent"`
	Unchanged int       `json:"unchanged"`
	Failed    []Failure `json:"failed"`
	LastError string    `json:"last_error"`
	// Refused are the categories that Core refused, with the digest of what was
	// to be had of them: nobody but a manager tries that again.
	Refused map[string]refusedCategory `json:"refused"`
}

type refusedCategory struct {
	Digest  string  `json:"digest"`
	Failure Failure `json:"failure"`
}

// next is NextAt, unless the interval has become shorter since.
func (st state) next(interval time.Duration) time.Time {
	if latest := st.FinishedAt.Add(interval + interval/10); st.State != Running && st.Failures == 0 && st.NextAt.After(latest) {
		return latest
	}
	return st.NextAt
}

// state reads what is stored; the zero state where there is nothing yet.
func (p *Provider) state(ctx context.Context) (state, error) {
	var text string
	err := p.cfg.Store.Read(ctx, func(tx *store.Tx) (err error) {
		text, err = tx.PushState(p.cfg.ProviderID)
		return err
	})
	var st state
	if err != nil || text == "" {
		return st, err
	}
	if err := json.Unmarshal([]byte(text), &st); err != nil {
		p.log.WarnContext(ctx, "what is stored of the pushes to UCloud cannot be read; beginning anew", "error", err.Error())
		return state{}, nil
	}
	return st, nil
}

// save stores st for as long as the lease is ours.
func (p *Provider) save(ctx context.Context, lease store.Lease, st state) error {
	text, err := json.Marshal(st)
	if err != nil {
		return err
	}
	return p.cfg.Store.Write(ctx, func(tx *store.Tx) error {
		if err := tx.Hold(lease); err != nil {
			return err
		}
		if err := tx.SetPushState(p.cfg.ProviderID, string(text)); err != nil {
			return err
		}
		return tx.Audit(st.audited())
	})
}

// audited is st as a line of the audit, for where a manager asked for the push.
func (st state) audited() flavor.AuditEntry {
	e := flavor.AuditEntry{Object: flavor.AuditedPush, Outcome: flavor.Success, Message: st.LastError}
	switch st.State {
	case Running:
		e.Outcome = flavor.Pending
		return e
	case Failed:
		e.Outcome = flavor.Failure
	}
	sent, failed := 0, 0
	for _, b := range st.Sent {
		sent += len(b.Products)
	}
	for _, f := range st.Failed {
		failed += len(f.Products)
	}
	e.After = map[string]string{"sent": strconv.Itoa(sent), "unchanged": strconv.Itoa(st.Unchanged), "failed": strconv.Itoa(failed)}
	return e
}

// marks are digests of what Core is to have.
type marks struct {
	of       []flavor.Offer
	all      string
	category map[string]string
}

// mark is made once for each state of the products.
func (p *Provider) mark(offers []flavor.Offer) (*marks, error) {
	if last := p.marked.Load(); last != nil && same(last.of, offers) {
		return last, nil
	}
	m := &marks{of: offers, category: map[string]string{}}
	for name, of := range categories(offers) {
		wanted := make([]flavor.Offer, len(of))
		for i, o := range of {
			// What Core was told is no part of what it is to have.
			o.Pushed, o.ByFormula = flavor.Reference{}, false
			wanted[i] = o
		}
		sum, err := sumOf(p.cfg.Push, wanted)
		if err != nil {
			return nil, err
		}
		m.category[name] = sum
	}
	var err error
	m.all, err = sumOf(p.cfg.Push, p.cfg.CoreURL, m.category)
	if err == nil {
		p.marked.Store(m)
	}
	return m, err
}

func sumOf(parts ...any) (string, error) {
	text, err := json.Marshal(parts, json.Deterministic(true))
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:16]), err
}
