// Totals reads what `go test -json` prints and tells it to a person: one line
// for each package, the whole output of what failed, the names of what was
// skipped with the reasons, and last of all the totals. It exits with status 1
// if anything failed, or if there was no test at all.
package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"
)

func main() {
	t := newTotals(os.Stdout)
	if err := t.read(os.Stdin); err != nil {
		fmt.Fprintln(os.Stderr, "totals: while reading the results:", err)
		os.Exit(2)
	}
	if !t.finish() {
		os.Exit(1)
	}
}

// event is one line of `go test -json`, as `go doc test2json` and `go help
// buildjson` describe it.
type event struct {
	Action      string
	Package     string
	ImportPath  string // of build-output and build-fail
	Test        string
	Elapsed     float64 // in seconds
	Output      string
	FailedBuild string // the ImportPath of the build that kept a package from running
}

// test is one test, subtest, example or fuzz target; a package has one without
// a name for all that is no test's own.
type test struct {
	name   string
	output []string
	parent bool   // has subtests
	result string // pass, fail, skip; empty while it runs
}

// listed is a test that is named at the end.
type listed struct{ pkg, name, reason string }

// A running package.
type suite struct {
	tests map[string]*test
	order []*test
}

type totals struct {
	out                     io.Writer
	running                 map[string]*suite
	builds                  map[string][]string // output by ImportPath
	passed, failed, skipped int
	failures, skips         []listed
}

func newTotals(out io.Writer) *totals {
	return &totals{out: out, running: map[string]*suite{}, builds: map[string][]string{}}
}

// read takes events until the end of r. A line that is none is passed on.
func (t *totals) read(r io.Reader) error {
	lines := bufio.NewReader(r)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 {
			var e event
			if json.Unmarshal(line, &e) != nil || e.Action == "" {
				fmt.Fprintf(t.out, "%s\n", strings.TrimRight(string(line), "\n"))
			} else {
				t.add(e)
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (t *totals) add(e event) {
	switch e.Action {
	case "build-output":
		t.builds[e.ImportPath] = append(t.builds[e.ImportPath], e.Output)
		return
	case "build-fail":
		return // its packages tell
	}
	s := t.running[e.Package]
	if s == nil {
		s = &suite{tests: map[string]*test{}}
		t.running[e.Package] = s
	}
	one := s.test(e.Test)
	switch e.Action {
	case "output":
		one.output = append(one.output, e.Output)
	case "pass", "fail", "skip":
		one.result = e.Action
		if e.Test == "" {
			t.end(e, s)
			delete(t.running, e.Package)
		} else if e.Action == "pass" {
			one.output = nil
		}
	}
}

// test returns the one of that name, and marks the one that it is a part of.
func (s *suite) test(name string) *test {
	if one := s.tests[name]; one != nil {
		return one
	}
	one := &test{name: name}
	s.tests[name] = one
	s.order = append(s.order, one)
	// A name may have slashes of its own: only what runs already has parts.
	for i, c := range name {
		if around := s.tests[name[:i]]; c == '/' && around != nil {
			around.parent = true
		}
	}
	return one
}

// end counts a package that has ended with e, and prints its line. A test that
// has subtests counts only where it fails and none of them does.
func (t *totals) end(e event, s *suite) {
	var passed, failed, skipped int
	var blamed []string
	for _, one := range slices.Backward(s.order) { // subtests first
		if one.name == "" {
			continue
		}
		if one.result == "" && e.Action == "pass" {
			one.result = "pass" // of a benchmark there is no event
			continue
		}
		switch {
		case one.result == "skip":
			skipped++
			t.skips = append(t.skips, listed{e.Package, one.name, one.reason()})
		case one.result == "pass":
			if !one.parent {
				passed++
			}
		case one.parent && slices.ContainsFunc(blamed, func(name string) bool { return strings.HasPrefix(name, one.name+"/") }):
		default:
			reason := ""
			if one.result == "" {
				reason = "did not finish"
			}
			failed++
			blamed = append(blamed, one.name)
			t.failures = append(t.failures, listed{e.Package, one.name, reason})
		}
	}
	if e.Action == "fail" && failed == 0 {
		reason := "failed outside its tests"
		if e.FailedBuild != "" {
			reason = "does not build"
		}
		failed++
		t.failures = append(t.failures, listed{e.Package, "", reason})
	}
	t.passed, t.failed, t.skipped = t.passed+passed, t.failed+failed, t.skipped+skipped

	if e.Action == "fail" {
		for _, line := range t.builds[e.FailedBuild] {
			fmt.Fprint(t.out, line)
		}
		for _, one := range s.order {
			if one.result != "pass" && one.result != "skip" {
				fmt.Fprint(t.out, strings.Join(one.output, ""))
			}
		}
	}
	if e.Action == "skip" && passed+failed+skipped == 0 {
		return // no test files
	}
	word := "ok  "
	if e.Action == "fail" {
		word = "FAIL"
	}
	took := time.Duration(e.Elapsed * float64(time.Second)).Round(10 * time.Millisecond)
	fmt.Fprintf(t.out, "%s  %s  %v  (%d passed, %d failed, %d skipped)\n", word, e.Package, took, passed, failed, skipped)
}

// reason is what a skipped test said, in one line.
func (o *test) reason() string {
	var said []string
	for _, line := range o.output {
		line = strings.TrimSpace(line)
		if line != "" && !strings.HasPrefix(line, "=== ") && !strings.HasPrefix(line, "--- ") {
			said = append(said, line)
		}
	}
	return strings.Join(said, " ")
}

// finish prints the lists and the totals, and tells whether all is well.
func (t *totals) finish() bool {
	for pkg, s := range t.running { // go test itself was ended
		t.end(event{Action: "fail", Package: pkg}, s)
	}
	t.list("Skipped", t.skips)
	t.list("Failed", t.failures)
	if t.passed+t.failed+t.skipped == 0 {
		fmt.Fprintln(t.out, "\nNo test was run.")
	}
	fmt.Fprintf(t.out, "\n%d passed, %d failed, %d skipped\n", t.passed, t.failed, t.skipped)
	return t.failed == 0 && t.passed+t.skipped > 0
}

func (t *totals) list(title string, all []listed) {
	if len(all) == 0 {
		return
	}
	slices.SortFunc(all, func(a, b listed) int {
		return cmp.Or(cmp.Compare(a.pkg, b.pkg), cmp.Compare(a.name, b.name))
	})
	fmt.Fprintf(t.out, "\n%s:\n", title)
	for _, one := range all {
		text := strings.TrimSpace(one.pkg + " " + one.name)
		if one.reason != "" {
			text += ": " + one.reason
		}
		fmt.Fprintf(t.out, "  %s\n", text)
	}
}
