package declared

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write what is read of the files into testdata")

// What is read of each file of testdata/files, as it would be created in an empty
// catalogue, or all that is wrong with it, is what the .golden beside it has.
func TestFiles(t *testing.T) {
	files, err := filepath.Glob("testdata/files/*.yaml")
	if err != nil || len(files) < 10 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, path := range files {
		name := filepath.Base(path)
		t.Run(name, func(t *testing.T) {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			var got bytes.Buffer
			file, err := Parse(name, text, Options{})
			if wrong := strings.HasPrefix(name, "wrong_"); wrong != (err != nil) {
				t.Errorf("the error is %v", err)
			}
			if err != nil {
				fmt.Fprintln(&got, err)
			} else if err := NewPlan(file, Catalogue{Regions: []string{"Spain2", "Trento"}}, Wish{}).Show(&got); err != nil {
				t.Fatal(err)
			}
			golden := strings.TrimSuffix(path, ".yaml") + ".golden"
			if *update {
				if err := os.WriteFile(golden, got.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got.String()); diff != "" {
				t.Errorf("%s (-want +got; -update writes it):\n%s", name, diff)
			}
		})
	}
}

// Whoever wants the mandatory flavors only keeps the recommended ones where they are.
func TestMandatoryOnly(t *testing.T) {
	text, err := os.ReadFile("testdata/files/scs.yaml")
	if err != nil {
		t.Fatal(err)
	}
	file, err := Parse("scs.yaml", text, Options{MandatoryOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	if len(file.Flavors) != 2 || !slices.Equal(file.LeftOut, []LeftOut{{"SCS-1V-4-10", "recommended only"}}) {
		t.Errorf("%d flavors, %v left out", len(file.Flavors), file.LeftOut)
	}
	if _, err := Parse("r.yaml", []byte("recommended: [{name: a, cpus: 1, ram: 1}]"), Options{MandatoryOnly: true}); err == nil || !strings.Contains(err.Error(), "an empty list is never applied") {
		t.Errorf("a file of which nothing is left: %v", err)
	}
}

// A file that would take all memory, or for ever, is refused, with few words.
func TestBombs(t *testing.T) {
	var aliases strings.Builder
	aliases.WriteString("flavors:\n  - {name: n, vcpus: 1, ram: 1, disk: 0, extra_specs: &a {")
	for i := range 3000 {
		fmt.Fprintf(&aliases, "k%d: v, ", i)
	}
	aliases.WriteString("k: v}}\n")
	for i := range 20_000 {
		fmt.Fprintf(&aliases, "  - {name: n%d, vcpus: 1, ram: 1, disk: 0, extra_specs: *a}\n", i)
	}
	for name, text := range map[string]string{
		"too long":     "flavors: [" + strings.Repeat(" ", MaxBytes) + "]",
		"aliases":      aliases.String(),
		"a loop":       "flavors: &a [*a, *a]",
		"nine laughs":  "a: &a [l]\nb: &b [*a,*a,*a]\nc: &c [*b,*b,*b]\nflavors: &d [*c,*c,*c]",
		"merged":       "flavors: [&a {<<: *a}]",
		"deep":         "flavors: " + strings.Repeat("[", 100_000),
		"deep mapping": strings.Repeat("{a: ", 50_000),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Parse("bomb.yaml", []byte(text), Options{})
			if err == nil {
				t.Error("is taken")
			} else if lines := strings.Count(err.Error(), "\n"); lines > maxProblems+1 {
				t.Errorf("%d lines are told", lines)
			}
		})
	}
}

// As many flavors as a file may have are read within what somebody waits for.
func TestManyFlavors(t *testing.T) {
	var text strings.Builder
	text.WriteString("flavors:\n")
	for i := range 20_000 {
		fmt.Fprintf(&text, "  - {name: f%d, vcpus: 1, ram: 512, disk: 0, extra_specs: {\"hw:cpu_policy\": shared}}\n", i)
	}
	file, err := Parse("many.yaml", []byte(text.String()), Options{})
	if err != nil || len(file.Flavors) != 20_000 {
		t.Fatalf("%d flavors: %v", len(file.Flavors), err)
	}
}
