package store

import (
	"cmp"
	"errors"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/flavorsync/flavorsync/internal/flavor"
)

type productRow struct {
	FlavorID    string `gorm:"primaryKey"`
	Ended       bool
	Category    string
	Price       *int64 // millionths
	Currency    string
	Period      string
	Free        bool
	Hidden      bool
	CPUModel    string `gorm:"column:cpu_model"`
	MemoryModel string
	GPUModel    string `gorm:"column:gpu_model"`
	Description string
}

func (productRow) TableName() string { return "products" }

func (row productRow) product() flavor.Product {
	return flavor.Product{
		FlavorID: row.FlavorID, Ended: row.Ended, Category: row.Category, Price: (*flavor.Amount)(row.Price),
		Currency: row.Currency, Period: flavor.Period(row.Period), Free: row.Free, Hidden: row.Hidden,
		CPUModel: row.CPUModel, MemoryModel: row.MemoryModel, GPUModel: row.GPUModel, Description: row.Description,
	}
}

// Products are what managers have said of promoted flavors, by the flavor's id.
func (tx *Tx) Products() (map[string]flavor.Product, error) {
	if err := tx.ready(false); err != nil {
		return nil, err
	}
	var found []productRow
	if err := tx.rows().Find(&found).Error; err != nil {
		return nil, tx.wrap(err, "listing the products")
	}
	products := make(map[string]flavor.Product, len(found))
	for _, row := range found {
		products[row.FlavorID] = row.product()
	}
	return products, nil
}

// PutProduct stores p in place of what was said of its flavor before;
// CodeNotFound when the flavor is gone.
func (tx *Tx) PutProduct(p flavor.Product) error {
	before, err := tx.auditedProduct(p.FlavorID)
	if err != nil {
		return err
	}
	err = tx.putForFlavor(p.FlavorID, &productRow{
		p.FlavorID, p.Ended, p.Category, (*int64)(p.Price), p.Currency, string(p.Period), p.Free, p.Hidden,
		p.CPUModel, p.MemoryModel, p.GPUModel, p.Description,
	}, "storing the product")
	if err != nil {
		return err
	}
	return tx.auditChange(flavor.AuditedProduct, p.FlavorID, "", before, p.Audited())
}

// putForFlavor stores row, the one of its table for the flavor.
func (tx *Tx) putForFlavor(flavorID string, row any, doing string) error {
	if err := tx.ready(true); err != nil {
		return err
	}
	if there, err := tx.lock(&flavorRow{}, "id", flavorID); err != nil || !there {
		return cmp.Or(err, noFlavor(flavorID))
	}
	tx.changed = true
	return tx.wrap(tx.db.Clauses(clause.OnConflict{UpdateAll: true}).Create(row).Error, "%s of flavor %s", doing, flavorID)
}

// Pushed is what UCloud's Core was told of a product last.
type Pushed struct {
	FlavorID string
	flavor.Reference
	Sent string // the whole of it, as its sender wrote it
}

type pushedRow struct {
	FlavorID string `gorm:"primaryKey"`
	Provider string
	Category string
	Name     string
	Sent     string
}

func (pushedRow) TableName() string { return "pushed_products" }

// Pushed is what that provider's Core was told, by the flavor's id.
func (tx *Tx) Pushed(provider string) (map[string]Pushed, error) {
	return tx.pushed(tx.rows().Where("provider = ?", provider))
}

func (tx *Tx) pushed(query *gorm.DB) (map[string]Pushed, error) {
	if err := tx.ready(false); err != nil {
		return nil, err
	}
	var found []pushedRow
	if err := query.Find(&found).Error; err != nil {
		return nil, tx.wrap(err, "listing what was pushed")
	}
	pushed := make(map[string]Pushed, len(found))
	for _, row := range found {
		pushed[row.FlavorID] = Pushed{row.FlavorID, flavor.Reference{Provider: row.Provider, Category: row.Category, Name: row.Name}, row.Sent}
	}
	return pushed, nil
}

// PutPushed notes that Core knows a flavor as ref from now on, and what it was
// sent; CodeNotFound when the flavor is gone.
func (tx *Tx) PutPushed(flavorID string, ref flavor.Reference, sent string) error {
	return tx.putForFlavor(flavorID, &pushedRow{flavorID, ref.Provider, ref.Category, ref.Name, sent}, "noting the push")
}

type categoryRow struct {
	Provider string `gorm:"primaryKey"`
	Name     string `gorm:"primaryKey"`
	Currency string
	Period   string
	Free     bool
}

func (categoryRow) TableName() string { return "pushed_categories" }

// Categories are those that the provider's Core is known to have.
func (tx *Tx) Categories(provider string) (map[string]flavor.Unit, error) {
	if err := tx.ready(false); err != nil {
		return nil, err
	}
	var found []categoryRow
	if err := tx.rows().Where("provider = ?", provider).Find(&found).Error; err != nil {
		return nil, tx.wrap(err, "listing the categories of %s", provider)
	}
	units := make(map[string]flavor.Unit, len(found))
	for _, row := range found {
		units[row.Name] = flavor.Unit{Currency: row.Currency, Period: flavor.Period(row.Period), Free: row.Free}
	}
	return units, nil
}

// PutCategory notes that Core has a category.
func (tx *Tx) PutCategory(provider, name string, u flavor.Unit) error {
	if err := tx.ready(true); err != nil {
		return err
	}
	row := categoryRow{provider, name, u.Currency, string(u.Period), u.Free}
	return tx.wrap(tx.db.Clauses(clause.OnConflict{UpdateAll: true}).Create(&row).Error, "noting the category %s of %s", name, provider)
}

type pushStateRow struct {
	Provider string `gorm:"primaryKey"`
	State    string
}

func (pushStateRow) TableName() string { return "push_states" }

// PushState is what SetPushState has stored, "" where there is nothing.
func (tx *Tx) PushState(provider string) (string, error) {
	if err := tx.ready(false); err != nil {
		return "", err
	}
	var row pushStateRow
	err := tx.rows().Where("provider = ?", provider).Take(&row).Error
	if errors.Is(err, gorm.ErrRecordNotFound) {
		err = nil
	}
	return row.State, tx.wrap(err, "reading the state of the push to %s", provider)
}

// SetPushState stores how the pushes to that provider stand.
func (tx *Tx) SetPushState(provider, text string) error {
	if err := tx.ready(true); err != nil {
		return err
	}
	row := pushStateRow{provider, text}
	return tx.wrap(tx.db.Clauses(clause.OnConflict{UpdateAll: true}).Create(&row).Error, "storing the state of the push to %s", provider)
}
