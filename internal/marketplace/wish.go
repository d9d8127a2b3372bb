package marketplace

import (
	"context"

	"github.com/flavorsync/flavorsync/internal/flavor"
	"github.com/flavorsync/flavorsync/internal/store"
)

// wish is that a flavor be in some regions, which have just been looked at.
type wish struct {
	m         *Market
	by        flavor.Principal
	later     bool // nobody waits
	looks     []*look
	operation *flavor.Operation // nil: every region has the flavor
}

// lacking are the looks at the regions that do not have f, or could not be asked.
func (w *wish) lacking(f flavor.Flavor) (lacking, having []*look) {
	for _, l := range w.looks {
		if _, there := l.node(f); there {
			having = append(having, l)
		} else {
			lacking = append(lacking, l)
		}
	}
	return lacking, having
}

// in writes the wish down, before any region is called. Who wants the flavor there
// takes back that it was refused.
func (w *wish) in(tx *store.Tx, f flavor.Flavor) error {
	for _, l := range w.looks {
		if err := tx.DropRefusal(f.ID, l.region.Name); err != nil {
			return err
		}
	}
	w.operation = nil
	lacking, _ := w.lacking(f)
	if len(lacking) == 0 {
		return nil
	}
	regions := make([]string, len(lacking))
	for i, l := range lacking {
		regions[i] = l.region.Name
	}
	o := operation(flavor.Install, w.by, f, regions)
	if w.later && w.m.answersOnly {
		for i := range o.Nodes { // another process's
			o.Nodes[i].State, o.Nodes[i].Attempts = flavor.Waiting, 0
		}
	}
	o, err := tx.InsertOperation(o, w.m.Claim())
	w.operation = &o
	return err
}

// grant installs f, and tells of the regions where that failed; of none where
// nobody waits.
func (w *wish) grant(ctx context.Context, f flavor.Flavor) []flavor.NodeError {
	m := w.m
	lacking, having := w.lacking(f)
	failed := m.each(ctx, having, func(ctx context.Context, l *look) error { return m.install(ctx, f, l, attempt{}) })
	if w.operation == nil {
		return failed
	}
	o := *w.operation
	install := func(ctx context.Context, l *look) error {
		return m.install(ctx, f, l, attempt{of: o.ID, node: first(l.region.Name)})
	}
	switch {
	case !w.later:
		return append(failed, m.workOff(ctx, o, lacking, false, install)...)
	case !m.answersOnly:
		ctx := context.WithoutCancel(ctx)
		m.working.Go(func() { m.workOff(ctx, o, lacking, true, install) })
	}
	return failed
}
