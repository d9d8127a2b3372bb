package main

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/flavorsync/flavorsync/api"
	"github.com/flavorsync/flavorsync/internal/config"
	"github.com/flavorsync/flavorsync/internal/flavor"
	"github.com/flavorsync/flavorsync/internal/httpapi"
	"github.com/flavorsync/flavorsync/internal/identity"
	"github.com/flavorsync/flavorsync/internal/simstack"
	"github.com/flavorsync/flavorsync/internal/store"
	"github.com/flavorsync/flavorsync/internal/tracing/otlptest"
)

// One request is one trace: what it asked an identity provider, a cloud and the
// database. No credential is in it, whichever way it came, nor any text of a caller.
func TestTraces(t *testing.T) {
	cloud := simstack.New(simstack.Options{Regions: []string{"Trento"}})
	_, stop, err := cloud.Start("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	cloud.AddIdentity("t0k3n-of-a-manager", simstack.Identity{ID: "m", DisplayName: "mia", AppID: "app", Roles: []simstack.Role{{ID: "r", Name: "InfrastructureManager"}}})
	received := otlptest.Start(t, nil)
	t.Setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=s3cret-of-the-receiver")

	dir := t.TempDir()
	cfg := config.Default()
	cfg.Database.DSN, cfg.CredentialsKeyset = flavor.Secret(filepath.Join(dir, "flavorsync.db")), filepath.Join(dir, "keyset.json")
	cfg.Outgoing.AllowHTTP, cfg.Outgoing.AllowNetworks = true, []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	cfg.Identity = []identity.ProviderConfig{{Type: identity.TypeKeyRock, URL: cloud.KeyRockURL()}}
	cfg.Tracing.OTLPEndpoint = received.URL
	s, err := newService(t.Context(), &cfg, jsonLog(io.Discard), operators, both)
	if err != nil {
		t.Fatal(err)
	}
	server := httpapi.New(httpapi.Config{
		Market: s.market, Identity: s.chain, UCloud: s.ucloud, Log: s.log, Ready: s.db.Ping, OpenAPI: api.OpenAPI, XSD: api.XSD,
		Observe: s.metrics.observe, Span: s.span(),
	})
	call := func(method, path, body string) {
		t.Helper()
		r := httptest.NewRequest(method, path, strings.NewReader(body))
		r.Header.Set("X-Auth-Token", "t0k3n-of-a-manager")
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		server.ServeHTTP(w, r)
		if w.Code >= 300 {
			t.Fatalf("%s %s: %d %s", method, path, w.Code, w.Body)
		}
	}
	call(http.MethodPost, "/v1/infrastructures", `{"name": "Trento", "keystone_url": "`+cloud.KeystoneURL()+`", "username": "operator", "password": "operator-secret", "tenant": "operators"}`)
	call(http.MethodPost, "/v1/flavors?access_token=s3cret-in-the-query", `{"name": "n4me-of-a-flavor", "vcpus": 1, "ram": 512, "disk": 1, "nodes": ["Trento"]}`)
	r := httptest.NewRequest("S3CRET", "/v1/s3cret-path", nil)
	r.SetBasicAuth("u", "s3cret-p")
	server.ServeHTTP(httptest.NewRecorder(), r)
	if err := s.db.Write(t.Context(), func(tx *store.Tx) error { return tx.Postpone("Trento", 0) }); err != nil { // its next look is due
		t.Fatal(err)
	}
	s.engine.Step(t.Context())
	s.engine.Wait()
	if err := s.close(context.Background()); err != nil {
		t.Fatal(err)
	}

	spans := received.Spans()
	of := slices.IndexFunc(spans, func(s otlptest.Span) bool { return s.Name == "POST /v1/flavors" })
	if of < 0 {
		t.Fatalf("no span of the request: %+v", spans)
	}
	request := spans[of]
	if request.Attributes["flavorsync.identity_provider"] != "keyrock" || request.Attributes["http.response.status_code"] != "201" || request.Parent != "" {
		t.Errorf("%+v", request)
	}
	within := map[string]int{}
	for _, s := range spans {
		if s.Trace == request.Trace && s.ID != request.ID {
			if s.Parent != request.ID {
				t.Errorf("%s is not within the request", s.Name)
			}
			within[strings.Join(strings.Fields(s.Name+" "+s.Attributes["flavorsync.region"]+" "+s.Attributes["flavorsync.outcome"]), " ")]++
		}
	}
	for _, wanted := range []string{"authenticate Trento ok", "create_flavor Trento ok", "write transaction committed", "read transaction committed"} {
		if within[wanted] == 0 {
			t.Errorf("the trace of the request lacks %q: %v", wanted, within)
		}
	}
	step := slices.IndexFunc(spans, func(s otlptest.Span) bool { return s.Name == "look at a region" })
	if step < 0 || spans[step].Parent != "" || spans[step].Attributes["flavorsync.region"] != "Trento" {
		t.Fatalf("no step of the engine is a trace of its own: %+v", spans)
	}
	if !slices.ContainsFunc(spans, func(s otlptest.Span) bool {
		return s.Parent == spans[step].ID && s.Attributes["flavorsync.region"] == "Trento"
	}) {
		t.Error("the call of the look is not within its step")
	}
	if !slices.ContainsFunc(spans, func(s otlptest.Span) bool {
		return s.Name == "ask identity provider" && s.Attributes["flavorsync.outcome"] == "ok"
	}) {
		t.Error("nothing tells of the identity provider")
	}
	for _, secret := range []string{"t0k3n", "s3cret", "S3CRET", "operator-secret", "n4me", "gAAAA", cloud.KeystoneURL()} {
		if strings.Contains(received.Raw(), secret) {
			t.Errorf("%q is in the traces", secret)
		}
	}
}
