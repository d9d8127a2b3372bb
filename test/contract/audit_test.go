package contract_test

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// auditLine is one line of GET /v1/audit; what is absent is zero.
type auditLine struct {
	ID        string            `json:"id" xml:"id,attr"`
	At        time.Time         `json:"at" xml:"at"`
	Provider  string            `json:"provider" xml:"provider"`
	Caller    string            `json:"caller" xml:"caller"`
	Address   string            `json:"address" xml:"address"`
	RequestID string            `json:"request_id" xml:"request_id"`
	Action    string            `json:"action" xml:"action"`
	Object    string            `json:"object" xml:"object"`
	Flavor    string            `json:"flavor" xml:"flavor"`
	Region    string            `json:"region" xml:"region"`
	Outcome   string            `json:"outcome" xml:"outcome"`
	Message   string            `json:"message" xml:"message"`
	Count     int               `json:"count" xml:"count"`
	Before    map[string]string `json:"before" xml:"-"`
	After     map[string]string `json:"after" xml:"-"`

	BeforeXML xmlValues `json:"-" xml:"before"`
	AfterXML  xmlValues `json:"-" xml:"after"`
}

type xmlValues struct {
	Values []struct {
		Key  string `xml:"key,attr"`
		Text string `xml:",chardata"`
	} `xml:"value"`
}

func (v xmlValues) fields() map[string]string {
	if len(v.Values) == 0 {
		return nil
	}
	fields := map[string]string{}
	for _, value := range v.Values {
		fields[value.Key] = value.Text
	}
	return fields
}

// audited are the lines that GET /v1/audit answers, the latest first.
func (a *answer) audited(t *testing.T) []auditLine {
	t.Helper()
	var body struct {
		Audit []auditLine `json:"audit" xml:"entry"`
	}
	var err error
	if a.isXML(t) {
		err = xml.Unmarshal(a.body, &body)
		for i, line := range body.Audit {
			body.Audit[i].Before, body.Audit[i].After = line.BeforeXML.fields(), line.AfterXML.fields()
			body.Audit[i].BeforeXML, body.Audit[i].AfterXML = xmlValues{}, xmlValues{}
		}
	} else {
		err = json.Unmarshal(a.body, &body)
	}
	if err != nil {
		t.Fatalf("%v: %s", err, a)
	}
	return body.Audit
}

// of are the lines of one answer's request, in the order of the deeds, as
// "object region outcome".
func (c client) of(t *testing.T, a *answer) (lines []auditLine, short []string) {
	t.Helper()
	lines = c.get(t, "/audit", query("request_id", a.header.Get("X-Request-Id"))).want(t, 200).audited(t)
	slices.Reverse(lines)
	for _, l := range lines {
		short = append(short, strings.Join(strings.Fields(l.Object+" "+l.Region+" "+l.Outcome), " "))
	}
	return lines, short
}

// audit: who changed what.
func audit(t *testing.T, s *setup) {
	// Of their own: who was refused something a moment ago has fewer lines.
	manager := s.product.as(s.idm.manager(t))
	me := manager.whoami(t)

	tells := func(t *testing.T, a *answer, want ...string) []auditLine {
		t.Helper()
		lines, short := manager.of(t, a)
		if !slices.Equal(short, want) {
			t.Errorf("the audit tells %q, not %q: %s", short, want, a)
		}
		return lines
	}

	t.Run("a promoted flavor from its beginning to its end", func(t *testing.T) {
		for _, f := range formats {
			a := manager.post(t, "/promotedflavors", sized(unique()("x")), in(f)).want(t, 201)
			made := a.flavor(t)
			l := tells(t, a, "flavor success")[0]
			if l.Provider != me.Provider || l.Caller != me.ID || l.Action != "promoted.create" || l.Flavor != made.ID || l.Before != nil || l.After["name"] != made.Name || l.Address != "127.0.0.1" {
				t.Errorf("%+v", l)
			}
			path := "/promotedflavors/" + made.ID
			a = manager.put(t, path, flavorOf("ram", 4096, "description", "d"), in(f)).want(t, 200)
			l = tells(t, a, "flavor success")[0]
			if fmt.Sprint(l.Before, l.After) != fmt.Sprintf("map[description: ram:%d] map[description:d ram:4096]", made.RAM) {
				t.Errorf("%+v", l)
			}
			tells(t, manager.put(t, path, flavorOf("ram", 4096), in(f)).want(t, 200)) // the second changes nothing
			tells(t, manager.put(t, path+"/product", productOf("price", "0.34", "currency", "DKK"), in(f)).want(t, 200), "product success")
			l = tells(t, manager.delete(t, path, in(f)).want(t, 204), "product success", "flavor success")[1]
			if l.After != nil || l.Before["description"] != "d" {
				t.Errorf("%+v", l)
			}
		}
	})

	t.Run("an infrastructure, without its password", func(t *testing.T) {
		c := extra(t, "audited")
		region := c.regions[0]
		tells(t, manager.post(t, "/infrastructures", c.infrastructure(region)).want(t, 201), "infrastructure "+region+" success")
		tells(t, manager.get(t, "/infrastructures/"+region).want(t, 200)) // a look is no change
		l := tells(t, manager.put(t, "/infrastructures/"+region, infrastructureOf("password", secret("new"))).want(t, 200), "infrastructure "+region+" success")[0]
		if l.Before["password"] != "***" || len(l.After) != 1 {
			t.Errorf("%+v", l)
		}
		tells(t, manager.delete(t, "/infrastructures/"+region).want(t, 204), "infrastructure "+region+" success")
	})

	t.Run("what is done in a Nova has a line before and one after", func(t *testing.T) {
		n := s.names(t)
		owner := s.product.as(s.owner(trento))
		a := owner.post(t, "/flavors", sized(n("x"))).want(t, 201)
		tells(t, a, "region_flavor Trento pending", "region_flavor Trento success")
		id := a.flavor(t).ID
		a = owner.put(t, "/flavors/"+id, flavorOf("public", true)).want(t, 200)
		tells(t, a, "flavor success", "node Trento success")
		a = manager.put(t, "/flavors/"+id, flavorOf("nodes", []string{spain2})).want(t, 200)
		tells(t, a, "region_flavor Spain2 pending", "node Spain2 success", "region_flavor Spain2 success")
		a = manager.delete(t, "/flavors/"+id, query("node", spain2)).want(t, 204)
		tells(t, a, "region_flavor Spain2 pending", "node Spain2 success", "region_flavor Spain2 success")
		a = owner.delete(t, "/flavors/"+id).want(t, 204)
		tells(t, a, "region_flavor Trento pending", "node Trento success", "region_flavor Trento success", "flavor success")

		token := keystone(s.cloud.token(t, "operator"))
		user := s.product.as(s.idm.user(t))
		private := user.post(t, "/regions/Trento/flavors", sized(n("y")), token).want(t, 201).flavor(t)
		a = user.put(t, "/regions/Trento/flavors/"+private.ID, flavorOf("vcpus", 7), token).want(t, 200)
		l := tells(t, a, "region_flavor Trento pending", "region_flavor Trento success")[1]
		if l.After["vcpus"] != "7" || l.Flavor != private.ID || l.Action != "region_flavor.change" {
			t.Errorf("%+v", l)
		}
		tells(t, user.delete(t, "/regions/Trento/flavors/"+private.ID, token).want(t, 204), "region_flavor Trento pending", "region_flavor Trento success")
	})

	t.Run("a refusal is told, the next ones are counted, and strangers are not told of", func(t *testing.T) {
		caller := s.idm.user(t)
		user := s.product.as(caller)
		first := user.delete(t, "/promotedflavors/"+someUUID).wantManagersOnly(t)
		l := tells(t, first, "call refused")[0]
		if l.Action != "promoted.delete" || l.Message == "" || l.Caller != user.whoami(t).ID {
			t.Errorf("%+v", l)
		}
		for range 3 {
			tells(t, user.post(t, "/promotedflavors", sized("x")).wantManagersOnly(t))
		}
		token := keystone(s.cloud.token(t, "member"))
		tells(t, user.post(t, "/regions/Trento/flavors", sized(unique()("x")), token).want(t, 403))
		tells(t, s.product.as(anonymous()).delete(t, "/promotedflavors/"+someUUID).wantNoCredential(t))
		tells(t, s.product.as(byToken("a stranger", secret("bad"))).delete(t, "/promotedflavors/"+someUUID).wantNoCredential(t))
		if got := manager.get(t, "/audit", query("caller", user.whoami(t).ID)).want(t, 200).audited(t); len(got) != 1 {
			t.Errorf("%d lines of one who was refused five times within a minute", len(got))
		}
	})

	t.Run("what was counted is told when the service ends", func(t *testing.T) {
		pr := s.serve(t)
		user := pr.as(s.idm.user(t))
		for range 4 {
			user.delete(t, "/promotedflavors/"+someUUID).wantManagersOnly(t)
		}
		pr.terminate(t)
		pr.run(t)
		got := pr.as(s.manager).get(t, "/audit").want(t, 200).audited(t)
		if len(got) != 2 || got[0].Count != 3 || got[1].Count != 0 {
			t.Errorf("%+v", got)
		}
	})

	t.Run("pages, filters and both formats tell the same", func(t *testing.T) {
		pr := s.serve(t)
		manager := pr.as(s.manager)
		begun := time.Now().Add(-time.Second).UTC().Format(time.RFC3339)
		for range 5 {
			manager.post(t, "/promotedflavors", sized(unique()("x"))).want(t, 201)
		}
		all := manager.get(t, "/audit", query("since", begun), query("outcome", "success"), query("object", "flavor")).want(t, 200).audited(t)
		inXML := manager.get(t, "/audit", in(asXML)).want(t, 200).audited(t)
		if len(all) != 5 || fmt.Sprint(all) != fmt.Sprint(inXML) {
			t.Fatalf("%+v\n%+v", all, inXML)
		}
		var paged []auditLine
		for path := "/v1/audit?limit=2"; path != ""; {
			a := manager.get(t, path, prefixed("")).want(t, 200)
			paged = append(paged, a.audited(t)...)
			path = a.nextPath(t)
		}
		if fmt.Sprint(paged) != fmt.Sprint(all) {
			t.Errorf("%+v\n%+v", paged, all)
		}
		for _, q := range []string{"caller=nobody", "region=Trento", "action=flavor.delete", "until=" + begun} {
			if got := manager.get(t, "/audit?"+q).want(t, 200).audited(t); len(got) != 0 {
				t.Errorf("%s: %d lines", q, len(got))
			}
		}
		tag := manager.get(t, "/audit").want(t, 200).header.Get("ETag")
		manager.get(t, "/audit", header("If-None-Match", tag)).want(t, http.StatusNotModified)
		manager.get(t, "/audit?limit=1001").want(t, 400).says(t, "limit")
		manager.get(t, "/audit?outcome=good").want(t, 400).says(t, "outcome")
	})
}
