package httpapi

import (
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/flavorsync/flavorsync/internal/flavor"
)

var someTime = time.Date(2026, 11, 26, 8, 0, 1, 3e6, time.UTC)

// aStatus is what an owner of Mordor is told: of another region its outline.
var aStatus = flavor.FederationStatus{
	Regions: []flavor.RegionOverview{
		{
			Name: "Mordor", State: flavor.RegionUnreachable, SeenAt: someTime, LookedAt: someTime.Add(time.Hour), NextLook: someTime.Add(2 * time.Hour),
			Took: 1500 * time.Millisecond, LastError: `"<&`, Pending: 1, Failed: 2, Whole: true,
			Drift: []flavor.DriftCount{{Kind: "differs", Count: 1}, {Kind: "missing", Count: 2}},
		},
		{Name: "Rohan", State: flavor.RegionUnknown, Whole: true},
		{Name: "Shire", State: flavor.RegionUp, SeenAt: someTime},
	},
	Operations: flavor.OperationCounts{Running: 1, Succeeded: 2, Failed: 3, Cancelled: 4},
	Failed: []flavor.FailedNode{
		{Operation: "o", Flavor: insane.ID, Name: "insane", Node: "Mordor", Attempts: 5, LastError: "a<b", UpdatedAt: someTime},
		{Operation: "p", Flavor: insane.ID, Name: "insane", Node: "Mordor", LastError: "c", UpdatedAt: someTime},
	},
}

// Programs read these by their keys, and a reader of another's region learns no
// more than the outline.
func TestEncodeStatus(t *testing.T) {
	for _, c := range []struct {
		as     format
		status flavor.FederationStatus
		want   string
	}{
		{asJSON, flavor.FederationStatus{}, `{"status": {"regions": [], "operations": {"running": 0, "succeeded": 0, "failed": 0, "cancelled": 0}, "failed": []}}`},
		{asXML, flavor.FederationStatus{}, xmlDeclaration + `<status><regions></regions><operations><running>0</running><succeeded>0</succeeded><failed>0</failed><cancelled>0</cancelled></operations><failed></failed></status>`},
		{asJSON, aStatus, `{"status": {"regions": [` +
			`{"region": "Mordor", "state": "unreachable", "last_seen": "2026-11-26T08:00:01Z", "last_look": "2026-11-26T09:00:01Z", "next_look": "2026-11-26T10:00:01Z", "duration_ms": 1500, "last_error": "\"<&", "pending": 1, "failed": 2, "drifted": 3}, ` +
			`{"region": "Rohan", "state": "unknown", "last_error": "", "pending": 0, "failed": 0, "drifted": 0}, ` +
			`{"region": "Shire", "state": "up", "last_seen": "2026-11-26T08:00:01Z"}], ` +
			`"operations": {"running": 1, "succeeded": 2, "failed": 3, "cancelled": 4}, "failed": [` +
			`{"operation": "o", "flavor": "567b200e-0aca-49c4-8b52-6c3c2f0b4d11", "name": "insane", "node": "Mordor", "attempts": 5, "last_error": "a<b", "updated_at": "2026-11-26T08:00:01Z"}, ` +
			`{"operation": "p", "flavor": "567b200e-0aca-49c4-8b52-6c3c2f0b4d11", "name": "insane", "node": "Mordor", "attempts": 0, "last_error": "c", "updated_at": "2026-11-26T08:00:01Z"}]}}`},
		{asXML, aStatus, xmlDeclaration + `<status><regions>` +
			`<region name="Mordor"><state>unreachable</state><last_seen>2026-11-26T08:00:01Z</last_seen><last_look>2026-11-26T09:00:01Z</last_look><next_look>2026-11-26T10:00:01Z</next_look><duration_ms>1500</duration_ms><last_error>&#34;&lt;&amp;</last_error><pending>1</pending><failed>2</failed><drifted>3</drifted></region>` +
			`<region name="Rohan"><state>unknown</state><last_error></last_error><pending>0</pending><failed>0</failed><drifted>0</drifted></region>` +
			`<region name="Shire"><state>up</state><last_seen>2026-11-26T08:00:01Z</last_seen></region></regions>` +
			`<operations><running>1</running><succeeded>2</succeeded><failed>3</failed><cancelled>4</cancelled></operations><failed>` +
			`<failure><operation>o</operation><flavor>567b200e-0aca-49c4-8b52-6c3c2f0b4d11</flavor><name>insane</name><node>Mordor</node><attempts>5</attempts><last_error>a&lt;b</last_error><updated_at>2026-11-26T08:00:01Z</updated_at></failure>` +
			`<failure><operation>p</operation><flavor>567b200e-0aca-49c4-8b52-6c3c2f0b4d11</flavor><name>insane</name><node>Mordor</node><attempts>0</attempts><last_error>c</last_error><updated_at>2026-11-26T08:00:01Z</updated_at></failure>` +
			`</failed></status>`},
	} {
		if diff := cmp.Diff(c.want, string(encodeStatus(c.as, &c.status))); diff != "" {
			t.Errorf("%v (-want +got):\n%s", c.as, diff)
		}
	}
}

func TestGetStatus(t *testing.T) {
	s := newSetup(t)
	s.market.status = aStatus
	w := s.do(t, "GET /v1/status", "")
	if w.Code != http.StatusOK || w.Body.String() != string(encodeStatus(asJSON, &aStatus)) || s.market.called() != "Status" {
		t.Errorf("%d %s after %s", w.Code, w.Body, s.market.called())
	}
	s.market.err = flavor.Forbidden("no")
	if w := s.do(t, "GET /v1/status", ""); w.Code != http.StatusForbidden {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}
