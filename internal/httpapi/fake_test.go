package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/flavorsync/flavorsync/internal/flavor"
	"github.com/flavorsync/flavorsync/internal/identity"
	"github.com/flavorsync/flavorsync/internal/marketplace"
	"github.com/flavorsync/flavorsync/internal/match"
)

// insane is the flavor of the contract's examples.
var insane = flavor.Flavor{
	ID:    "567b200e-0aca-49c4-8b52-6c3c2f0b4d11",
	Spec:  flavor.Spec{Name: "insane", VCPUs: 640, RAM: 1232896, Disk: 1262485504, RxTxFactor: 1},
	Nodes: []string{"Mordor"},
}

var mordor = flavor.Region{
	Name: "Mordor", KeystoneURL: "https://mordor.example.org:5000/v3", Username: "sauron", Password: "precious",
	Tenant: "service", UserDomain: "Default", ProjectDomain: "Default",
}

// market records what was called and answers with one flavor, one region, or err.
type market struct {
	mu        sync.Mutex
	calls     []string
	flavor    flavor.Flavor
	list      []flavor.Flavor
	operation *flavor.Operation
	region    flavor.Region
	regions   []string
	err       error

	offer        flavor.Offer
	noProduct    bool
	productPatch flavor.ProductPatch

	wanted  []match.Requirement
	matches []marketplace.Match

	status flavor.FederationStatus

	audit       []flavor.AuditEntry
	moreAudit   bool
	auditFilter flavor.AuditFilter
	refused     []flavor.AuditEntry // that the audit was told of

	patch       flavor.Patch
	regionPatch flavor.RegionPatch
	filter      marketplace.Filter
	unreachable []string
	version     any // of a listing
	listed      int // listings whose flavors were asked for
	token       flavor.Secret
	flag        bool
	during      func(context.Context) // runs inside every change
}

func (m *market) note(call string, args ...string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.calls = append(m.calls, strings.TrimSpace(call+" "+strings.Join(args, " ")))
}

func (m *market) Status(context.Context, flavor.Principal) (flavor.FederationStatus, error) {
	m.note("Status")
	return m.status, m.err
}

func (m *market) Audit(_ context.Context, _ flavor.Principal, f flavor.AuditFilter) ([]flavor.AuditEntry, bool, error) {
	m.note("Audit")
	m.auditFilter = f
	return m.audit, m.moreAudit, m.err
}

func (m *market) NotDone(ctx context.Context, err error) {
	actor, _ := flavor.ActorOf(ctx)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.refused = append(m.refused, flavor.AuditEntry{By: actor, Message: err.Error()})
}

func (m *market) called() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return strings.Join(m.calls, "; ")
}

func (m *market) change(ctx context.Context, patch flavor.Patch) (flavor.Flavor, error) {
	m.mu.Lock()
	m.patch = patch
	m.mu.Unlock()
	if m.during != nil {
		m.during(ctx)
	}
	return m.flavor, m.err
}

func (m *market) PromotedFlavors(context.Context) ([]flavor.Flavor, error) {
	m.note("PromotedFlavors")
	return m.list, m.err
}

func (m *market) PromotedFlavor(_ context.Context, id string) (flavor.Flavor, error) {
	m.note("PromotedFlavor", id)
	return m.flavor, m.err
}

func (m *market) CreatePromoted(ctx context.Context, _ flavor.Principal, patch flavor.Patch) (flavor.Flavor, error) {
	m.note("CreatePromoted")
	return m.change(ctx, patch)
}

func (m *market) ChangePromoted(ctx context.Context, _ flavor.Principal, id string, patch flavor.Patch) (flavor.Flavor, error) {
	m.note("ChangePromoted", id)
	return m.change(ctx, patch)
}

func (m *market) DeletePromoted(ctx context.Context, _ flavor.Principal, id string, uninstall bool) error {
	m.note("DeletePromoted", id)
	m.flag = uninstall
	_, err := m.change(ctx, flavor.Patch{})
	return err
}

func (m *market) Regions(context.Context) ([]string, error) {
	m.note("Regions")
	return m.regions, m.err
}

func (m *market) RegionFlavors(_ context.Context, _ flavor.Principal, region string, token flavor.Secret) ([]flavor.Flavor, error) {
	m.note("RegionFlavors", region)
	m.token = token
	return m.list, m.err
}

func (m *market) RegionFlavor(_ context.Context, _ flavor.Principal, region string, token flavor.Secret, id string) (flavor.Flavor, error) {
	m.note("RegionFlavor", region, id)
	m.token = token
	return m.flavor, m.err
}

func (m *market) CreateRegionFlavor(ctx context.Context, _ flavor.Principal, region string, token flavor.Secret, patch flavor.Patch) (flavor.Flavor, error) {
	m.note("CreateRegionFlavor", region)
	m.token = token
	return m.change(ctx, patch)
}

func (m *market) ChangeRegionFlavor(ctx context.Context, _ flavor.Principal, region string, token flavor.Secret, id string, patch flavor.Patch) (flavor.Flavor, error) {
	m.note("ChangeRegionFlavor", region, id)
	m.token = token
	return m.change(ctx, patch)
}

func (m *market) DeleteRegionFlavor(_ context.Context, _ flavor.Principal, region string, token flavor.Secret, id string) error {
	m.note("DeleteRegionFlavor", region, id)
	m.token = token
	return m.err
}

func (m *market) Infrastructures(context.Context, flavor.Principal) ([]flavor.Region, error) {
	m.note("Infrastructures")
	return []flavor.Region{m.region}, m.err
}

func (m *market) Infrastructure(_ context.Context, _ flavor.Principal, name string) (flavor.Region, error) {
	m.note("Infrastructure", name)
	return m.region, m.err
}

func (m *market) CreateInfrastructure(_ context.Context, _ flavor.Principal, patch flavor.RegionPatch) (flavor.Region, error) {
	m.note("CreateInfrastructure")
	m.regionPatch = patch
	return m.region, m.err
}

func (m *market) ChangeInfrastructure(_ context.Context, _ flavor.Principal, name string, patch flavor.RegionPatch) (flavor.Region, error) {
	m.note("ChangeInfrastructure", name)
	m.regionPatch = patch
	return m.region, m.err
}

func (m *market) DeleteInfrastructure(_ context.Context, _ flavor.Principal, name string, force bool) error {
	m.note("DeleteInfrastructure", name)
	m.flag = force
	return m.err
}

func (m *market) Flavors(_ context.Context, _ flavor.Principal, f marketplace.Filter) (marketplace.Listing, error) {
	m.note("Flavors")
	m.filter = f
	return marketplace.Listing{All: func() []flavor.Flavor {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.listed++
		return m.list
	}, Version: m.version, Unreachable: m.unreachable}, m.err
}

func (m *market) Flavor(_ context.Context, _ flavor.Principal, id, node string, _ bool) (flavor.Flavor, error) {
	m.note("Flavor", id, node)
	return m.flavor, m.err
}

func (m *market) Seen(context.Context) ([]string, time.Duration, error) {
	return m.unreachable, 0, m.err
}

func (m *market) CreateFlavor(ctx context.Context, _ flavor.Principal, patch flavor.Patch) (flavor.Flavor, error) {
	m.note("CreateFlavor")
	return m.change(ctx, patch)
}

func (m *market) ChangeFlavor(ctx context.Context, _ flavor.Principal, id, node string, patch flavor.Patch, later bool) (flavor.Flavor, *flavor.Operation, error) {
	m.note("ChangeFlavor", id, node)
	f, err := m.change(ctx, patch)
	if !later {
		return f, nil, err
	}
	return f, m.operation, err
}

func (m *market) Operations(_ context.Context, _ flavor.Principal, f flavor.OperationFilter) ([]flavor.Operation, string, error) {
	m.note("Operations", string(f.State), f.Before, strconv.Itoa(f.Limit))
	return []flavor.Operation{}, "", m.err
}

func (m *market) Operation(_ context.Context, _ flavor.Principal, id string) (flavor.Operation, error) {
	m.note("Operation", id)
	return flavor.Operation{ID: id}, m.err
}

func (m *market) WaitForOperation(_ context.Context, _ flavor.Principal, id string, _ int64, limit time.Duration) (flavor.Operation, error) {
	m.note("WaitForOperation", id, limit.String())
	return flavor.Operation{ID: id}, m.err
}

func (m *market) CancelOperation(_ context.Context, _ flavor.Principal, id string) error {
	m.note("CancelOperation", id)
	return m.err
}

func (m *market) Compliance(_ context.Context, _ flavor.Principal, region string) (flavor.Compliance, time.Duration, error) {
	m.note("Compliance", region)
	return flavor.Compliance{Region: region}, 0, m.err
}

func (m *market) Coverage(_ context.Context, _ flavor.Principal, id string) (flavor.Coverage, time.Duration, error) {
	m.note("Coverage", id)
	return flavor.Coverage{FlavorID: id}, 0, m.err
}

func (m *market) DeleteFlavor(ctx context.Context, _ flavor.Principal, id, node string) error {
	m.note("DeleteFlavor", id, node)
	_, err := m.change(ctx, flavor.Patch{})
	return err
}

func (m *market) GLUE2(_ context.Context, _ flavor.Principal, region string) ([]byte, error) {
	m.note("GLUE2", region)
	return []byte(`{"Share":[]}`), m.err
}

func (m *market) Match(_ context.Context, _ flavor.Principal, wanted []match.Requirement, limit int) ([]marketplace.Match, error) {
	m.note("Match", strconv.Itoa(len(wanted)), strconv.Itoa(limit))
	m.wanted = wanted
	return m.matches[:len(wanted)], m.err
}

func (m *market) Products(context.Context) ([]flavor.Offer, error) {
	m.note("Products")
	return []flavor.Offer{m.offer}, m.err
}

func (m *market) Product(_ context.Context, id string) (flavor.Offer, error) {
	m.note("Product", id)
	if m.noProduct {
		return flavor.Offer{}, flavor.NotFound("it is no product")
	}
	return m.offer, m.err
}

func (m *market) ChangeProduct(_ context.Context, _ flavor.Principal, id string, patch flavor.ProductPatch) (flavor.Offer, error) {
	m.note("ChangeProduct", id)
	m.productPatch = patch
	return m.offer, m.err
}

func (m *market) EndProduct(_ context.Context, _ flavor.Principal, id string) error {
	m.note("EndProduct", id)
	return m.err
}

// people knows the token "good" and the account ann with the password "right".
type people struct {
	mu   sync.Mutex
	seen identity.Credential
	err  error
}

func (p *people) Authenticate(_ context.Context, cred identity.Credential) (flavor.Principal, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seen = cred
	switch {
	case p.err != nil:
		return flavor.Principal{}, p.err
	case cred.Kind == identity.Token && cred.Token == "good",
		cred.Kind == identity.Basic && cred.User == "ann" && cred.Password == "right":
		return flavor.Principal{ID: "ann", Name: "Ann", Provider: "test", Manager: true, Roles: []string{"InfrastructureOwner"}, Regions: []string{"Trento"}}, nil
	}
	return flavor.Principal{}, flavor.Errorf(flavor.CodeUnauthorized, "nobody knows this credential")
}

// setup is a server over fakes, with its log.
type setup struct {
	*Server
	market *market
	people *people
	log    *syncBuffer
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// lines are the log's lines with this message.
func (b *syncBuffer) lines(t *testing.T, message string) []map[string]any {
	t.Helper()
	var found []map[string]any
	for line := range strings.Lines(b.String()) {
		var entry map[string]any
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			t.Fatalf("a log line that is not JSON: %s", line)
		}
		if entry["msg"] == message {
			found = append(found, entry)
		}
	}
	return found
}

func newSetup(t testing.TB, change ...func(*Config)) *setup {
	t.Helper()
	s := &setup{
		market: &market{flavor: insane, list: []flavor.Flavor{insane}, region: mordor, regions: []string{"Mordor", "Trento"}},
		people: &people{}, log: &syncBuffer{},
	}
	cfg := Config{
		Market: s.market, Identity: s.people, Events: newFeed(),
		Log:     slog.New(slog.NewJSONHandler(s.log, nil)),
		Ready:   func(context.Context) error { return nil },
		OpenAPI: []byte("openapi: 3.1.1\n"), XSD: []byte("<xs:schema/>"),
	}
	for _, c := range change {
		c(&cfg)
	}
	s.Server = New(cfg)
	return s
}

// do sends one request: "METHOD target", headers as "Name: value", body last. It
// has the token "good" unless it brings a credential of its own.
func (s *setup) do(t testing.TB, request, body string, headers ...string) *httptest.ResponseRecorder {
	t.Helper()
	method, target, _ := strings.Cut(request, " ")
	var reader io.Reader = http.NoBody
	if body != "" {
		reader = strings.NewReader(body)
	}
	r, err := http.NewRequest(method, "http://flavorsync.test"+target, reader)
	if err != nil {
		t.Fatalf("%s: %v", request, err)
	}
	r.RemoteAddr = "192.0.2.1:4711"
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	credential := strings.Contains(target, "access_token")
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		if name == "Content-Type" {
			r.Header.Del(name)
		}
		if name == "anonymous" {
			credential = true
			continue
		}
		credential = credential || slices.Contains([]string{"X-Auth-Token", "Authorization", "user"}, name)
		if value != "" {
			r.Header.Add(name, value)
		}
	}
	if !credential {
		r.Header.Set("X-Auth-Token", "good")
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w
}

func wantStatus(t testing.TB, w *httptest.ResponseRecorder, status int) {
	t.Helper()
	if w.Code != status {
		t.Errorf("status %d, want %d; body: %s", w.Code, status, w.Body)
	}
}
