package httpapi

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/flavorsync/flavorsync/internal/flavor"
	"github.com/flavorsync/flavorsync/internal/marketplace"
)

// Audit is what the audit's route calls, and whoever is refused a change is told
// of to.
type Audit interface {
	Audit(ctx context.Context, p flavor.Principal, f flavor.AuditFilter) (entries []flavor.AuditEntry, more bool, err error)
	NotDone(ctx context.Context, err error)
}

// defaultAudit is how many lines a page of the audit has without ?limit.
const defaultAudit = 100

// acting handles rt, which changes something, in the caller's name.
func (k *call) acting(rt *route) error {
	k.ctx = flavor.WithActor(k.ctx, flavor.Actor{
		Provider: k.who.Provider, ID: k.who.ID, Name: k.who.Name,
		Address: k.RealIP(), RequestID: k.id, Action: rt.action,
	})
	err := k.handle(rt)
	if err != nil {
		k.s.cfg.Market.NotDone(k.ctx, err)
	}
	return err
}

func getAudit(k *call) error {
	f, err := k.auditFilter()
	if err != nil {
		return err
	}
	entries, more, err := k.s.cfg.Market.Audit(k.ctx, k.who, f)
	if err != nil {
		return err
	}
	if more {
		k.Response().Header().Set("Link", "<"+k.nextPage(entries[len(entries)-1].ID)+`>; rel="next"`)
	}
	return k.answer(encodeAudit(k.format, entries))
}

// auditFilter is what the query asks for. A bare parameter is none.
func (k *call) auditFilter() (flavor.AuditFilter, error) {
	f := flavor.AuditFilter{Limit: defaultAudit}
	for _, q := range []struct {
		name string
		take func(string) error
	}{
		{"provider", text(&f.Provider)}, {"caller", text(&f.Caller)}, {"request_id", text(&f.RequestID)},
		{"action", text(&f.Action)}, {"object", text(&f.Object)}, {"flavor", text(&f.Flavor)}, {"region", text(&f.Region)},
		{"outcome", func(value string) error {
			f.Outcome = flavor.Outcome(value)
			if !slices.Contains(flavor.Outcomes, f.Outcome) {
				return flavor.Invalid("outcome: must be pending, success, refused or failure")
			}
			return nil
		}},
		{"since", instant("since", &f.Since)}, {"until", instant("until", &f.Until)},
		{"limit", func(value string) (err error) {
			f.Limit, err = parseLimit(value, marketplace.MaxAudit)
			return err
		}},
		{"marker", func(value string) error {
			if _, err := uuid.Parse(value); err != nil || len(value) != 36 {
				return errMarker
			}
			f.Behind = value
			return nil
		}},
	} {
		value, there, err := k.queryValue(q.name)
		if err == nil && there && value != "" {
			err = q.take(value)
		}
		if err != nil {
			return f, err
		}
	}
	return f, nil
}

func text[T ~string](into *T) func(string) error {
	return func(value string) error { *into = T(value); return nil }
}

func instant(name string, into *time.Time) func(string) error {
	return func(value string) (err error) {
		if *into, err = time.Parse(time.RFC3339, value); err != nil {
			return flavor.Invalid("%s: must be a time in RFC 3339, such as 2026-11-26T08:00:00Z", name)
		}
		return nil
	}
}

// encodeAudit is {"audit": [...]}, or <audit>. The keys of an entry in their
// order: id, at (RFC 3339, UTC, to the millisecond), provider, caller and name of
// who it was, address, request_id, action, object; where they say something flavor
// and region; outcome; where they say something message, count (of refusals, where
// there are several), before and after (objects of texts). In XML each of before
// and after has an element value for each key.
func encodeAudit(as format, entries []flavor.AuditEntry) []byte {
	return encodeList(as, "audit", 512, entries, appendAuditJSON, appendAuditXML)
}

// auditTexts are the texts of an entry behind its id.
func auditTexts(e *flavor.AuditEntry) []namedText {
	texts := []namedText{
		{"at", stamp(e.At)}, {"provider", e.By.Provider}, {"caller", e.By.ID}, {"name", e.By.Name},
		{"address", e.By.Address}, {"request_id", e.By.RequestID}, {"action", string(e.By.Action)}, {"object", string(e.Object)},
	}
	for _, t := range []namedText{{"flavor", e.Flavor}, {"region", e.Region}, {"outcome", string(e.Outcome)}, {"message", e.Message}} {
		if t.value != "" {
			texts = append(texts, t)
		}
	}
	return texts
}

func appendAuditJSON(b []byte, e *flavor.AuditEntry) []byte {
	b = appendString(append(b, `{"id": `...), e.ID)
	b = appendTexts(b, auditTexts(e))
	if e.Count > 1 {
		b = strconv.AppendInt(append(b, `, "count": `...), int64(e.Count), 10)
	}
	for _, side := range auditSides(e) {
		if len(side.fields) == 0 {
			continue
		}
		b = append(append(append(b, `, "`...), side.name...), `": {`...)
		for i, key := range slices.Sorted(maps.Keys(side.fields)) {
			if i > 0 {
				b = append(b, ", "...)
			}
			b = append(appendString(b, key), ": "...)
			b = appendString(b, side.fields[key])
		}
		b = append(b, '}')
	}
	return append(b, '}')
}

func appendAuditXML(b []byte, e *flavor.AuditEntry) []byte {
	b = append(appendXMLText(append(b, `<entry id="`...), e.ID), `">`...)
	for _, t := range auditTexts(e) {
		b = appendElement(b, t.name, t.value)
	}
	if e.Count > 1 {
		b = appendElement(b, "count", strconv.Itoa(e.Count))
	}
	for _, side := range auditSides(e) {
		if len(side.fields) == 0 {
			continue
		}
		b = append(append(append(b, '<'), side.name...), '>')
		for _, key := range slices.Sorted(maps.Keys(side.fields)) {
			b = appendXMLText(append(b, `<value key="`...), key)
			b = append(appendXMLText(append(b, `">`...), side.fields[key]), "</value>"...)
		}
		b = append(append(append(b, "</"...), side.name...), '>')
	}
	return append(b, "</entry>"...)
}

type auditSide struct {
	name   string
	fields map[string]string
}

func auditSides(e *flavor.AuditEntry) [2]auditSide {
	return [2]auditSide{{"before", e.Before}, {"after", e.After}}
}
