package openstack

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/flavorsync/flavorsync/internal/flavor"
	"github.com/flavorsync/flavorsync/internal/simstack"
)

// Groups come of Keystone's list, and of a federated user's token.
func TestWhoseGroups(t *testing.T) {
	s := simstack.New(simstack.Options{})
	_, stop, err := s.Start("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	s.AddToGroup("member", "trento-owners")
	clouds := New(Config{KeystoneURL: s.KeystoneURL(), AllowHTTP: true, Unguarded: true})
	t.Cleanup(clouds.Close)
	token := flavor.Secret(s.IssueToken("member", "demo"))
	claims, _, err := clouds.Whose(t.Context(), token, true)
	if err != nil {
		t.Fatal(err)
	}
	groups := claims["groups"].([]any)
	if len(groups) != 1 || groups[0].(map[string]any)["name"] != "trento-owners" {
		t.Errorf("the groups are %v", groups)
	}
	s.ForgetRequests()
	if _, _, err := clouds.Whose(t.Context(), token, false); err != nil {
		t.Fatal(err)
	}
	if n := s.Count(simstack.Keystone, "", "", "/users"); n != 0 {
		t.Error("groups were asked for that nobody wants")
	}
}

// Who is asking does not wait for a region that hangs, nor for its time limit.
func TestWhoseWaitsForNoRegion(t *testing.T) {
	f := newFake(t)
	hangs := make(chan struct{})
	arrived := make(chan struct{}, 4)
	f.nova = func(http.ResponseWriter, *http.Request) {
		arrived <- struct{}{}
		<-hangs
	}
	f.keystone = func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.RawQuery, "nocatalog") {
			_, _ = w.Write([]byte(`{"token": {"expires_at": "2100-01-01T00:00:00Z", "user": {"id": "u", "name": "n"}}}`))
			return
		}
		f.goodKeystone(w, r)
	}
	clouds := f.clouds(t, func(cfg *Config) { cfg.MaxInFlight, cfg.PerRegion = 1, 1 })
	go func() { _, _ = clouds.Service(f.region()).List(context.Background()) }()
	<-arrived
	claims, _, err := clouds.Whose(t.Context(), goodToken, false)
	close(hangs)
	if err != nil || at(claims, "user", "id") != "u" {
		t.Errorf("%v, %v", claims, err)
	}
}

func at(claims map[string]any, path ...string) any {
	var v any = claims
	for _, key := range path {
		m, _ := v.(map[string]any)
		v = m[key]
	}
	return v
}

// What Keystone says of roles is told in texts, too, that nobody can forge by
// how they call a project.
func TestWhoseAssignments(t *testing.T) {
	of := func(project, domain string) []any {
		said := saidOf{Roles: []named{{Name: "admin"}}, Project: &named{Name: project, Domain: &named{Name: domain}}}
		list, _ := said.claims()["assignments"].([]any)
		return list
	}
	if got := of("operators", "Default"); !slices.Equal(got, []any{"admin@operators@Default"}) {
		t.Errorf("%v", got)
	}
	for _, forged := range [][2]string{{"operators@Default", "x"}, {"x", "operators@Default"}, {"@", ""}} {
		if got := of(forged[0], forged[1]); got != nil {
			t.Errorf("%q gives %v", forged, got)
		}
	}
}
