package store

import (
	"cmp"
	"time"

	"gorm.io/gorm/clause"

	"github.com/flavorsync/flavorsync/internal/flavor"
)

type driftRow struct {
	FlavorID string `gorm:"primaryKey"`
	Region   string `gorm:"primaryKey"`
	Kind     string
	NodeID   string
	Created  bool
	FoundAt  time.Time
}

func (driftRow) TableName() string { return "drift" }

func (row driftRow) drift() flavor.Drift {
	return flavor.Drift{
		FlavorID: row.FlavorID, Region: row.Region, Kind: flavor.DriftKind(row.Kind),
		NodeID: row.NodeID, Created: row.Created, FoundAt: row.FoundAt.UTC(),
	}
}

// drift reads all drift, by flavor and region.
func (tx *Tx) drift() (all []flavor.Drift, err error) {
	var rows []driftRow
	if err := tx.rows().Order("flavor_id, region").Find(&rows).Error; err != nil {
		return nil, tx.wrap(err, "reading the drift")
	}
	for _, row := range rows {
		all = append(all, row.drift())
	}
	return all, nil
}

// PutDrift notes that a node is not as it was, or that it has drifted otherwise.
// That the flavor or the region is gone is no error: then so is the node.
func (tx *Tx) PutDrift(d flavor.Drift) error {
	if err := tx.ready(true); err != nil {
		return err
	}
	for _, on := range []struct {
		table       any
		column, key string
	}{{&flavorRow{}, "id", d.FlavorID}, {&regionRow{}, "name", d.Region}} {
		if there, err := tx.lock(on.table, on.column, on.key); err != nil || !there {
			return err
		}
	}
	row := driftRow{d.FlavorID, d.Region, string(d.Kind), d.NodeID, d.Created, micros(d.FoundAt)}
	tx.changed = true
	err := tx.db.Clauses(clause.OnConflict{UpdateAll: true}).Create(&row).Error
	return tx.wrap(err, "noting the drift of flavor %s in %s", d.FlavorID, d.Region)
}

// DropDrift forgets the drift of a node, and says whether there was any.
func (tx *Tx) DropDrift(flavorID, region string) (bool, error) {
	if err := tx.ready(true); err != nil {
		return false, err
	}
	gone := tx.db.Where("flavor_id = ? AND region = ?", flavorID, region).Delete(&driftRow{})
	tx.changed = tx.changed || gone.RowsAffected > 0
	return gone.RowsAffected > 0, tx.wrap(gone.Error, "forgetting the drift of flavor %s in %s", flavorID, region)
}

type refusalRow struct {
	FlavorID  string `gorm:"primaryKey"`
	Region    string `gorm:"primaryKey"`
	Caller    string
	RefusedAt time.Time
}

func (refusalRow) TableName() string { return "refusals" }

// refusals reads them all, by flavor and region.
func (tx *Tx) refusals() (all []flavor.Refusal, err error) {
	var rows []refusalRow
	if err := tx.rows().Order("flavor_id, region").Find(&rows).Error; err != nil {
		return nil, tx.wrap(err, "reading the refusals")
	}
	for _, row := range rows {
		all = append(all, flavor.Refusal{FlavorID: row.FlavorID, Region: row.Region, Caller: row.Caller, At: row.RefusedAt.UTC()})
	}
	return all, nil
}

// PutRefusal notes a refusal, and cancels what is to be installed there;
// CodeNotFound where the flavor or the region is gone.
func (tx *Tx) PutRefusal(r flavor.Refusal) error {
	if err := tx.ready(true); err != nil {
		return err
	}
	if there, err := tx.lock(&flavorRow{}, "id", r.FlavorID); err != nil || !there {
		return cmp.Or(err, noFlavor(r.FlavorID))
	}
	if there, err := tx.lock(&regionRow{}, "name", r.Region); err != nil || !there {
		return cmp.Or(err, noRegion(r.Region))
	}
	row := refusalRow{r.FlavorID, r.Region, cut(r.Caller, 255), micros(r.At)}
	tx.changed = true
	if err := tx.db.Clauses(clause.OnConflict{UpdateAll: true}).Create(&row).Error; err != nil {
		return tx.wrap(err, "noting that %s refuses flavor %s", r.Region, r.FlavorID)
	}
	return tx.CancelInstalls(r.FlavorID, r.Region)
}

// DropRefusal forgets one: somebody with the right to wants the flavor there.
func (tx *Tx) DropRefusal(flavorID, region string) error {
	if err := tx.ready(true); err != nil {
		return err
	}
	gone := tx.db.Where("flavor_id = ? AND region = ?", flavorID, region).Delete(&refusalRow{})
	tx.changed = tx.changed || gone.RowsAffected > 0
	return tx.wrap(gone.Error, "forgetting that %s refuses flavor %s", region, flavorID)
}
