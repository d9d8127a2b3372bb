package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/flavorsync/flavorsync/internal/flavor"
)

// Change is the stored intent of a careful change of a flavor: everything that
// is needed to finish it or to undo it after a crash.
type Change struct {
	ID        string // a UUID; InsertChange assigns it
	Region    string
	FlavorID  string // Nova's id of the flavor
	TempID    string // the id under which the new flavor is tried first
	Old, New  flavor.NovaFlavor
	Access    []string  // the projects with access to the old one, by id
	Owner     string    // the process that is at it
	Until     time.Time // the owner's deadline; after it another may claim the change
	CreatedAt time.Time // InsertChange sets it where it is zero
}

type changeRow struct {
	ID        string `gorm:"primaryKey"`
	Region    string
	FlavorID  string
	TempID    string
	OldFlavor string // JSON
	NewFlavor string // JSON
	Access    string // JSON
	Owner     string
	Deadline  time.Time
	CreatedAt time.Time
}

func (changeRow) TableName() string { return "flavor_changes" }

// storedFlavor is a Nova flavor as JSON. Its names stay what they are: an
// intent outlives the binary that stored it.
type storedFlavor struct {
	ID          string            `json:"id"`
	Name        string            `json:"name"`
	VCPUs       int               `json:"vcpus"`
	RAM         int               `json:"ram"`
	Disk        int               `json:"disk"`
	Swap        int               `json:"swap"`
	Ephemeral   int               `json:"ephemeral"`
	RxTxFactor  float64           `json:"rxtx_factor"`
	Description string            `json:"description"`
	ExtraSpecs  map[string]string `json:"extra_specs,omitempty"`
	IsPublic    bool              `json:"is_public"`
}

func stored(f flavor.NovaFlavor) storedFlavor {
	return storedFlavor{
		f.ID, f.Name, f.VCPUs, f.RAM, f.Disk, f.Swap, f.Ephemeral, f.RxTxFactor, f.Description, f.ExtraSpecs, f.IsPublic,
	}
}

func (s storedFlavor) flavor() flavor.NovaFlavor {
	return flavor.NovaFlavor{
		ID: s.ID,
		Spec: flavor.Spec{
			Name: s.Name, VCPUs: s.VCPUs, RAM: s.RAM, Disk: s.Disk, Swap: s.Swap, Ephemeral: s.Ephemeral,
			RxTxFactor: s.RxTxFactor, Description: s.Description, ExtraSpecs: s.ExtraSpecs,
		},
		IsPublic: s.IsPublic,
	}
}

func encodeFlavor(f flavor.NovaFlavor) (string, error) {
	text, err := json.Marshal(stored(f))
	return string(text), err
}

func decodeFlavor(text string) (flavor.NovaFlavor, error) {
	var s storedFlavor
	err := json.Unmarshal([]byte(text), &s)
	return s.flavor(), err
}

// InsertChange stores c under a new ID; CodeConflict while that flavor of that
// region is being changed already, CodeNotFound when the region is gone.
func (tx *Tx) InsertChange(c Change) (Change, error) {
	if err := tx.ready(true); err != nil {
		return Change{}, err
	}
	if there, err := tx.lock(&regionRow{}, "name", c.Region); err != nil {
		return Change{}, err
	} else if !there {
		return Change{}, noRegion(c.Region)
	}
	c.ID = uuid.NewString()
	if c.CreatedAt.IsZero() {
		c.CreatedAt = tx.s.now()
	}
	c.CreatedAt, c.Until = micros(c.CreatedAt), micros(c.Until)
	before, err1 := encodeFlavor(c.Old)
	after, err2 := encodeFlavor(c.New)
	access, err3 := json.Marshal(c.Access)
	if err := errors.Join(err1, err2, err3); err != nil {
		return Change{}, fmt.Errorf("while encoding the change of flavor %s in %s: %w", c.FlavorID, c.Region, err)
	}
	err := tx.db.Create(&changeRow{
		ID: c.ID, Region: c.Region, FlavorID: c.FlavorID, TempID: c.TempID, OldFlavor: before, NewFlavor: after,
		Access: string(access), Owner: c.Owner, Deadline: c.Until, CreatedAt: c.CreatedAt,
	}).Error
	if errors.Is(err, gorm.ErrDuplicatedKey) {
		return Change{}, flavor.Conflict("flavor %s in region %s is being changed by another request: try again when that is done", c.FlavorID, c.Region)
	}
	return c, tx.wrap(err, "storing the change of flavor %s in %s", c.FlavorID, c.Region)
}

// TouchChange moves the deadline of a change; CodeNotFound when it is gone.
func (tx *Tx) TouchChange(id string, until time.Time) error {
	if err := tx.ready(true); err != nil {
		return err
	}
	set := tx.db.Model(&changeRow{}).Where("id = ?", id).Update("deadline", micros(until))
	if set.Error == nil && set.RowsAffected == 0 {
		return flavor.NotFound("the change %s is gone: it was finished or undone", id)
	}
	return tx.wrap(set.Error, "extending the change %s", id)
}

// ClaimChange makes owner the one who is at a change, until then. It is false,
// and nothing is done, while it is another's whose deadline is after now, and
// when it is gone.
func (tx *Tx) ClaimChange(id, owner string, now, until time.Time) (bool, error) {
	if err := tx.ready(true); err != nil {
		return false, err
	}
	set := tx.db.Model(&changeRow{}).Where("id = ? AND (owner = ? OR deadline <= ?)", id, owner, micros(now)).
		Updates(map[string]any{"owner": owner, "deadline": micros(until)})
	return set.Error == nil && set.RowsAffected == 1, tx.wrap(set.Error, "claiming the change %s", id)
}

// DeleteChange removes a change that was finished or undone. That it is gone is
// no error.
func (tx *Tx) DeleteChange(id string) error {
	if err := tx.ready(true); err != nil {
		return err
	}
	return tx.wrap(tx.db.Where("id = ?", id).Delete(&changeRow{}).Error, "removing the change %s", id)
}

// Changes lists every stored change, the oldest first.
func (tx *Tx) Changes() ([]Change, error) {
	if err := tx.ready(false); err != nil {
		return nil, err
	}
	var found []changeRow
	if err := tx.rows().Order("created_at, id").Find(&found).Error; err != nil {
		return nil, tx.wrap(err, "listing the changes")
	}
	changes := make([]Change, len(found))
	for i, row := range found {
		before, err1 := decodeFlavor(row.OldFlavor)
		after, err2 := decodeFlavor(row.NewFlavor)
		var access []string
		err3 := json.Unmarshal([]byte(row.Access), &access)
		if err := errors.Join(err1, err2, err3); err != nil {
			return nil, fmt.Errorf("while decoding the change %s of flavor %s in %s: %w", row.ID, row.FlavorID, row.Region, err)
		}
		changes[i] = Change{
			ID: row.ID, Region: row.Region, FlavorID: row.FlavorID, TempID: row.TempID, Old: before, New: after,
			Access: access, Owner: row.Owner, Until: row.Deadline.UTC(), CreatedAt: row.CreatedAt.UTC(),
		}
	}
	return changes, nil
}
