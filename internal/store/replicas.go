package store

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/google/uuid"
	"gorm.io/gorm/clause"
)

// Replica is a process that serves from the database.
type Replica struct {
	Name string   // of its host and its number there
	Keys []string // the ids of those it can decrypt with
}

type replicaRow struct {
	ID       string `gorm:"primaryKey"`
	Name     string
	KeyIDs   string `gorm:"column:key_ids"`
	Deadline int64  // ms since 1970
}

func (replicaRow) TableName() string { return "keyset_replicas" }

// How often a serving process looks whether its keyset's file has changed, how
// often it says that it is there, and how long that is believed.
const (
	replicaLooks = time.Second
	replicaTells = 10 * time.Second
	replicaTTL   = 30 * time.Second
)

// Announced is this process among those that serve.
type Announced struct {
	s    *Store
	id   string
	name string
}

// Announce tells the database that this process serves, and with which keys: no
// key is promoted from then on that it does not have. A process without the key
// that encrypts is refused. Follow keeps it announced.
func (s *Store) Announce(ctx context.Context) (*Announced, error) {
	host, _ := os.Hostname() // it only helps to find it
	a := &Announced{s: s, id: uuid.NewString(), name: fmt.Sprintf("%.100s, process %d", host, os.Getpid())}
	if err := a.tell(ctx); err != nil {
		return nil, err
	}
	return a, nil
}

func (a *Announced) tell(ctx context.Context) error {
	now := milliseconds[a.s.driver]
	return a.s.Write(ctx, func(tx *Tx) error {
		bound, err := tx.boundKey()
		if err != nil {
			return err
		}
		keys, err := a.s.keyset.with(bound)
		if err != nil {
			return err
		}
		row := replicaRow{ID: a.id, Name: a.name, KeyIDs: strings.Join(keys.ids, " ")}
		if err := tx.db.Clauses(clause.OnConflict{UpdateAll: true}).Create(&row).Error; err != nil {
			return tx.wrap(err, "announcing this process")
		}
		err = tx.db.Exec(`UPDATE keyset_replicas SET deadline = `+now+` + ? WHERE id = ?`, replicaTTL.Milliseconds(), a.id).Error
		if err == nil {
			err = tx.db.Exec(`DELETE FROM keyset_replicas WHERE deadline < ` + now).Error
		}
		return tx.wrap(err, "announcing this process")
	})
}

// Follow keeps the process announced, and its keyset that of the file, until ctx
// ends. What fails is logged and tried again.
func (a *Announced) Follow(ctx context.Context) {
	look := time.NewTicker(replicaLooks)
	defer look.Stop()
	told, complaint := time.Now(), ""
	complain := func(err error) {
		if err != nil && err.Error() != complaint && ctx.Err() == nil {
			complaint = err.Error()
			a.s.log.WarnContext(ctx, "flavorsync keys cannot count on this process", "error", complaint)
		}
	}
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-look.C:
			changed, err := a.s.reloadKeyset(ctx)
			complain(err)
			if look.Reset(replicaLooks); err != nil {
				look.Reset(replicaTells) // a KMS that refuses us need not hear it each second
			}
			if changed {
				complaint = ""
				a.s.log.InfoContext(ctx, "the keyset has changed", "keys", a.s.keyset.state.Load().ids)
			}
			if !changed && now.Sub(told) < replicaTells {
				continue
			}
			if err := a.tell(ctx); err != nil {
				complain(err)
				continue
			}
			told = now
		}
	}
}

// reloadKeyset reads the keyset again where its file has changed.
func (s *Store) reloadKeyset(ctx context.Context) (changed bool, err error) {
	if s.keyset.unchanged() {
		return false, nil
	}
	var bound string
	err = s.Read(ctx, func(tx *Tx) error {
		bound, err = tx.meta(metaKey)
		return err
	})
	if err != nil {
		return false, err
	}
	return s.keyset.reload(bound)
}

// Withdraw tells the database that the process does not serve any more.
func (a *Announced) Withdraw(ctx context.Context) error {
	return a.s.Write(ctx, func(tx *Tx) error {
		return tx.wrap(tx.db.Delete(&replicaRow{ID: a.id}).Error, "telling that this process does not serve any more")
	})
}

// replicas are the processes that serve now, by name.
func (tx *Tx) replicas() ([]Replica, error) {
	var found []replicaRow
	err := tx.rows().Where("deadline >= " + milliseconds[tx.s.driver]).Order("name, id").Find(&found).Error
	if err != nil {
		return nil, tx.wrap(err, "listing the processes that serve")
	}
	all := make([]Replica, len(found))
	for i, row := range found {
		all[i] = Replica{Name: row.Name, Keys: strings.Fields(row.KeyIDs)}
	}
	return all, nil
}
