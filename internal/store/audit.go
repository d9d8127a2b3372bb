package store

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/flavorsync/flavorsync/internal/flavor"
)

type auditRow struct {
	ID          string `gorm:"primaryKey"`
	At          time.Time
	Provider    string
	Caller      string
	Name        string
	Address     string
	RequestID   string
	Action      string
	Object      string
	Flavor      string
	Region      string
	Outcome     string
	Message     string
	Count       int
	BeforeValue string // a JSON object of strings
	AfterValue  string // so
}

func (auditRow) TableName() string { return "audit" }

// maxAuditMessage is how much of a refusal is kept, in characters.
const maxAuditMessage = 4000

// Audit adds a line to the audit: of whom e names or, where that is nobody, of the
// one in whose name the transaction's context is. In nobody's name it does
// nothing. ID and At are assigned here.
func (tx *Tx) Audit(e flavor.AuditEntry) error {
	if e.By == (flavor.Actor{}) {
		var known bool
		if e.By, known = flavor.ActorOf(tx.ctx); !known {
			return nil
		}
	}
	if err := tx.ready(true); err != nil {
		return err
	}
	before, err := encodeFields(e.Before)
	if err != nil {
		return err
	}
	after, err := encodeFields(e.After)
	if err != nil {
		return err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return fmt.Errorf("while making the id of a line of the audit: %w", err)
	}
	err = tx.db.Create(&auditRow{
		ID: id.String(), At: micros(tx.s.now()), Provider: cut(e.By.Provider, 255), Caller: cut(e.By.ID, 255), Name: cut(e.By.Name, 255),
		Address: cut(e.By.Address, 64), RequestID: cut(e.By.RequestID, 64), Action: string(e.By.Action), Object: string(e.Object),
		Flavor: cut(e.Flavor, 255), Region: cut(e.Region, 64), Outcome: string(e.Outcome), Message: cut(e.Message, maxAuditMessage),
		Count: max(e.Count, 1), BeforeValue: before, AfterValue: after,
	}).Error
	if err == nil {
		flavor.Acted(tx.ctx)
	}
	return tx.wrap(err, "writing the audit")
}

// auditChange adds the line of a change that tx has made, if it made one.
func (tx *Tx) auditChange(object flavor.Object, flavorID, region string, before, after map[string]string) error {
	was, is := flavor.Differing(before, after)
	if was == nil && is == nil {
		return nil
	}
	return tx.Audit(flavor.AuditEntry{Object: object, Flavor: flavorID, Region: region, Outcome: flavor.Success, Before: was, After: is})
}

// audits says whether what tx does is to be told of.
func (tx *Tx) audits() bool {
	_, known := flavor.ActorOf(tx.ctx)
	return known
}

// auditEndOfFlavor adds the lines of a flavor that is about to go, and of all
// that goes with it.
func (tx *Tx) auditEndOfFlavor(f flavor.Flavor, nodes []flavor.Installation) error {
	product, err := tx.auditedProduct(f.ID)
	if err != nil {
		return err
	}
	if err := tx.auditEndOfNodes(nodes); err != nil {
		return err
	}
	if err := tx.auditChange(flavor.AuditedProduct, f.ID, "", product, nil); err != nil {
		return err
	}
	return tx.auditChange(flavor.AuditedFlavor, f.ID, "", f.Audited(), nil)
}

// auditEndOfNodes adds the lines of installations that are about to go.
func (tx *Tx) auditEndOfNodes(gone []flavor.Installation) error {
	for _, i := range gone {
		if err := tx.auditChange(flavor.AuditedNode, i.FlavorID, i.Region, i.Audited(), nil); err != nil {
			return err
		}
	}
	return nil
}

// auditedProduct is what is said of the flavor as a product, as the audit shows
// it; nil where that is nothing.
func (tx *Tx) auditedProduct(flavorID string) (map[string]string, error) {
	if !tx.audits() {
		return nil, nil
	}
	var found []productRow
	err := tx.rows().Where("flavor_id = ?", flavorID).Find(&found).Error
	if err != nil || len(found) == 0 {
		return nil, tx.wrap(err, "reading the product of flavor %s", flavorID)
	}
	return found[0].product().Audited(), nil
}

func encodeFields(fields map[string]string) (string, error) {
	if len(fields) == 0 {
		return "{}", nil
	}
	text, err := json.Marshal(fields)
	if err != nil {
		return "", fmt.Errorf("while encoding a line of the audit: %w", err)
	}
	return string(text), nil
}

// cut is s as the database takes it, at most limit characters of it.
func cut(s string, limit int) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	for i := range s {
		if limit == 0 {
			return s[:i]
		}
		limit--
	}
	return s
}

// AuditEntries are the lines of the audit that f lets through, the latest first.
func (tx *Tx) AuditEntries(f flavor.AuditFilter) ([]flavor.AuditEntry, error) {
	if err := tx.ready(false); err != nil {
		return nil, err
	}
	query := tx.db.Order("id DESC").Limit(f.Limit)
	for _, c := range []struct{ column, value string }{
		{"provider", f.Provider}, {"caller", f.Caller}, {"request_id", f.RequestID}, {"action", string(f.Action)},
		{"object", string(f.Object)}, {"flavor", f.Flavor}, {"region", f.Region}, {"outcome", string(f.Outcome)},
	} {
		if c.value != "" {
			query = query.Where(c.column+" = ?", c.value)
		}
	}
	if !f.Since.IsZero() {
		query = query.Where("at >= ?", micros(f.Since))
	}
	if !f.Until.IsZero() {
		query = query.Where("at < ?", micros(f.Until))
	}
	if f.Behind != "" {
		query = query.Where("id < ?", f.Behind)
	}
	var found []auditRow
	if err := query.Find(&found).Error; err != nil {
		return nil, tx.wrap(err, "reading the audit")
	}
	entries := make([]flavor.AuditEntry, len(found))
	for i, row := range found {
		e := flavor.AuditEntry{
			ID: row.ID, At: row.At.UTC(),
			By: flavor.Actor{
				Provider: row.Provider, ID: row.Caller, Name: row.Name, Address: row.Address, RequestID: row.RequestID,
				Action: flavor.Action(row.Action),
			},
			Object: flavor.Object(row.Object), Flavor: row.Flavor, Region: row.Region,
			Outcome: flavor.Outcome(row.Outcome), Message: row.Message, Count: row.Count,
		}
		for _, side := range []struct {
			text string
			into *map[string]string
		}{{row.BeforeValue, &e.Before}, {row.AfterValue, &e.After}} {
			if side.text == "{}" {
				continue
			}
			if err := json.Unmarshal([]byte(side.text), side.into); err != nil {
				return nil, fmt.Errorf("while decoding the line %s of the audit: %w", row.ID, err)
			}
		}
		entries[i] = e
	}
	return entries, nil
}

// DropAudit removes lines from before then, at most limit of them, and tells how
// many.
func (tx *Tx) DropAudit(then time.Time, limit int) (int, error) {
	if err := tx.ready(true); err != nil {
		return 0, err
	}
	var old []string
	if err := tx.db.Model(&auditRow{}).Where("at < ?", micros(then)).Order("at").Limit(limit).Pluck("id", &old).Error; err != nil {
		return 0, tx.wrap(err, "looking for old lines of the audit")
	}
	if len(old) == 0 {
		return 0, nil
	}
	return len(old), tx.wrap(tx.db.Where("id IN ?", old).Delete(&auditRow{}).Error, "dropping old lines of the audit")
}
