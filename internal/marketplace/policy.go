package marketplace

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"

	"github.com/flavorsync/flavorsync/internal/flavor"
	"github.com/flavorsync/flavorsync/internal/store"
)

// What the policy wants by itself: that promoted flavors are everywhere, and that
// the nodes which we created stay as they are.

// reason is one of the policy's own operations on a flavor.
type reason struct {
	flavorID string
	origin   flavor.Origin
	kind     flavor.OperationKind
}

// Discover compares what the policy wants with what is known of the regions, and
// writes down what is lacking; it calls none. What failed for good is wanted
// again when the flavor, or what its region has, is another than it was then.
func (m *Market) Discover(ctx context.Context) error {
	cat, err := m.store.Catalogue(ctx)
	if err != nil {
		return err
	}
	inv, err := m.store.Inventory(ctx)
	if err != nil {
		return err
	}
	seen := &surveyed{cat.Number, inv.Contents}
	if last := m.surveyed.Load(); last != nil && *last == *seen {
		return nil
	}
	lacking := m.lacking(cat, inv)
	if len(lacking) == 0 {
		m.surveyed.Store(seen)
		return nil
	}
	var known []flavor.Operation
	var leaving []string
	err = m.store.Read(ctx, func(tx *store.Tx) error {
		if leaving, err = tx.Unlisting(); err != nil {
			return err
		}
		known, err = tx.PolicyOperations()
		return err
	})
	if err != nil {
		return err
	}
	// What an operation has done between the two is not lacking any more.
	if cat, err = m.store.CatalogueNow(ctx); err != nil {
		return err
	}
	lacking = m.lacking(cat, inv)
	maps.DeleteFunc(lacking, func(r reason, _ []flavor.OperationNode) bool { return slices.Contains(leaving, r.flavorID) })
	for _, o := range known {
		r := reason{o.FlavorID, o.Origin, o.Kind}
		for _, n := range o.Nodes {
			lacking[r] = slices.DeleteFunc(lacking[r], func(l flavor.OperationNode) bool {
				return l.Region == n.Region && (n.State.Open() || n.State != flavor.Succeeded && n.Input == l.Input)
			})
		}
	}
	for r, nodes := range lacking {
		if len(nodes) == 0 {
			continue
		}
		f, _ := cat.ByID(r.flavorID)
		o := flavor.Operation{Kind: r.kind, Origin: r.origin, FlavorID: f.ID, Name: f.Name}
		if err := m.store.Write(ctx, func(tx *store.Tx) error { return tx.Want(o, nodes) }); err != nil {
			return err
		}
	}
	m.surveyed.Store(seen)
	m.wake()
	return nil
}

// lacking is what the policy wants and does not find.
func (m *Market) lacking(cat *store.Catalogue, inv *store.Inventory) map[reason][]flavor.OperationNode {
	all := map[reason][]flavor.OperationNode{}
	for _, f := range cat.Promoted {
		for _, l := range inv.Looks {
			if origin, kind, wanted := m.lacks(cat, f, l.Region); wanted {
				r := reason{f.ID, origin, kind}
				all[r] = append(all[r], flavor.OperationNode{Region: l.Region, State: flavor.Waiting, Input: input(f, l)})
			}
		}
	}
	return all
}

// surveyed is what Discover went by: while it is the same there is nothing new.
type surveyed struct {
	catalogue, contents uint64
}

// lacks says whether the policy wants something of f in region, and why.
func (m *Market) lacks(cat *store.Catalogue, f flavor.Flavor, region string) (flavor.Origin, flavor.OperationKind, bool) {
	d, drifted := cat.DriftIn(f.ID, region)
	switch {
	case drifted && (!d.Created || !m.policy.Repairs(f, region)):
		return "", "", false // it is reported, and somebody's to decide
	case drifted && d.Kind == flavor.Differs:
		return flavor.Repairing, flavor.Repair, true
	case drifted && !f.Retired && !cat.Refuses(f.ID, region):
		return flavor.Repairing, flavor.Install, true
	case drifted, f.Retired, slices.Contains(f.Nodes, region), cat.Refuses(f.ID, region):
		return "", "", false
	}
	return flavor.Automatic, flavor.Install, m.policy.Installs(f, region)
}

// input tells what an attempt would be made from.
func input(f flavor.Flavor, l *flavor.Look) string {
	sum := sha256.New()
	fmt.Fprintf(sum, "%s %s %d", fingerprint(f.Spec), l.Region, l.Version)
	return hex.EncodeToString(sum.Sum(nil))
}

// fingerprint tells specs apart, in 64 characters.
func fingerprint(s flavor.Spec) string {
	sum := sha256.New()
	fields := s.Audited()
	for _, key := range slices.Sorted(maps.Keys(fields)) {
		fmt.Fprintf(sum, "%q=%q\n", key, fields[key])
	}
	return hex.EncodeToString(sum.Sum(nil))
}

// repair makes a node that we created, and that somebody altered, as the catalogue
// has it: in place where Nova can, else as every change of a size is made, so that
// it is never lost. What is not ours is left alone.
func (m *Market) repair(ctx context.Context, f flavor.Flavor, l *look, a attempt) error {
	cat, err := m.store.CatalogueNow(ctx)
	if err != nil {
		return err
	}
	region := l.region.Name
	d, drifted := cat.DriftIn(f.ID, region)
	if _, there := l.node(f); there || !drifted {
		return nil // somebody was faster
	}
	if !d.Created || !m.policy.Repairs(f, region) {
		return flavor.Conflict("%s: %q is not ours to repair there", region, f.Name)
	}
	compute := m.clouds.Service(l.region)
	nf, err := compute.Get(ctx, d.NodeID)
	switch {
	case flavor.CodeOf(err) == flavor.CodeNotFound:
		a.again = true
		return m.install(ctx, f, l, a)
	case err != nil:
		return err
	case samePlace(nf.Spec, f.Spec):
		return m.changeInPlace(ctx, compute, region, nf, f.Spec)
	}
	return m.replace(ctx, l.region, compute, nf, f.Spec)
}
