package store

import (
	"errors"
	"sync"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/flavorsync/flavorsync/internal/flavor"
)

type eventRow struct {
	ID      int64 `gorm:"primaryKey;autoIncrement:false"`
	At      time.Time
	Type    string
	Flavor  string
	Name    string
	Region  string
	Created bool
	Message string
}

func (eventRow) TableName() string { return "events" }

const (
	// maxEventMessage is how much of a message is kept, in characters.
	maxEventMessage = 4000
	// eventsAtOnce is how many one INSERT writes.
	eventsAtOnce = 200
)

// bell wakes all who wait for it.
type bell struct {
	mu   sync.Mutex
	rung chan struct{} // nil: nobody waits
}

func (b *bell) next() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.rung == nil {
		b.rung = make(chan struct{})
	}
	return b.rung
}

func (b *bell) ring() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.rung != nil {
		close(b.rung)
		b.rung = nil
	}
}

// NextEvents is closed when this process has committed events after the call. Who
// takes it before they read misses none of this process's; those of others are
// found by asking again.
func (s *Store) NextEvents() <-chan struct{} { return s.told.next() }

// Event tells of e, if the transaction commits. ID and At are assigned here; what
// fits nowhere is cut.
func (tx *Tx) Event(e flavor.Event) error {
	if err := tx.ready(true); err != nil {
		return err
	}
	tx.events = append(tx.events, eventRow{
		At: micros(tx.s.now()), Type: string(e.Type), Flavor: cut(e.Flavor, 36), Name: cut(e.Name, 255), Region: cut(e.Region, 64),
		Created: e.Created, Message: cut(e.Message, maxEventMessage),
	})
	return nil
}

// writeEvents are the last statements of every transaction that tells of
// something. Whoever has moved the counter holds its row until their commit, on
// Galera by being the one of two that may commit: so events are numbered in the
// order of the commits, without a gap, and who has seen one has seen all before it.
func (tx *Tx) writeEvents() error {
	set := tx.db.Exec("UPDATE event_counter SET last = last + ? WHERE id = 1", len(tx.events))
	if set.Error == nil && set.RowsAffected != 1 {
		return errors.New("the database has no counter of events: run flavorsync migrate up")
	}
	if set.Error != nil {
		return tx.wrap(set.Error, "numbering the events")
	}
	last, err := tx.LastEvent()
	if err != nil {
		return err
	}
	for i := range tx.events {
		tx.events[i].ID = last - int64(len(tx.events)-1-i)
	}
	return tx.wrap(tx.db.CreateInBatches(tx.events, eventsAtOnce).Error, "writing the events")
}

// LastEvent is the id of the last event that was written, whether it is kept still
// or not.
func (tx *Tx) LastEvent() (last int64, err error) {
	if err := tx.ready(false); err != nil {
		return 0, err
	}
	err = tx.db.Raw("SELECT last FROM event_counter WHERE id = 1").Scan(&last).Error
	return last, tx.wrap(err, "reading the id of the last event")
}

// Events are those behind the one with the id after, the oldest first, at most
// limit of them. lost is how many there were behind it that are not kept any more.
func (tx *Tx) Events(after int64, limit int) (events []flavor.Event, lost int64, err error) {
	if err := tx.ready(false); err != nil {
		return nil, 0, err
	}
	var found []eventRow
	if err := tx.db.Where("id > ?", after).Order("id").Limit(limit).Find(&found).Error; err != nil {
		return nil, 0, tx.wrap(err, "reading the events")
	}
	// The ids have no gaps but that of the old ones, which are dropped.
	next := after + 1
	if len(found) > 0 {
		lost = found[0].ID - next
	} else {
		last, err := tx.LastEvent()
		if err != nil {
			return nil, 0, err
		}
		lost = max(0, last-after)
	}
	events = make([]flavor.Event, len(found))
	for i, row := range found {
		events[i] = flavor.Event{
			ID: row.ID, At: row.At.UTC(), Type: flavor.EventType(row.Type), Flavor: row.Flavor, Name: row.Name, Region: row.Region,
			Created: row.Created, Message: row.Message,
		}
	}
	return events, lost, nil
}

// DropEvents removes the oldest events up to the first that is not from before
// then, at most limit of them, and tells how many.
func (tx *Tx) DropEvents(then time.Time, limit int) (int, error) {
	if err := tx.ready(true); err != nil {
		return 0, err
	}
	var oldest []eventRow
	if err := tx.db.Select("id", "at").Order("id").Limit(limit).Find(&oldest).Error; err != nil {
		return 0, tx.wrap(err, "looking for old events")
	}
	gone := 0
	for gone < len(oldest) && oldest[gone].At.Before(then) {
		gone++
	}
	if gone == 0 {
		return 0, nil
	}
	return gone, tx.wrap(tx.db.Where("id <= ?", oldest[gone-1].ID).Delete(&eventRow{}).Error, "dropping old events")
}

// tellFlavor tells what has become of a flavor of the catalogue; before is nil
// where it is new.
func (tx *Tx) tellFlavor(before *flavor.Flavor, f flavor.Flavor) error {
	var types []flavor.EventType
	var was flavor.Flavor
	if before == nil {
		types = append(types, flavor.FlavorPublished)
	} else {
		was = *before
	}
	if f.Promoted && !was.Promoted {
		types = append(types, flavor.FlavorPromoted)
	}
	if f.Retired && !was.Retired {
		types = append(types, flavor.FlavorRetired)
	}
	if before != nil && (len(was.Differences(f.Spec)) > 0 || was.Promoted && !f.Promoted || was.Retired && !f.Retired) {
		types = append(types, flavor.FlavorChanged)
	}
	for _, t := range types {
		if err := tx.Event(flavor.Event{Type: t, Flavor: f.ID, Name: f.Name}); err != nil {
			return err
		}
	}
	return nil
}

// tellEndOfNodes tells of installations that go. Their flavors are not locked for
// it: who has locked an installation may not wait for its flavor.
func (tx *Tx) tellEndOfNodes(gone []flavor.Installation, of string, args ...any) error {
	if len(gone) == 0 {
		return nil
	}
	var named []struct{ ID, Name string }
	if err := tx.db.Model(&flavorRow{}).Where(of, args...).Find(&named).Error; err != nil {
		return tx.wrap(err, "reading the names of the flavors that go")
	}
	names := make(map[string]string, len(named))
	for _, f := range named {
		names[f.ID] = f.Name
	}
	for _, i := range gone {
		if err := tx.Event(flavor.Event{Type: flavor.NodeRemoved, Flavor: i.FlavorID, Name: names[i.FlavorID], Region: i.Region}); err != nil {
			return err
		}
	}
	return nil
}

// tellState tells whether a region came up or went down. One of which nothing is
// known is neither.
func (tx *Tx) tellState(region string, before flavor.RegionState, st flavor.RegionStatus) error {
	is := upOrDown(st.State)
	if is == "" || is == upOrDown(before) {
		return nil
	}
	return tx.Event(flavor.Event{Type: is, Region: region, Message: st.LastError})
}

func upOrDown(s flavor.RegionState) flavor.EventType {
	switch s {
	case flavor.RegionUp:
		return flavor.RegionCameUp
	case flavor.RegionUnreachable, flavor.RegionRefused:
		return flavor.RegionWentDown
	}
	return ""
}

type webhookRow struct {
	Name        string `gorm:"primaryKey"`
	Position    int64
	Attempts    int
	NextAttempt int64 // ms since 1970
	LastError   string
}

func (webhookRow) TableName() string { return "webhooks" }

// Webhook is how far a webhook has been told the events, and how its next call
// stands.
type Webhook struct {
	Name        string
	Position    int64     // the id of the last event that it has taken, or that is not for it
	Attempts    int       // that have failed since it took one
	NextAttempt time.Time // by the clock of who tried; whole milliseconds
	LastError   string    // of the last attempt, "" where it went well
}

// Webhook is the one of that name. One that is not known yet begins at the last
// event; found is false then, and PutWebhook makes it known.
func (tx *Tx) Webhook(name string) (w Webhook, found bool, err error) {
	if err := tx.ready(false); err != nil {
		return Webhook{}, false, err
	}
	var row webhookRow
	err = tx.rows().Where("name = ?", name).Take(&row).Error
	if errors.Is(err, gorm.ErrRecordNotFound) {
		last, err := tx.LastEvent()
		return Webhook{Name: name, Position: last}, false, err
	}
	return Webhook{
		Name: row.Name, Position: row.Position, Attempts: row.Attempts,
		NextAttempt: time.UnixMilli(row.NextAttempt).UTC(), LastError: row.LastError,
	}, err == nil, tx.wrap(err, "reading the webhook %s", name)
}

// PutWebhook stores w in place of what was known of it.
func (tx *Tx) PutWebhook(w Webhook) error {
	if err := tx.ready(true); err != nil {
		return err
	}
	row := webhookRow{w.Name, w.Position, w.Attempts, w.NextAttempt.UnixMilli(), cut(w.LastError, maxEventMessage)}
	return tx.wrap(tx.db.Clauses(clause.OnConflict{UpdateAll: true}).Create(&row).Error, "noting how the webhook %s stands", w.Name)
}
