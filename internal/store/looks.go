package store

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/flavorsync/flavorsync/internal/flavor"
)

// A look at a region is written down in one row, which is the turn of whoever
// looks too: due says when the next is to be, and moving it on takes it.

type lookRow struct {
	Region     string `gorm:"primaryKey"`
	Due        int64  // ms since 1970
	Turn       int64
	Version    int64
	LookedAt   *time.Time
	SeenAt     *time.Time
	DurationMS int64 `gorm:"column:duration_ms"`
	Error      string
}

func (lookRow) TableName() string { return "looks" }

func (row lookRow) look() flavor.Look {
	l := flavor.Look{
		Region: row.Region, Due: time.UnixMilli(row.Due).UTC(), Turn: row.Turn, Version: row.Version,
		Duration: time.Duration(row.DurationMS) * time.Millisecond, Error: row.Error,
	}
	if row.LookedAt != nil {
		l.LookedAt = row.LookedAt.UTC()
	}
	if row.SeenAt != nil {
		l.SeenAt = row.SeenAt.UTC()
	}
	return l
}

type inventoryRow struct {
	Region  string `gorm:"primaryKey"`
	Flavors string // JSON
}

func (inventoryRow) TableName() string { return "inventory" }

// seenFlavor is a SeenFlavor as JSON.
type seenFlavor struct {
	storedFlavor
	Access []string `json:"access"` // null: not known
}

func encodeSeen(fs []flavor.SeenFlavor) (string, error) {
	all := make([]seenFlavor, len(fs))
	for i, f := range fs {
		all[i] = seenFlavor{stored(f.NovaFlavor), f.Access}
	}
	text, err := json.Marshal(all)
	return string(text), err
}

func decodeSeen(text string) ([]flavor.SeenFlavor, error) {
	var all []seenFlavor
	if err := json.Unmarshal([]byte(text), &all); err != nil {
		return nil, err
	}
	fs := make([]flavor.SeenFlavor, len(all))
	for i, f := range all {
		fs[i] = flavor.SeenFlavor{NovaFlavor: f.flavor(), Access: f.Access}
	}
	return fs, nil
}

// PrepareLooks makes a look due at once in every region that none was ever noted
// of: an older version of us may have registered it.
func (s *Store) PrepareLooks(ctx context.Context) error {
	var lacking []string
	err := s.Read(ctx, func(tx *Tx) error {
		lacking = nil
		err := tx.db.Raw("SELECT name FROM regions WHERE NOT EXISTS (SELECT 1 FROM looks WHERE looks.region = regions.name)").Scan(&lacking).Error
		return tx.wrap(err, "finding the regions without a look")
	})
	if err != nil || len(lacking) == 0 {
		return err
	}
	return s.Write(ctx, func(tx *Tx) error {
		for _, region := range lacking {
			if err := tx.insertLook(region); err != nil {
				return err
			}
		}
		return nil
	})
}

// insertLook makes a first look at region due at once.
func (tx *Tx) insertLook(region string) error {
	tx.looked = true
	// A region that is registered again does not begin where the one of its name
	// before did: looks at that one may be under way.
	row := lookRow{Region: region, Turn: tx.s.now().UnixMicro(), Version: tx.s.now().UnixMicro()}
	err := tx.db.Clauses(clause.OnConflict{DoNothing: true}).Create(&row).Error
	return tx.wrap(err, "preparing the looks at %s", region)
}

// ClaimLooks takes the looks that are due, limit at most, the longest due first.
// They are this process's for ttl: by then it has noted them, or another takes
// them.
func (s *Store) ClaimLooks(ctx context.Context, limit int, ttl time.Duration) (claimed []flavor.Look, err error) {
	now := milliseconds[s.driver]
	var due []lookRow
	err = s.Read(ctx, func(tx *Tx) error {
		due = nil
		err := tx.db.Raw("SELECT * FROM looks WHERE due <= "+now+" ORDER BY due LIMIT ?", limit).Scan(&due).Error
		return tx.wrap(err, "finding the looks that are due")
	})
	if err != nil || len(due) == 0 {
		return nil, err
	}
	err = s.Write(ctx, func(tx *Tx) error {
		claimed = nil
		for _, row := range due {
			set := tx.db.Exec("UPDATE looks SET due = "+now+" + ? WHERE region = ? AND due = ?", ttl.Milliseconds(), row.Region, row.Due)
			if set.Error != nil {
				return tx.wrap(set.Error, "taking the look at %s", row.Region)
			}
			if set.RowsAffected == 1 {
				claimed = append(claimed, row.look())
			}
		}
		return nil
	})
	return claimed, err
}

// Look is what is noted of the looks at region, without its flavors; CodeNotFound
// where it is registered no more. Unlike other reads it locks nothing.
func (tx *Tx) Look(region string) (flavor.Look, error) {
	if err := tx.ready(false); err != nil {
		return flavor.Look{}, err
	}
	var found []lookRow
	if err := tx.db.Where("region = ?", region).Find(&found).Error; err != nil {
		return flavor.Look{}, tx.wrap(err, "reading the look at %s", region)
	}
	if len(found) == 0 {
		return flavor.Look{}, noRegion(region)
	}
	return found[0].look(), nil
}

// NoteLook writes down a look whose Turn is that from before it began; in is when
// the next is due, and news says that the region was up before and is down now, or
// the other way: the readers of this process see that at once. It is false, and
// nothing is noted, where something newer has been written down of the region since.
func (tx *Tx) NoteLook(l flavor.Look, in time.Duration, news bool) (noted bool, err error) {
	if err := tx.ready(true); err != nil {
		return false, err
	}
	at := micros(l.LookedAt)
	fields := map[string]any{
		"looked_at": at, "duration_ms": l.Duration.Milliseconds(), "turn": gorm.Expr("turn + 1"),
		"error": strings.ToValidUTF8(l.Error, "\uFFFD"),
		"due":   gorm.Expr(milliseconds[tx.s.driver]+" + ?", in.Milliseconds()),
	}
	if l.Error == "" {
		fields["seen_at"] = at
	}
	tx.looked = tx.looked || news
	set := tx.db.Model(&lookRow{}).Where("region = ? AND turn = ?", l.Region, l.Turn).Updates(fields)
	return set.RowsAffected == 1, tx.wrap(set.Error, "noting the look at %s", l.Region)
}

// Postpone makes the next look at region due in this time, whatever was noted.
func (tx *Tx) Postpone(region string, in time.Duration) error {
	if err := tx.ready(true); err != nil {
		return err
	}
	err := tx.db.Exec("UPDATE looks SET due = "+milliseconds[tx.s.driver]+" + ? WHERE region = ?", in.Milliseconds(), region).Error
	return tx.wrap(err, "setting when %s is looked at", region)
}

// Outdate makes every look at region that has begun too old to be noted, and the
// next one due in this time: something there is other than they found it.
func (tx *Tx) Outdate(region string, in time.Duration) error {
	if err := tx.ready(true); err != nil {
		return err
	}
	err := tx.db.Exec("UPDATE looks SET turn = turn + 1, due = "+milliseconds[tx.s.driver]+" + ? WHERE region = ?", in.Milliseconds(), region).Error
	return tx.wrap(err, "ending the looks at %s", region)
}

// PutInventory stores what region has. It belongs behind NoteLook, which holds
// the row that its readers go by.
func (tx *Tx) PutInventory(region string, fs []flavor.SeenFlavor) error {
	if err := tx.ready(true); err != nil {
		return err
	}
	text, err := encodeSeen(fs)
	if err != nil {
		return fmt.Errorf("while encoding the flavors of %s: %w", region, err)
	}
	tx.looked = true
	if err := tx.db.Exec("UPDATE looks SET version = version + 1 WHERE region = ?", region).Error; err != nil {
		return tx.wrap(err, "counting up the inventory of %s", region)
	}
	err = tx.db.Clauses(clause.OnConflict{UpdateAll: true}).Create(&inventoryRow{region, text}).Error
	return tx.wrap(err, "storing the inventory of %s", region)
}

// PutAccess notes who may use some flavors of region: projects, by the id of the
// flavor. Those that region has no more are passed over.
func (tx *Tx) PutAccess(region string, access map[string][]string) error {
	if err := tx.ready(true); err != nil {
		return err
	}
	// The row of the looks first, as whoever else writes an inventory.
	if _, err := tx.lock(&lookRow{}, "region", region); err != nil {
		return err
	}
	fs, err := tx.seen(region)
	if err != nil || fs == nil {
		return err
	}
	for i, f := range fs {
		if projects, asked := access[f.ID]; asked {
			fs[i].Access = projects
		}
	}
	return tx.PutInventory(region, fs)
}

// seen is what is known of region; nil where it was never seen.
func (tx *Tx) seen(region string) ([]flavor.SeenFlavor, error) {
	var found []inventoryRow
	if err := tx.rows().Where("region = ?", region).Find(&found).Error; err != nil || len(found) == 0 {
		return nil, tx.wrap(err, "reading the inventory of %s", region)
	}
	fs, err := decodeSeen(found[0].Flavors)
	if err != nil {
		return nil, fmt.Errorf("while decoding the flavors of %s: %w", region, err)
	}
	return fs, nil
}

// PatchInventory puts these flavors into what is known of region, or in the place
// of those with their ids, takes others out by their ids, and is what is known
// then: nil where region was never seen, and nothing was changed. It belongs behind
// Outdate, which holds the row that its readers go by.
func (tx *Tx) PatchInventory(region string, put []flavor.NovaFlavor, gone []string) ([]flavor.SeenFlavor, error) {
	if err := tx.ready(true); err != nil {
		return nil, err
	}
	fs, err := tx.seen(region)
	if err != nil || fs == nil {
		return nil, err
	}
	fs = slices.DeleteFunc(fs, func(f flavor.SeenFlavor) bool {
		return slices.Contains(gone, f.ID) || slices.ContainsFunc(put, func(p flavor.NovaFlavor) bool { return p.ID == f.ID })
	})
	for _, nf := range put {
		fs = append(fs, flavor.SeenFlavor{NovaFlavor: nf})
	}
	slices.SortFunc(fs, func(a, b flavor.SeenFlavor) int { return strings.Compare(a.ID, b.ID) })
	return fs, tx.PutInventory(region, fs)
}
