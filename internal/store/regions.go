package store

import (
	"cmp"
	"errors"
	"strings"
	"time"

	"gorm.io/gorm"

	"github.com/flavorsync/flavorsync/internal/flavor"
)

type regionRow struct {
	Name                      string `gorm:"primaryKey"`
	NameFolded                string
	KeystoneURL               string `gorm:"column:keystone_url"`
	NovaURL                   string `gorm:"column:nova_url"`
	AuthType                  string
	Username                  string
	Password                  []byte // the account's secret, encrypted
	Tenant                    string
	UserDomain                string
	ProjectDomain             string
	ApplicationCredentialID   string `gorm:"column:application_credential_id"`
	ApplicationCredentialName string
	IdentityProvider          string
	Protocol                  string
	CACertificate             string `gorm:"column:ca_certificate"`
	Trusted                   bool
	NovaURLTrusted            bool `gorm:"column:nova_url_trusted"`
	CACertificateTrusted      bool `gorm:"column:ca_certificate_trusted"`
	State                     string
	LastError                 string
	CheckedAt                 *time.Time // nil: never
}

func (regionRow) TableName() string { return "regions" }

// settings are the columns that UpdateRegion sets.
var settings = []string{
	"keystone_url", "nova_url", "auth_type", "username", "password", "tenant", "user_domain", "project_domain",
	"application_credential_id", "application_credential_name", "identity_provider", "protocol", "ca_certificate",
	"trusted", "nova_url_trusted", "ca_certificate_trusted",
}

func (tx *Tx) regionRow(r flavor.Region) (regionRow, error) {
	row := regionRow{
		Name: r.Name, NameFolded: strings.ToLower(r.Name),
		KeystoneURL: r.KeystoneURL, NovaURL: r.NovaURL,
		AuthType: string(cmp.Or(r.AuthType, flavor.AuthPassword)),
		Username: r.Username, Tenant: r.Tenant,
		UserDomain: r.UserDomain, ProjectDomain: r.ProjectDomain,
		ApplicationCredentialID: r.ApplicationCredentialID, ApplicationCredentialName: r.ApplicationCredentialName,
		IdentityProvider: r.IdentityProvider, Protocol: r.Protocol, CACertificate: r.CACertificate,
		Trusted: r.Trusted, NovaURLTrusted: r.NovaURLTrusted, CACertificateTrusted: r.CACertificateTrusted,
	}
	row.setStatus(r.Status)
	var err error
	row.Password, err = tx.encrypt(row, r.Password)
	return row, err
}

func (row *regionRow) setStatus(st flavor.RegionStatus) {
	row.State = string(st.State)
	if row.State == "" {
		row.State = string(flavor.RegionUnknown)
	}
	// MariaDB refuses what is not UTF-8, and this may quote a foreign answer.
	row.LastError = strings.ToValidUTF8(st.LastError, "\uFFFD")
	row.CheckedAt = nil
	if !st.CheckedAt.IsZero() {
		at := micros(st.CheckedAt)
		row.CheckedAt = &at
	}
}

// lookedAt makes the status as old as the last look, which writes it down only
// where it is another.
func (row *regionRow) lookedAt(at *time.Time) {
	if at != nil && row.CheckedAt != nil && at.After(*row.CheckedAt) {
		row.CheckedAt = at
	}
}

func (tx *Tx) region(row regionRow) (flavor.Region, error) {
	password, err := tx.decrypt(row)
	r := flavor.Region{
		Name: row.Name, KeystoneURL: row.KeystoneURL, NovaURL: row.NovaURL,
		AuthType: flavor.AuthType(row.AuthType),
		Username: row.Username, Password: password, Tenant: row.Tenant,
		UserDomain: row.UserDomain, ProjectDomain: row.ProjectDomain,
		ApplicationCredentialID: row.ApplicationCredentialID, ApplicationCredentialName: row.ApplicationCredentialName,
		IdentityProvider: row.IdentityProvider, Protocol: row.Protocol, CACertificate: row.CACertificate,
		Trusted: row.Trusted, NovaURLTrusted: row.NovaURLTrusted, CACertificateTrusted: row.CACertificateTrusted,
		Status: flavor.RegionStatus{State: flavor.RegionState(row.State), LastError: row.LastError},
	}
	if row.CheckedAt != nil {
		r.Status.CheckedAt = row.CheckedAt.UTC()
	}
	return r, err
}

func noRegion(name string) error {
	return flavor.NotFound("there is no region %s here: GET /v1/regions lists them", name)
}

// Regions lists every region, by name, its secret decrypted.
func (tx *Tx) Regions() ([]flavor.Region, error) {
	if err := tx.ready(false); err != nil {
		return nil, err
	}
	var found []regionRow
	if err := tx.rows().Order("name").Find(&found).Error; err != nil {
		return nil, tx.wrap(err, "listing regions")
	}
	var looks []lookRow
	if err := tx.db.Select("region", "looked_at").Find(&looks).Error; err != nil {
		return nil, tx.wrap(err, "reading when the regions were looked at")
	}
	looked := make(map[string]*time.Time, len(looks))
	for _, l := range looks {
		looked[l.Region] = l.LookedAt
	}
	regions := make([]flavor.Region, len(found))
	for i, row := range found {
		row.lookedAt(looked[row.Name])
		var err error
		if regions[i], err = tx.region(row); err != nil {
			return nil, err
		}
	}
	return regions, nil
}

// Region is the region of exactly that name; CodeNotFound where there is none.
func (tx *Tx) Region(name string) (flavor.Region, error) {
	row, err := tx.findRegion("name", name)
	if err != nil {
		return flavor.Region{}, err
	}
	if row == nil {
		return flavor.Region{}, noRegion(name)
	}
	l, err := tx.Look(name)
	if err != nil && flavor.CodeOf(err) != flavor.CodeNotFound {
		return flavor.Region{}, err
	}
	if !l.LookedAt.IsZero() {
		row.lookedAt(&l.LookedAt)
	}
	return tx.region(*row)
}

// findRegion is the row whose column has value, nil where there is none.
func (tx *Tx) findRegion(column, value string) (*regionRow, error) {
	if err := tx.ready(false); err != nil {
		return nil, err
	}
	var found []regionRow
	err := tx.rows().Where(column+" = ?", value).Limit(1).Find(&found).Error
	// utf8mb4_bin takes "a" and "a " for the same.
	if err != nil || len(found) == 0 || len(found[0].Name) != len(value) {
		return nil, tx.wrap(err, "reading region %s", value)
	}
	return &found[0], nil
}

// InsertRegion registers r; CodeConflict when its name is taken, or differs
// from another's in case only.
func (tx *Tx) InsertRegion(r flavor.Region) error {
	if err := tx.ready(true); err != nil {
		return err
	}
	row, err := tx.regionRow(r)
	if err != nil {
		return err
	}
	err = tx.db.Create(&row).Error
	if err == nil {
		return cmp.Or(
			tx.insertLook(r.Name),
			tx.Event(flavor.Event{Type: flavor.RegionRegistered, Region: r.Name}),
			tx.tellState(r.Name, flavor.RegionUnknown, r.Status),
			tx.auditChange(flavor.AuditedInfrastructure, "", r.Name, nil, r.Audited()))
	}
	if !errors.Is(err, gorm.ErrDuplicatedKey) {
		return tx.wrap(err, "registering region %s", r.Name)
	}
	other, err := tx.findRegion("name_folded", row.NameFolded)
	switch {
	case err != nil:
		return err
	case other != nil && other.Name != r.Name:
		return flavor.Conflict("the region %s differs from %s in case only: choose another name", r.Name, other.Name)
	}
	return flavor.Conflict("there is a region %s already: change it, or choose another name", r.Name)
}

// UpdateRegion stores everything of r but its status; CodeNotFound where it is
// gone.
func (tx *Tx) UpdateRegion(r flavor.Region) error {
	if err := tx.ready(true); err != nil {
		return err
	}
	row, err := tx.regionRow(r)
	if err != nil {
		return err
	}
	before, after := map[string]string(nil), r.Audited()
	if tx.audits() {
		old, err := tx.Region(r.Name)
		if err != nil {
			return err
		}
		before = old.Audited()
		if old.Password != r.Password {
			after["password"] += " (new)"
		}
	}
	set := tx.db.Model(&regionRow{}).Where("name = ?", r.Name).Select(settings).Updates(&row)
	if set.Error == nil && set.RowsAffected == 0 {
		return noRegion(r.Name)
	}
	if set.Error != nil {
		return tx.wrap(set.Error, "changing region %s", r.Name)
	}
	// What was found where, and as whom, it was before says nothing any more.
	if err := tx.Outdate(r.Name, 0); err != nil {
		return err
	}
	return tx.auditChange(flavor.AuditedInfrastructure, "", r.Name, before, after)
}

// SetRegionStatus notes the outcome of a look at a region. That the region is
// gone is no error.
func (tx *Tx) SetRegionStatus(name string, st flavor.RegionStatus) error {
	if err := tx.ready(true); err != nil {
		return err
	}
	var states []string
	if err := tx.rows().Model(&regionRow{}).Where("name = ?", name).Pluck("state", &states).Error; err != nil || len(states) == 0 {
		return tx.wrap(err, "reading the status of region %s", name)
	}
	var row regionRow
	row.setStatus(st)
	err := tx.db.Model(&regionRow{}).Where("name = ?", name).Select("state", "last_error", "checked_at").Updates(&row).Error
	if err != nil {
		return tx.wrap(err, "noting the status of region %s", name)
	}
	return tx.tellState(name, flavor.RegionState(states[0]), st)
}

// DeleteRegion removes a region, its installations and its changes;
// CodeNotFound where it is gone.
func (tx *Tx) DeleteRegion(name string) error {
	if err := tx.ready(true); err != nil {
		return err
	}
	if there, err := tx.lock(&regionRow{}, "name", name); err != nil || !there {
		return cmp.Or(err, noRegion(name))
	}
	nodes, err := tx.installations(tx.rows().Where("region = ?", name), "reading the nodes that go")
	if err != nil {
		return err
	}
	if err := tx.tellEndOfNodes(nodes, "id IN (SELECT flavor_id FROM installations WHERE region = ?)", name); err != nil {
		return err
	}
	if tx.audits() {
		old, err := tx.Region(name)
		if err != nil {
			return err
		}
		if err := tx.auditEndOfNodes(nodes); err != nil {
			return err
		}
		if err := tx.auditChange(flavor.AuditedInfrastructure, "", name, old.Audited(), nil); err != nil {
			return err
		}
	}
	gone := tx.db.Where("name = ?", name).Delete(&regionRow{})
	if gone.Error == nil && gone.RowsAffected == 0 {
		return noRegion(name)
	}
	tx.changed, tx.looked = true, true
	if gone.Error != nil {
		return tx.wrap(gone.Error, "removing region %s", name)
	}
	if _, err := tx.cancelNodes(waiting, "region = ?", name); err != nil {
		return err
	}
	return tx.Event(flavor.Event{Type: flavor.RegionForgotten, Region: name})
}
