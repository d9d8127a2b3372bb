package store

import (
	"slices"

	"gorm.io/gorm"

	"github.com/flavorsync/flavorsync/internal/flavor"
)

// Tally is what stands in the database of how the federation is, beside its
// regions.
type Tally struct {
	Looks      map[string]flavor.Look // by region, without flavors
	Operations flavor.OperationCounts
	Nodes      map[string]flavor.NodeCounts // by region
	Drift      map[string][]flavor.DriftCount
	Failed     []flavor.FailedNode // the latest first, flavor.MaxFailed at most
}

// Tally counts what is of these regions; nil is all of them. It locks nothing.
func (tx *Tx) Tally(regions []string) (t Tally, err error) {
	if err := tx.ready(false); err != nil {
		return t, err
	}
	t.Looks, t.Nodes, t.Drift = map[string]flavor.Look{}, map[string]flavor.NodeCounts{}, map[string][]flavor.DriftCount{}
	// of narrows a query to the regions that its column names.
	of := func(query *gorm.DB, column string) *gorm.DB {
		if regions == nil {
			return query
		}
		return query.Where(column+" IN ?", regions)
	}
	var looks []lookRow
	if err := of(tx.db.Model(&lookRow{}), "region").Find(&looks).Error; err != nil {
		return t, tx.wrap(err, "reading the looks")
	}
	for _, row := range looks {
		t.Looks[row.Region] = row.look()
	}

	type counted struct {
		Region, State, Kind string
		N                   int
	}
	var operations []counted
	query := tx.db.Model(&operationRow{}).Select("operations.state AS state, COUNT(*) AS n").Group("operations.state")
	if regions != nil {
		query = query.Where("EXISTS (SELECT 1 FROM operation_nodes WHERE operation_id = operations.id AND region IN ?)", regions)
	}
	if err := query.Scan(&operations).Error; err != nil {
		return t, tx.wrap(err, "counting the operations")
	}
	for _, c := range operations {
		switch flavor.OperationState(c.State) {
		case flavor.Waiting, flavor.Running:
			t.Operations.Running += c.N
		case flavor.Succeeded:
			t.Operations.Succeeded = c.N
		case flavor.Failed:
			t.Operations.Failed = c.N
		case flavor.Cancelled:
			t.Operations.Cancelled = c.N
		}
	}

	var nodes []counted
	if err := of(tx.db.Model(&nodeRow{}), "region").Select("region, state, COUNT(*) AS n").Group("region, state").Scan(&nodes).Error; err != nil {
		return t, tx.wrap(err, "counting the nodes of operations")
	}
	for _, c := range nodes {
		n := t.Nodes[c.Region]
		switch flavor.OperationState(c.State) {
		case flavor.Waiting:
			n.Waiting = c.N
		case flavor.Running:
			n.Running = c.N
		case flavor.Succeeded:
			n.Succeeded = c.N
		case flavor.Failed:
			n.Failed = c.N
		case flavor.Cancelled:
			n.Cancelled = c.N
		}
		t.Nodes[c.Region] = n
	}

	var drift []counted
	if err := of(tx.db.Model(&driftRow{}), "region").Select("region, kind, COUNT(*) AS n").Group("region, kind").Order("kind").Scan(&drift).Error; err != nil {
		return t, tx.wrap(err, "counting the drift")
	}
	for _, c := range drift {
		t.Drift[c.Region] = append(t.Drift[c.Region], flavor.DriftCount{Kind: flavor.DriftKind(c.Kind), Count: c.N})
	}
	t.Failed, err = tx.failedNodes(of(tx.db, "region"))
	return t, err
}

// failedNodes are the nodes of query that have failed.
func (tx *Tx) failedNodes(query *gorm.DB) ([]flavor.FailedNode, error) {
	var rows []nodeRow
	err := query.Where("state = ?", string(flavor.Failed)).Order("updated_at DESC, operation_id, region").Limit(flavor.MaxFailed).Find(&rows).Error
	if err != nil || len(rows) == 0 {
		return nil, tx.wrap(err, "reading the failed nodes of operations")
	}
	var ids []string
	for _, row := range rows {
		if !slices.Contains(ids, row.OperationID) {
			ids = append(ids, row.OperationID)
		}
	}
	var operations []operationRow
	if err := tx.db.Where("id IN ?", ids).Find(&operations).Error; err != nil {
		return nil, tx.wrap(err, "reading the operations that failed")
	}
	failed := make([]flavor.FailedNode, len(rows))
	for i, row := range rows {
		failed[i] = flavor.FailedNode{
			Operation: row.OperationID, Node: row.Region, Attempts: row.Attempts, LastError: row.LastError, UpdatedAt: row.UpdatedAt.UTC(),
		}
		for _, o := range operations {
			if o.ID == row.OperationID {
				failed[i].Flavor, failed[i].Name = o.FlavorID, o.Name
			}
		}
	}
	return failed, nil
}
