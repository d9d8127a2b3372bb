package httpapi

import (
	"context"
	"strconv"

	"github.com/flavorsync/flavorsync/internal/flavor"
)

// Status is what the route of the federation's status calls.
type Status interface {
	Status(ctx context.Context, p flavor.Principal) (flavor.FederationStatus, error)
}

func getStatus(k *call) error {
	s, err := k.s.cfg.Market.Status(k.ctx, k.who)
	if err != nil {
		return err
	}
	return k.answer(encodeStatus(k.format, &s))
}

// encodeStatus is {"status": {"regions", "operations", "failed"}}, or <status>. The
// keys of a region in their order: region, state, last_seen; of one that the caller
// is told all of also last_look, next_look, duration_ms, last_error, pending, failed,
// drifted. A moment (RFC 3339, UTC) that is not known is not there. operations are
// running, succeeded, failed, cancelled, all counts. The keys of a failed node:
// operation, flavor, name, node, attempts, last_error, updated_at. In XML the region
// is the attribute name of its element, and each failed node an element failure.
func encodeStatus(as format, s *flavor.FederationStatus) []byte {
	b := make([]byte, 0, 256+256*len(s.Regions)+512*len(s.Failed))
	if as == asJSON {
		return appendStatusJSON(b, s)
	}
	return appendStatusXML(b, s)
}

// regionTexts are the texts of a region behind its name.
func regionTexts(r *flavor.RegionOverview) []namedText {
	texts := []namedText{{"state", string(r.State)}, {"last_seen", moment(r.SeenAt)}}
	if r.Whole {
		texts = append(texts, namedText{"last_look", moment(r.LookedAt)}, namedText{"next_look", moment(r.NextLook)})
	}
	return texts
}

// namedCount is a number and its name.
type namedCount struct {
	name string
	n    int64
}

func regionCounts(r *flavor.RegionOverview) []namedCount {
	return []namedCount{{"pending", int64(r.Pending)}, {"failed", int64(r.Failed)}, {"drifted", int64(r.Drifted())}}
}

func operationCounts(o flavor.OperationCounts) []namedCount {
	return []namedCount{
		{"running", int64(o.Running)}, {"succeeded", int64(o.Succeeded)}, {"failed", int64(o.Failed)}, {"cancelled", int64(o.Cancelled)},
	}
}

func appendStatusJSON(b []byte, s *flavor.FederationStatus) []byte {
	b = append(b, `{"status": {"regions": [`...)
	for i := range s.Regions {
		r := &s.Regions[i]
		if i > 0 {
			b = append(b, ", "...)
		}
		b = appendString(append(b, `{"region": `...), r.Name)
		for _, t := range regionTexts(r) {
			if t.value != "" {
				b = appendString(append(append(append(b, `, "`...), t.name...), `": `...), t.value)
			}
		}
		if r.Whole {
			if !r.LookedAt.IsZero() {
				b = strconv.AppendInt(append(b, `, "duration_ms": `...), r.Took.Milliseconds(), 10)
			}
			b = appendString(append(b, `, "last_error": `...), r.LastError)
			for _, c := range regionCounts(r) {
				b = strconv.AppendInt(append(append(append(b, `, "`...), c.name...), `": `...), c.n, 10)
			}
		}
		b = append(b, '}')
	}
	b = append(b, `], "operations": {`...)
	for i, c := range operationCounts(s.Operations) {
		if i > 0 {
			b = append(b, ", "...)
		}
		b = strconv.AppendInt(append(append(append(b, '"'), c.name...), `": `...), c.n, 10)
	}
	b = append(b, `}, "failed": [`...)
	for i := range s.Failed {
		f := &s.Failed[i]
		if i > 0 {
			b = append(b, ", "...)
		}
		b = appendString(append(b, `{"operation": `...), f.Operation)
		b = appendString(append(b, `, "flavor": `...), f.Flavor)
		b = appendString(append(b, `, "name": `...), f.Name)
		b = appendString(append(b, `, "node": `...), f.Node)
		b = strconv.AppendInt(append(b, `, "attempts": `...), int64(f.Attempts), 10)
		b = appendString(append(b, `, "last_error": `...), f.LastError)
		b = append(appendString(append(b, `, "updated_at": `...), moment(f.UpdatedAt)), '}')
	}
	return append(b, "]}}"...)
}

func appendStatusXML(b []byte, s *flavor.FederationStatus) []byte {
	b = append(append(b, xmlDeclaration...), "<status><regions>"...)
	for i := range s.Regions {
		r := &s.Regions[i]
		b = append(appendXMLText(append(b, `<region name="`...), r.Name), `">`...)
		for _, t := range regionTexts(r) {
			if t.value != "" {
				b = appendElement(b, t.name, t.value)
			}
		}
		if r.Whole {
			if !r.LookedAt.IsZero() {
				b = appendElement(b, "duration_ms", strconv.FormatInt(r.Took.Milliseconds(), 10))
			}
			b = appendElement(b, "last_error", r.LastError)
			for _, c := range regionCounts(r) {
				b = appendElement(b, c.name, strconv.FormatInt(c.n, 10))
			}
		}
		b = append(b, "</region>"...)
	}
	b = append(b, "</regions><operations>"...)
	for _, c := range operationCounts(s.Operations) {
		b = appendElement(b, c.name, strconv.FormatInt(c.n, 10))
	}
	b = append(b, "</operations><failed>"...)
	for i := range s.Failed {
		f := &s.Failed[i]
		b = appendElement(append(b, "<failure>"...), "operation", f.Operation)
		b = appendElement(b, "flavor", f.Flavor)
		b = appendElement(b, "name", f.Name)
		b = appendElement(b, "node", f.Node)
		b = appendElement(b, "attempts", strconv.Itoa(f.Attempts))
		b = appendElement(b, "last_error", f.LastError)
		b = append(appendElement(b, "updated_at", moment(f.UpdatedAt)), "</failure>"...)
	}
	return append(b, "</failed></status>"...)
}
