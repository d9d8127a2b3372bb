package marketplace

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/flavorsync/flavorsync/internal/flavor"
	"github.com/flavorsync/flavorsync/internal/store"
)

// freshStatus is how old a status may be that GET of one infrastructure shows
// without asking the region.
const freshStatus = 5 * time.Second

// Regions are the names of all registered regions, in order.
func (m *Market) Regions(ctx context.Context) ([]string, error) {
	rs, err := m.regions(ctx)
	return names(rs), err
}

// Infrastructures are the regions p owns, with their settings and status.
func (m *Market) Infrastructures(ctx context.Context, p flavor.Principal) ([]flavor.Region, error) {
	regions, err := m.regions(ctx)
	if err != nil {
		return nil, err
	}
	mine := where(p, flavor.ReadInfrastructure, regions)
	var wg sync.WaitGroup
	for i := range mine {
		wg.Go(func() { m.refreshStatus(ctx, &mine[i], 2*m.sweep) })
	}
	wg.Wait()
	return mine, nil
}

// Infrastructure is one of them, with a status a few seconds old at most.
func (m *Market) Infrastructure(ctx context.Context, p flavor.Principal, name string) (flavor.Region, error) {
	r, err := m.regionFor(ctx, p, flavor.ReadInfrastructure, name)
	if err != nil {
		return r, err
	}
	m.refreshStatus(ctx, &r, freshStatus)
	return r, nil
}

// refreshStatus asks a region how it is where its status is older than age.
func (m *Market) refreshStatus(ctx context.Context, r *flavor.Region, age time.Duration) {
	if m.now().Sub(r.Status.CheckedAt) < age {
		return
	}
	st := m.clouds.Service(*r).Check(ctx)
	if ctx.Err() != nil {
		return // the caller went away: that says nothing of the region
	}
	m.rememberStatus(context.WithoutCancel(ctx), *r, st)
	r.Status = st
}

// rememberStatus stores how a region is.
func (m *Market) rememberStatus(ctx context.Context, r flavor.Region, st flavor.RegionStatus) {
	err := m.store.Write(ctx, func(tx *store.Tx) error {
		if same, err := sameSettings(tx, r); err != nil || !same {
			return err
		}
		return tx.SetRegionStatus(r.Name, st)
	})
	if err != nil {
		m.log.WarnContext(ctx, "cannot store a region's status", "region", r.Name, "error", err.Error())
	}
}

// sameSettings says whether r is still registered as it was when it was asked:
// else the answer was another cloud's, or to another account.
func sameSettings(tx *store.Tx, r flavor.Region) (bool, error) {
	now, err := tx.Region(r.Name)
	if flavor.CodeOf(err) == flavor.CodeNotFound {
		return false, nil
	}
	now.Status, r.Status = flavor.RegionStatus{}, flavor.RegionStatus{}
	return now == r, err
}

// regionFor is the region called name, if p may do a there.
func (m *Market) regionFor(ctx context.Context, p flavor.Principal, a flavor.Action, name string) (flavor.Region, error) {
	r, err := m.region(ctx, name)
	if err != nil {
		return flavor.Region{}, err
	}
	if err := p.May(a, name); err != nil {
		return flavor.Region{}, err
	}
	return r, nil
}

// CreateInfrastructure registers a region. Nothing is asked there yet: what
// cannot be reached is told in its status.
func (m *Market) CreateInfrastructure(ctx context.Context, p flavor.Principal, patch flavor.RegionPatch) (flavor.Region, error) {
	for _, required := range []struct {
		field  string
		absent bool
	}{{"name", patch.Name == nil}, {"keystone_url", patch.KeystoneURL == nil}} {
		if required.absent {
			return flavor.Region{}, flavor.Invalid("%s is missing: an infrastructure needs name, keystone_url and a service account", required.field)
		}
	}
	r, err := patch.Apply(flavor.Region{})
	if err != nil {
		return r, err
	}
	r.Trusted = r.Trusted && p.Can(flavor.TrustInfrastructure)
	r.NovaURLTrusted = r.NovaURL != "" && p.Can(flavor.TrustInfrastructure)
	r.CACertificateTrusted = r.CACertificate != "" && p.Can(flavor.TrustInfrastructure)
	r.Status.State = flavor.RegionUnknown
	if err := r.Validate(); err != nil {
		return r, err
	}
	if err := p.May(flavor.CreateInfrastructure, r.Name); err != nil {
		return r, err
	}
	return r, m.store.Write(ctx, func(tx *store.Tx) error { return tx.InsertRegion(r) })
}

// ChangeInfrastructure changes a registered region. Where the service account,
// its Keystone or who vouches for that changes, the account's secret must be said
// again: else one who may only write here could send the stored one wherever he
// likes.
func (m *Market) ChangeInfrastructure(ctx context.Context, p flavor.Principal, name string, patch flavor.RegionPatch) (flavor.Region, error) {
	if _, err := m.regionFor(ctx, p, flavor.ChangeInfrastructure, name); err != nil {
		return flavor.Region{}, err
	}
	var changed flavor.Region
	err := m.store.Write(ctx, func(tx *store.Tx) error {
		old, err := tx.Region(name)
		if err != nil {
			return err
		}
		if changed, err = patch.Apply(old); err != nil {
			return err
		}
		if err := changed.Validate(); err != nil {
			return err
		}
		if changed.Name != name {
			return flavor.Invalid("name: a region's name may not change; register the new one and delete %s", name)
		}
		if err := needsSecret(old, changed, patch); err != nil {
			return err
		}
		if changed.Trusted != old.Trusted && !p.Can(flavor.TrustInfrastructure) {
			return flavor.Forbidden("trusted: only a manager may say that %s is", name)
		}
		if changed.KeystoneURL != old.KeystoneURL || changed.NovaURL != old.NovaURL {
			changes, err := tx.Changes()
			if err != nil {
				return err
			}
			if i := slices.IndexFunc(changes, func(c store.Change) bool { return c.Region == name }); i >= 0 {
				return flavor.Conflict("%s: a change of its flavor %q is not finished yet, and must end in the cloud where it began; try again later", name, changes[i].FlavorID)
			}
		}
		// A manager's word was about the address that stood there.
		if changed.KeystoneURL != old.KeystoneURL && !p.Can(flavor.TrustInfrastructure) {
			changed.Trusted = false
		}
		if changed.NovaURL != old.NovaURL {
			changed.NovaURLTrusted = changed.NovaURL != "" && p.Can(flavor.TrustInfrastructure)
		}
		if changed.CACertificate != old.CACertificate {
			changed.CACertificateTrusted = changed.CACertificate != "" && p.Can(flavor.TrustInfrastructure)
		}
		if err := tx.UpdateRegion(changed); err != nil {
			return err
		}
		changed.Status = flavor.RegionStatus{State: flavor.RegionUnknown}
		return tx.SetRegionStatus(name, changed.Status)
	})
	return changed, err
}

// needsSecret refuses a change of where, or as whom, we authenticate in a body
// that does not hold the secret of the service account.
func needsSecret(old, changed flavor.Region, patch flavor.RegionPatch) error {
	if secret := patch.Secret(changed.AuthType); secret != nil && *secret != "" {
		return nil
	}
	for _, f := range []struct {
		field   string
		changed bool
	}{
		{"keystone_url", changed.KeystoneURL != old.KeystoneURL}, {"auth_type", changed.AuthType != old.AuthType},
		{"username", changed.Username != old.Username}, {"tenant", changed.Tenant != old.Tenant},
		{"user_domain_name", changed.UserDomain != old.UserDomain}, {"project_domain_name", changed.ProjectDomain != old.ProjectDomain},
		{"application_credential_id", changed.ApplicationCredentialID != old.ApplicationCredentialID},
		{"application_credential_name", changed.ApplicationCredentialName != old.ApplicationCredentialName},
		{"identity_provider", changed.IdentityProvider != old.IdentityProvider}, {"protocol", changed.Protocol != old.Protocol},
		{"ca_certificate", changed.CACertificate != old.CACertificate},
	} {
		if f.changed {
			return flavor.Invalid("%s is missing: changing %s needs it in the same body", changed.AuthType.Secret(), f.field)
		}
	}
	return nil
}

// DeleteInfrastructure forgets a region. While a flavor of the catalogue is
// installed there that is a conflict; force, a manager's, forgets its nodes
// without calling it.
func (m *Market) DeleteInfrastructure(ctx context.Context, p flavor.Principal, name string, force bool) error {
	r, err := m.regionFor(ctx, p, flavor.DeleteInfrastructure, name)
	if err != nil {
		return err
	}
	if force {
		if err := p.May(flavor.ForgetInfrastructure, name); err != nil {
			return err
		}
	}
	gone, err := m.goneFrom(ctx, r, force)
	if err != nil {
		return err
	}
	cat, err := m.store.Catalogue(ctx)
	if err != nil {
		return err
	}
	var forgotten []string
	err = m.store.Write(context.WithoutCancel(ctx), func(tx *store.Tx) error {
		installed, err := tx.InstallationsIn(name)
		if err != nil {
			return err
		}
		forgotten = nil
		for _, i := range installed {
			forgotten = append(forgotten, i.FlavorID)
		}
		for _, d := range cat.Drift { // those that were the last one's, and vanished
			if d.Region == name {
				forgotten = append(forgotten, d.FlavorID)
			}
		}
		changes, err := tx.Changes()
		if err != nil {
			return err
		}
		changes = slices.DeleteFunc(changes, func(c store.Change) bool { return c.Region != name })
		there := slices.DeleteFunc(installed, func(i flavor.Installation) bool { return slices.Contains(gone, i) })
		working := slices.ContainsFunc(changes, func(c store.Change) bool { return c.Until.After(m.now()) })
		switch {
		case working:
			return flavor.Conflict("%s: a change of one of its flavors is under way; try again in %s", name, m.Claim())
		case force:
			for _, c := range changes {
				m.log.WarnContext(ctx, "a region is forgotten with a change of its flavor unfinished", "region", name, "old", c.Old, "new", c.New, "access", c.Access)
			}
		case len(there) > 0:
			return stillInstalled(tx, name, there)
		case len(changes) > 0:
			return flavor.Conflict("%s: a change of its flavor %q is not finished yet; try again when the region answers", name, changes[0].FlavorID)
		}
		return tx.DeleteRegion(name)
	})
	if flavor.CodeOf(err) == flavor.CodeNotFound {
		return nil // somebody else deleted it meanwhile
	}
	if err != nil {
		return err
	}
	m.clouds.Forget(name)
	return m.dropIfNowhere(ctx, forgotten...)
}

// goneFrom are the installations written down of a region that its Nova says
// are none: none where it cannot be asked, or is not to be.
func (m *Market) goneFrom(ctx context.Context, r flavor.Region, unasked bool) ([]flavor.Installation, error) {
	if unasked {
		return nil, nil
	}
	l := m.lookAt(ctx, r, alone)
	cat, err := m.store.Catalogue(ctx)
	if err != nil || l.err != nil {
		return nil, err
	}
	// What was written down since the look began is newer than the look.
	return slices.DeleteFunc(slices.Clone(l.before), func(i flavor.Installation) bool {
		f, ok := cat.ByID(i.FlavorID)
		_, there := l.node(f)
		return ok && there
	}), nil
}

// stillInstalled is the conflict that names the flavors installed in region.
func stillInstalled(tx *store.Tx, region string, installed []flavor.Installation) error {
	var there []string
	for _, i := range installed {
		f, err := tx.Flavor(i.FlavorID)
		if err != nil {
			return err
		}
		there = append(there, f.Name)
	}
	slices.Sort(there)
	return flavor.Conflict("%s has flavors of the catalogue: %s; DELETE /v1/flavors/{id}?node=%s removes one, ?force=true (a manager's) forgets them without calling the region",
		region, strings.Join(there, ", "), region)
}
