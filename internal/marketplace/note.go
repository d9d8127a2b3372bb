package marketplace

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/flavorsync/flavorsync/internal/flavor"
	"github.com/flavorsync/flavorsync/internal/openstack"
	"github.com/flavorsync/flavorsync/internal/store"
)

// What is written down of a region: the time of each look at it, its flavors where
// they changed, which of them are nodes of the catalogue's, and which of those
// nodes somebody altered or deleted behind our back.

// maxProbe is how long a region that could not be asked is left alone at most.
const maxProbe = 30 * time.Second

// nextLook is when a region is to be looked at again: after the interval of the
// sweeps, give or take a tenth, so that regions that were looked at together are
// not for ever.
func (m *Market) nextLook(failed bool) time.Duration {
	interval := m.sweep
	if failed {
		interval = min(interval, maxProbe)
	}
	return interval + time.Duration((2*m.random()-1)*float64(interval)/10)
}

// remember writes down what a look found. A failure to do so costs nothing but
// memory, so it is logged only.
func (m *Market) remember(ctx context.Context, l *look) {
	if flavor.CodeOf(l.err) == flavor.CodeInternal { // our database's failure is not the region's
		m.log.WarnContext(ctx, "a region was not looked at", "region", l.region.Name, "error", l.err.Error())
		return
	}
	note := m.noteSeen
	if l.err != nil {
		note = m.noteFailure
	}
	if err := note(ctx, l); err != nil {
		m.log.WarnContext(ctx, "cannot write down a look at a region", "region", l.region.Name, "error", err.Error())
	}
}

// seen is l as the store has it.
func (m *Market) seen(l *look, st flavor.RegionStatus) flavor.Look {
	known := l.known
	known.LookedAt, known.Duration, known.Error = st.CheckedAt, l.took, st.LastError
	return known
}

func (m *Market) noteFailure(ctx context.Context, l *look) error {
	st := openstack.StatusOf(l.err, m.now())
	return m.store.Write(ctx, func(tx *store.Tx) error {
		noted, err := tx.NoteLook(m.seen(l, st), m.nextLook(true), l.known.Error == "")
		if err != nil || !noted {
			return err
		}
		return setStatus(tx, l.region, st)
	})
}

// setStatus stores a region's state where it is news.
func setStatus(tx *store.Tx, r flavor.Region, st flavor.RegionStatus) error {
	if r.Status.State == st.State && r.Status.LastError == st.LastError {
		return nil
	}
	return tx.SetRegionStatus(r.Name, st)
}

func (m *Market) noteSeen(ctx context.Context, l *look) error {
	cat, err := m.store.Catalogue(ctx)
	if err != nil {
		return err
	}
	inv, err := m.store.Inventory(ctx)
	if err != nil {
		return err
	}
	st := openstack.StatusOf(nil, m.now())
	found := compare(cat, l)
	last := inv.Of(l.region.Name)
	same := last != nil && last.Version == l.known.Version && l.sameAs(last.Flavors)
	back := l.known.Error != "" || l.region.Status.State != flavor.RegionUp
	err = m.store.Write(ctx, func(tx *store.Tx) error {
		l.noted, err = tx.NoteLook(m.seen(l, st), m.nextLook(false), back)
		if err != nil || !l.noted {
			return err
		}
		if err := setStatus(tx, l.region, st); err != nil {
			return err
		}
		if back {
			if _, err := tx.ReleaseNodes(l.region.Name); err != nil {
				return err
			}
		}
		if !same {
			if err := tx.PutInventory(l.region.Name, l.withAccess(last)); err != nil {
				return err
			}
		}
		return m.noteFound(tx, l, found, false)
	})
	if err == nil && back {
		m.wake()
	}
	return err
}

// sameAs says whether l found what was known.
func (l *look) sameAs(known []flavor.SeenFlavor) bool {
	if known == nil || len(known) != len(l.flavors) {
		return false
	}
	for _, f := range known {
		nf, there := l.byName(f.Name)
		if !there || nf.ID != f.ID || nf.IsPublic != f.IsPublic || !nf.Equal(f.Spec) {
			return false
		}
	}
	return true
}

// withAccess is what l found, with who may use it as far as that is known.
func (l *look) withAccess(last *flavor.Look) []flavor.SeenFlavor {
	known := map[string][]string{}
	if last != nil {
		for _, f := range last.Flavors {
			known[f.ID] = f.Access
		}
	}
	all := make([]flavor.SeenFlavor, len(l.flavors))
	for i, nf := range l.flavors {
		all[i].NovaFlavor = nf
		if !nf.IsPublic {
			all[i].Access = known[nf.ID]
		}
	}
	slices.SortFunc(all, func(a, b flavor.SeenFlavor) int { return strings.Compare(a.ID, b.ID) })
	return all
}

// foundNodes is what the flavors of a region mean for the catalogue's nodes there.
type foundNodes struct {
	put     []flavor.Installation // nodes that were not noted, or otherwise
	gone    []flavor.Installation // noted, and deleted by somebody
	altered []flavor.Installation // noted, and altered by somebody
	again   []flavor.Flavor       // flavors of which the drift is over
}

// compare finds what is news in l. What was installed since it began is newer than
// it, and is left alone.
func compare(cat *store.Catalogue, l *look) (found foundNodes) {
	region := l.region.Name
	rows := map[string]flavor.Installation{}
	for _, i := range cat.In(region) {
		rows[i.FlavorID] = i
	}
	for _, nf := range l.flavors {
		f, public := cat.ByName(nf.Name)
		if !public || !f.Equal(nf.Spec) {
			continue
		}
		if row, known := rows[f.ID]; !known || row.NodeID != nf.ID {
			found.put = append(found.put, flavor.Installation{FlavorID: f.ID, Region: region, NodeID: nf.ID})
		}
		delete(rows, f.ID)
		if _, drifted := cat.DriftIn(f.ID, region); drifted {
			found.again = append(found.again, f)
		}
	}
	for _, row := range rows {
		switch _, there := l.byID(row.NodeID); {
		case !slices.Contains(l.before, row):
		case !there:
			found.gone = append(found.gone, row)
		default:
			if d, drifted := cat.DriftIn(row.FlavorID, region); !drifted || d.Kind != flavor.Differs {
				found.altered = append(found.altered, row)
			}
		}
	}
	return found
}

// noteFound writes down what is news in l; own says that it is what the writer who
// notes it has made of the region.
func (m *Market) noteFound(tx *store.Tx, l *look, found foundNodes, own bool) error {
	region := l.region.Name
	for _, row := range found.put {
		if _, err := putUnlessThere(tx, row); err != nil && flavor.CodeOf(err) != flavor.CodeNotFound {
			return err
		}
	}
	for _, f := range found.again {
		if err := noteRepaired(tx, f, region); err != nil {
			return err
		}
	}
	if len(found.gone)+len(found.altered) == 0 {
		return nil
	}
	// What a careful change of ours has just taken away comes back.
	changes, err := tx.Changes()
	if err != nil {
		return err
	}
	for _, row := range append(found.gone, found.altered...) {
		ours := func(c store.Change) bool { return c.Region == region && c.FlavorID == row.NodeID }
		if slices.ContainsFunc(changes, ours) {
			continue
		}
		// So may what a removal of ours has just deleted: it has yet to be told whose
		// deed it was, and the next look comes behind.
		f, err := tx.Flavor(row.FlavorID)
		if flavor.CodeOf(err) == flavor.CodeNotFound {
			continue
		}
		if err != nil {
			return err
		}
		if !own {
			writing, err := m.beingWritten(tx, region, f.Name)
			if err != nil {
				return err
			}
			if writing {
				continue
			}
		}
		// What is still as the catalogue had it has yet to be changed by us.
		if nf, there := l.byID(row.NodeID); there && samePlace(f.Spec, nf.Spec) {
			spreading, err := tx.Pending(flavor.Spread, f.ID, region)
			if err != nil {
				return err
			}
			if spreading {
				continue
			}
		}
		event := flavor.Event{Type: flavor.NodeDrifted, Flavor: f.ID, Name: f.Name, Region: region}
		d := flavor.Drift{FlavorID: row.FlavorID, Region: region, Kind: flavor.Differs, NodeID: row.NodeID, Created: row.Created, FoundAt: m.now()}
		if nf, there := l.byID(row.NodeID); there {
			event.Message = "it was altered there: " + differing(f.Spec, nf.Spec)
		} else {
			event.Message = "it was deleted there"
			d.Kind = flavor.Missing
			if err := tx.DeleteInstallation(row.FlavorID, region); err != nil {
				return err
			}
		}
		if err := errors.Join(tx.PutDrift(d), tx.Event(event)); err != nil {
			return err
		}
	}
	return nil
}

// noteRepaired notes that a node is as it was, whoever made it so.
func noteRepaired(tx *store.Tx, f flavor.Flavor, region string) error {
	if was, err := tx.DropDrift(f.ID, region); err != nil || !was {
		return err
	}
	return tx.Event(flavor.Event{Type: flavor.NodeRepaired, Flavor: f.ID, Name: f.Name, Region: region})
}
