package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// What is wrong is said, and decides how the command ends: 2 for what is wrong, also
// where something else cannot be told, and 1 for what cannot be told.
func TestStatusVerdict(t *testing.T) {
	now := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		name, answer string
		status       int // 0: all is well
		says         string
	}{
		{"no region", `{"regions": []}`, 0, ""},
		{"up", `{"regions": [{"region": "A", "state": "up", "next_look": "2026-11-26T11:59:00Z", "failed": 0, "drifted": 0, "pending": 7}]}`, 0, ""},
		{"not asked yet", `{"regions": [{"region": "A", "state": "unknown"}]}`, exitUnknown, "A was not asked yet"},
		{"down", `{"regions": [{"region": "A", "state": "unreachable"}, {"region": "B", "state": "unknown"}]}`, exitWrong, "A is unreachable; B was not asked yet"},
		{"refused", `{"regions": [{"region": "A", "state": "refused"}]}`, exitWrong, "A is refused"},
		{"overdue", `{"regions": [{"region": "A", "state": "up", "next_look": "2026-11-26T11:50:00Z"}]}`, exitWrong, "the next look at A is overdue by 10m0s"},
		{"failed", `{"regions": [{"region": "A", "state": "up", "failed": 2}]}`, exitWrong, "A has failed nodes of operations: 2"},
		{"drifted", `{"regions": [{"region": "A", "state": "up", "drifted": 3}]}`, exitWrong, "A has flavors that drifted: 3"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var s toldStatus
			if err := json.Unmarshal([]byte(c.answer), &s); err != nil {
				t.Fatal(err)
			}
			err := s.verdict(now)
			switch {
			case err == nil && c.status != 0:
				t.Errorf("all is well, but it is not")
			case err != nil && (exitStatus(err) != c.status || err.Error() != c.says):
				t.Errorf("%d: %v", exitStatus(err), err)
			}
		})
	}
}

func TestStatusTable(t *testing.T) {
	var s toldStatus
	err := json.Unmarshal([]byte(`{"regions": [
		{"region": "Spain2", "state": "up", "last_seen": "2026-11-26T11:59:30Z"},
		{"region": "Trento", "state": "unreachable", "last_seen": "2026-11-26T11:00:00Z", "last_look": "2026-11-26T11:59:00Z", "next_look": "2026-11-26T11:59:55Z",
		 "duration_ms": 1500, "last_error": "its Nova is down", "pending": 3, "failed": 1, "drifted": 2}],
		"operations": {"running": 1, "succeeded": 2, "failed": 3, "cancelled": 4},
		"failed": [{"operation": "o-1", "name": "insane", "node": "Trento", "attempts": 4, "last_error": "another has the name"}]}`), &s)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := s.table(&out, time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)); err != nil {
		t.Fatal(err)
	}
	want := strings.TrimPrefix(`
REGION  STATE        LAST SEEN   LAST LOOK  TOOK  LAG  PENDING  FAILED  DRIFTED  LAST ERROR
Spain2  up           30s ago     -          -     -    -        -       -        -
Trento  unreachable  1h0m0s ago  1m0s ago   1.5s  5s   3        1       2        its Nova is down

Operations: 1 running, 2 succeeded, 3 failed, 4 cancelled

NODE    FLAVOR  ATTEMPTS  OPERATION  REASON
Trento  insane  4         o-1        another has the name
`, "\n")
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
