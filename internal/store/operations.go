package store

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/flavorsync/flavorsync/internal/flavor"
)

type operationRow struct {
	ID        string `gorm:"primaryKey"`
	Kind      string
	Origin    string
	FlavorID  string
	Name      string
	Provider  string
	Caller    string
	State     string
	Turn      int64
	CreatedAt time.Time
	UpdatedAt time.Time `gorm:"autoUpdateTime:false"`
}

func (operationRow) TableName() string { return "operations" }

func (row operationRow) operation() flavor.Operation {
	return flavor.Operation{
		ID: row.ID, Kind: flavor.OperationKind(row.Kind), Origin: flavor.Origin(row.Origin),
		FlavorID: row.FlavorID, Name: row.Name, Provider: row.Provider, Caller: row.Caller,
		State: flavor.OperationState(row.State), Turn: row.Turn,
		CreatedAt: row.CreatedAt.UTC(), UpdatedAt: row.UpdatedAt.UTC(),
	}
}

type nodeRow struct {
	OperationID string `gorm:"primaryKey"`
	Region      string `gorm:"primaryKey"`
	State       string
	Attempts    int
	Due         int64 // ms since 1970
	Input       string
	LastError   string
	UpdatedAt   time.Time `gorm:"autoUpdateTime:false"`
}

func (nodeRow) TableName() string { return "operation_nodes" }

func (row nodeRow) node() flavor.OperationNode {
	return flavor.OperationNode{
		Region: row.Region, State: flavor.OperationState(row.State), Attempts: row.Attempts,
		LastError: row.LastError, UpdatedAt: row.UpdatedAt.UTC(), Input: row.Input,
	}
}

// open are the states of a node of which more is to come, waiting the one in which
// nobody is at it.
var (
	open    = []string{string(flavor.Waiting), string(flavor.Running)}
	waiting = open[:1]
)

// installs are the kinds of operation that bring a flavor into a region.
var installs = []string{string(flavor.Install), string(flavor.Repair)}

// InsertOperation stores o, under a new ID where it has none. Its nodes that run
// are its caller's for ttl; those that wait are due at once.
func (tx *Tx) InsertOperation(o flavor.Operation, ttl time.Duration) (flavor.Operation, error) {
	if err := tx.ready(true); err != nil {
		return o, err
	}
	if o.ID == "" {
		id, err := uuid.NewV7()
		if err != nil {
			return o, err
		}
		o.ID = id.String()
	}
	now := micros(tx.s.now())
	o.State, o.CreatedAt, o.UpdatedAt = o.Outcome(), now, now
	row := operationRow{
		ID: o.ID, Kind: string(o.Kind), Origin: string(o.Origin), FlavorID: o.FlavorID, Name: o.Name,
		Provider: cut(o.Provider, 255), Caller: cut(o.Caller, 255), State: string(o.State), CreatedAt: now, UpdatedAt: now,
	}
	if err := tx.db.Create(&row).Error; err != nil {
		return o, tx.wrap(err, "storing an operation on flavor %s", o.FlavorID)
	}
	o.Nodes = slices.Clone(o.Nodes)
	for i := range o.Nodes {
		if err := tx.putNode(o.ID, &o.Nodes[i], ttl); err != nil {
			return o, err
		}
	}
	return o, nil
}

// putNode stores n, or another state of it.
func (tx *Tx) putNode(operation string, n *flavor.OperationNode, ttl time.Duration) error {
	n.UpdatedAt = micros(tx.s.now())
	row := nodeRow{
		OperationID: operation, Region: n.Region, State: string(n.State), Attempts: n.Attempts, Input: n.Input,
		LastError: strings.ToValidUTF8(n.LastError, "\uFFFD"), UpdatedAt: n.UpdatedAt,
	}
	if err := tx.db.Clauses(clause.OnConflict{UpdateAll: true}).Create(&row).Error; err != nil {
		return tx.wrap(err, "storing what is wanted of %s", n.Region)
	}
	if n.State != flavor.Running {
		return nil // due since 1970
	}
	err := tx.db.Exec("UPDATE operation_nodes SET due = "+milliseconds[tx.s.driver]+" + ? WHERE operation_id = ? AND region = ?",
		ttl.Milliseconds(), operation, n.Region).Error
	return tx.wrap(err, "taking what is wanted of %s", n.Region)
}

// Want makes the policy's own operation of that origin on a flavor, if there is
// none yet, and these nodes of it wait. Those that are open already stay as they
// are.
func (tx *Tx) Want(o flavor.Operation, nodes []flavor.OperationNode) error {
	if err := tx.ready(true); err != nil {
		return err
	}
	// Two processes may want the same: the one that comes second waits here.
	if there, err := tx.lock(&flavorRow{}, "id", o.FlavorID); err != nil || !there {
		return err
	}
	find := func() ([]flavor.Operation, error) {
		return tx.operations(tx.rows().Where("flavor_id = ? AND origin = ? AND kind = ?", o.FlavorID, string(o.Origin), string(o.Kind)))
	}
	found, err := find()
	if err == nil && len(found) == 0 {
		// One at another node of Galera knows nothing of the lock. But of two who change
		// one row before they look, one begins again, and finds what the other has made.
		tx.changed = true
		if _, err = tx.countUp(); err == nil {
			found, err = find()
		}
	}
	if err != nil {
		return err
	}
	if len(found) == 0 {
		o.Nodes = nodes
		_, err := tx.InsertOperation(o, 0)
		return err
	}
	for _, n := range nodes {
		i := slices.IndexFunc(found[0].Nodes, func(known flavor.OperationNode) bool { return known.Region == n.Region })
		if i >= 0 && found[0].Nodes[i].State.Open() {
			continue
		}
		if i >= 0 {
			n.Attempts = found[0].Nodes[i].Attempts // it counts who may write what came of it
		}
		if err := tx.putNode(found[0].ID, &n, 0); err != nil {
			return err
		}
	}
	return tx.turn(found[0].ID)
}

// turn counts up an operation whose nodes have changed, and sets its state.
func (tx *Tx) turn(id string) error {
	var states []string
	if err := tx.db.Model(&nodeRow{}).Where("operation_id = ?", id).Distinct().Pluck("state", &states).Error; err != nil {
		return tx.wrap(err, "reading the nodes of the operation %s", id)
	}
	var o flavor.Operation
	for _, state := range states {
		o.Nodes = append(o.Nodes, flavor.OperationNode{State: flavor.OperationState(state)})
	}
	err := tx.db.Model(&operationRow{}).Where("id = ?", id).
		Updates(map[string]any{"turn": gorm.Expr("turn + 1"), "state": string(o.Outcome()), "updated_at": micros(tx.s.now())}).Error
	return tx.wrap(err, "noting the state of the operation %s", id)
}

func noOperation(id string) error {
	return flavor.NotFound("there is no operation %q: finished ones are kept for a while only", id)
}

// Operation is the operation with its nodes; CodeNotFound where there is none.
func (tx *Tx) Operation(id string) (flavor.Operation, error) {
	found, err := tx.operations(tx.rows().Where("id = ?", id))
	if err == nil && len(found) == 0 {
		err = noOperation(id)
	}
	if err != nil {
		return flavor.Operation{}, err
	}
	return found[0], nil
}

// Operations lists operations with their nodes, the newest first.
func (tx *Tx) Operations(f flavor.OperationFilter) ([]flavor.Operation, error) {
	query := tx.rows().Order("id DESC")
	if f.State != "" {
		query = query.Where("state = ?", string(f.State))
	}
	if f.Before != "" {
		query = query.Where("id < ?", f.Before)
	}
	if f.Limit > 0 {
		query = query.Limit(f.Limit)
	}
	return tx.operations(query)
}

// PolicyOperations are those that nobody asked for.
func (tx *Tx) PolicyOperations() ([]flavor.Operation, error) {
	return tx.operations(tx.rows().Where("origin <> ?", string(flavor.Asked)).Order("id"))
}

// Begun is how many installs of the flavor in region were begun and have not
// succeeded: each may have left a part of it there.
func (tx *Tx) Begun(flavorID, region string) (begun int, err error) {
	err = tx.db.Raw("SELECT COUNT(*) FROM operation_nodes n JOIN operations o ON o.id = n.operation_id "+
		"WHERE n.region = ? AND n.state <> ? AND n.attempts > 0 AND o.flavor_id = ? AND o.kind IN ?",
		region, string(flavor.Succeeded), flavorID, installs).Scan(&begun).Error
	return begun, tx.wrap(err, "reading what was begun in %s", region)
}

// Pending says whether an operation of that kind on the flavor is open in region.
func (tx *Tx) Pending(kind flavor.OperationKind, flavorID, region string) (bool, error) {
	if err := tx.ready(false); err != nil {
		return false, err
	}
	var n int
	err := tx.db.Raw("SELECT COUNT(*) FROM operation_nodes n JOIN operations o ON o.id = n.operation_id "+
		"WHERE n.region = ? AND n.state IN ? AND o.flavor_id = ? AND o.kind = ?", region, open, flavorID, string(kind)).Scan(&n).Error
	return n > 0, tx.wrap(err, "reading what is pending in %s", region)
}

// Unlisting are the flavors that are being removed from everywhere, by id.
func (tx *Tx) Unlisting() (ids []string, err error) {
	err = tx.db.Model(&operationRow{}).Where("kind = ? AND state = ?", string(flavor.Unlist), string(flavor.Running)).Pluck("flavor_id", &ids).Error
	return ids, tx.wrap(err, "reading which flavors are being removed")
}

func (tx *Tx) operations(query *gorm.DB) ([]flavor.Operation, error) {
	if err := tx.ready(false); err != nil {
		return nil, err
	}
	var rows []operationRow
	if err := query.Find(&rows).Error; err != nil {
		return nil, tx.wrap(err, "reading operations")
	}
	all := make([]flavor.Operation, len(rows))
	at := make(map[string]int, len(rows))
	ids := make([]string, len(rows))
	for i, row := range rows {
		all[i] = row.operation()
		at[row.ID], ids[i] = i, row.ID
	}
	for some := range slices.Chunk(ids, blobs) {
		var nodes []nodeRow
		if err := tx.rows().Where("operation_id IN ?", some).Find(&nodes).Error; err != nil {
			return nil, tx.wrap(err, "reading the nodes of operations")
		}
		for _, row := range nodes {
			o := &all[at[row.OperationID]]
			o.Nodes = append(o.Nodes, row.node())
		}
	}
	for i := range all {
		slices.SortFunc(all[i].Nodes, func(a, b flavor.OperationNode) int { return cmp.Compare(a.Region, b.Region) })
	}
	return all, nil
}

// Due is a node of an operation that somebody is to see to now.
type Due struct {
	Operation flavor.Operation // without its nodes
	Node      flavor.OperationNode
}

// DueNodes are the nodes whose time has come, limit at most, the longest due
// first; none in the regions of except.
func (s *Store) DueNodes(ctx context.Context, limit int, except []string) (due []Due, err error) {
	err = s.Read(ctx, func(tx *Tx) error {
		due = nil
		var rows []nodeRow
		query := tx.db.Where("state IN ? AND due <= "+milliseconds[s.driver], open)
		if len(except) > 0 {
			query = query.Where("region NOT IN ?", except)
		}
		if err := query.Order("due, operation_id, region").Limit(limit).Find(&rows).Error; err != nil {
			return tx.wrap(err, "finding what is due")
		}
		ids := make([]string, len(rows))
		for i, row := range rows {
			ids[i] = row.OperationID
		}
		var of []operationRow
		if err := tx.db.Where("id IN ?", slices.Compact(slices.Sorted(slices.Values(ids)))).Find(&of).Error; err != nil {
			return tx.wrap(err, "reading the operations that are due")
		}
		byID := make(map[string]flavor.Operation, len(of))
		for _, row := range of {
			byID[row.ID] = row.operation()
		}
		for _, row := range rows {
			due = append(due, Due{byID[row.OperationID], row.node()})
		}
		return nil
	})
	return due, err
}

// TakeNode takes d for ttl: false where another was faster. d's Attempts is then
// the number by which EndNode knows its taker.
func (s *Store) TakeNode(ctx context.Context, d *Due, ttl time.Duration) (taken bool, err error) {
	err = s.Write(ctx, func(tx *Tx) error {
		now := milliseconds[s.driver]
		set := tx.db.Exec("UPDATE operation_nodes SET state = ?, attempts = attempts + 1, due = "+now+" + ?, updated_at = ? "+
			"WHERE operation_id = ? AND region = ? AND attempts = ? AND state IN ? AND due <= "+now,
			string(flavor.Running), ttl.Milliseconds(), micros(s.now()), d.Operation.ID, d.Node.Region, d.Node.Attempts, open)
		taken = set.RowsAffected == 1
		return tx.wrap(set.Error, "taking what is wanted of %s", d.Node.Region)
	})
	if err != nil || !taken {
		return false, err
	}
	d.Node.Attempts++
	d.Node.State = flavor.Running
	return true, nil
}

// EndNode writes down what came of an attempt, n, at a node of the operation: in
// is when it is due again where it waits. It is false, and nothing is written,
// where it was cancelled, or another has taken the node: n.Attempts is not the last.
func (tx *Tx) EndNode(operation string, n flavor.OperationNode, in time.Duration) (mine bool, err error) {
	if err := tx.ready(true); err != nil {
		return false, err
	}
	// All who end nodes of one operation wait for its row first.
	if _, err := tx.lock(&operationRow{}, "id", operation); err != nil {
		return false, err
	}
	set := tx.db.Exec("UPDATE operation_nodes SET state = ?, last_error = ?, input = ?, updated_at = ?, due = "+milliseconds[tx.s.driver]+" + ? "+
		"WHERE operation_id = ? AND region = ? AND attempts = ? AND state = ?",
		string(n.State), strings.ToValidUTF8(n.LastError, "\uFFFD"), n.Input, micros(tx.s.now()), in.Milliseconds(),
		operation, n.Region, n.Attempts, string(flavor.Running))
	if set.Error != nil || set.RowsAffected == 0 {
		return false, tx.wrap(set.Error, "noting what came of it in %s", n.Region)
	}
	return true, tx.turn(operation)
}

// ReleaseNodes makes all that waits for region due at once, and says how much.
func (tx *Tx) ReleaseNodes(region string) (int64, error) {
	if err := tx.ready(true); err != nil {
		return 0, err
	}
	now := milliseconds[tx.s.driver]
	set := tx.db.Exec("UPDATE operation_nodes SET due = "+now+" WHERE region = ? AND state = ? AND due > "+now, region, string(flavor.Waiting))
	return set.RowsAffected, tx.wrap(set.Error, "releasing what waits for %s", region)
}

// ReleaseAll makes all that is open due at once: for the start of the only
// process, which nobody else can be at.
func (tx *Tx) ReleaseAll() error {
	if err := tx.ready(true); err != nil {
		return err
	}
	err := tx.db.Exec("UPDATE operation_nodes SET due = 0 WHERE state IN ?", open).Error
	return tx.wrap(err, "releasing what is open")
}

// CancelOperation cancels those nodes of an operation that wait, in these regions;
// the audit tells of each.
func (tx *Tx) CancelOperation(id string, regions []string) error {
	cancelled, err := tx.cancelNodes(waiting, "operation_id = ? AND region IN ?", id, regions)
	if err != nil || len(cancelled) == 0 {
		return err
	}
	o, err := tx.Operation(id)
	if err != nil {
		return err
	}
	for _, row := range cancelled {
		err = tx.Audit(flavor.AuditEntry{
			Object: flavor.AuditedOperation, Flavor: o.FlavorID, Region: row.Region, Outcome: flavor.Success,
			Before: map[string]string{"state": string(flavor.Waiting)}, After: map[string]string{"state": string(flavor.Cancelled)},
		})
		if err != nil {
			return err
		}
	}
	return tx.undo(cancelled)
}

// CancelInstalls cancels what is to be installed of a flavor in region, also where
// somebody is at it: his node is Cancelled then.
func (tx *Tx) CancelInstalls(flavorID, region string) error {
	cancelled, err := tx.cancelNodes(open, "region = ? AND operation_id IN (SELECT id FROM operations WHERE flavor_id = ? AND kind IN ?)",
		region, flavorID, installs)
	if err != nil {
		return err
	}
	return tx.undo(cancelled)
}

// undo has gone what the earlier attempts at these nodes of installs, which nobody
// makes any more, may have left. Whoever is at one of them sees to his own.
func (tx *Tx) undo(cancelled []nodeRow) error {
	for _, row := range cancelled {
		begun := row.Attempts
		if row.State == string(flavor.Running) {
			begun--
		}
		if begun == 0 {
			continue
		}
		o, err := tx.Operation(row.OperationID)
		if err != nil {
			return err
		}
		if o.Kind != flavor.Install {
			continue
		}
		if err := tx.Undo(o, row.Region, ""); err != nil {
			return err
		}
	}
	return nil
}

// Undo has gone what an attempt at an install, o, has left in region; input tells
// what that may be, as far as it is not a part of the flavor as it is now.
func (tx *Tx) Undo(o flavor.Operation, region, input string) error {
	o.ID, o.Kind, o.Origin = "", flavor.Undo, flavor.Asked
	o.Nodes = []flavor.OperationNode{{Region: region, State: flavor.Waiting, Input: input}}
	_, err := tx.InsertOperation(o, 0)
	return err
}

// Node is what is wanted of region by an operation; CodeNotFound where that is
// nothing.
func (tx *Tx) Node(operation, region string) (flavor.OperationNode, error) {
	if err := tx.ready(false); err != nil {
		return flavor.OperationNode{}, err
	}
	var row nodeRow
	found := tx.db.Where("operation_id = ? AND region = ?", operation, region).Limit(1).Find(&row)
	if found.Error == nil && found.RowsAffected == 0 {
		return flavor.OperationNode{}, noOperation(operation)
	}
	return row.node(), tx.wrap(found.Error, "reading what is wanted of %s", region)
}

// cancelNodes cancels the nodes in these states where the condition says, and tells
// which, as they were.
func (tx *Tx) cancelNodes(states []string, where string, args ...any) (cancelled []nodeRow, err error) {
	if err := tx.ready(true); err != nil {
		return nil, err
	}
	var found []nodeRow
	if err := tx.rows().Where("state IN ?", states).Where(where, args...).Find(&found).Error; err != nil {
		return nil, tx.wrap(err, "finding what is to be cancelled")
	}
	for _, row := range found {
		if _, err := tx.lock(&operationRow{}, "id", row.OperationID); err != nil { // as EndNode does
			return nil, err
		}
		set := tx.db.Model(&nodeRow{}).Where("operation_id = ? AND region = ? AND state IN ?", row.OperationID, row.Region, states).
			Updates(map[string]any{"state": string(flavor.Cancelled), "updated_at": micros(tx.s.now())})
		if set.Error != nil {
			return nil, tx.wrap(set.Error, "cancelling what is wanted of %s", row.Region)
		}
		if set.RowsAffected == 0 {
			continue // begun, or ended, since
		}
		if err := tx.turn(row.OperationID); err != nil {
			return nil, err
		}
		cancelled = append(cancelled, row)
	}
	return cancelled, nil
}

// DropOperations forgets operations that somebody asked for and that ended before
// then, limit at most, and says how many those were.
func (tx *Tx) DropOperations(then time.Time, limit int) (int, error) {
	if err := tx.ready(true); err != nil {
		return 0, err
	}
	var ids []string
	err := tx.db.Model(&operationRow{}).
		Where("state <> ? AND origin = ? AND updated_at < ?", string(flavor.Running), string(flavor.Asked), micros(then)).
		Limit(limit).Pluck("id", &ids).Error
	if err != nil || len(ids) == 0 {
		return 0, tx.wrap(err, "finding old operations")
	}
	err = tx.db.Where("id IN ?", ids).Delete(&operationRow{}).Error
	return len(ids), tx.wrap(err, "dropping old operations")
}
