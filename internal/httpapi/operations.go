package httpapi

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/flavorsync/flavorsync/internal/flavor"
)

// Operations is what the routes of the operations call.
type Operations interface {
	Operations(ctx context.Context, p flavor.Principal, f flavor.OperationFilter) (list []flavor.Operation, next string, err error)
	Operation(ctx context.Context, p flavor.Principal, id string) (flavor.Operation, error)
	WaitForOperation(ctx context.Context, p flavor.Principal, id string, turn int64, limit time.Duration) (flavor.Operation, error)
	CancelOperation(ctx context.Context, p flavor.Principal, id string) error
}

// maxWait is how long a client may have its request held: proxies give up later.
const maxWait = time.Minute

// later says whether the client does not want to wait for what it asks for (RFC
// 7240). A preference with a wrong value is none.
func later(h http.Header) bool {
	for _, value := range h["Prefer"] {
		for preference := range strings.SplitSeq(value, ",") {
			token, _, _ := strings.Cut(preference, ";")
			if strings.EqualFold(strings.TrimSpace(token), respondAsync) {
				return true
			}
		}
	}
	return false
}

const respondAsync = "respond-async"

// accepted answers 202 with the operation and where it can be read again.
func (k *call) accepted(o *flavor.Operation) error {
	prefix, _, _ := strings.Cut(k.Request().URL.Path, "/v1/")
	k.Response().Header().Set("Location", prefix+"/v1/operations/"+o.ID)
	body := encodeOperation(k.format, o)
	return k.write(http.StatusAccepted, contentTypes[k.format], body, strconv.Itoa(len(body)))
}

func (k *call) operationID() (string, error) {
	id, err := k.pathValue("id")
	if err != nil {
		return "", err
	}
	if _, err := uuid.Parse(id); err != nil || len(id) != 36 {
		return "", flavor.NotFound("no operation can have the id %.100q", id)
	}
	return strings.ToLower(id), nil
}

// getOperation holds the answer with ?wait= until the operation is another than it
// was when the request came, or than the one of If-None-Match.
func getOperation(k *call) error {
	id, err := k.operationID()
	if err != nil {
		return err
	}
	limit, err := k.wait()
	if err != nil {
		return err
	}
	o, err := k.s.cfg.Market.Operation(k.ctx, k.who, id)
	if err != nil {
		return err
	}
	known := k.Request().Header.Get("If-None-Match")
	if limit > 0 && (known == "" || known == etag(encodeOperation(k.format, &o))) {
		if o, err = k.s.cfg.Market.WaitForOperation(k.ctx, k.who, id, o.Turn, limit); err != nil {
			return err
		}
	}
	return k.answer(encodeOperation(k.format, &o))
}

// wait is ?wait=, such as 30s; 0 where it is absent.
func (k *call) wait() (time.Duration, error) {
	value, there, err := k.queryValue("wait")
	if err != nil || !there || value == "" {
		return 0, err
	}
	limit, err := time.ParseDuration(value)
	if err != nil || limit < 0 || limit > maxWait {
		return 0, flavor.Invalid("wait: must be a time of at most %s, such as 30s", maxWait)
	}
	return limit, nil
}

func cancelOperation(k *call) error {
	id, err := k.operationID()
	if err != nil {
		return err
	}
	release, err := k.guard("operation "+id, func() (string, error) {
		o, err := k.s.cfg.Market.Operation(k.ctx, k.who, id)
		return etag(encodeOperation(k.format, &o)), err
	})
	if err != nil {
		return err
	}
	defer release()
	return k.deleted(k.s.cfg.Market.CancelOperation(k.ctx, k.who, id))
}

// defaultOperations is how many operations a page has without ?limit, maxOperations
// with it.
const (
	defaultOperations = 100
	maxOperations     = 1000
)

func listOperations(k *call) error {
	f := flavor.OperationFilter{Limit: defaultOperations}
	state, _, err := k.queryValue("state")
	if err != nil {
		return err
	}
	switch f.State = flavor.OperationState(state); f.State {
	case "", flavor.Running, flavor.Succeeded, flavor.Failed, flavor.Cancelled:
	default:
		return flavor.Invalid("state: must be running, succeeded, failed or cancelled")
	}
	if value, there, err := k.queryValue("limit"); err != nil {
		return err
	} else if there && value != "" {
		if f.Limit, err = parseLimit(value, maxOperations); err != nil {
			return err
		}
	}
	marker, _, err := k.queryValue("marker")
	if err != nil {
		return err
	}
	if _, err := uuid.Parse(marker); marker != "" && (err != nil || len(marker) != 36) {
		return errMarker
	}
	f.Before = marker
	list, next, err := k.s.cfg.Market.Operations(k.ctx, k.who, f)
	if err != nil {
		return err
	}
	if next != "" {
		k.Response().Header().Set("Link", "<"+k.nextPage(next)+`>; rel="next"`)
	}
	return k.answer(encodeList(k.format, "operations", 512, list, appendOperationJSON, appendOperationXML))
}

// encodeOperation is {"operation": {...}}, or <operation>. The keys in their order:
// id, kind, origin, state, flavor (its id in the catalogue), name (the flavor's),
// created_at, updated_at, nodes [{node, state, attempts, last_error, updated_at}];
// times are RFC 3339, UTC, to the millisecond.
func encodeOperation(as format, o *flavor.Operation) []byte {
	if as == asJSON {
		return append(appendOperationJSON([]byte(`{"operation": `), o), '}')
	}
	return appendOperationXML([]byte(xmlDeclaration), o)
}

func operationTexts(o *flavor.Operation) []namedText {
	return []namedText{
		{"kind", string(o.Kind)}, {"origin", string(o.Origin)}, {"state", string(o.State)}, {"flavor", o.FlavorID}, {"name", o.Name},
		{"created_at", stamp(o.CreatedAt)}, {"updated_at", stamp(o.UpdatedAt)},
	}
}

// stamp is a time as RFC 3339 has it, in UTC, to the millisecond.
func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

func appendOperationJSON(b []byte, o *flavor.Operation) []byte {
	b = appendString(append(b, `{"id": `...), o.ID)
	b = appendTexts(b, operationTexts(o))
	b = append(b, `, "nodes": [`...)
	for i, n := range o.Nodes {
		if i > 0 {
			b = append(b, ", "...)
		}
		b = appendString(append(b, `{"node": `...), n.Region)
		b = appendString(append(b, `, "state": `...), string(n.State))
		b = strconv.AppendInt(append(b, `, "attempts": `...), int64(n.Attempts), 10)
		b = appendString(append(b, `, "last_error": `...), n.LastError)
		b = append(appendString(append(b, `, "updated_at": `...), stamp(n.UpdatedAt)), '}')
	}
	return append(b, "]}"...)
}

// appendTexts appends members to a JSON object that has one already.
func appendTexts(b []byte, texts []namedText) []byte {
	for _, t := range texts {
		b = appendString(append(append(append(b, `, "`...), t.name...), `": `...), t.value)
	}
	return b
}

func appendOperationXML(b []byte, o *flavor.Operation) []byte {
	b = append(appendXMLText(append(b, `<operation id="`...), o.ID), `">`...)
	for _, t := range operationTexts(o) {
		b = appendElement(b, t.name, t.value)
	}
	for _, n := range o.Nodes {
		b = appendElement(append(b, "<node>"...), "name", n.Region)
		b = appendElement(b, "state", string(n.State))
		b = appendElement(b, "attempts", strconv.Itoa(n.Attempts))
		b = appendElement(b, "last_error", n.LastError)
		b = append(appendElement(b, "updated_at", stamp(n.UpdatedAt)), "</node>"...)
	}
	return append(b, "</operation>"...)
}
