package store

import (
	"context"

	"gorm.io/gorm/clause"
)

type metaRow struct {
	Name  string `gorm:"primaryKey"`
	Value string
}

func (metaRow) TableName() string { return "meta" }

// meta is the value of name, "" where there is none.
func (tx *Tx) meta(name string) (string, error) {
	var found []metaRow
	err := tx.rows().Where("name = ?", name).Limit(1).Find(&found).Error
	if err != nil || len(found) == 0 {
		return "", tx.wrap(err, "reading %s", name)
	}
	return found[0].Value, nil
}

// insertMeta makes sure that there is a row for name, and keeps what it says.
func (tx *Tx) insertMeta(name, value string) error {
	err := tx.db.Clauses(clause.OnConflict{DoNothing: true}).Create(&metaRow{Name: name, Value: value}).Error
	return tx.wrap(err, "storing %s", name)
}

func (tx *Tx) setMeta(name, value string) error {
	err := tx.db.Model(&metaRow{}).Where("name = ?", name).Update("value", value).Error
	return tx.wrap(err, "storing %s", name)
}

// MarkDemo marks the database as a demonstration's, which serve refuses.
func (s *Store) MarkDemo(ctx context.Context) error {
	return s.Write(ctx, func(tx *Tx) error { return tx.insertMeta(metaDemo, "true") })
}

// IsDemo says whether MarkDemo has marked the database.
func (s *Store) IsDemo(ctx context.Context) (demo bool, err error) {
	err = s.Read(ctx, func(tx *Tx) error {
		value, err := tx.meta(metaDemo)
		demo = value != ""
		return err
	})
	return demo, err
}
