package marketplace

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/flavorsync/flavorsync/internal/flavor"
	"github.com/flavorsync/flavorsync/internal/openstack"
	"github.com/flavorsync/flavorsync/internal/store"
)

// attempt is what is to be known of an attempt to install a flavor.
type attempt struct {
	again bool // one before it may have ended half-way
	// of is the operation, and node which attempt at which of its nodes; "" where all
	// regions have the flavor.
	of   string
	node flavor.OperationNode
}

// wanted makes sure that what a is made for is wanted still, and this its only
// attempt: a DELETE may have cancelled it.
func (a attempt) wanted(tx *store.Tx, f flavor.Flavor) error {
	if a.of == "" {
		return nil
	}
	switch now, err := tx.Node(a.of, a.node.Region); {
	case err != nil:
		return err
	case now.State == flavor.Cancelled:
		return flavor.Conflict("%s: %q is not wanted there any more: its owner has removed or refused it meanwhile", a.node.Region, f.Name)
	case now.State != flavor.Running || now.Attempts != a.node.Attempts:
		return tooSlow(a.node.Region)
	}
	return nil
}

// install makes it so: that l's region has f, as l found it a moment ago. It is
// idempotent; another flavor in the way is a conflict that names the fields.
func (m *Market) install(ctx context.Context, f flavor.Flavor, l *look, a attempt) error {
	w, err := m.writing(ctx, l.region.Name, f.Name)
	if err != nil {
		return err
	}
	defer w.done(ctx)
	if a.of != "" {
		if err := m.store.Read(ctx, func(tx *store.Tx) error { return a.wanted(tx, f) }); err != nil {
			return err
		}
	}
	row := flavor.Installation{FlavorID: f.ID, Region: l.region.Name}
	compute := m.clouds.Service(l.region).Undoing(w.undoing)
	// Since the look whoever wrote here before may have taken back what it saw, or
	// finished it.
	seen, there := l.node(f)
	if !there {
		seen, there = l.byID(f.ID)
	}
	if there {
		switch now, err := compute.Get(ctx, seen.ID); {
		case err != nil && flavor.CodeOf(err) != flavor.CodeNotFound:
			return err
		case err != nil || !now.Equal(seen.Spec):
			if l = m.ask(ctx, l.region); l.err != nil {
				return l.err
			}
		}
	}
	if nf, there := l.node(f); there {
		row.NodeID = nf.ID
		row.Created = a.again && nf.ID == f.ID
		return m.putInstallation(ctx, w, f, row, a)
	}
	if nf, left := m.left(ctx, f, l, 1, a.again); left {
		return m.finish(ctx, w, compute, f, nf, row, a)
	}
	if conflict := l.conflict(f); conflict != nil {
		var undoing bool
		err := m.store.Read(ctx, func(tx *store.Tx) (err error) {
			undoing, err = tx.Pending(flavor.Undo, f.ID, row.Region)
			return err
		})
		if err == nil && undoing {
			return flavor.Errorf(flavor.CodeUnreachable, "%s: what an earlier install of %q has left there is removed first; try again later", row.Region, f.Name)
		}
		return conflict
	}
	if err := m.begin(ctx, inNova{region: row.Region, id: f.ID, after: f.Spec.Audited()}); err != nil {
		return err
	}
	if err := w.sure(ctx); err != nil {
		return err
	}
	created, err := compute.Create(ctx, flavor.NovaFlavor{ID: f.ID, Spec: f.Spec, IsPublic: true})
	if flavor.CodeOf(err) == flavor.CodeConflict {
		// Somebody was faster, or this Nova takes two names or ids for one.
		if row.NodeID, err = m.afterConflict(ctx, f, l.region, err); err != nil {
			return err
		}
		return m.putInstallation(ctx, w, f, row, a)
	}
	if err != nil {
		return err
	}
	return m.made(ctx, w, compute, f, created, row, a)
}

// made notes that a has created nf as f, or deletes it again where that is not
// wanted any more.
func (m *Market) made(ctx context.Context, w *writer, compute *openstack.Compute, f flavor.Flavor, nf flavor.NovaFlavor, row flavor.Installation, a attempt) error {
	w.has(nf)
	row.NodeID, row.Created = nf.ID, true
	err := m.putInstallation(ctx, w, f, row, a)
	if code := flavor.CodeOf(err); code != flavor.CodeNotFound && code != flavor.CodeConflict {
		return err
	}
	undoing := context.WithoutCancel(ctx)
	if err := w.sure(undoing); err != nil {
		return err // another process has found what is there, it may be, and counts on it
	}
	// The flavor or the region was deleted or changed meanwhile, or the node is not
	// wanted: it goes.
	if undo := compute.Delete(undoing, row.NodeID); undo != nil {
		m.log.ErrorContext(ctx, "a flavor is left in a region without its catalogue flavor", "region", row.Region, "id", row.NodeID, "error", undo.Error())
		m.done(ctx, inNova{region: row.Region, id: row.NodeID, after: f.Spec.Audited()})
		return openstack.Left(err, nf.Spec)
	}
	w.hasNot(row.NodeID)
	return err
}

// left is what an attempt to install f in l's region that ended half-way has left
// there: this operation's own (again), or another's than so many that are the
// caller's.
func (m *Market) left(ctx context.Context, f flavor.Flavor, l *look, own int, again bool) (flavor.NovaFlavor, bool) {
	nf, there := l.byID(f.ID)
	if !there || !halfMade(f, nf) {
		return nf, false
	}
	if again {
		return nf, true
	}
	var begun int
	err := m.store.Read(ctx, func(tx *store.Tx) (err error) {
		begun, err = tx.Begun(f.ID, l.region.Name)
		return err
	})
	if err != nil {
		m.log.WarnContext(ctx, "a flavor that may be a half-made one of ours is left alone", "region", l.region.Name, "id", f.ID, "error", err.Error())
	}
	return nf, begun > own && err == nil
}

// markOf tells what an attempt to create a flavor with that spec may have left, with
// or without its extra specs, in 64 characters.
func markOf(s flavor.Spec) string {
	bare := s.Clone()
	bare.ExtraSpecs = nil
	return shortMark(s) + shortMark(bare)
}

func shortMark(s flavor.Spec) string { return fingerprint(s)[:32] }

// takeBack deletes what an attempt to install f has left in a region, where it is
// not to be finished: a part of f, or what that mark tells of.
func (m *Market) takeBack(ctx context.Context, f flavor.Flavor, r flavor.Region, mark string) error {
	w, err := m.writing(ctx, r.Name, f.Name)
	if err != nil {
		return err
	}
	defer w.done(ctx)
	compute := m.clouds.Service(r)
	nf, err := compute.Get(ctx, f.ID)
	if flavor.CodeOf(err) == flavor.CodeNotFound {
		return nil
	}
	if err != nil || f.Equal(nf.Spec) || m.isNoted(ctx, f.ID, r.Name) {
		return err
	}
	if !halfMade(f, nf) && !strings.Contains(mark, shortMark(nf.Spec)) {
		return nil
	}
	err = w.surely(ctx, func() error { return compute.Delete(ctx, f.ID) })
	if err == nil || flavor.CodeOf(err) == flavor.CodeNotFound {
		w.hasNot(f.ID)
		return nil
	}
	return err
}

// halfMade says whether nf may be what an attempt to create f left that ended
// before it had set all extra specs.
func halfMade(f flavor.Flavor, nf flavor.NovaFlavor) bool {
	for key, value := range nf.ExtraSpecs {
		if wanted, there := f.ExtraSpecs[key]; !there || wanted != value {
			return false
		}
	}
	return nf.IsPublic && samePlace(f.Spec, nf.Spec) && (nf.Description == "" || nf.Description == f.Description)
}

// finish brings nf, of which an earlier attempt created a part, to f.
func (m *Market) finish(ctx context.Context, w *writer, compute *openstack.Compute, f flavor.Flavor, nf flavor.NovaFlavor, row flavor.Installation, a attempt) error {
	if err := w.sure(ctx); err != nil {
		return err
	}
	if err := m.complete(ctx, compute, nf, flavor.NovaFlavor{ID: nf.ID, Spec: f.Spec, IsPublic: true}, nil); err != nil {
		return err
	}
	nf.Spec = f.Spec
	return m.made(ctx, w, compute, f, nf, row, a)
}

// afterConflict finds out what Nova's 409 on creating f was about: the node's
// id where f is there after all, else a conflict that tells what is in the way.
func (m *Market) afterConflict(ctx context.Context, f flavor.Flavor, r flavor.Region, cause error) (string, error) {
	again := m.ask(ctx, r)
	if again.err != nil {
		return "", again.err
	}
	if nf, there := again.node(f); there {
		return nf.ID, nil
	}
	if conflict := again.conflict(f); conflict != nil {
		return "", conflict
	}
	if nf, ok := again.find(func(nf flavor.NovaFlavor) bool {
		return fold(nf.Name) == fold(f.Name) || fold(nf.ID) == fold(f.ID)
	}); ok {
		return "", blindTo(r.Name, nf, f.Name)
	}
	return "", cause
}

// blindTo is the conflict of a name, or id, with one that only case or accents
// tell from it.
func blindTo(region string, nf flavor.NovaFlavor, name string) error {
	return flavor.Conflict("%s has a flavor named %q (id %q) that its Nova cannot tell from %q: it compares without case and accents; rename one of them",
		region, nf.Name, nf.ID, name)
}

// errChangedMeanwhile says that another attempt would be made from something else.
var errChangedMeanwhile = errors.New("the catalogue has another flavor now")

// putInstallation notes that a region has f, if f is still what the catalogue
// has, and, where we created it, a still wants it there. A row that says so already
// stays as it is.
func (m *Market) putInstallation(ctx context.Context, w *writer, f flavor.Flavor, row flavor.Installation, a attempt) error {
	err := m.store.Write(context.WithoutCancel(ctx), func(tx *store.Tx) error {
		if err := w.hold(tx); err != nil {
			return err
		}
		now, err := tx.Flavor(row.FlavorID)
		if flavor.CodeOf(err) == flavor.CodeNotFound {
			return flavor.Conflict("%s: %q was deleted from the catalogue meanwhile", row.Region, f.Name)
		}
		if err != nil {
			return err
		}
		if !now.Equal(f.Spec) {
			return flavor.Errorf(flavor.CodeConflict, "%s: %q was changed in the catalogue meanwhile: %s; read it again: %w",
				row.Region, f.Name, differing(f.Spec, now.Spec), errChangedMeanwhile)
		}
		if row.Created && now.Retired {
			return retired(now.Name)
		}
		if row.Created {
			if err := a.wanted(tx, f); err != nil {
				return err
			}
		}
		if err := noteRepaired(tx, now, row.Region); err != nil {
			return err
		}
		put, err := putUnlessThere(tx, row)
		if err != nil || !put || !row.Created { // one that ended half-way may have told of it already
			return err
		}
		return tx.Audit(inNova{region: row.Region, id: row.NodeID, after: f.Spec.Audited()}.line(flavor.Success))
	})
	w.noted = err == nil
	return err
}

// removeNode deletes f's node from one region's Nova through compute, and its
// row. That it is gone already is success. What is not f any more is not
// deleted, unless we created it and only its description or extra specs are
// others: where it was adopted it is the region's own again, and the row goes;
// where we created it, that is a conflict.
func (m *Market) removeNode(ctx context.Context, compute *openstack.Compute, f flavor.Flavor, region, nodeID string) error {
	w, err := m.writing(ctx, region, f.Name)
	if err != nil {
		return err
	}
	defer w.done(ctx)
	var deleted *inNova
	switch nf, err := compute.Get(ctx, nodeID); {
	case flavor.CodeOf(err) == flavor.CodeNotFound:
	case err != nil:
		return err
	case f.Equal(nf.Spec), m.created(ctx, f.ID, region) && samePlace(f.Spec, nf.Spec):
		deleted = &inNova{region: region, id: nodeID, before: nf.Audited()}
		if err := m.begin(ctx, *deleted); err != nil {
			return err
		}
		if err := w.sure(ctx); err != nil {
			return err
		}
		if err := compute.Delete(ctx, nodeID); err != nil && flavor.CodeOf(err) != flavor.CodeNotFound {
			return err
		}
		w.hasNot(nodeID)
	case m.created(ctx, f.ID, region):
		return flavor.Conflict("%s: the flavor with id %q is not %q any more: %s; nothing was deleted there; DELETE /v1/regions/%s/flavors/%s does",
			region, nodeID, f.Name, differing(f.Spec, nf.Spec), region, nodeID)
	}
	err = m.store.Write(context.WithoutCancel(ctx), func(tx *store.Tx) error {
		if err := w.hold(tx); err != nil {
			return err
		}
		if err := tx.DeleteInstallation(f.ID, region); err != nil {
			return err
		}
		if _, err := tx.DropDrift(f.ID, region); err != nil {
			return err
		}
		if deleted != nil {
			if err := tx.Audit(deleted.line(flavor.Success)); err != nil {
				return err
			}
		}
		return forgetChange(tx, region, nodeID)
	})
	w.noted = err == nil
	return err
}

// isNoted says whether f is installed in region, as far as is known. Where the
// database does not tell, it is: that is the careful answer.
func (m *Market) isNoted(ctx context.Context, id, region string) bool {
	cat, err := m.store.CatalogueNow(ctx)
	if err != nil {
		return true
	}
	_, installed := cat.InstalledIn(id, region)
	return installed
}

// created says whether we created f's node in region. Where the database does
// not tell, we did: that is the careful answer.
func (m *Market) created(ctx context.Context, id, region string) bool {
	cat, err := m.store.Catalogue(ctx)
	if err != nil {
		return true
	}
	i, _ := cat.InstalledIn(id, region)
	return i.Created
}

// dropIfNowhere takes public flavors that are not promoted out of the catalogue
// where no region has them any more, those with a node of their kind that nobody
// has told us of included.
func (m *Market) dropIfNowhere(ctx context.Context, ids ...string) error {
	ctx = context.WithoutCancel(ctx)
	cat, err := m.store.Catalogue(ctx)
	if err != nil {
		return err
	}
	ids = slices.DeleteFunc(slices.Clone(ids), func(id string) bool {
		f, ok := cat.ByID(id)
		return !ok || f.Promoted || len(cat.Installed(id)) > 0
	})
	if len(ids) == 0 {
		return nil
	}
	regions, err := m.regions(ctx)
	if err != nil {
		return err
	}
	m.look(ctx, regions, brief) // and remember what is there
	return m.store.Write(ctx, func(tx *store.Tx) error {
		for _, id := range ids {
			f, err := tx.Flavor(id)
			if flavor.CodeOf(err) == flavor.CodeNotFound {
				continue
			}
			if err != nil {
				return err
			}
			installed, err := tx.Installations(id)
			if err != nil {
				return err
			}
			if f.Promoted || len(installed) > 0 {
				continue
			}
			if err := tx.DeleteFlavor(id); err != nil {
				return err
			}
		}
		return nil
	})
}

// createNew creates a flavor in a region's Nova under id if that is free, else
// under a new one; its name must be free there.
func (m *Market) createNew(ctx context.Context, compute *openstack.Compute, region, id string, spec flavor.Spec) (flavor.NovaFlavor, error) {
	w, err := m.writing(ctx, region, spec.Name)
	if err != nil {
		return flavor.NovaFlavor{}, err
	}
	defer w.done(ctx)
	compute = compute.Undoing(w.undoing)
	change := inNova{region: region, after: spec.Audited()}
	if err := m.begin(ctx, change); err != nil {
		return flavor.NovaFlavor{}, err
	}
	if err := w.sure(ctx); err != nil {
		return flavor.NovaFlavor{}, err
	}
	created, err := compute.Create(ctx, flavor.NovaFlavor{ID: id, Spec: spec, IsPublic: true})
	if flavor.CodeOf(err) == flavor.CodeConflict {
		// A Nova that tells no case apart does not say whether the id or the name
		// was in the way.
		created, err = compute.Create(ctx, flavor.NovaFlavor{ID: m.newID(), Spec: spec, IsPublic: true})
		if flavor.CodeOf(err) == flavor.CodeConflict {
			err = nameTaken(ctx, compute, region, spec, err)
		}
	}
	if err != nil {
		return created, err
	}
	w.has(created)
	change.id = created.ID
	m.done(ctx, change)
	return created, nil
}

// nameTaken tells which flavor has spec's name in region, in the eyes of Nova.
func nameTaken(ctx context.Context, compute *openstack.Compute, region string, spec flavor.Spec, cause error) error {
	all, err := compute.List(ctx)
	if err != nil {
		return cause
	}
	var l look
	l.saw(all)
	if nf, ok := l.byName(spec.Name); ok {
		if spec.Equal(nf.Spec) {
			return flavor.Conflict("%s has this very flavor already, with id %q", region, nf.ID)
		}
		return flavor.Conflict("%s has another flavor named %q (id %q): %s", region, nf.Name, nf.ID, differing(spec, nf.Spec))
	}
	if nf, ok := l.find(func(nf flavor.NovaFlavor) bool { return fold(nf.Name) == fold(spec.Name) }); ok {
		return blindTo(region, nf, spec.Name)
	}
	return cause
}
