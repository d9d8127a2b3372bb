package contract_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/flavorsync/flavorsync/internal/ucloud/coretest"
)

// provider is a server that is a provider of UCloud, and the Core of that UCloud.
type provider struct {
	*product
	core    *coretest.Core
	manager client
}

// provide starts both; settings are those of ucloud that differ.
func provide(t *testing.T, s *setup, settings map[string]any, options ...option) *provider {
	t.Helper()
	core, err := coretest.New(coretest.Options{Provider: "aau"})
	if err != nil {
		t.Fatal(err)
	}
	base, stop, err := core.Start("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	secrets.add(core.RefreshToken())
	section := map[string]any{
		"provider_id": "aau", "public_key": core.PublicKey(), "core_url": base, "refresh_token": core.RefreshToken(), "push": "v2",
	}
	maps.Copy(section, settings)
	pr := s.serve(t, append(options, with("ucloud", section))...)
	return &provider{pr, core, pr.as(s.manager)}
}

// token is one of Core's.
func (p *provider) token(t *testing.T) string {
	t.Helper()
	token, err := p.core.Token(nil)
	if err != nil {
		t.Fatal(err)
	}
	secrets.add(token)
	return token
}

// asCore calls as UCloud's Core does.
func (p *provider) asCore(t *testing.T) client { return p.as(byBearer("Core", p.token(t))) }

const retrieveProducts = "/ucloud/aau/jobs/retrieveProducts"

// listed are the products that Core is listed, each as category/name.
func (p *provider) listed(t *testing.T) []string {
	t.Helper()
	a := p.asCore(t).get(t, retrieveProducts, prefixed("")).wantOneOf(t, http.StatusOK, http.StatusBadGateway)
	if a.status == http.StatusBadGateway {
		return []string{"none could be pushed yet"}
	}
	var got struct {
		Responses []struct {
			Product        coretest.Reference
			VirtualMachine struct{ Enabled bool }
		}
	}
	if err := json.Unmarshal(a.body, &got); err != nil {
		t.Fatalf("%v: %s", err, a)
	}
	names := []string{}
	for _, r := range got.Responses {
		if r.Product.Provider != "aau" || !r.VirtualMachine.Enabled {
			t.Errorf("it lists %+v", r)
		}
		names = append(names, r.Product.Category+"/"+r.Product.ID)
	}
	return names
}

// creates are the requests that have pushed something.
func (p *provider) creates() []coretest.Request {
	return p.core.Requests(http.MethodPost, "/api/products/v2")
}

// priced is one of OpenStackGateway's price table.
type priced struct {
	Post struct {
		Flavor struct{ Name string }
	}
	Put     struct{ Product struct{ Category string } }
	V2Price int64 `json:"v2_price"`
	raw     struct{ Post, Put json.RawMessage }
}

// priceTable is OpenStackGateway's, with the bodies that load it.
func priceTable(t *testing.T) []priced {
	t.Helper()
	text, err := os.ReadFile("../../testdata/openstackgateway.json")
	if err != nil {
		t.Fatal(err)
	}
	var rows []priced
	var bodies []struct{ Post, Put json.RawMessage }
	if err = json.Unmarshal(text, &rows); err == nil {
		err = json.Unmarshal(text, &bodies)
	}
	if err != nil || len(rows) != 5 {
		t.Fatalf("%d rows, %v", len(rows), err)
	}
	for i := range rows {
		rows[i].raw = bodies[i]
	}
	return rows
}

// load creates the price table's products through the API.
func (p *provider) load(t *testing.T) (ids map[string]string, rows []priced) {
	t.Helper()
	ids, rows = map[string]string{}, priceTable(t)
	for _, r := range rows {
		made := p.manager.post(t, "/promotedflavors", nil, raw("application/json", string(r.raw.Post))).want(t, http.StatusCreated).flavor(t)
		p.manager.put(t, "/promotedflavors/"+made.ID+"/product", nil, raw("application/json", string(r.raw.Put))).want(t, http.StatusOK)
		ids[made.Name] = made.ID
	}
	return ids, rows
}

func (p *provider) awaitListed(t *testing.T, want ...string) {
	t.Helper()
	slices.Sort(want)
	eventually(t, fmt.Sprintf("Core is listed %v", want), func() bool {
		got := p.listed(t)
		slices.Sort(got)
		return slices.Equal(got, want)
	})
}

// report is what a manager reads of the push.
func (p *provider) report(t *testing.T) (r struct {
	Push struct {
		Mode, State, Trigger string
		LastError            string `json:"last_error"`
		Sent                 []struct {
			Category string
			Products []string
		}
		Failed []struct {
			Category string
			Status   int
			Message  string
		}
		Unchanged int
		DryRun    bool `json:"dry_run"`
	}
},
) {
	t.Helper()
	a := p.manager.get(t, "/products/push").want(t, http.StatusOK)
	if err := json.Unmarshal(a.body, &r); err != nil {
		t.Fatalf("%v: %s", err, a)
	}
	return r
}

// ucloudProvider: what UCloud's Core calls, and what it is told.
func ucloudProvider(t *testing.T, s *setup) {
	p := provide(t, s, nil)
	ids, rows := p.load(t)
	var all []string
	for _, r := range rows {
		all = append(all, r.Put.Product.Category+"/"+r.Post.Flavor.Name)
	}

	t.Run("a change is at Core soon, with exactly the prices of OpenStackGateway's table", func(t *testing.T) {
		begun := time.Now()
		p.awaitListed(t, all...)
		t.Logf("it took %s", time.Since(begun)) // 5 s at most on a machine with nothing else to do
		prices := map[string]int64{}
		seen, err := p.core.Poll(t.Context(), p.url)
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range seen.Visible {
			prices[v.ID] = v.Price
		}
		for _, r := range rows {
			if got := prices[r.Post.Flavor.Name]; got != r.V2Price {
				t.Errorf("%s costs %d, not %d", r.Post.Flavor.Name, got, r.V2Price)
			}
		}
		if !seen.Connected || len(seen.Visible) != len(rows) {
			t.Errorf("users see %+v", seen)
		}
	})

	t.Run("every forged token is 401, in UCloud's words", func(t *testing.T) {
		forged, err := p.core.Forged()
		if err != nil {
			t.Fatal(err)
		}
		for _, sample := range forged {
			if len(sample.Token) > 32<<10 {
				continue // no server takes a head so large: 431
			}
			if len(sample.Token) > 16 {
				secrets.add(sample.Token)
			}
			for _, path := range []string{retrieveProducts, "/ucloud/aau/integration/retrieveManifest", "/ucloud/sdu/jobs/retrieveProducts"} {
				a := p.as(byBearer(sample.Name, sample.Token)).get(t, path, prefixed("")).want(t, http.StatusUnauthorized)
				if !strings.Contains(string(a.body), `"why":"`) {
					t.Errorf("%s: %s", sample.Name, a)
				}
			}
			p.as(byBearer(sample.Name, sample.Token)).post(t, "/ucloud/aau/jobs", nil, prefixed(""), raw("", `{"items":[]}`)).want(t, http.StatusUnauthorized)
		}
		p.as(anonymous()).get(t, retrieveProducts, prefixed("")).want(t, http.StatusUnauthorized)
		for _, one := range []caller{s.manager, s.user, byQuery("Core", p.token(t)), byToken("Core", p.token(t))} {
			p.as(one).get(t, retrieveProducts, prefixed("")).want(t, http.StatusUnauthorized)
		}
	})

	t.Run("a good token is good in every shape of its audience, and opens nothing else", func(t *testing.T) {
		for _, aud := range []any{"all:write", []string{"all:write"}, nil} {
			token, err := p.core.Token(coretest.Claims{"aud": aud})
			if err != nil {
				t.Fatal(err)
			}
			secrets.add(token)
			p.as(byBearer("Core", token)).get(t, retrieveProducts, prefixed("")).want(t, http.StatusOK)
		}
		p.asCore(t).get(t, "/products").want(t, http.StatusUnauthorized)
	})

	t.Run("the list is the same bytes again, its references unique, one for each product", func(t *testing.T) {
		first := p.asCore(t).get(t, retrieveProducts, prefixed("")).want(t, http.StatusOK)
		second := p.asCore(t).get(t, retrieveProducts, prefixed(""), header("Accept-Encoding", "gzip")).want(t, http.StatusOK)
		if !bytes.Equal(first.body, second.body) || !strings.HasPrefix(first.header.Get("Content-Type"), "application/json") {
			t.Errorf("%s\n%s", first, second)
		}
		listed := p.listed(t)
		if unique := slices.Compact(slices.Sorted(slices.Values(listed))); len(unique) != len(rows) {
			t.Errorf("it lists %v", listed)
		}
	})

	t.Run("other providers, methods and calls", func(t *testing.T) {
		core := p.asCore(t)
		core.get(t, "/ucloud/sdu/jobs/retrieveProducts", prefixed("")).want(t, http.StatusNotFound)
		core.post(t, retrieveProducts, nil, prefixed("")).want(t, http.StatusMethodNotAllowed)
		manifest := core.get(t, "/ucloud/aau/integration/retrieveManifest", prefixed("")).want(t, http.StatusOK)
		if string(manifest.body) != `{"enabled":false,"expireAfterMs":null}` {
			t.Errorf("%s", manifest)
		}
		for _, path := range []string{"", "/terminate", "/extend", "/suspend", "/unsuspend", "/verify", "/interactiveSession", "/updateAcl"} {
			a := core.post(t, "/ucloud/aau/jobs"+path, nil, prefixed(""), raw("", `{"items":[{"id":"54112"}]}`)).want(t, http.StatusNotImplemented)
			var told struct {
				Why        string
				StatusCode int
			}
			if err := json.Unmarshal(a.body, &told); err != nil || told.Why == "" || told.StatusCode != http.StatusNotImplemented {
				t.Errorf("%s", a)
			}
		}
		core.get(t, "/ucloud/aau/files/collections/retrieveProducts", prefixed("")).want(t, http.StatusNotFound)
	})

	t.Run("nothing changed is nothing sent, and a change is one request for its category", func(t *testing.T) {
		p.manager.post(t, "/products/push", nil).want(t, http.StatusOK)
		before := len(p.creates())
		p.manager.post(t, "/products/push", nil).want(t, http.StatusOK)
		if n := len(p.creates()) - before; n != 0 {
			t.Errorf("%d requests with nothing to say", n)
		}
		if r := p.report(t); r.Push.State != "succeeded" || r.Push.Unchanged != len(rows) || len(r.Push.Sent) != 0 {
			t.Errorf("the report is %+v", r)
		}
		path := "/promotedflavors/" + ids["uc-t4-1"] + "/product"
		p.manager.put(t, path, documentOf("product", []any{"price", "9"})).want(t, http.StatusOK)
		dry := p.manager.post(t, "/products/push", nil, query("dry_run", "true")).want(t, http.StatusOK)
		if !strings.Contains(string(dry.body), `"dry_run": true`) {
			t.Errorf("%s", dry)
		}
		eventually(t, "the new price is at Core", func() bool { return len(p.creates()) > before })
		created := p.creates()
		if n := len(created) - before; n != 1 || strings.Count(string(created[len(created)-1].Body), `"name":"uc-t4-1"`) != 1 {
			t.Errorf("%d requests, the last %s", n, created[len(created)-1].Body)
		}
	})

	t.Run("what Core never changes is refused, with what to do instead", func(t *testing.T) {
		path := "/promotedflavors/" + ids["uc-t4-1"] + "/product"
		for _, f := range formats {
			p.manager.put(t, path, documentOf("product", []any{"period", "day"}), in(f)).want(t, http.StatusConflict).says(t, "uc-t4", "new category")
			p.manager.put(t, path, documentOf("product", []any{"free_to_use", true}), in(f)).want(t, http.StatusConflict)
			p.manager.put(t, path, documentOf("product", []any{"currency", "EUR"}), in(f)).want(t, http.StatusConflict)
		}
	})

	t.Run("a refusal of Core's is told, and takes nothing away", func(t *testing.T) {
		cancel := p.core.Fault(coretest.Fault{Method: http.MethodPost, Path: "/api/products/v2", Status: http.StatusForbidden, Why: "Forbidden"})
		path := "/promotedflavors/" + ids["uc-general-small"] + "/product"
		p.manager.put(t, path, documentOf("product", []any{"price", "0.35"})).want(t, http.StatusOK)
		eventually(t, "the refusal is in the report", func() bool {
			r := p.report(t)
			return r.Push.State == "failed" && len(r.Push.Failed) == 1 && r.Push.Failed[0].Status == http.StatusForbidden && r.Push.Failed[0].Category == "uc-general"
		})
		for _, f := range formats {
			eventually(t, "a push that is asked for tells of it", func() bool { // one of its own may be under way
				return strings.Contains(string(p.manager.post(t, "/products/push", nil, in(f)).want(t, http.StatusConflict).body), "uc-general")
			})
		}
		p.awaitListed(t, all...)
		cancel()
		p.manager.post(t, "/products/push", nil).want(t, http.StatusOK)
	})

	t.Run("a Core that cannot be asked is 502, and no foreign byte gets through", func(t *testing.T) {
		for _, fault := range []coretest.Fault{
			{Kind: coretest.HTML}, {Kind: coretest.Half}, {Kind: coretest.SamePage}, {Kind: coretest.Nonsense}, {Kind: coretest.Empty},
			{Kind: coretest.Answer, Status: 500, Why: "stack trace"}, {Kind: coretest.Refuse},
		} {
			fault.Method, fault.Path = http.MethodGet, "/api/products/v2/browse"
			cancel := p.core.Fault(fault)
			a := p.manager.post(t, "/products/push", nil).want(t, http.StatusBadGateway)
			if strings.Contains(string(a.body), "<html") || strings.Contains(string(a.body), "DOCTYPE") {
				t.Errorf("%s: %s", fault.Kind, a)
			}
			cancel()
		}
		p.manager.post(t, "/products/push", nil).want(t, http.StatusOK)
		p.awaitListed(t, all...)
	})

	t.Run("retiring, ending and deleting each take exactly one product away", func(t *testing.T) {
		without := func(gone ...string) []string {
			return slices.DeleteFunc(slices.Clone(all), func(ref string) bool {
				return slices.ContainsFunc(gone, func(name string) bool { return strings.HasSuffix(ref, "/"+name) })
			})
		}
		p.manager.put(t, "/promotedflavors/"+ids["uc-t4-1"], flavorOf("retired", true)).want(t, http.StatusOK)
		p.awaitListed(t, without("uc-t4-1")...)
		p.manager.delete(t, "/promotedflavors/"+ids["uc-general-large"]+"/product").want(t, http.StatusNoContent)
		p.awaitListed(t, without("uc-t4-1", "uc-general-large")...)
		p.manager.delete(t, "/promotedflavors/"+ids["uc-general-xlarge"]).want(t, http.StatusNoContent)
		p.awaitListed(t, without("uc-t4-1", "uc-general-large", "uc-general-xlarge")...)
		p.manager.put(t, "/promotedflavors/"+ids["uc-t4-1"], flavorOf("retired", false)).want(t, http.StatusOK)
		p.awaitListed(t, without("uc-general-large", "uc-general-xlarge")...)
	})
}

// ucloudSetups: other ways to be a provider, or none.
func ucloudSetups(t *testing.T, s *setup) {
	t.Run("with push off all products are listed, in the categories of OpenStackGateway's rule", func(t *testing.T) {
		p := provide(t, s, map[string]any{"push": "off", "default_category": "standard"},
			with("pricing", map[string]any{"per_vcpu": "0.1", "currency": "DKK"}))
		want := []string{}
		for _, v := range []struct{ name, zone, category string }{
			{"uc-t4", "uc-t4", "uc-t4"}, {"uc-t4-h", "uc-t4", "uc-t4-h"}, {"uc-general-small", "uc-general", "uc-general"},
			{"uc-general-small-h", "uc-general", "uc-general-h"}, {"elsewhere", "", "standard"},
		} {
			f := sized(v.name)
			if v.zone != "" {
				f = f.and("extra_specs", map[string]string{"availability_zone": v.zone})
			}
			p.manager.post(t, "/promotedflavors", f).want(t, http.StatusCreated)
			want = append(want, v.category+"/"+v.name)
		}
		p.awaitListed(t, want...)
		p.manager.post(t, "/products/push", nil).want(t, http.StatusConflict).says(t, "off")
		if r := p.report(t); r.Push.Mode != "off" || r.Push.State != "never" {
			t.Errorf("the report is %+v", r)
		}
		if n := len(p.core.Requests("", "")); n != 0 {
			t.Errorf("Core was called %d times", n)
		}
	})

	t.Run("a region that is down takes nothing from the list", func(t *testing.T) {
		p := provide(t, s, map[string]any{"push": "off"}, with("pricing", map[string]any{"per_vcpu": "0.1", "currency": "DKK"}))
		c := extra(t, "down")
		region := c.regions[0]
		p.manager.post(t, "/infrastructures", c.infrastructure(region).and("keystone_url", closedPort(t)+"/v3")).want(t, http.StatusCreated)
		name := unique()("kept")
		p.manager.post(t, "/promotedflavors", sized(name)).want(t, http.StatusCreated)
		p.manager.get(t, "/flavors", fresh).want(t, http.StatusOK)
		p.awaitListed(t, "uc-general/"+name)
	})

	t.Run("without a provider nothing is served below /ucloud, and no push is configured", func(t *testing.T) {
		s.product.as(s.manager).get(t, retrieveProducts, prefixed("")).want(t, http.StatusNotFound)
		s.product.as(s.manager).post(t, "/products/push", nil).want(t, http.StatusConflict)
		s.product.as(s.user).get(t, "/products/push").want(t, http.StatusMethodNotAllowed)
		s.product.as(s.user).post(t, "/products/push", nil).want(t, http.StatusMethodNotAllowed)
	})

	if s.database == "mysql" {
		t.Run("without its database it is a 5xx, and never an empty list", func(t *testing.T) {
			p := provide(t, s, map[string]any{"push": "off"})
			p.asCore(t).get(t, retrieveProducts, prefixed("")).want(t, http.StatusOK)
			p.failing = true
			executeSQL(t, "DROP DATABASE "+p.database)
			defer executeSQL(t, "CREATE DATABASE "+p.database) // to be dropped at the end
			eventually(t, "it is a 500", func() bool {
				a := p.asCore(t).get(t, retrieveProducts, prefixed("")).wantOneOf(t, http.StatusOK, http.StatusInternalServerError)
				return a.status == http.StatusInternalServerError && strings.Contains(string(a.body), `"why":"internal error`)
			})
		})
	}
}
