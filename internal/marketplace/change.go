package marketplace

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/flavorsync/flavorsync/internal/flavor"
	"github.com/flavorsync/flavorsync/internal/openstack"
	"github.com/flavorsync/flavorsync/internal/store"
)

// The careful change. Nova changes a flavor's description and extra specs only;
// a new size or name is a delete and a create under the same id. So that the
// flavor is never lost:
//
//	1. the whole old flavor, its access and the new one are stored
//	2. the new one is tried under a temporary id and name by the region's
//	   service account, which shows that Nova takes it and that the account
//	   can finish what the caller begins; the try is deleted
//	3. the old one is read again, compared, and deleted
//	4. the new one is created with its extra specs, and given its access
//	5. the stored change is deleted
//
// settle finishes or undoes it from whatever Nova holds, after any failure and
// after a crash between any two steps.

// temporaryID begins the id and the name of a flavor that only tries a change.
const temporaryID = "flavorsync-change-"

func isTemporary(id string) bool { return strings.HasPrefix(id, temporaryID) }

// Claim is how long what this process has begun is its own after each step: as
// long as the calls of one step may take, and a DELETE on its way may still act.
func (m *Market) Claim() time.Duration { return 3*m.timeout + 5*time.Second }

// replace makes old, as compute (the caller's token) just read it, into spec.
func (m *Market) replace(ctx context.Context, r flavor.Region, compute *openstack.Compute, old flavor.NovaFlavor, spec flavor.Spec) error {
	w, err := m.writing(ctx, r.Name, old.Name)
	if err != nil {
		return err
	}
	defer w.done(ctx)
	service := m.clouds.Service(r)
	change, err := m.prepare(ctx, r, compute, service, old, spec)
	if err != nil {
		return err
	}
	if change, err = m.storeChange(ctx, change); err != nil {
		return err
	}
	m.active.Store(change.ID, true)
	defer m.active.Delete(change.ID)
	// From here on a caller who goes away changes nothing.
	ctx = context.WithoutCancel(ctx)
	if err := w.surely(ctx, func() error { return m.try(ctx, service, change) }); err != nil {
		// Nothing of the old flavor was touched.
		if _, left := m.settle(ctx, service, change, false); left != nil {
			m.log.WarnContext(ctx, "a trial flavor may be left until its region answers", "region", r.Name, "id", change.TempID, "error", left.Error())
			m.release(ctx, change)
		}
		return err
	}
	err = w.surely(ctx, func() error { return m.deleteOld(ctx, compute, change) })
	if gone, ok := errors.AsType[*goneError](err); ok {
		// Nothing of the old flavor was touched, and nothing is to bring it back.
		return cmp.Or(m.end(ctx, change, false), gone.error)
	}
	if err != nil {
		return m.giveUp(ctx, service, change, err)
	}
	if err := w.surely(ctx, func() error { return m.createChanged(ctx, compute, change) }); err != nil {
		return m.giveUp(ctx, service, change, err)
	}
	w.has(change.New)
	if err := m.end(ctx, change, true); err != nil {
		// The flavor is as asked; the stored change settles to just that.
		m.log.WarnContext(ctx, "a finished change is still stored", "region", r.Name, "id", old.ID, "error", err.Error())
	}
	return nil
}

// prepare checks, without changing anything, that the change can be made and
// could be brought to an end without the caller.
func (m *Market) prepare(ctx context.Context, r flavor.Region, compute, service *openstack.Compute, old flavor.NovaFlavor, spec flavor.Spec) (store.Change, error) {
	// Writing the description it has shows whether the caller may write at all.
	if err := compute.Describe(ctx, old.ID, old.Description); err != nil {
		return store.Change{}, err
	}
	if spec.Name != old.Name {
		all, err := compute.List(ctx)
		if err != nil {
			return store.Change{}, err
		}
		if i := slices.IndexFunc(all, func(nf flavor.NovaFlavor) bool { return nf.ID != old.ID && fold(nf.Name) == fold(spec.Name) }); i >= 0 {
			return store.Change{}, flavor.Conflict("%s has a flavor named %q (id %q) already; choose another name", r.Name, all[i].Name, all[i].ID)
		}
	}
	var access []string
	if !old.IsPublic {
		var err error
		if access, err = compute.Access(ctx, old.ID); err != nil {
			return store.Change{}, err
		}
	}
	seen, err := service.Get(ctx, old.ID)
	if err != nil {
		return store.Change{}, noServiceAccount(r.Name, err)
	}
	if !seen.Equal(old.Spec) {
		return store.Change{}, flavor.Conflict("%s: the region's service account sees another flavor with id %q: %s; is nova_url right? Nothing was changed",
			r.Name, old.ID, differing(old.Spec, seen.Spec))
	}
	return store.Change{
		Region: r.Name, FlavorID: old.ID, TempID: temporaryID + m.newID(), Old: old,
		New:    flavor.NovaFlavor{ID: old.ID, Spec: spec, IsPublic: old.IsPublic},
		Access: access, Owner: m.instance, Until: m.now().Add(m.Claim()), CreatedAt: m.now(),
	}, nil
}

func noServiceAccount(region string, cause error) error {
	return flavor.Errorf(flavor.CodeConflict,
		"%s: such a change deletes the flavor and creates it again, and no service account works there that could bring it back after a failure; PUT /v1/infrastructures/%s with one that does. Nothing was changed: %w",
		region, region, cause)
}

func (m *Market) storeChange(ctx context.Context, c store.Change) (stored store.Change, err error) {
	err = m.store.Write(ctx, func(tx *store.Tx) error {
		rows, err := tx.InstallationsIn(c.Region)
		if err != nil {
			return err
		}
		for _, row := range rows {
			if row.NodeID != c.FlavorID {
				continue
			}
			if f, err := tx.Flavor(row.FlavorID); err != nil {
				return err
			} else if f.Equal(c.Old.Spec) {
				return publicNode(c.Old.Name, c.Region) // published meanwhile
			}
		}
		stored, err = tx.InsertChange(c)
		if flavor.CodeOf(err) == flavor.CodeConflict {
			return underChange(c.Region, c.FlavorID)
		}
		if err != nil {
			return err
		}
		return tx.Audit(inTheChange(c).line(flavor.Pending))
	})
	return stored, err
}

// inTheChange is what c changes in Nova, for the audit.
func inTheChange(c store.Change) inNova {
	return inNova{region: c.Region, id: c.FlavorID, before: c.Old.Audited(), after: c.New.Audited()}
}

func underChange(region, id string) error {
	return flavor.Conflict("%s: another change of the flavor %q is under way; try again when it is done", region, id)
}

// try creates the new flavor under a temporary id and name, and deletes it.
func (m *Market) try(ctx context.Context, service *openstack.Compute, c store.Change) error {
	trial := c.New
	trial.ID, trial.Name, trial.IsPublic = c.TempID, c.TempID, false
	_, err := service.Create(ctx, trial)
	switch flavor.CodeOf(err) {
	case "":
	case flavor.CodeUnreachable:
		return noServiceAccount(c.Region, err)
	default:
		if told, ok := errors.AsType[*flavor.Error](err); ok {
			told.Message = strings.ReplaceAll(told.Message, c.TempID, c.New.Name) // our scaffolding is nobody's business
		}
		return err
	}
	if err := service.Delete(ctx, c.TempID); err != nil && flavor.CodeOf(err) != flavor.CodeNotFound {
		return noServiceAccount(c.Region, err)
	}
	return nil
}

// hold extends our claim on a stored change. A process that was stopped for too
// long finds it taken, and must not go on.
func (m *Market) hold(ctx context.Context, c store.Change) error {
	var held bool
	err := m.store.Write(ctx, func(tx *store.Tx) (err error) {
		held, err = tx.ClaimChange(c.ID, m.instance, m.now(), m.now().Add(m.Claim()))
		return err
	})
	if err == nil && !held {
		err = flavor.Conflict("%s: this change of the flavor %q took too long and was ended by another process; read it again", c.Region, c.FlavorID)
	}
	return err
}

func (m *Market) deleteOld(ctx context.Context, compute *openstack.Compute, c store.Change) error {
	if err := m.hold(ctx, c); err != nil {
		return err
	}
	now, err := compute.Get(ctx, c.FlavorID)
	if flavor.CodeOf(err) == flavor.CodeNotFound {
		return &goneError{err}
	}
	if err != nil {
		return err
	}
	if !now.Equal(c.Old.Spec) || now.IsPublic != c.Old.IsPublic {
		return flavor.Conflict("%s: somebody changed the flavor %q meanwhile; read it again", c.Region, c.FlavorID)
	}
	err = compute.Delete(ctx, c.FlavorID)
	if flavor.CodeOf(err) == flavor.CodeUnreachable {
		return fmt.Errorf("%w: %w", errMayStillDelete, err)
	}
	return err
}

// goneError says that somebody deleted the old flavor before we asked for it.
type goneError struct{ error }

// errMayStillDelete says that Nova has got a DELETE and not answered: it may act
// on it later, so that the old flavor still stands means nothing yet.
var errMayStillDelete = errors.New("the old flavor may still be deleted")

// createChanged creates the new flavor in steps that Create need not undo: the
// stored change alone decides what becomes of a half-made one.
func (m *Market) createChanged(ctx context.Context, compute *openstack.Compute, c store.Change) error {
	if err := m.hold(ctx, c); err != nil {
		return err
	}
	now, err := createBare(ctx, compute, c.New)
	if err != nil {
		return err
	}
	if err := m.hold(ctx, c); err != nil {
		return err
	}
	return m.complete(ctx, compute, now, c.New, c.Access)
}

// createBare creates f without its extra specs.
func createBare(ctx context.Context, compute *openstack.Compute, f flavor.NovaFlavor) (flavor.NovaFlavor, error) {
	f.ExtraSpecs = nil
	return compute.Create(ctx, f)
}

// giveUp settles a change that failed with cause. Where that finished it after
// all, the caller has what he asked for.
func (m *Market) giveUp(ctx context.Context, service *openstack.Compute, c store.Change, cause error) error {
	err := m.hold(ctx, c)
	if flavor.CodeOf(err) == flavor.CodeConflict {
		return err // another process has ended it, or is about to
	}
	finished := false
	if err == nil && !errors.Is(cause, errMayStillDelete) {
		if finished, err = m.settle(ctx, service, c, false); err != nil {
			m.release(ctx, c)
		}
	}
	switch {
	case err != nil, errors.Is(cause, errMayStillDelete):
		err = errors.Join(cause, err)
		m.log.ErrorContext(ctx, "a change waits for its region", "region", c.Region, "id", c.FlavorID, "error", err.Error())
		return flavor.Errorf(flavor.CodeUnreachable,
			"%s: the change of the flavor %q failed half-way; it is stored and will be finished or undone as soon as the region lets us: %w", c.Region, c.FlavorID, err)
	case finished:
		return nil
	}
	return cause
}

// release lets the next Recover try c again.
func (m *Market) release(ctx context.Context, c store.Change) {
	if err := m.store.Write(ctx, func(tx *store.Tx) error { return tx.TouchChange(c.ID, m.now()) }); err != nil {
		m.log.WarnContext(ctx, "a stored change is held longer than needed", "id", c.ID, "error", err.Error())
	}
}

// settle brings a stored change to an end with the region's service account:
// finished where the old flavor is gone or the new one is there, undone where
// the old one still stands or Nova refuses the new one. crashed says that the
// old one may be one that was brought back, without its access yet.
func (m *Market) settle(ctx context.Context, service *openstack.Compute, c store.Change, crashed bool) (finished bool, err error) {
	if err := service.Delete(ctx, c.TempID); err != nil && flavor.CodeOf(err) != flavor.CodeNotFound {
		return false, err
	}
	now, err := service.Get(ctx, c.FlavorID)
	switch {
	case flavor.CodeOf(err) == flavor.CodeNotFound:
		if finished, err = m.bringBack(ctx, service, c); err != nil {
			return false, err
		}
	case err != nil:
		return false, err
	case samePlace(now.Spec, c.New.Spec):
		if err := m.complete(ctx, service, now, c.New, c.Access); err != nil {
			return false, err
		}
		finished = true
	case samePlace(now.Spec, c.Old.Spec):
		whole := now.Spec
		if len(whole.ExtraSpecs) == 0 { // it was brought back, and not all of it
			whole.ExtraSpecs = c.Old.ExtraSpecs
		}
		if crashed && whole.Equal(c.Old.Spec) {
			if err := m.complete(ctx, service, now, c.Old, c.Access); err != nil {
				return false, err
			}
		}
		if crashed && c.Until.After(m.now()) {
			// A DELETE of the dead process may still be on its way.
			return false, nil
		}
	default:
		m.log.WarnContext(ctx, "somebody replaced a flavor during its change; theirs stays", "region", c.Region, "id", c.FlavorID)
	}
	m.log.InfoContext(ctx, "a change was settled", "region", c.Region, "id", c.FlavorID, "finished", finished)
	return finished, m.end(ctx, c, finished)
}

// end drops a stored change; of one that was finished the audit tells.
func (m *Market) end(ctx context.Context, c store.Change, finished bool) error {
	return m.store.Write(ctx, func(tx *store.Tx) error {
		if err := tx.DeleteChange(c.ID); err != nil || !finished {
			return err
		}
		return tx.Audit(inTheChange(c).line(flavor.Success))
	})
}

// bringBack creates the new flavor or, where Nova refuses that, the old one.
func (m *Market) bringBack(ctx context.Context, service *openstack.Compute, c store.Change) (finished bool, err error) {
	for _, f := range []flavor.NovaFlavor{c.New, c.Old} {
		var now flavor.NovaFlavor
		created := false
		if now, err = createBare(ctx, service, f); err == nil {
			created = true
			err = m.complete(ctx, service, now, f, c.Access)
		}
		switch flavor.CodeOf(err) {
		case "":
			return f.Spec.Equal(c.New.Spec), nil
		case flavor.CodeConflict, flavor.CodeInvalid:
			m.log.WarnContext(ctx, "Nova refuses a flavor that is to come back", "region", c.Region, "id", c.FlavorID, "name", f.Name, "error", err.Error())
		default:
			return false, err
		}
		if created {
			if undo := service.Delete(ctx, c.FlavorID); undo != nil && flavor.CodeOf(undo) != flavor.CodeNotFound {
				return false, undo
			}
		}
	}
	return false, err
}

// complete gives now, whose sizes are wanted's already, wanted's description,
// extra specs and access.
func (m *Market) complete(ctx context.Context, service *openstack.Compute, now, wanted flavor.NovaFlavor, access []string) error {
	if now.Description != wanted.Description {
		if err := service.Describe(ctx, now.ID, wanted.Description); err != nil {
			return err
		}
	}
	if !maps.Equal(now.ExtraSpecs, wanted.ExtraSpecs) {
		if err := service.SetExtraSpecs(ctx, now.ID, wanted.ExtraSpecs); err != nil {
			return err
		}
	}
	if now.IsPublic {
		return nil
	}
	err := service.Grant(ctx, now.ID, access)
	if flavor.CodeOf(err) != flavor.CodeInvalid {
		return err
	}
	// Nova keeps the access of projects that Keystone has forgotten, and does
	// not take it again.
	for _, project := range access {
		switch err := service.Grant(ctx, now.ID, []string{project}); flavor.CodeOf(err) {
		case "":
		case flavor.CodeInvalid:
			m.log.WarnContext(ctx, "a project that is gone loses its access", "id", now.ID, "project", project)
		default:
			return err
		}
	}
	return nil
}

// Recover settles the stored changes that no living process works on: all of
// them at the start of the only process, else those whose claim has run out. It
// goes on where one fails, and is called again from time to time.
func (m *Market) Recover(ctx context.Context) error {
	var changes []store.Change
	err := m.store.Read(ctx, func(tx *store.Tx) (err error) {
		changes, err = tx.Changes()
		return err
	})
	if err != nil {
		return err
	}
	byRegion := map[string][]store.Change{}
	for _, c := range changes {
		byRegion[c.Region] = append(byRegion[c.Region], c)
	}
	var mu sync.Mutex
	var failed []error
	var wg sync.WaitGroup
	for _, queue := range byRegion { // a region that hangs delays its own
		wg.Go(func() {
			for _, c := range queue {
				if err := m.recoverOne(ctx, c); err != nil {
					m.log.WarnContext(ctx, "a change waits for its region", "region", c.Region, "id", c.FlavorID, "error", err.Error())
					mu.Lock()
					failed = append(failed, err)
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	return errors.Join(failed...)
}

func (m *Market) recoverOne(ctx context.Context, c store.Change) error {
	now := m.now()
	if _, active := m.active.Load(c.ID); active || c.Owner == m.instance && c.Until.After(now) {
		return nil
	}
	as := now
	if m.sole && c.Until.After(as) {
		as = c.Until.Add(time.Second) // its owner is dead
	}
	w, err := m.writing(ctx, c.Region, c.Old.Name)
	if err != nil {
		return err
	}
	defer w.done(ctx)
	// Only now: whoever held the lock may have ended it.
	var claimed bool
	err = m.store.Write(ctx, func(tx *store.Tx) error {
		changes, err := tx.Changes()
		if err != nil {
			return err
		}
		i := slices.IndexFunc(changes, func(o store.Change) bool { return o.ID == c.ID })
		if claimed = i >= 0; !claimed {
			return nil
		}
		c = changes[i]
		claimed, err = tx.ClaimChange(c.ID, m.instance, as, now.Add(m.Claim()))
		return err
	})
	if err != nil || !claimed {
		return err
	}
	r, err := m.region(ctx, c.Region)
	if err != nil {
		return err
	}
	// Whose change it was, the audit says; this is its end.
	ctx = flavor.WithActor(ctx, flavor.Actor{Provider: "flavorsync", ID: "recovery", Name: "Flavorsync", Action: flavor.ChangeRegionFlavor})
	if err := w.sure(ctx); err != nil {
		return err
	}
	if _, err = m.settle(ctx, m.clouds.Service(r), c, true); err != nil {
		m.release(context.WithoutCancel(ctx), c)
	}
	return err
}
