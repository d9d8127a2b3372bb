// Package readme_test keeps README.md and CONTRIBUTING.md true: what they show
// is run, and what they list is compared with what there is.
//
//	FLAVORSYNC_TEST_BINARY   a path   runs that command instead of building one
//	FLAVORSYNC_TEST_LOGS     a path   keeps what the demo logs in that directory
package readme_test

import (
	"bufio"
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write what the examples print into README.md and docs/")

const root = "../../"

// The addresses of the demo, and the command, as README.md has them.
const (
	shownAPI     = "127.0.0.1:8080"
	shownCloud   = "127.0.0.1:5000"
	shownCommand = "bin/flavorsync "
)

// example is one block of commands, and the block that shows what they print.
type example struct {
	line     int // of the page, where the commands begin
	commands string
	printed  string
	from, to int // of printed, in the page; 0 where no block follows
}

// What stands between these lines of a page is run against the demo: blocks
// of commands (sh), each with what it prints in the block that follows, if it
// prints anything.
const (
	beginDemo = "<!-- run against the demo by test/readme -->\n"
	endDemo   = "<!-- end -->\n"
)

var block = regexp.MustCompile("(?s)\n```(\\w+)\n((?:.*?\n)??)```\n")

// TestExamples pastes the examples of each page into a shell, one after the other,
// beside a demo that has just been started. A reader who does the same must see
// the same. Where something else should be printed from now on,
//
//	go test ./test/readme -update
//
// writes it into the page.
func TestExamples(t *testing.T) {
	for _, program := range []string{"bash", "curl", "jq", "openstack"} {
		if _, err := exec.LookPath(program); err != nil {
			if os.Getenv("CI") == "true" {
				t.Fatalf("the examples need %s (and CI=true: nothing may be skipped)", program)
			}
			t.Skipf("the examples need %s", program)
		}
	}
	binary := demoBinary(t)
	for _, page := range pages(t) {
		t.Run(page, func(t *testing.T) {
			t.Parallel()
			runExamples(t, binary, page)
		})
	}
}

// pages are those with examples to run.
func pages(t *testing.T) []string {
	t.Helper()
	docs, err := filepath.Glob(root + "docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	all := []string{"README.md"}
	for _, path := range docs {
		all = append(all, strings.TrimPrefix(path, root))
	}
	return all
}

func runExamples(t *testing.T, binary, page string) {
	text := read(t, page)
	examples := examplesOf(t, page, text)
	api, cloud := startDemo(t, binary)
	command, err := filepath.Abs(binary)
	if err != nil {
		t.Fatal(err)
	}
	toDemo := strings.NewReplacer(shownAPI, api, shownCloud, cloud, shownCommand, command+" ")
	toShown := strings.NewReplacer(api, shownAPI, cloud, shownCloud)

	const ends = "\n--- end of an example, exit status "
	var script strings.Builder
	for _, e := range examples {
		fmt.Fprintf(&script, "%s\nprintf '%s%%d\\n' $?\n", toDemo.Replace(e.commands), strings.ReplaceAll(ends, "\n", `\n`))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	shell := exec.CommandContext(ctx, "bash", "-c", script.String())
	shell.Env = append(slices.DeleteFunc(os.Environ(), func(v string) bool {
		return strings.HasPrefix(v, "OS_") || strings.HasPrefix(v, "FLAVORSYNC_")
	}), "HOME="+t.TempDir(), "NO_PROXY=127.0.0.1", "no_proxy=127.0.0.1")
	if shell.Dir, err = filepath.Abs(root); err != nil {
		t.Fatal(err)
	}
	var complaints bytes.Buffer
	shell.Stderr = &complaints
	output, err := shell.Output()
	if err != nil {
		t.Fatalf("the shell: %v\n%s", err, complaints.String())
	}

	updated := text
	rest := toShown.Replace(string(output))
	results := make([]string, len(examples))
	for i, e := range examples {
		printed, after, found := strings.Cut(rest, ends)
		status, after, _ := strings.Cut(after, "\n")
		if !found {
			t.Fatalf("%s:%d: the shell ended here\n%s", page, e.line, complaints.String())
		}
		if status != "0" {
			t.Errorf("%s:%d: the commands end with status %s\n%s", page, e.line, status, complaints.String())
		}
		rest, results[i] = after, steady(printed)
		if results[i] != steady(e.printed) && !*update {
			t.Errorf("%s:%d: these commands\n%sprint\n%s\nand not what is shown:\n%s", page, e.line, e.commands, printed, e.printed)
		}
	}
	if !*update || t.Failed() {
		return
	}
	for i, e := range slices.Backward(examples) {
		if results[i] != steady(e.printed) && e.to > 0 {
			updated = updated[:e.from] + results[i] + updated[e.to:]
		}
	}
	if err := os.WriteFile(root+page, []byte(updated), 0o644); err != nil {
		t.Fatal(err)
	}
}

func examplesOf(t *testing.T, page, text string) []example {
	t.Helper()
	var all []example
	for at := 0; ; {
		begin := strings.Index(text[at:], beginDemo)
		if begin < 0 {
			break
		}
		begin += at
		length := strings.Index(text[begin:], endDemo)
		if length < 0 {
			t.Fatalf("%s: %q has no %q", page, beginDemo, endDemo)
		}
		at = begin + length
		for _, m := range block.FindAllStringSubmatchIndex(text[begin:at], -1) {
			language, from, to := text[begin+m[2]:begin+m[3]], begin+m[4], begin+m[5]
			if language == "sh" {
				all = append(all, example{line: strings.Count(text[:from], "\n") + 1, commands: text[from:to]})
				continue
			}
			if len(all) == 0 || all[len(all)-1].to > 0 {
				t.Fatalf("%s:%d: there are no commands before what they print", page, strings.Count(text[:from], "\n"))
			}
			last := &all[len(all)-1]
			last.printed, last.from, last.to = text[from:to], from, to
		}
	}
	if len(all) < 5 {
		t.Fatalf("%s has %d examples: are the marks around them still as this test knows them?", page, len(all))
	}
	return all
}

var (
	requestID = regexp.MustCompile(`req-[0-9a-f]{32}`)
	moment    = regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3})?Z`)
	operation = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}`) // version 7: by time
)

// steady is a printed text with what differs each time made the same, and
// without the blanks that an editor may take off.
func steady(printed string) string {
	printed = requestID.ReplaceAllString(printed, "req-6d5c8f0e9b7a4c3d2e1f0a9b8c7d6e5f")
	printed = operation.ReplaceAllString(printed, "0197a4f2-6b01-7c44-8f3e-51d2b7a9e610")
	printed = moment.ReplaceAllString(printed, "2026-11-21T09:30:00Z")
	lines := strings.Split(strings.TrimSpace(printed), "\n")
	for i, line := range lines {
		lines[i] = strings.TrimRight(line, " \r")
	}
	return strings.Join(lines, "\n") + "\n"
}

func demoBinary(t *testing.T) string {
	t.Helper()
	if binary := os.Getenv("FLAVORSYNC_TEST_BINARY"); binary != "" {
		return binary
	}
	binary := filepath.Join(t.TempDir(), "flavorsync")
	build := exec.Command("go", "build", "-o", binary, "./cmd/flavorsync")
	build.Dir = root
	if output, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building the demo: %v\n%s", err, output)
	}
	return binary
}

// startDemo runs the demo until the test ends, and is the addresses of
// Flavorsync and of the simulated federation.
func startDemo(t *testing.T, binary string) (api, cloud string) {
	t.Helper()
	demo := exec.Command(binary, "demo", "--listen", "127.0.0.1:0", "--cloud-listen", "127.0.0.1:0")
	demo.Stderr = os.Stderr
	out, err := demo.StdoutPipe()
	if err == nil {
		err = demo.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	drained := make(chan struct{})
	t.Cleanup(func() {
		_ = demo.Process.Signal(syscall.SIGTERM)
		<-drained
		if err := demo.Wait(); err != nil {
			t.Errorf("the demo ended with %v", err)
		}
	})
	log := io.Discard
	if dir := os.Getenv("FLAVORSYNC_TEST_LOGS"); dir != "" {
		f, err := os.CreateTemp(dir, "readme-*.log")
		if err != nil {
			t.Fatal(err)
		}
		log = f
	}
	type addresses struct{ api, cloud string }
	found := make(chan addresses, 1)
	go func() {
		defer close(drained)
		var a addresses
		lines := bufio.NewScanner(out)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			if strings.HasPrefix(lines.Text(), "{") { // it tells its passwords beside the log
				fmt.Fprintln(log, lines.Text())
			}
			name, value, _ := strings.Cut(lines.Text(), " ")
			address := regexp.MustCompile(`^\s*http://([^/\s]+)`).FindStringSubmatch(value)
			switch {
			case address != nil && name == "Flavorsync":
				a.api = address[1]
			case address != nil && name == "Keystone":
				a.cloud = address[1]
			case strings.Contains(lines.Text(), `"msg":"listening"`):
				found <- a
			}
		}
	}()
	select {
	case a := <-found:
		if a.api != "" && a.cloud != "" {
			return a.api, a.cloud
		}
		t.Fatal("the demo does not print its addresses")
	case <-drained:
		t.Fatal("the demo ended")
	case <-time.After(time.Minute):
		t.Fatal("the demo does not listen")
	}
	return "", ""
}

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(root + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
