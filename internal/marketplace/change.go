package marketplace

import (
	"context"
	"errors"
	"maps"
	"strings"
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

// claim is how long a stored change is its process's own after each step.
func (m *Market) claim() time.Duration { return 6*m.timeout + 10*time.Second }

// replace makes old, as compute (the caller's token) just read it, into spec.
func (m *Market) replace(ctx context.Context, r flavor.Region, compute *openstack.Compute, old flavor.NovaFlavor, spec flavor.Spec) error {
	done, err := m.writing(ctx, r.Name, old.Name)
	if err != nil {
		return err
	}
	defer done()
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
	if err := m.try(ctx, service, change); err != nil {
		return m.giveUp(ctx, service, change, err)
	}
	if err := m.deleteOld(ctx, compute, change); err != nil {
		return m.giveUp(ctx, service, change, err)
	}
	if err := m.createChanged(ctx, compute, change); err != nil {
		return m.giveUp(ctx, service, change, err)
	}
	if err := m.store.Write(ctx, func(tx *store.Tx) error { return tx.DeleteChange(change.ID) }); err != nil {
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
		l := look{flavors: all}
		if nf, taken := l.find(func(nf flavor.NovaFlavor) bool { return nf.ID != old.ID && fold(nf.Name) == fold(spec.Name) }); taken {
			return store.Change{}, flavor.Conflict("%s has a flavor named %q (id %q) already; choose another name", r.Name, nf.Name, nf.ID)
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
		Access: access, Owner: m.instance, Until: m.now().Add(m.claim()), CreatedAt: m.now(),
	}, nil
}

func noServiceAccount(region string, cause error) error {
	return flavor.Errorf(flavor.CodeConflict,
		"%s: such a change deletes the flavor and creates it again, and no service account works there that could bring it back after a failure; PUT /v1/infrastructures/%s with one that does. Nothing was changed: %w",
		region, region, cause)
}

func (m *Market) storeChange(ctx context.Context, c store.Change) (store.Change, error) {
	err := m.store.Write(ctx, func(tx *store.Tx) (err error) {
		c, err = tx.InsertChange(c)
		return err
	})
	if flavor.CodeOf(err) == flavor.CodeConflict {
		return c, flavor.Conflict("%s: another change of the flavor %q is under way; try again when it is done", c.Region, c.FlavorID)
	}
	return c, err
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
		held, err = tx.ClaimChange(c.ID, m.instance, m.now(), m.now().Add(m.claim()))
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
	if err != nil {
		return err
	}
	if !now.Equal(c.Old.Spec) || now.IsPublic != c.Old.IsPublic {
		return flavor.Conflict("%s: somebody changed the flavor %q meanwhile; read it again", c.Region, c.FlavorID)
	}
	return compute.Delete(ctx, c.FlavorID)
}

func (m *Market) createChanged(ctx context.Context, compute *openstack.Compute, c store.Change) error {
	if _, err := compute.Create(ctx, c.New); err != nil {
		return err
	}
	if c.New.IsPublic {
		return nil
	}
	return compute.Grant(ctx, c.FlavorID, c.Access)
}

// giveUp settles a change that failed with cause. Where that finished it after
// all, the caller has what he asked for.
func (m *Market) giveUp(ctx context.Context, service *openstack.Compute, c store.Change, cause error) error {
	finished, err := m.settle(ctx, service, c, false)
	switch {
	case err != nil:
		m.log.ErrorContext(ctx, "a change waits for its region", "region", c.Region, "id", c.FlavorID, "error", err.Error(), "cause", cause.Error())
		return flavor.Errorf(flavor.CodeUnreachable,
			"%s: the change of the flavor %q failed half-way; it is stored and will be finished or undone as soon as the region lets us: %w", c.Region, c.FlavorID, errors.Join(cause, err))
	case finished:
		return nil
	}
	return cause
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
		if crashed && now.Equal(c.Old.Spec) {
			if err := m.complete(ctx, service, now, c.Old, c.Access); err != nil {
				return false, err
			}
		}
	default:
		m.log.WarnContext(ctx, "somebody replaced a flavor during its change; theirs stays", "region", c.Region, "id", c.FlavorID)
	}
	m.log.InfoContext(ctx, "a change was settled", "region", c.Region, "id", c.FlavorID, "finished", finished)
	return finished, m.store.Write(ctx, func(tx *store.Tx) error { return tx.DeleteChange(c.ID) })
}

// bringBack creates the new flavor or, where Nova refuses that, the old one.
func (m *Market) bringBack(ctx context.Context, service *openstack.Compute, c store.Change) (finished bool, err error) {
	for _, f := range []flavor.NovaFlavor{c.New, c.Old} {
		_, err = service.Create(ctx, f)
		switch flavor.CodeOf(err) {
		case "":
			return f.Spec.Equal(c.New.Spec), m.complete(ctx, service, f, f, c.Access)
		case flavor.CodeConflict, flavor.CodeInvalid:
			m.log.WarnContext(ctx, "Nova refuses a flavor that is to come back", "region", c.Region, "id", c.FlavorID, "name", f.Name, "error", err.Error())
		default:
			return false, err
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
	return service.Grant(ctx, now.ID, access)
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
	var failed []error
	for _, c := range changes {
		if _, active := m.active.Load(c.ID); active {
			continue
		}
		if err := m.recoverOne(ctx, c); err != nil {
			m.log.WarnContext(ctx, "a change waits for its region", "region", c.Region, "id", c.FlavorID, "error", err.Error())
			failed = append(failed, err)
		}
	}
	return errors.Join(failed...)
}

func (m *Market) recoverOne(ctx context.Context, c store.Change) error {
	now := m.now()
	as := now
	if m.sole && c.Until.After(as) {
		as = c.Until.Add(time.Second) // its owner is dead
	}
	var claimed bool
	err := m.store.Write(ctx, func(tx *store.Tx) (err error) {
		claimed, err = tx.ClaimChange(c.ID, m.instance, as, now.Add(m.claim()))
		return err
	})
	if err != nil || !claimed {
		return err
	}
	r, err := m.region(ctx, c.Region)
	if err != nil {
		return err
	}
	done, err := m.writing(ctx, c.Region, c.Old.Name)
	if err != nil {
		return err
	}
	defer done()
	_, err = m.settle(ctx, m.clouds.Service(r), c, true)
	return err
}
