package readme_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/flavorsync/flavorsync/api"
	"github.com/flavorsync/flavorsync/internal/config"
)

// TestCalls: the table of calls has every one of the description, and no other.
func TestCalls(t *testing.T) {
	var description struct {
		Paths map[string]map[string]any
	}
	if err := yaml.Unmarshal(api.OpenAPI, &description); err != nil {
		t.Fatal(err)
	}
	var described []string
	for path, item := range description.Paths {
		for _, method := range []string{"get", "post", "put", "delete"} {
			if item[method] != nil {
				described = append(described, strings.ToUpper(method)+" "+path)
			}
		}
	}
	compare(t, "calls", described, column(read(t, "README.md"), `(?m)^\| .((?:GET|POST|PUT|DELETE) /[^ ?]+). \|`))
}

// TestSettings: the table of settings has every one of the configuration, with
// its variable and its default.
func TestSettings(t *testing.T) {
	var rows []string
	var walk func(v reflect.Value, path string)
	walk = func(v reflect.Value, path string) {
		for f, field := range v.Fields() {
			name := strings.TrimPrefix(path+"."+f.Tag.Get("koanf"), ".")
			if field.Kind() == reflect.Struct {
				walk(field, name)
				continue
			}
			shown := "`" + fmt.Sprint(field.Interface()) + "`"
			switch {
			case name == "database.dsn":
				shown = "`" + string(config.Default().Database.DSN) + "`"
			case field.Kind() == reflect.Map:
				shown = "`{}`"
			case name == "identity", field.Kind() == reflect.String && field.Len() == 0:
				shown = "none"
			}
			variable := "FLAVORSYNC_" + strings.ToUpper(strings.ReplaceAll(name, ".", "_"))
			rows = append(rows, "`"+name+"` | `"+variable+"` | "+shown)
		}
	}
	walk(reflect.ValueOf(config.Default()), "")
	compare(t, "settings", rows, column(read(t, "README.md"), "(?m)^\\| (`[a-z0-9_.]+` \\| `FLAVORSYNC_[A-Z0-9_]+` \\| [^|]+) \\|"))
}

// TestPackages: the table of packages has every one, from the bottom up, and
// none imports another of ours than it may.
func TestPackages(t *testing.T) {
	const module = "github.com/flavorsync/flavorsync/"
	list := exec.Command("go", "list", "-json=ImportPath,Imports", "./...")
	list.Dir, list.Stderr = root, os.Stderr
	out, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	imports := map[string][]string{}
	for d := json.NewDecoder(strings.NewReader(string(out))); d.More(); {
		var p struct {
			ImportPath string
			Imports    []string
		}
		if err := d.Decode(&p); err != nil {
			t.Fatal(err)
		}
		name := strings.TrimPrefix(p.ImportPath, module)
		imports[name] = []string{}
		for _, i := range p.Imports {
			if ours, ok := strings.CutPrefix(i, module); ok {
				imports[name] = append(imports[name], ours)
			}
		}
	}
	var listed []string
	for _, row := range regexp.MustCompile("(?m)^\\| `([a-z0-9/]+)` \\|([^|]*)\\|[^|]*\\|$").FindAllStringSubmatch(read(t, "CONTRIBUTING.md"), -1) {
		may := column(row[2], "`([a-z0-9/]+)`")
		for _, other := range may {
			if !slices.Contains(listed, other) {
				t.Errorf("CONTRIBUTING.md: %s may import %s, which is not listed below it", row[1], other)
			}
		}
		listed = append(listed, row[1])
		for _, does := range imports[row[1]] {
			if !slices.Contains(may, does) {
				t.Errorf("%s imports %s, and may not by CONTRIBUTING.md", row[1], does)
			}
		}
	}
	compare(t, "packages", slices.Collect(maps.Keys(imports)), listed)
}

// TestLinks: what the pages point to is there.
func TestLinks(t *testing.T) {
	notLetter := regexp.MustCompile(`[^a-z0-9 _-]`)
	for _, name := range append(pages(t), "CONTRIBUTING.md") {
		text := read(t, name)
		anchors := column(text, `(?m)^#+ (.+)$`)
		for i, title := range anchors {
			anchors[i] = strings.ReplaceAll(notLetter.ReplaceAllString(strings.ToLower(title), ""), " ", "-")
		}
		for _, to := range column(text, `\]\(([^)]+)\)`) {
			file, anchor, _ := strings.Cut(to, "#")
			switch {
			case strings.Contains(to, "://"):
			case file == "" && !slices.Contains(anchors, anchor):
				t.Errorf("%s points to its part %q, which is not there", name, anchor)
			case file != "":
				if _, err := os.Stat(path.Join(root, path.Dir(name), file)); err != nil {
					t.Errorf("%s points to %s: %v", name, file, err)
				}
			}
		}
	}
}

// column is the first group of each match.
func column(text, pattern string) []string {
	var all []string
	for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(text, -1) {
		all = append(all, m[1])
	}
	return all
}

// compare tells what is only in one of what there is and what is listed.
func compare(t *testing.T, what string, there, listed []string) {
	t.Helper()
	for _, x := range there {
		if !slices.Contains(listed, x) {
			t.Errorf("the table of %s lacks %s", what, x)
		}
	}
	for _, x := range listed {
		if !slices.Contains(there, x) {
			t.Errorf("the table of %s has %s, which there is not", what, x)
		}
	}
}
