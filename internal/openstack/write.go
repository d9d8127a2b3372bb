package openstack

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/flavors"

	"github.com/flavorsync/flavorsync/internal/flavor"
	"github.com/flavorsync/flavorsync/internal/outgoing"
)

// LeftError says that a flavor which was to be created, and then was not, may still
// be there: whoever wanted it is to remove it.
type LeftError struct {
	Spec flavor.Spec // what it was to be: it may be without its extra specs
}

func (e *LeftError) Error() string { return "the flavor may be left there" }

// Left is err, which is a *flavor.Error, and that spec may be left.
func Left(err error, spec flavor.Spec) error {
	failed, _ := errors.AsType[*flavor.Error](err)
	told := *failed
	told.Cause = errors.Join(failed.Cause, &LeftError{spec})
	return &told
}

// Create makes f with its description and extra specs, or nothing: where the
// extra specs fail, the flavor is deleted again, also when ctx has ended
// meanwhile. An empty id lets Nova choose one. The answer is the flavor as Nova
// has it. CodeConflict: its id or its name is taken. CodeInvalid: Nova accepts
// a field not.
//
// Where Nova did not say whether it made the flavor (it hung, or broke off) and
// no extra specs are wanted, it may be there, whole.
//
// Where it cannot be removed the error is a LeftError.
//
// One at a time creates a flavor under an id: a second one waits until the
// first is made or undone, also where that is undone behind its caller's back.
func (c *Compute) Create(ctx context.Context, f flavor.NovaFlavor) (flavor.NovaFlavor, error) {
	ctx, cancel := c.begin(ctx)
	defer cancel()
	if f.ID != "" {
		if err := flavor.ValidateID(f.ID); err != nil {
			return flavor.NovaFlavor{}, err
		}
	}
	a := c.attempt(fmt.Sprintf("creating flavor %q in", f.Name))
	a.write = true
	turn, err := c.clouds.turns.take(ctx, place{c.region, f.ID})
	if err != nil {
		return flavor.NovaFlavor{}, flavor.Errorf(flavor.CodeUnreachable,
			"%s: an earlier creation with the id %q is not finished or undone there yet; try again later: %w", a.doing, f.ID, err)
	}
	defer turn.release()
	// What was there before is nobody's to undo, and once Nova has broken off
	// the creation nothing tells the two apart any more.
	ours := false
	if f.ID != "" && len(f.ExtraSpecs) > 0 {
		if _, err := c.get(ctx, c.on("looking for", f.ID), f.ID); flavor.CodeOf(err) == flavor.CodeNotFound {
			ours = true
		} else if err != nil {
			return flavor.NovaFlavor{}, err
		}
	}
	var created flavor.NovaFlavor
	var raw error
	err = c.do(ctx, a, callCreateFlavor, func(client *gophercloud.ServiceClient) error {
		created, raw = create(ctx, client, f)
		return raw
	})
	if err != nil {
		bare := f.Spec.Clone()
		bare.ExtraSpecs = nil
		is := func(there flavor.NovaFlavor) bool { return bare.Equal(there.Spec) }
		if ours && maybeDone(raw) && !c.undo(ctx, turn, f.ID, is) {
			err = Left(err, f.Spec)
		}
		return flavor.NovaFlavor{}, err
	}
	if len(f.ExtraSpecs) == 0 {
		return created, nil
	}
	specs := c.attempt(fmt.Sprintf("adding its extra specs to the new flavor %q in", f.Name))
	specs.write, specs.flavorID = true, created.ID
	if err := c.addSpecs(ctx, specs, created.ID, f.ExtraSpecs); err != nil {
		failed, _ := errors.AsType[*flavor.Error](err)
		told := *failed
		gone := c.undo(ctx, turn, created.ID, nil)
		if gone {
			told.Message += "; the flavor is removed again"
		} else {
			told.Message += fmt.Sprintf("; the flavor could not be removed yet: if %s still lists it, with the id %q and without extra specs, delete it", c.region, created.ID)
		}
		if told.Code == flavor.CodeNotFound {
			// It vanished under our hands: that is no 404 of the caller's.
			told.Code = flavor.CodeConflict
		}
		if !gone {
			return flavor.NovaFlavor{}, Left(&told, f.Spec)
		}
		return flavor.NovaFlavor{}, &told
	}
	created.ExtraSpecs = maps.Clone(f.ExtraSpecs)
	return created, nil
}

// create makes the flavor without its extra specs.
func create(ctx context.Context, client *gophercloud.ServiceClient, f flavor.NovaFlavor) (flavor.NovaFlavor, error) {
	answer := flavors.Create(ctx, client, flavors.CreateOpts{
		ID: f.ID, Name: f.Name, VCPUs: f.VCPUs, RAM: f.RAM, Disk: &f.Disk, Swap: &f.Swap, Ephemeral: &f.Ephemeral,
		RxTxFactor: f.RxTxFactor, IsPublic: &f.IsPublic, Description: f.Description,
	})
	if answer.Err != nil {
		return flavor.NovaFlavor{}, answer.Err
	}
	var made struct {
		Flavor *record `json:"flavor"`
	}
	if err := answer.ExtractInto(&made); err != nil || made.Flavor == nil {
		return flavor.NovaFlavor{}, errNonsense
	}
	created, err := made.Flavor.flavor()
	if err != nil || f.ID != "" && created.ID != f.ID {
		return flavor.NovaFlavor{}, errNonsense
	}
	return created, nil
}

// maybeDone says whether Nova may have done what failed with err: it broke off
// or had a trouble of its own, after it had got the request.
func maybeDone(err error) bool {
	if err == nil {
		return false
	}
	if answer, ok := errors.AsType[gophercloud.ErrUnexpectedResponseCode](err); ok {
		return answer.Actual >= http.StatusInternalServerError || answer.Actual < http.StatusBadRequest
	}
	_, busy := errors.AsType[*busyError](err)
	return !busy && !errors.Is(err, errForeignHost) && !outgoing.Unsent(err)
}

// undo deletes a flavor that was just created, if it is the one meant. It runs
// on though ctx has ended, for one region timeout at most, but keeps a caller
// whose time is up waiting for a quarter of that only: it then goes on behind
// their back, and keeps the turn until it is over. It says whether the flavor is
// gone for certain.
func (c *Compute) undo(ctx context.Context, turn *turn, id string, meant func(flavor.NovaFlavor) bool) bool {
	limit := c.clouds.cfg.RegionTimeout
	undoing, cancel := context.WithTimeout(context.WithoutCancel(ctx), limit)
	done := make(chan error, 1)
	turn.share()
	c.clouds.undos.Go(func() {
		defer cancel()
		defer turn.release()
		end, err := func() {}, error(nil)
		if c.undoing != nil {
			end, err = c.undoing(undoing)
		}
		if err == nil {
			err = c.remove(undoing, c.on("undoing the creation of", id), id, meant)
			end()
		}
		if err != nil {
			c.clouds.log.WarnContext(undoing, "a flavor that was created could not be removed again",
				"region", c.region, "flavor", id, "error", err)
		}
		done <- err
	})
	select {
	case err := <-done:
		return err == nil
	case <-ctx.Done():
	}
	timer := time.NewTimer(limit / 4)
	defer timer.Stop()
	select {
	case err := <-done:
		return err == nil
	case <-timer.C:
		return false
	}
}

// remove deletes the flavor after it was read, and meant says it is the one.
// None there is no error.
func (c *Compute) remove(ctx context.Context, a attempt, id string, meant func(flavor.NovaFlavor) bool) error {
	there, err := c.get(ctx, a, id)
	if flavor.CodeOf(err) == flavor.CodeNotFound || err == nil && meant != nil && !meant(there) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := c.destroy(ctx, a, id); err != nil && flavor.CodeOf(err) != flavor.CodeNotFound {
		return err
	}
	return nil
}

// Delete removes the flavor whose id is exactly id: it is read first, as a Nova
// that tells no case apart would delete another. CodeNotFound: there is none.
func (c *Compute) Delete(ctx context.Context, id string) error {
	ctx, cancel := c.begin(ctx)
	defer cancel()
	a := c.on("deleting", id)
	a.write = true
	if _, err := c.get(ctx, a, id); err != nil {
		return err
	}
	return c.destroy(ctx, a, id)
}

func (c *Compute) destroy(ctx context.Context, a attempt, id string) error {
	return c.do(ctx, a, callDeleteFlavor, func(client *gophercloud.ServiceClient) error {
		return flavors.Delete(ctx, client, url.PathEscape(id)).ExtractErr()
	})
}

// description is the body of PUT /flavors/{id}; gophercloud's own leaves an
// empty description out, which Nova refuses.
type description string

// ToFlavorUpdateMap makes flavors.UpdateOptsBuilder of it.
func (d description) ToFlavorUpdateMap() (map[string]any, error) {
	var value any
	if d != "" {
		value = string(d)
	}
	return map[string]any{"flavor": map[string]any{"description": value}}, nil
}

// Describe replaces the description; "" takes it away. CodeNotFound: there is
// no flavor whose id is exactly id. CodeInvalid: Nova does not accept it.
func (c *Compute) Describe(ctx context.Context, id, text string) error {
	ctx, cancel := c.begin(ctx)
	defer cancel()
	a := c.on("describing", id)
	a.write = true
	if _, err := c.get(ctx, a, id); err != nil {
		return err
	}
	return c.do(ctx, a, callDescribeFlavor, func(client *gophercloud.ServiceClient) error {
		answer := flavors.Update(ctx, client, url.PathEscape(id), description(text))
		if answer.Err != nil {
			return answer.Err
		}
		var changed struct {
			Flavor *record `json:"flavor"`
		}
		if err := answer.ExtractInto(&changed); err != nil || changed.Flavor == nil || changed.Flavor.Description.value != text {
			return errNonsense
		}
		return nil
	})
}

// SetExtraSpecs makes the flavor's extra specs exactly these. New and changed
// ones are written first, in one call, so that nothing is lost if Nova refuses
// them. CodeNotFound: there is no flavor whose id is exactly id. CodeInvalid:
// Nova does not accept a key or a value. CodeConflict: keys collide there.
func (c *Compute) SetExtraSpecs(ctx context.Context, id string, specs map[string]string) error {
	ctx, cancel := c.begin(ctx)
	defer cancel()
	a := c.on("setting the extra specs of", id)
	a.write = true
	there, err := c.get(ctx, a, id)
	if err != nil {
		return err
	}
	changed := make(map[string]string)
	for key, value := range specs {
		if old, ok := there.ExtraSpecs[key]; !ok || old != value {
			changed[key] = value
		}
	}
	var first, last []string // to be removed before and after the change
	for _, key := range slices.Sorted(maps.Keys(there.ExtraSpecs)) {
		if _, stays := specs[key]; stays {
			continue
		}
		// A Nova that tells no case apart takes K only where k is gone.
		if containsFold(changed, key) {
			first = append(first, key)
		} else {
			last = append(last, key)
		}
	}
	for _, key := range first {
		if err := c.removeSpec(ctx, a, id, key); err != nil {
			return err
		}
	}
	if len(changed) > 0 {
		if err := c.addSpecs(ctx, a, id, changed); err != nil {
			return err
		}
	}
	for _, key := range last {
		if err := c.removeSpec(ctx, a, id, key); err != nil {
			return err
		}
	}
	return nil
}

func containsFold(specs map[string]string, key string) bool {
	for k := range specs {
		if strings.EqualFold(k, key) {
			return true
		}
	}
	return false
}

func (c *Compute) addSpecs(ctx context.Context, a attempt, id string, specs map[string]string) error {
	return c.do(ctx, a, callAddSpecs, func(client *gophercloud.ServiceClient) error {
		kept, err := flavors.CreateExtraSpecs(ctx, client, url.PathEscape(id), flavors.ExtraSpecsOpts(specs)).Extract()
		if err == nil && !maps.Equal(kept, specs) {
			return errNonsense
		}
		return err
	})
}

func (c *Compute) removeSpec(ctx context.Context, a attempt, id, key string) error {
	if key == "." || key == ".." || strings.Contains(key, "/") {
		// As a path it leads to the flavor itself, or beyond.
		return flavor.Conflict("%s: the extra spec %q cannot be removed through Nova's API; delete the flavor and create it again", a.doing, key)
	}
	err := c.do(ctx, a, callDeleteSpec, func(client *gophercloud.ServiceClient) error {
		return flavors.DeleteExtraSpec(ctx, client, url.PathEscape(id), url.PathEscape(key)).ExtractErr()
	})
	if flavor.CodeOf(err) == flavor.CodeNotFound {
		return nil // somebody else removed it, or the flavor: then the next call says so
	}
	return err
}

// Access is the ids of the projects that may use a non-public flavor, sorted;
// none for a public one. CodeNotFound: there is no flavor whose id is exactly id.
func (c *Compute) Access(ctx context.Context, id string) ([]string, error) {
	ctx, cancel := c.begin(ctx)
	defer cancel()
	a := c.on("reading who may use", id)
	there, err := c.get(ctx, a, id)
	if err != nil || there.IsPublic {
		return nil, err
	}
	return c.access(ctx, a, id)
}

func (c *Compute) access(ctx context.Context, a attempt, id string) ([]string, error) {
	a.write = false
	var projects []string
	err := c.do(ctx, a, callListAccess, func(client *gophercloud.ServiceClient) error {
		var answer struct {
			Access *[]flavors.FlavorAccess `json:"flavor_access"`
		}
		if _, err := fetch(ctx, client, flavorURL(client, id, "os-flavor-access"), &answer); err != nil {
			return err
		}
		if answer.Access == nil {
			return errNonsense
		}
		projects = nil
		for _, entry := range *answer.Access {
			if entry.FlavorID != id || entry.TenantID == "" {
				return errNonsense
			}
			projects = append(projects, entry.TenantID)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	slices.Sort(projects)
	return projects, nil
}

// Grant lets projects use a non-public flavor; those that may already are no
// error. CodeNotFound: there is no flavor whose id is exactly id. CodeConflict:
// it is public. CodeInvalid: the region's Keystone does not know a project.
func (c *Compute) Grant(ctx context.Context, id string, projects []string) error {
	ctx, cancel := c.begin(ctx)
	defer cancel()
	if len(projects) == 0 {
		return nil
	}
	a := c.on("giving projects access to", id)
	a.write = true
	there, err := c.get(ctx, a, id)
	if err != nil {
		return err
	}
	if there.IsPublic {
		return flavor.Conflict("%s: it is public there, so every project may use it already", a.doing)
	}
	have, err := c.access(ctx, a, id)
	if err != nil {
		return err
	}
	for _, project := range projects {
		if slices.Contains(have, project) {
			continue
		}
		err := c.do(ctx, a, callAddAccess, func(client *gophercloud.ServiceClient) error {
			return flavors.AddAccess(ctx, client, url.PathEscape(id), flavors.AddAccessOpts{Tenant: project}).Err
		})
		// Given meanwhile: the flavor is not public, so 409 means nothing else.
		if err != nil && flavor.CodeOf(err) != flavor.CodeConflict {
			return err
		}
	}
	return nil
}
