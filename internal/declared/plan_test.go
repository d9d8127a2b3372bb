package declared

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/flavorsync/flavorsync/internal/flavor"
)

const (
	idA = "0c0ffee0-0000-4000-8000-00000000000a"
	idB = "0c0ffee0-0000-4000-8000-00000000000b"
)

func promotedIn(id, name string, nodes ...string) flavor.Flavor {
	return flavor.Flavor{
		ID: id, Spec: flavor.Spec{Name: name, VCPUs: 1, RAM: 512, RxTxFactor: 1}, Promoted: true, Public: true, Nodes: nodes,
	}
}

func publicIn(id, name string, nodes ...string) flavor.Flavor {
	f := promotedIn(id, name, nodes...)
	f.Promoted = false
	return f
}

func retired(f flavor.Flavor) flavor.Flavor {
	f.Retired = true
	return f
}

func privateIn(id, name, node string) flavor.Flavor {
	f := publicIn(id, name, node)
	f.Public = false
	return f
}

// sized is the YAML of a flavor as promotedIn and publicIn have it.
func sized(name, more string) string {
	return "  - {name: " + name + ", vcpus: 1, ram: 512, disk: 0" + more + "}\n"
}

// What is done with a flavor follows from the file, the catalogue and the wish.
func TestPlan(t *testing.T) {
	yes := Wish{Promote: true, Prune: true}
	for _, tc := range []struct {
		name     string
		flavors  string
		now      []flavor.Flavor
		private  []flavor.Flavor
		mine     []string
		wish     Wish
		want     string
		blocked  int
		noChange bool // nothing at all is to be sent
	}{
		{
			name: "all is there", flavors: sized("a", ""), now: []flavor.Flavor{promotedIn(idA, "a", "Spain2")},
			want: "= 1 as declared\n", noChange: true,
		},
		{
			name: "what the file leaves open stays", flavors: sized("a", "") + sized("b", ", nodes: [Trento]"),
			now:  []flavor.Flavor{retired(promotedIn(idA, "a", "Spain2")), publicIn(idB, "b", "Spain2", "Trento")},
			want: "= 2 as declared\n", noChange: true,
		},
		{
			name: "without a region it is created promoted", flavors: sized("a", ""),
			want: "+ a\n    vcpus: 1\n    ram: 512\n    disk: 0\n    promoted: true\n",
		},
		{
			name: "with one it is published there", flavors: sized("a", ", nodes: [Trento]"),
			want: "+ a\n    vcpus: 1\n    ram: 512\n    disk: 0\n    nodes: + Trento\n",
		},
		{
			name: "in the caller's own region first", flavors: sized("a", ", nodes: [Lannion2, Trento, Spain2]"), mine: []string{"Spain2"},
			want: "+ a\n    vcpus: 1\n    ram: 512\n    disk: 0\n    nodes: + Spain2\n    nodes: + Lannion2\n    nodes: + Trento\n",
		},
		{
			name: "where it is private it is published", flavors: sized("a", ", nodes: [Lannion2, Trento]"), mine: []string{"Lannion2", "Trento"},
			private: []flavor.Flavor{privateIn("7", "a", "Spain2"), privateIn("1", "a", "Trento")},
			want:    "+ a\n    vcpus: 1\n    ram: 512\n    disk: 0\n    published as Trento has it already, private\n    nodes: + Trento\n    nodes: + Lannion2\n",
		},
		{
			name: "but not under another id than declared", flavors: sized("a", ", nodes: [Trento], id: "+idA), private: []flavor.Flavor{privateIn("1", "a", "Trento")},
			want: "+ a\n    vcpus: 1\n    ram: 512\n    disk: 0\n    nodes: + Trento\n",
		},
		{
			name: "promoted as wished, unless the file says no", flavors: sized("a", ", nodes: [Trento]") + sized("b", ", nodes: [Trento], promoted: false"), wish: yes,
			want: "+ a\n    vcpus: 1\n    ram: 512\n    disk: 0\n    promoted: true\n    nodes: + Trento\n" +
				"+ b\n    vcpus: 1\n    ram: 512\n    disk: 0\n    nodes: + Trento\n",
		},
		{
			name: "nowhere to create it", flavors: sized("a", ", promoted: false, retired: true"), blocked: 1,
			want: "+ a\n    vcpus: 1\n    ram: 512\n    disk: 0\n    retired: true\n" +
				"  ! it is in no region yet and not to be promoted: give nodes, one of which it is created in, or promoted: true\n" +
				"  ! retired: only a promoted flavor is retired\n",
			noChange: true,
		},
		{
			name:    "fields of a promoted flavor",
			flavors: "  - {name: a, vcpus: 1, ram: 512, disk: 0, description: new, extra_specs: {k: v}}\n" + "  - {name: b, vcpus: 2, ram: 1024, disk: 1, swap: 1, ephemeral: 1, rxtx_factor: 1.5}\n",
			now:     []flavor.Flavor{promotedIn(idA, "a", "Spain2"), promotedIn(idB, "b")},
			want: "~ a\n    description: \"\" → \"new\"\n    extra_specs.k: absent → \"v\"\n" +
				"~ b\n    vcpus: 1 → 2\n    ram: 512 → 1024\n    disk: 0 → 1\n    swap: 0 → 1\n    ephemeral: 0 → 1\n    rxtx_factor: 1 → 1.5\n",
		},
		{
			name: "sizes of an installed one", flavors: "  - {name: a, vcpus: 2, ram: 512, disk: 0}\n", now: []flavor.Flavor{promotedIn(idA, "a", "Spain2", "Trento")}, blocked: 1,
			want: "~ a\n    vcpus: 1 → 2\n  ! it is installed in Spain2, Trento, so only its description and extra specs may change: remove it there first, or declare a new flavor and retire this one\n", noChange: true,
		},
		{
			name: "fields of one that is not promoted", flavors: sized("a", ", description: new"), now: []flavor.Flavor{publicIn(idA, "a", "Spain2")}, blocked: 1,
			want: "~ a\n    description: \"\" → \"new\"\n  ! a flavor that is not promoted cannot be changed: promote it (promoted: true, or --promote), or declare it as it is\n", noChange: true,
		},
		{
			name: "promotion", flavors: sized("a", ", description: new"), now: []flavor.Flavor{publicIn(idA, "a", "Spain2")}, wish: yes,
			want: "~ a\n    description: \"\" → \"new\"\n    promoted: false → true\n",
		},
		{
			name: "promotion is not taken back", flavors: sized("a", ", promoted: false"), now: []flavor.Flavor{promotedIn(idA, "a")}, blocked: 1,
			want: "~ a\n    promoted: true → false\n  ! promoted: a flavor is not unpromoted: declare it retired, or delete it (DELETE /v1/promotedflavors/" + idA + ")\n", noChange: true,
		},
		{
			name: "retired and back", flavors: sized("a", ", retired: true") + sized("b", ", retired: false, nodes: [Trento]"),
			now:  []flavor.Flavor{promotedIn(idA, "a"), retired(promotedIn(idB, "b"))},
			want: "~ a\n    retired: false → true\n~ b\n    retired: true → false\n    nodes: + Trento\n",
		},
		{
			name: "a retired one takes no installs", flavors: sized("a", ", nodes: [Trento]"), now: []flavor.Flavor{retired(promotedIn(idA, "a"))}, blocked: 1,
			want: "~ a\n    nodes: + Trento\n  ! nodes: it is retired, and takes no new installs: declare it with retired: false, or leave Trento out\n", noChange: true,
		},
		{
			name: "only a promoted one is retired", flavors: sized("a", ", retired: true"), now: []flavor.Flavor{publicIn(idA, "a", "Spain2")}, blocked: 1,
			want: "~ a\n    retired: false → true\n  ! retired: only a promoted flavor is retired: promote it, or leave retired out\n", noChange: true,
		},
		{
			name: "a region that is none", flavors: sized("a", ", nodes: [Sapin2]"), now: []flavor.Flavor{promotedIn(idA, "a")}, blocked: 1,
			want: "~ a\n    nodes: + Sapin2\n  ! nodes: no region \"Sapin2\" is registered: there are Lannion2, Spain2, Trento\n", noChange: true,
		},
		{
			name: "another id", flavors: sized("a", ", id: "+idB), now: []flavor.Flavor{promotedIn(idA, "a")}, blocked: 1,
			want: "~ a\n    id: " + idA + " → " + idB + "\n  ! id: an id may not change: leave it out of the file, or write the catalogue's\n", noChange: true,
		},
		{
			name: "another name under the id, and its old name anew", flavors: sized("a", "") + sized("c", ", id: "+idA), now: []flavor.Flavor{promotedIn(idA, "a")},
			want: "~ a\n    name: \"a\" → \"c\"\n+ a\n    vcpus: 1\n    ram: 512\n    disk: 0\n    promoted: true\n",
		},
		{
			name: "a name that another has", flavors: sized("b", ", id: "+idA), now: []flavor.Flavor{promotedIn(idA, "a"), promotedIn(idB, "b")}, blocked: 1,
			want: "~ a\n    name: \"a\" → \"b\"\n  ! name: the catalogue has another flavor of this name, with the id " + idB + ": rename or delete that first\n  1 in the catalogue only, left alone\n", noChange: true,
		},
		{
			name: "nothing is pruned unasked", flavors: sized("a", ""), now: []flavor.Flavor{promotedIn(idA, "a"), promotedIn(idB, "b")},
			want: "= 1 as declared\n  1 in the catalogue only, left alone\n", noChange: true,
		},
		{
			name: "pruned is what no region has and is promoted", flavors: sized("a", ""), wish: yes,
			now: []flavor.Flavor{promotedIn(idA, "a"), promotedIn("1", "b"), promotedIn("2", "c", "Spain2"), promotedIn("3", "d", "Spain2", "Trento"), publicIn("4", "e", "Spain2"), publicIn("5", "f")},
			want: "- b\n    not in the file, and no region has it\n= 1 as declared\n" +
				"  c is not in the file and stays, for Spain2 has it: retire it (PUT /v1/promotedflavors/2 {\"retired\": true}), or remove it everywhere (DELETE /v1/promotedflavors/2?uninstall=true)\n" +
				"  d is not in the file and stays, for Spain2, Trento have it: retire it (PUT /v1/promotedflavors/3 {\"retired\": true}), or remove it everywhere (DELETE /v1/promotedflavors/3?uninstall=true)\n" +
				"  2 in the catalogue only, left alone\n",
		},
		{
			name: "names that a terminal would take for something else", flavors: "  - {name: 'a\"b', vcpus: 1, ram: 1, disk: 0}\n",
			want: "+ \"a\\\"b\"\n    vcpus: 1\n    ram: 1\n    disk: 0\n    promoted: true\n",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			file, err := Parse("f.yaml", []byte("flavors:\n"+tc.flavors), Options{})
			if err != nil {
				t.Fatal(err)
			}
			now := Catalogue{Flavors: tc.now, Private: tc.private, Mine: tc.mine, Regions: []string{"Lannion2", "Spain2", "Trento"}}
			plan := NewPlan(file, now, tc.wish)
			var got strings.Builder
			if err := plan.Show(&got); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got.String()); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if plan.Failing() != tc.blocked {
				t.Errorf("%d are blocked, not %d", plan.Failing(), tc.blocked)
			}
			if nothing := len(plan.Steps) == plan.Failing(); nothing != tc.noChange {
				t.Errorf("nothing to send: %v", nothing)
			}
		})
	}
}

// A flavor that is left out of account is named all the same: it is not pruned.
func TestLeftOutIsNotPruned(t *testing.T) {
	file, err := Parse("f.yaml", []byte("mandatory: [{name: a, cpus: 1, ram: 512}]\nrecommended: [{name: b, cpus: 1, ram: 512}]"), Options{MandatoryOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	plan := NewPlan(file, Catalogue{Flavors: []flavor.Flavor{promotedIn(idA, "a"), promotedIn(idB, "b")}}, Wish{Prune: true})
	if len(plan.Steps) > 0 {
		t.Errorf("%+v", plan.Steps)
	}
}

// A flavor that is renamed while the pages are read stands on two of them: it is one,
// and neither is pruned.
func TestListedTwice(t *testing.T) {
	file, err := Parse("f.yaml", []byte("flavors:\n"+sized("b", "")), Options{})
	if err != nil {
		t.Fatal(err)
	}
	plan := NewPlan(file, Catalogue{Flavors: []flavor.Flavor{promotedIn(idA, "a"), promotedIn(idA, "b")}}, Wish{Prune: true})
	if len(plan.Steps) > 0 || plan.Same != 1 {
		t.Errorf("%+v", plan)
	}
}

// A PUT says what differs, and a POST all of it, with objects where the API wants
// objects.
func TestBodies(t *testing.T) {
	file, err := Parse("f.yaml", []byte("flavors:\n  - {name: b, id: "+idA+", vcpus: 2, ram: 3, disk: 4, swap: 5, ephemeral: 6, rxtx_factor: 7, retired: true}\n"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	was := promotedIn(idA, "a")
	was.Description, was.ExtraSpecs = "old", map[string]string{"k": "v"}
	step := NewPlan(file, Catalogue{Flavors: []flavor.Flavor{was}}, Wish{}).Steps[0]
	want := map[string]any{
		"name": "b", "vcpus": 2, "ram": 3, "disk": 4, "swap": 5, "ephemeral": 6, "rxtx_factor": 7.0, "description": "", "extra_specs": map[string]string{}, "retired": true,
	}
	if diff := cmp.Diff(want, step.Changes()); diff != "" {
		t.Errorf("PUT, -want +got:\n%s", diff)
	}
	delete(want, "retired")
	want["id"] = idA
	if diff := cmp.Diff(want, step.New()); diff != "" {
		t.Errorf("POST, -want +got:\n%s", diff)
	}
}
