package store

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"gorm.io/gorm"

	"github.com/flavorsync/flavorsync/internal/flavor"
)

type flavorRow struct {
	ID          string `gorm:"primaryKey"`
	Name        string
	VCPUs       int `gorm:"column:vcpus"`
	RAM         int `gorm:"column:ram"`
	Disk        int
	Swap        int
	Ephemeral   int
	RxTxFactor  float64 `gorm:"column:rxtx_factor"`
	Description string
	ExtraSpecs  string // a JSON object
	Promoted    bool
	Retired     bool
}

func (flavorRow) TableName() string { return "flavors" }

func rowOf(f flavor.Flavor) (flavorRow, error) {
	specs := []byte("{}")
	if len(f.ExtraSpecs) > 0 {
		var err error
		if specs, err = json.Marshal(f.ExtraSpecs); err != nil {
			return flavorRow{}, fmt.Errorf("while encoding the extra specs of flavor %s: %w", f.ID, err)
		}
	}
	return flavorRow{
		ID: f.ID, Name: f.Name, VCPUs: f.VCPUs, RAM: f.RAM, Disk: f.Disk, Swap: f.Swap, Ephemeral: f.Ephemeral,
		RxTxFactor: f.RxTxFactor, Description: f.Description, ExtraSpecs: string(specs),
		Promoted: f.Promoted, Retired: f.Retired,
	}, nil
}

// flavor is row without its nodes. What is in the catalogue is public.
func (row flavorRow) flavor() (flavor.Flavor, error) {
	f := flavor.Flavor{
		ID: row.ID,
		Spec: flavor.Spec{
			Name: row.Name, VCPUs: row.VCPUs, RAM: row.RAM, Disk: row.Disk, Swap: row.Swap, Ephemeral: row.Ephemeral,
			RxTxFactor: row.RxTxFactor, Description: row.Description,
		},
		Promoted: row.Promoted, Public: true, Retired: row.Retired, Nodes: []string{},
	}
	if row.ExtraSpecs != "{}" {
		if err := json.Unmarshal([]byte(row.ExtraSpecs), &f.ExtraSpecs); err != nil {
			return flavor.Flavor{}, fmt.Errorf("while decoding the extra specs of flavor %s: %w", row.ID, err)
		}
	}
	return f, nil
}

type installationRow struct {
	FlavorID string `gorm:"primaryKey"`
	Region   string `gorm:"primaryKey"`
	NodeID   string
	Created  bool
}

func (installationRow) TableName() string { return "installations" }

func noFlavor(id string) error {
	return flavor.NotFound("there is no flavor %s in the catalogue", id)
}

// Flavors is the whole catalogue in the order of flavor.Compare, Nodes filled.
func (tx *Tx) Flavors() ([]flavor.Flavor, error) {
	fs, _, err := tx.everything()
	return fs, err
}

// everything is every flavor, in order, and every installation, by flavor and
// region.
func (tx *Tx) everything() ([]flavor.Flavor, []flavor.Installation, error) {
	if err := tx.ready(false); err != nil {
		return nil, nil, err
	}
	var found []flavorRow
	if err := tx.rows().Order("id").Find(&found).Error; err != nil {
		return nil, nil, tx.wrap(err, "listing the catalogue")
	}
	is, err := tx.installations(tx.rows(), "listing the installations")
	if err != nil {
		return nil, nil, err
	}
	altered, err := tx.altered(tx.rows())
	if err != nil {
		return nil, nil, err
	}
	nodes := map[string][]string{}
	for _, i := range is {
		if !altered[pair{i.FlavorID, i.Region}] {
			nodes[i.FlavorID] = append(nodes[i.FlavorID], i.Region)
		}
	}
	fs := make([]flavor.Flavor, len(found))
	for i, row := range found {
		if fs[i], err = row.flavor(); err != nil {
			return nil, nil, err
		}
		if n := nodes[row.ID]; n != nil {
			fs[i].Nodes = n
		}
	}
	slices.SortFunc(fs, flavor.Compare)
	return fs, is, nil
}

// Flavor is the flavor of the catalogue with that id, Nodes filled;
// CodeNotFound where there is none.
func (tx *Tx) Flavor(id string) (flavor.Flavor, error) {
	f, err := tx.findFlavor("id", id)
	if err == nil && f == nil {
		err = noFlavor(id)
	}
	if err != nil {
		return flavor.Flavor{}, err
	}
	return *f, nil
}

// FlavorByName is the flavor of the catalogue with exactly that name, Nodes
// filled; CodeNotFound where there is none.
func (tx *Tx) FlavorByName(name string) (flavor.Flavor, error) {
	f, err := tx.findFlavor("name", name)
	if err == nil && f == nil {
		err = flavor.NotFound("there is no flavor named %q in the catalogue", name)
	}
	if err != nil {
		return flavor.Flavor{}, err
	}
	return *f, nil
}

// findFlavor is the flavor whose column has value, nil where there is none.
func (tx *Tx) findFlavor(column, value string) (*flavor.Flavor, error) {
	if err := tx.ready(false); err != nil {
		return nil, err
	}
	var found []flavorRow
	err := tx.rows().Where(column+" = ?", value).Limit(1).Find(&found).Error
	// utf8mb4_bin takes "a" and "a " for the same.
	if err != nil || len(found) == 0 || column == "name" && found[0].Name != value || column == "id" && found[0].ID != value {
		return nil, tx.wrap(err, "reading flavor %s", value)
	}
	f, err := found[0].flavor()
	if err != nil {
		return nil, err
	}
	is, err := tx.installations(tx.rows().Where("flavor_id = ?", f.ID), "reading the nodes of flavor "+f.ID)
	if err != nil {
		return nil, err
	}
	altered, err := tx.altered(tx.rows().Where("flavor_id = ?", f.ID))
	if err != nil {
		return nil, err
	}
	for _, i := range is {
		if !altered[pair{i.FlavorID, i.Region}] {
			f.Nodes = append(f.Nodes, i.Region)
		}
	}
	return &f, nil
}

// altered are the nodes that are none until somebody makes them as they were.
func (tx *Tx) altered(query *gorm.DB) (map[pair]bool, error) {
	var rows []driftRow
	if err := query.Where("kind = ?", string(flavor.Differs)).Find(&rows).Error; err != nil {
		return nil, tx.wrap(err, "reading which nodes were altered")
	}
	set := make(map[pair]bool, len(rows))
	for _, row := range rows {
		set[pair{row.FlavorID, row.Region}] = true
	}
	return set, nil
}

// flavorAlone is Flavor without its Nodes, which it does not lock either.
func (tx *Tx) flavorAlone(id string) (flavor.Flavor, error) {
	var found []flavorRow
	if err := tx.rows().Where("id = ?", id).Find(&found).Error; err != nil || len(found) == 0 {
		return flavor.Flavor{}, cmp.Or(tx.wrap(err, "reading flavor %s", id), noFlavor(id))
	}
	return found[0].flavor()
}

// InsertFlavor puts f into the catalogue, without its Nodes; CodeConflict when
// its id or its name is taken.
func (tx *Tx) InsertFlavor(f flavor.Flavor) error {
	if err := tx.ready(true); err != nil {
		return err
	}
	row, err := rowOf(f)
	if err != nil {
		return err
	}
	err = tx.db.Create(&row).Error
	if errors.Is(err, gorm.ErrDuplicatedKey) {
		return tx.taken(f, true)
	}
	tx.changed = true
	if err != nil {
		return tx.wrap(err, "adding flavor %s to the catalogue", f.ID)
	}
	if err := tx.tellFlavor(nil, f); err != nil {
		return err
	}
	return tx.auditChange(flavor.AuditedFlavor, f.ID, "", nil, f.Audited())
}

// UpdateFlavor stores f, without its Nodes; CodeNotFound when it is gone,
// CodeConflict when its name is another's.
func (tx *Tx) UpdateFlavor(f flavor.Flavor) error {
	if err := tx.ready(true); err != nil {
		return err
	}
	row, err := rowOf(f)
	if err != nil {
		return err
	}
	old, err := tx.flavorAlone(f.ID)
	if err != nil {
		return err
	}
	set := tx.db.Model(&flavorRow{}).Where("id = ?", f.ID).Select("*").Omit("id").Updates(&row)
	switch {
	case errors.Is(set.Error, gorm.ErrDuplicatedKey):
		return tx.taken(f, false)
	case set.Error == nil && set.RowsAffected == 0:
		return noFlavor(f.ID)
	}
	tx.changed = true
	if set.Error != nil {
		return tx.wrap(set.Error, "changing flavor %s of the catalogue", f.ID)
	}
	if err := tx.tellFlavor(&old, f); err != nil {
		return err
	}
	return tx.auditChange(flavor.AuditedFlavor, f.ID, "", old.Audited(), f.Audited())
}

// taken says what of f is another flavor's.
func (tx *Tx) taken(f flavor.Flavor, insert bool) error {
	if insert {
		same, err := tx.findFlavor("id", f.ID)
		if err != nil {
			return err
		}
		if same != nil {
			return flavor.Conflict("the id %s is taken in the catalogue, by flavor %q", f.ID, same.Name)
		}
	}
	same, err := tx.findFlavor("name", f.Name)
	if err != nil {
		return err
	}
	if same != nil {
		return flavor.Conflict("the name %q is taken in the catalogue, by flavor %s: choose another", f.Name, same.ID)
	}
	return flavor.Conflict("the id or the name of flavor %q is taken in the catalogue", f.Name)
}

// DeleteFlavor takes a flavor and its installations out of the catalogue;
// CodeNotFound where it is gone.
func (tx *Tx) DeleteFlavor(id string) error {
	if err := tx.ready(true); err != nil {
		return err
	}
	f, err := tx.flavorAlone(id)
	if err != nil {
		return err
	}
	nodes, err := tx.installations(tx.rows().Where("flavor_id = ?", id), "reading the nodes that go")
	if err != nil {
		return err
	}
	if err := tx.auditEndOfFlavor(f, nodes); err != nil {
		return err
	}
	gone := tx.db.Where("id = ?", id).Delete(&flavorRow{})
	if gone.Error == nil && gone.RowsAffected == 0 {
		return noFlavor(id)
	}
	tx.changed = true
	if gone.Error != nil {
		return tx.wrap(gone.Error, "removing flavor %s from the catalogue", id)
	}
	// Nobody wants it anywhere any more.
	_, err = tx.cancelNodes(waiting, "operation_id IN (SELECT id FROM operations WHERE flavor_id = ? AND kind IN ?)", id, installs)
	if err != nil {
		return err
	}
	for _, i := range nodes {
		if err := tx.Event(flavor.Event{Type: flavor.NodeRemoved, Flavor: id, Name: f.Name, Region: i.Region}); err != nil {
			return err
		}
	}
	return tx.Event(flavor.Event{Type: flavor.FlavorDeleted, Flavor: id, Name: f.Name})
}

// Installations lists where the flavor is, by region. Inside Write no other can
// add one until the transaction ends.
func (tx *Tx) Installations(flavorID string) ([]flavor.Installation, error) {
	if _, err := tx.lock(&flavorRow{}, "id", flavorID); err != nil {
		return nil, err
	}
	return tx.installations(tx.rows().Where("flavor_id = ?", flavorID), "listing the nodes of flavor "+flavorID)
}

// Installation is the flavor in region, if it is noted there. Inside Write no other
// can note or forget it until the transaction ends.
func (tx *Tx) Installation(flavorID, region string) (i flavor.Installation, noted bool, err error) {
	if _, err := tx.lock(&flavorRow{}, "id", flavorID); err != nil {
		return i, false, err
	}
	is, err := tx.installations(tx.rows().Where("flavor_id = ? AND region = ?", flavorID, region), "looking for flavor "+flavorID+" in "+region)
	if err != nil || len(is) == 0 {
		return i, false, err
	}
	return is[0], true, nil
}

// InstallationsIn lists what the region has, by flavor. Inside Write no other
// can add one until the transaction ends.
func (tx *Tx) InstallationsIn(region string) ([]flavor.Installation, error) {
	if _, err := tx.lock(&regionRow{}, "name", region); err != nil {
		return nil, err
	}
	return tx.installations(tx.rows().Where("region = ?", region), "listing the installations in "+region)
}

func (tx *Tx) installations(query *gorm.DB, doing string) ([]flavor.Installation, error) {
	var found []installationRow
	if err := query.Find(&found).Error; err != nil {
		return nil, tx.wrap(err, "%s", doing)
	}
	is := make([]flavor.Installation, len(found))
	for i, row := range found {
		is[i] = flavor.Installation(row)
	}
	slices.SortFunc(is, func(a, b flavor.Installation) int {
		return cmp.Or(cmp.Compare(a.FlavorID, b.FlavorID), cmp.Compare(a.Region, b.Region))
	})
	return is, nil
}

// lock locks the row that others refer to, and says whether it is there. In a
// transaction that reads only it asks nothing.
func (tx *Tx) lock(table any, column, key string) (bool, error) {
	if err := tx.ready(false); err != nil || !tx.write {
		return err == nil, err
	}
	var found []string
	err := tx.rows().Model(table).Where(column+" = ?", key).Pluck(column, &found).Error
	return len(found) > 0, tx.wrap(err, "locking %s", key)
}

// PutInstallation notes that a region has a flavor, or changes what is noted;
// CodeNotFound when the flavor or the region is gone.
func (tx *Tx) PutInstallation(i flavor.Installation) error {
	if err := tx.ready(true); err != nil {
		return err
	}
	var names []string // of the flavor: one, which is locked
	if err := tx.rows().Model(&flavorRow{}).Where("id = ?", i.FlavorID).Pluck("name", &names).Error; err != nil || len(names) == 0 {
		return cmp.Or(tx.wrap(err, "locking %s", i.FlavorID), noFlavor(i.FlavorID))
	}
	if there, err := tx.lock(&regionRow{}, "name", i.Region); err != nil || !there {
		return cmp.Or(err, noRegion(i.Region))
	}
	row := installationRow(i)
	var found []installationRow
	var before map[string]string
	err := tx.rows().Where("flavor_id = ? AND region = ?", i.FlavorID, i.Region).Find(&found).Error
	if len(found) > 0 {
		before = flavor.Installation(found[0]).Audited()
	}
	switch {
	case err != nil:
	case len(found) == 0:
		tx.changed = true
		err = tx.db.Create(&row).Error
	case found[0] != row:
		tx.changed = true
		err = tx.db.Model(&installationRow{}).Where("flavor_id = ? AND region = ?", i.FlavorID, i.Region).
			Select("node_id", "created").Updates(&row).Error
	}
	if err != nil {
		return tx.wrap(err, "noting flavor %s in region %s", i.FlavorID, i.Region)
	}
	if before == nil {
		err := tx.Event(flavor.Event{Type: flavor.NodeInstalled, Flavor: i.FlavorID, Name: names[0], Region: i.Region, Created: i.Created})
		if err != nil {
			return err
		}
	}
	return tx.auditChange(flavor.AuditedNode, i.FlavorID, i.Region, before, i.Audited())
}

// DeleteInstallation forgets that a region has a flavor. That nothing was noted
// is no error.
func (tx *Tx) DeleteInstallation(flavorID, region string) error {
	if err := tx.ready(true); err != nil {
		return err
	}
	nodes, err := tx.installations(tx.rows().Where("flavor_id = ? AND region = ?", flavorID, region), "reading the node that goes")
	if err != nil || len(nodes) == 0 {
		return err
	}
	if err := tx.auditEndOfNodes(nodes); err != nil {
		return err
	}
	gone := tx.db.Where("flavor_id = ? AND region = ?", flavorID, region).Delete(&installationRow{})
	tx.changed = tx.changed || gone.RowsAffected > 0
	if gone.Error != nil {
		return tx.wrap(gone.Error, "forgetting flavor %s in region %s", flavorID, region)
	}
	return tx.tellEndOfNodes(nodes, "id = ?", flavorID)
}
