package main

import (
	"strings"
	"testing"
)

// Each case is the events of one run, and the end of what a person gets to see.
func TestTotals(t *testing.T) {
	for _, c := range []struct {
		name, events, want string
		ok                 bool
	}{
		{
			name: "a subtest counts, the test around it does not",
			events: `{"Action":"start","Package":"p"}
{"Action":"run","Package":"p","Test":"TestA"}
{"Action":"run","Package":"p","Test":"TestA/one"}
{"Action":"run","Package":"p","Test":"TestA/two"}
{"Action":"pass","Package":"p","Test":"TestA/one"}
{"Action":"pass","Package":"p","Test":"TestA/two"}
{"Action":"pass","Package":"p","Test":"TestA"}
{"Action":"pass","Package":"p","Elapsed":1.5}`,
			want: "ok    p  1.5s  (2 passed, 0 failed, 0 skipped)\n\n2 passed, 0 failed, 0 skipped\n",
			ok:   true,
		},
		{
			name: "a slash in a subtest's own name makes no test of its parts",
			events: `{"Action":"run","Package":"p","Test":"TestA"}
{"Action":"run","Package":"p","Test":"TestA/GET_/v1/flavors"}
{"Action":"pass","Package":"p","Test":"TestA/GET_/v1/flavors"}
{"Action":"pass","Package":"p","Test":"TestA"}
{"Action":"pass","Package":"p"}`,
			want: "\n1 passed, 0 failed, 0 skipped\n",
			ok:   true,
		},
		{
			name: "what failed is shown whole, and blamed once",
			events: `{"Action":"run","Package":"p","Test":"TestA"}
{"Action":"run","Package":"p","Test":"TestA/one"}
{"Action":"output","Package":"p","Test":"TestA/one","Output":"    a_test.go:1: got 1, want 2\n"}
{"Action":"fail","Package":"p","Test":"TestA/one"}
{"Action":"fail","Package":"p","Test":"TestA"}
{"Action":"fail","Package":"p"}`,
			want: "    a_test.go:1: got 1, want 2\nFAIL  p  0s  (0 passed, 1 failed, 0 skipped)\n\nFailed:\n  p TestA/one\n\n0 passed, 1 failed, 0 skipped\n",
		},
		{
			name: "a skipped test is named with its reason",
			events: `{"Action":"run","Package":"p","Test":"TestA"}
{"Action":"pass","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Test":"TestB","Output":"=== RUN   TestB\n"}
{"Action":"output","Package":"p","Test":"TestB","Output":"    b_test.go:7: no MariaDB\n"}
{"Action":"output","Package":"p","Test":"TestB","Output":"--- SKIP: TestB (0.00s)\n"}
{"Action":"skip","Package":"p","Test":"TestB"}
{"Action":"pass","Package":"p"}`,
			want: "\nSkipped:\n  p TestB: b_test.go:7: no MariaDB\n\n1 passed, 0 failed, 1 skipped\n",
			ok:   true,
		},
		{
			name: "that all is skipped is no failure",
			events: `{"Action":"output","Package":"p","Test":"TestB","Output":"    b_test.go:7: no MariaDB\n"}
{"Action":"skip","Package":"p","Test":"TestB"}
{"Action":"pass","Package":"p"}`,
			want: "\nSkipped:\n  p TestB: b_test.go:7: no MariaDB\n\n0 passed, 0 failed, 1 skipped\n",
			ok:   true,
		},
		{
			name: "a package that does not build is a failure",
			events: `{"ImportPath":"p [p.test]","Action":"build-output","Output":"p/a.go:1: undefined: x\n"}
{"ImportPath":"p [p.test]","Action":"build-fail"}
{"Action":"start","Package":"p"}
{"Action":"output","Package":"p","Output":"FAIL\tp [build failed]\n"}
{"Action":"fail","Package":"p","FailedBuild":"p [p.test]"}`,
			want: "p/a.go:1: undefined: x\nFAIL\tp [build failed]\nFAIL  p  0s  (0 passed, 1 failed, 0 skipped)\n\nFailed:\n  p: does not build\n\n0 passed, 1 failed, 0 skipped\n",
		},
		{
			name: "a test that a panic or a time limit kept from finishing is a failure",
			events: `{"Action":"run","Package":"p","Test":"TestA"}
{"Action":"fail","Package":"p"}`,
			want: "\nFailed:\n  p TestA: did not finish\n\n0 passed, 1 failed, 0 skipped\n",
		},
		{
			name:   "a run that was ended is a failure",
			events: `{"Action":"start","Package":"p"}`,
			want:   "\nFailed:\n  p: failed outside its tests\n\n0 passed, 1 failed, 0 skipped\n",
		},
		{
			name:   "no test at all is no success",
			events: `{"Action":"skip","Package":"p"}`,
			want:   "\nNo test was run.\n\n0 passed, 0 failed, 0 skipped\n",
		},
		{
			name:   "what is no event is passed on",
			events: "go: something to know\n" + `{"Action":"pass","Package":"p","Test":"TestA"}` + "\n" + `{"Action":"pass","Package":"p"}`,
			want:   "go: something to know\nok    p  0s  (1 passed, 0 failed, 0 skipped)\n\n1 passed, 0 failed, 0 skipped\n",
			ok:     true,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out strings.Builder
			totals := newTotals(&out)
			if err := totals.read(strings.NewReader(c.events)); err != nil {
				t.Fatal(err)
			}
			if ok := totals.finish(); ok != c.ok {
				t.Errorf("told %t, want %t", ok, c.ok)
			}
			if !strings.HasSuffix(out.String(), c.want) {
				t.Errorf("printed\n%s\nwant at the end\n%s", out.String(), c.want)
			}
		})
	}
}
