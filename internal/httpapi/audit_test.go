package httpapi

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/flavorsync/flavorsync/internal/flavor"
)

var aLine = flavor.AuditEntry{
	ID: "0197a4f2-6b01-7c44-8f3e-51d2b7a9e610", At: time.Date(2026, 11, 26, 8, 0, 1, 3_900_000, time.FixedZone("", 3600)),
	By:     flavor.Actor{Provider: "keyrock", ID: "f<>", Name: "Frodo", Address: "::1", RequestID: "req-1", Action: flavor.ChangePromoted},
	Object: flavor.AuditedFlavor, Flavor: insane.ID, Region: "Mordor", Outcome: flavor.Success,
	Before: map[string]string{"ram": "1", "extra_specs.a\"": ""}, After: map[string]string{"ram": "2", "extra_specs.a\"": "&"},
}

// Readers of both formats see one and the same.
func TestEncodeAudit(t *testing.T) {
	refused := flavor.AuditEntry{ID: "i", By: flavor.Actor{Provider: "p", ID: "c"}, Object: flavor.AuditedCall, Outcome: flavor.Refused, Message: "no", Count: 3}
	for _, c := range []struct {
		as   format
		list []flavor.AuditEntry
		want string
	}{
		{asJSON, nil, `{"audit": []}`},
		{asXML, nil, xmlDeclaration + `<audit/>`},
		{asJSON, []flavor.AuditEntry{aLine, refused}, `{"audit": [{"id": "0197a4f2-6b01-7c44-8f3e-51d2b7a9e610", "at": "2026-11-26T07:00:01.003Z", "provider": "keyrock", "caller": "f<>", "name": "Frodo", "address": "::1", "request_id": "req-1", "action": "promoted.change", "object": "flavor", "flavor": "567b200e-0aca-49c4-8b52-6c3c2f0b4d11", "region": "Mordor", "outcome": "success", "before": {"extra_specs.a\"": "", "ram": "1"}, "after": {"extra_specs.a\"": "&", "ram": "2"}}, ` +
			`{"id": "i", "at": "0001-01-01T00:00:00.000Z", "provider": "p", "caller": "c", "name": "", "address": "", "request_id": "", "action": "", "object": "call", "outcome": "refused", "message": "no", "count": 3}]}`},
		{asXML, []flavor.AuditEntry{aLine}, xmlDeclaration + `<audit><entry id="0197a4f2-6b01-7c44-8f3e-51d2b7a9e610"><at>2026-11-26T07:00:01.003Z</at><provider>keyrock</provider><caller>f&lt;&gt;</caller><name>Frodo</name><address>::1</address><request_id>req-1</request_id><action>promoted.change</action><object>flavor</object><flavor>567b200e-0aca-49c4-8b52-6c3c2f0b4d11</flavor><region>Mordor</region><outcome>success</outcome>` +
			`<before><value key="extra_specs.a&#34;"></value><value key="ram">1</value></before><after><value key="extra_specs.a&#34;">&amp;</value><value key="ram">2</value></after></entry></audit>`},
	} {
		if diff := cmp.Diff(c.want, string(encodeAudit(c.as, c.list))); diff != "" {
			t.Error(diff)
		}
	}
}

// A manager narrows the audit by its query and follows its pages; what cannot be
// meant is told.
func TestAuditQuery(t *testing.T) {
	s := newSetup(t)
	s.market.audit, s.market.moreAudit = []flavor.AuditEntry{aLine}, true
	at := time.Date(2026, 11, 26, 8, 0, 0, 0, time.UTC)
	for query, want := range map[string]flavor.AuditFilter{
		"":                      {Limit: defaultAudit},
		"?caller=&limit=&since": {Limit: defaultAudit},
		"?provider=p&caller=c&request_id=r&action=flavor.change&object=node&flavor=f&region=R&outcome=refused&limit=1000&marker=" + aLine.ID: {
			Provider: "p", Caller: "c", RequestID: "r", Action: flavor.ChangeFlavor, Object: flavor.AuditedNode, Flavor: "f", Region: "R",
			Outcome: flavor.Refused, Limit: 1000, Behind: aLine.ID,
		},
		"?since=2026-11-26T08:00:00Z&until=2026-11-26T10:00:00%2B02:00": {Since: at, Until: at, Limit: defaultAudit},
	} {
		w := s.do(t, "GET /v1/audit"+query, "")
		wantStatus(t, w, 200)
		if diff := cmp.Diff(want, s.market.auditFilter); diff != "" {
			t.Errorf("%s: %s", query, diff)
		}
		if link := w.Header().Get("Link"); !strings.HasPrefix(link, "</v1/audit?") || !strings.Contains(link, "marker="+aLine.ID) || strings.Count(link, "marker=") != 1 {
			t.Errorf("%s: Link %q", query, link)
		}
	}
	s.market.moreAudit = false
	if link := s.do(t, "GET /v1/audit", "").Header().Get("Link"); link != "" {
		t.Errorf("the last page has the Link %q", link)
	}
	for _, query := range []string{
		"outcome=bad", "since=yesterday", "until=2026-11-26", "limit=0", "limit=1001", "limit=x", "marker=x",
		"marker={" + aLine.ID + "}", "caller=a&caller=b",
	} {
		wantStatus(t, s.do(t, "GET /v1/audit?"+query, ""), 400)
	}
}

// What a known caller may not change is told to the audit with who, what and from
// where; what only reads, and what nobody known asks for, is not.
func TestRefusalsAreTold(t *testing.T) {
	s := newSetup(t)
	s.market.err = flavor.Conflict("in the way")
	for _, c := range []struct {
		request, body, action string
		more                  []string
	}{
		{"PUT /v1/promotedflavors/1", "{}", "promoted.change", nil},
		{"PUT /api/v1/flavors/1", "{", "flavor.change", nil}, // 400
		{"DELETE /v1/nodes/Mordor/flavors/1", "", "region_flavor.delete", nil},
		{"POST /v1/infrastructures", "{}", "infrastructure.create", []string{"Content-Type: text/csv"}}, // 415
		{"DELETE /v1/promotedflavors/1?uninstall=maybe", "", "promoted.delete", nil},                    // 400
		{"GET /v1/flavors/1", "", "", nil},
		{"POST /v1/match", "{}", "", nil},
		{"PUT /v1/flavors/1", "{}", "", []string{"anonymous"}},
		{"PUT /v1/nowhere", "{}", "", nil},
		{"PATCH /v1/flavors/1", "{}", "", nil},
	} {
		s.market.refused = nil
		w := s.do(t, c.request, c.body, append([]string{"X-Request-Id: mine"}, c.more...)...)
		if w.Code < 400 {
			t.Fatalf("%s: %d", c.request, w.Code)
		}
		switch told := s.market.refused; {
		case c.action == "" && len(told) == 0:
		case c.action == "" || len(told) != 1:
			t.Errorf("%s: told %+v", c.request, told)
		case told[0].By != flavor.Actor{Provider: "test", ID: "ann", Name: "Ann", Address: "192.0.2.1", RequestID: "mine", Action: flavor.Action(c.action)}:
			t.Errorf("%s: told of %+v", c.request, told[0].By)
		}
	}
	s.market.err = nil
	s.market.refused = nil
	wantStatus(t, s.do(t, "DELETE /v1/flavors/1", ""), http.StatusNoContent)
	if len(s.market.refused) != 0 {
		t.Error("what was done is told as not done")
	}
}
