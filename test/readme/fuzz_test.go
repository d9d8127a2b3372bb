package readme_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestFuzzTargets: `make fuzz` runs every fuzz target that there is, and each has
// something to begin with.
func TestFuzzTargets(t *testing.T) {
	files, err := exec.CommandContext(t.Context(), "git", "-C", root, "ls-files", "--cached", "--others", "--exclude-standard", "*_test.go").Output()
	if err != nil {
		t.Skip("no repository: ", err)
	}
	var targets []string
	for file := range strings.Lines(string(files)) {
		file = strings.TrimSpace(file)
		parsed, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root, file), nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range parsed.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok || f.Recv != nil || !strings.HasPrefix(f.Name.Name, "Fuzz") {
				continue
			}
			targets = append(targets, filepath.Dir(file)+" "+f.Name.Name)
			seeds, _ := filepath.Glob(filepath.Join(root, filepath.Dir(file), "testdata", "fuzz", f.Name.Name, "*"))
			adds := false
			ast.Inspect(f, func(n ast.Node) bool {
				call, ok := n.(*ast.SelectorExpr)
				adds = adds || ok && call.Sel.Name == "Add"
				return true
			})
			if len(seeds) == 0 && !adds {
				t.Errorf("%s of %s has no seeds", f.Name.Name, file)
			}
		}
	}
	listed, err := exec.CommandContext(t.Context(), filepath.Join(root, "scripts", "fuzz"), "list").Output()
	if err != nil {
		t.Fatal(err)
	}
	compare(t, "fuzz targets", targets, strings.Split(strings.TrimSpace(string(listed)), "\n"))
}
