package httpapi

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/labstack/echo/v4"

	"github.com/flavorsync/flavorsync/internal/flavor"
	"github.com/flavorsync/flavorsync/internal/identity"
	"github.com/flavorsync/flavorsync/internal/ucloud"
)

// UCloud is what the routes below /ucloud call for UCloud's Core, and those of the
// push for managers; *ucloud.Provider is one, also where it is nil.
// RetrieveProducts may answer the same bytes again and again; they are never
// modified here.
type UCloud interface {
	Configured() bool
	Serves(providerID string) bool
	Verify(token string) error
	RetrieveProducts(ctx context.Context) ([]byte, error)
	Manifest() []byte
	Push(ctx context.Context, p flavor.Principal, dryRun bool) (ucloud.Report, error)
	PushReport(ctx context.Context, p flavor.Principal) (ucloud.Report, error)
}

var _ UCloud = (*ucloud.Provider)(nil)

// registerUCloud tells echo of what UCloud's Core calls. All below /ucloud is
// answered in its words, what is not there too.
func (s *Server) registerUCloud() {
	methods := []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete}
	for _, rt := range []struct {
		pattern string
		handle  func(*call) error // of GET; nil: of every method, it does not exist
		status  error
	}{
		{"/ucloud/{provider}/jobs/retrieveProducts", retrieveProducts, nil},
		{"/ucloud/{provider}/integration/retrieveManifest", retrieveManifest, nil},
		{"/ucloud/{provider}/jobs", nil, errNoJobs},
		{"/ucloud/{provider}/jobs/*", nil, errNoJobs},
		{"/ucloud/{provider}/*", nil, errNoPath},
	} {
		var siblings []*route
		for _, method := range methods {
			handle := rt.handle
			switch {
			case handle == nil:
				handle = func(*call) error { return rt.status }
			case method != http.MethodGet:
				handle = func(*call) error { return echo.ErrMethodNotAllowed }
			}
			one := &route{method: method, pattern: rt.pattern, action: flavor.CallAsCore, handle: handle}
			if rt.handle == nil || method == http.MethodGet {
				siblings = append(siblings, one)
			}
			one.siblings = siblings
			s.add(one, rt.pattern)
		}
	}
}

// errNoJobs is not 503, which Core takes for a user it must connect first, and
// not 500, which it takes for a fault.
var errNoJobs = flavor.Errorf(flavor.CodeNotImplemented,
	"this provider has a catalogue of products and starts no jobs: start virtual machines in the OpenStack region itself")

// coreTimeout is what one call of Core's may take.
const coreTimeout = 4 * time.Second

// serveCore runs rt's handler for UCloud's Core, once it has proved to be that:
// who calls another provider's path learns nothing before.
func (k *call) serveCore(rt *route) error {
	ucloud := k.s.cfg.UCloud
	if !ucloud.Configured() {
		return errNoPath
	}
	token, _ := authorization(k.Request().Header, "Bearer")
	k.cred = identity.Credential{Kind: identity.Token, Token: flavor.Secret(token)}
	if err := ucloud.Verify(token); err != nil {
		return err
	}
	// Core waits for five seconds; a failure it sees leaves its list as it was.
	ctx, cancel := context.WithTimeout(k.ctx, coreTimeout)
	defer cancel()
	k.ctx = ctx
	k.who = flavor.Principal{ID: "_UCloud", Name: "UCloud's Core", Provider: "ucloud"}
	if !ucloud.Serves(k.Param("provider")) {
		return flavor.NotFound("this is no provider of that id")
	}
	return rt.handle(k)
}

// taggedBody is the last whole body that was asked for, with its tag. A body that
// does not change comes in the same place of memory, which is not used again while
// it is kept here.
type taggedBody struct{ atomic.Pointer[rendered] }

func (t *taggedBody) of(body []byte) *rendered {
	last := t.Load()
	if last != nil && len(last.body) == len(body) && unsafe.SliceData(last.body) == unsafe.SliceData(body) { //nolint:gosec // compared, never followed
		return last
	}
	next := render(body)
	t.Store(next)
	return next
}

func retrieveProducts(k *call) error {
	body, err := k.s.cfg.UCloud.RetrieveProducts(k.ctx)
	if err != nil {
		return err
	}
	r := k.s.references.of(body)
	return k.representation(contentTypes[asJSON], r.body, r.tag, r.length)
}

func retrieveManifest(k *call) error {
	body := k.s.cfg.UCloud.Manifest()
	return k.representation(contentTypes[asJSON], body, etag(body), strconv.Itoa(len(body)))
}

// appendUCloudError is an error in the words of UCloud, of both generations.
func appendUCloudError(b []byte, status int, e *flavor.Error) []byte {
	b = strconv.AppendInt(append(b, `{"statusCode":`...), int64(status), 10)
	b = appendString(append(b, `,"why":`...), e.Message)
	return append(b, `,"errorCode":"","detailedCode":0}`...)
}

// The push of products to UCloud's Core.

func getPush(k *call) error {
	r, err := k.s.cfg.UCloud.PushReport(k.ctx, k.who)
	if err != nil {
		return err
	}
	return k.answer(encodePush(k.format, &r))
}

func runPush(k *call) error {
	dryRun, err := k.flag("dry_run")
	if err != nil {
		return err
	}
	r, err := k.s.cfg.UCloud.Push(k.ctx, k.who, dryRun)
	if err != nil {
		return err
	}
	return k.changed(encodePush(k.format, &r))
}

// encodePush is {"push": {...}}, or <push>. Its keys in their order: mode; provider
// and core_url where there are any; state; trigger, started_at, finished_at,
// next_at (RFC 3339, UTC) and dry_run where they say something; sent
// [{category, products}], unchanged (a count), failed [{category, products, status,
// message}] and, where there is one, last_error. In XML each product is an element,
// and so is each of sent (batch) and of failed (failure).
func encodePush(as format, r *ucloud.Report) []byte {
	texts := []namedText{
		{"mode", string(r.Mode)}, {"provider", r.Provider}, {"core_url", r.CoreURL}, {"state", string(r.State)}, {"trigger", string(r.Trigger)},
		{"started_at", moment(r.StartedAt)}, {"finished_at", moment(r.FinishedAt)}, {"next_at", moment(r.NextAt)},
	}
	if as == asJSON {
		return append(appendPushJSON([]byte(`{"push": {`), texts, r), "}}"...)
	}
	return append(appendPushXML([]byte(xmlDeclaration+"<push>"), texts, r), "</push>"...)
}

func appendPushJSON(b []byte, texts []namedText, r *ucloud.Report) []byte {
	for _, t := range texts {
		if t.value != "" {
			b = append(appendString(append(append(append(b, '"'), t.name...), `": `...), t.value), ", "...)
		}
	}
	if r.DryRun {
		b = append(b, `"dry_run": true, `...)
	}
	b = append(b, `"sent": [`...)
	for i, s := range r.Sent {
		if i > 0 {
			b = append(b, ", "...)
		}
		b = appendString(append(b, `{"category": `...), s.Category)
		b = append(appendStrings(append(b, `, "products": `...), s.Products), '}')
	}
	b = strconv.AppendInt(append(b, `], "unchanged": `...), int64(r.Unchanged), 10)
	b = append(b, `, "failed": [`...)
	for i, f := range r.Failed {
		if i > 0 {
			b = append(b, ", "...)
		}
		b = appendString(append(b, `{"category": `...), f.Category)
		b = appendStrings(append(b, `, "products": `...), f.Products)
		b = strconv.AppendInt(append(b, `, "status": `...), int64(f.Status), 10)
		b = append(appendString(append(b, `, "message": `...), f.Message), '}')
	}
	b = append(b, ']')
	if r.LastError != "" {
		b = appendString(append(b, `, "last_error": `...), r.LastError)
	}
	return b
}

func appendPushXML(b []byte, texts []namedText, r *ucloud.Report) []byte {
	for _, t := range texts {
		if t.value != "" {
			b = appendElement(b, t.name, t.value)
		}
	}
	if r.DryRun {
		b = appendElement(b, "dry_run", "true")
	}
	products := func(b []byte, names []string) []byte {
		for _, name := range names {
			b = appendElement(b, "product", name)
		}
		return b
	}
	b = append(b, "<sent>"...)
	for _, s := range r.Sent {
		b = appendElement(append(b, "<batch>"...), "category", s.Category)
		b = append(products(b, s.Products), "</batch>"...)
	}
	b = appendElement(append(b, "</sent>"...), "unchanged", strconv.Itoa(r.Unchanged))
	b = append(b, "<failed>"...)
	for _, f := range r.Failed {
		b = products(appendElement(append(b, "<failure>"...), "category", f.Category), f.Products)
		b = appendElement(b, "status", strconv.Itoa(f.Status))
		b = append(appendElement(b, "message", f.Message), "</failure>"...)
	}
	b = append(b, "</failed>"...)
	if r.LastError != "" {
		b = appendElement(b, "last_error", r.LastError)
	}
	return b
}

// isUCloud says whether a path is UCloud's, whose errors have other words.
func isUCloud(path string) bool { return strings.HasPrefix(path, "/ucloud/") || path == "/ucloud" }
