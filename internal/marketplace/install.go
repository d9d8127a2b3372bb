package marketplace

import (
	"context"
	"slices"
	"strings"
	"sync"

	"github.com/flavorsync/flavorsync/internal/flavor"
	"github.com/flavorsync/flavorsync/internal/openstack"
	"github.com/flavorsync/flavorsync/internal/store"
)

// writing holds the one writer's place for a flavor's name in a region, and
// marks the region as written to. Call the func when the rows are stored too.
func (m *Market) writing(ctx context.Context, region, name string) (func(), error) {
	// Nova may not tell case apart, so neither does the lock.
	release, err := m.locks.lock(ctx, region+"\x00"+strings.ToLower(name))
	if err != nil {
		return nil, flavor.Errorf(flavor.CodeUnreachable, "%s: another write of %q there did not end in time: %w", region, name, err)
	}
	m.writes.bump(region)
	return func() {
		m.writes.bump(region)
		release()
	}, nil
}

// install makes it so: that l's region has f, as l found it a moment ago. It is
// idempotent; another flavor in the way is a conflict that names the fields.
func (m *Market) install(ctx context.Context, f flavor.Flavor, l *look) error {
	done, err := m.writing(ctx, l.region.Name, f.Name)
	if err != nil {
		return err
	}
	defer done()
	row := flavor.Installation{FlavorID: f.ID, Region: l.region.Name}
	if nf, there := l.node(f); there {
		row.NodeID = nf.ID
		return m.keepInstallation(ctx, row)
	}
	if conflict := l.conflict(f); conflict != nil {
		return conflict
	}
	compute := m.clouds.Service(l.region)
	created, err := compute.Create(ctx, flavor.NovaFlavor{ID: f.ID, Spec: f.Spec, IsPublic: true})
	if flavor.CodeOf(err) == flavor.CodeConflict {
		// Somebody was faster, or this Nova takes two names or ids for one.
		if row.NodeID, err = m.afterConflict(ctx, f, l.region, err); err != nil {
			return err
		}
		return m.keepInstallation(ctx, row)
	}
	if err != nil {
		return err
	}
	row.NodeID, row.Created = created.ID, true
	// What is in Nova now must not be forgotten because the caller has gone.
	err = m.store.Write(context.WithoutCancel(ctx), func(tx *store.Tx) error { return tx.PutInstallation(row) })
	if flavor.CodeOf(err) == flavor.CodeNotFound {
		// The flavor or the region was deleted meanwhile: so is the node.
		if undo := compute.Delete(context.WithoutCancel(ctx), row.NodeID); undo != nil {
			m.log.ErrorContext(ctx, "a flavor is left in a region without its catalogue flavor", "region", row.Region, "id", row.NodeID, "error", undo.Error())
		}
		return flavor.Conflict("%s: %q was deleted from the catalogue meanwhile", row.Region, f.Name)
	}
	return err
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
		return "", flavor.Conflict("%s has a flavor (id %q, name %q) that its Nova cannot tell from %q (id %s): it compares without case and accents; rename one of them",
			r.Name, nf.ID, nf.Name, f.Name, f.ID)
	}
	return "", cause
}

// keepInstallation writes row unless it stands already, so that the mark of
// what we created ourselves stays.
func (m *Market) keepInstallation(ctx context.Context, row flavor.Installation) error {
	cat, err := m.store.Catalogue(ctx)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(cat.Installed(row.FlavorID), func(i flavor.Installation) bool {
		return i.Region == row.Region && i.NodeID == row.NodeID
	}) {
		return nil
	}
	return m.store.Write(ctx, func(tx *store.Tx) error { return tx.PutInstallation(row) })
}

// installAll installs f in these regions side by side, and tells of each that
// failed. A region that could not be looked at has had its try.
func (m *Market) installAll(ctx context.Context, f flavor.Flavor, looks []*look) []flavor.NodeError {
	return m.each(ctx, looks, func(l *look) error {
		if l.err != nil {
			return l.err
		}
		return m.install(ctx, f, l)
	})
}

// each does one thing at several regions side by side.
func (m *Market) each(ctx context.Context, looks []*look, do func(*look) error) []flavor.NodeError {
	errs := make([]error, len(looks))
	var wg sync.WaitGroup
	for i, l := range looks {
		wg.Go(func() { errs[i] = do(l) })
	}
	wg.Wait()
	var failed []flavor.NodeError
	for i, err := range errs {
		if err != nil {
			failed = append(failed, m.nodeError(ctx, looks[i].region.Name, err))
		}
	}
	return failed
}

// removeNode deletes f's node from one region's Nova through compute, and its
// row. That it is gone already is success; that it is not f any more is a
// conflict, and nothing is deleted.
func (m *Market) removeNode(ctx context.Context, compute *openstack.Compute, f flavor.Flavor, region, nodeID string) error {
	done, err := m.writing(ctx, region, f.Name)
	if err != nil {
		return err
	}
	defer done()
	switch nf, err := compute.Get(ctx, nodeID); {
	case flavor.CodeOf(err) == flavor.CodeNotFound:
	case err != nil:
		return err
	case !f.Equal(nf.Spec):
		return flavor.Conflict("%s: the flavor with id %q is not %q any more: %s; nothing was deleted there",
			region, nodeID, f.Name, differing(f.Spec, nf.Spec))
	default:
		if err := compute.Delete(ctx, nodeID); err != nil && flavor.CodeOf(err) != flavor.CodeNotFound {
			return err
		}
	}
	return m.store.Write(context.WithoutCancel(ctx), func(tx *store.Tx) error {
		return tx.DeleteInstallation(f.ID, region)
	})
}

// dropIfNowhere takes a public flavor that is not promoted out of the catalogue
// when no region has it any more, those with a node of its kind that nobody has
// told us of included.
func (m *Market) dropIfNowhere(ctx context.Context, id string) error {
	ctx = context.WithoutCancel(ctx)
	cat, err := m.store.Catalogue(ctx)
	if err != nil {
		return err
	}
	f, ok := cat.ByID(id)
	if !ok || f.Promoted || len(cat.Installed(id)) > 0 {
		return nil
	}
	regions, err := m.regions(ctx)
	if err != nil {
		return err
	}
	m.look(ctx, regions, false) // and remember what is there
	return m.store.Write(ctx, func(tx *store.Tx) error {
		f, err := tx.Flavor(id)
		if flavor.CodeOf(err) == flavor.CodeNotFound {
			return nil
		}
		if err != nil || f.Promoted || len(f.Nodes) > 0 {
			return err
		}
		return tx.DeleteFlavor(id)
	})
}

// createNew creates a flavor in a region's Nova under id if that is free, else
// under a new one; its name must be free there.
func (m *Market) createNew(ctx context.Context, compute *openstack.Compute, region, id string, spec flavor.Spec) (flavor.NovaFlavor, error) {
	done, err := m.writing(ctx, region, spec.Name)
	if err != nil {
		return flavor.NovaFlavor{}, err
	}
	defer done()
	created, err := compute.Create(ctx, flavor.NovaFlavor{ID: id, Spec: spec, IsPublic: true})
	if flavor.CodeOf(err) != flavor.CodeConflict {
		return created, err
	}
	if _, got := compute.Get(ctx, id); got == nil {
		created, err = compute.Create(ctx, flavor.NovaFlavor{ID: m.newID(), Spec: spec, IsPublic: true})
	}
	if flavor.CodeOf(err) == flavor.CodeConflict {
		return created, nameTaken(ctx, compute, region, spec, err)
	}
	return created, err
}

// nameTaken tells which flavor has spec's name in region, in the eyes of Nova.
func nameTaken(ctx context.Context, compute *openstack.Compute, region string, spec flavor.Spec, cause error) error {
	all, err := compute.List(ctx)
	if err != nil {
		return cause
	}
	l := look{flavors: all}
	if nf, ok := l.byName(spec.Name); ok {
		if spec.Equal(nf.Spec) {
			return flavor.Conflict("%s has this very flavor already, with id %q", region, nf.ID)
		}
		return flavor.Conflict("%s has another flavor named %q (id %q): %s", region, nf.Name, nf.ID, differing(spec, nf.Spec))
	}
	if nf, ok := l.find(func(nf flavor.NovaFlavor) bool { return fold(nf.Name) == fold(spec.Name) }); ok {
		return flavor.Conflict("%s has a flavor named %q (id %q) that its Nova cannot tell from %q: it compares without case and accents; choose another name",
			region, nf.Name, nf.ID, spec.Name)
	}
	return cause
}
