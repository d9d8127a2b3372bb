package openstack

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/flavorsync/flavorsync/internal/flavor"
	"github.com/flavorsync/flavorsync/internal/simstack"
)

func ids(fs []flavor.NovaFlavor) (ids []string) {
	for _, f := range fs {
		ids = append(ids, f.ID)
	}
	return ids
}

func flavorText(id string) string {
	return strings.Replace(goodFlavor, `"f"`, fmt.Sprintf("%q", id), 1)
}

// No flavor is missed or doubled, wherever Nova cuts its pages.
func TestListEveryPage(t *testing.T) {
	for _, limit := range []int{1, 2, 3, 5, 6, 1000} {
		s, clouds, r := simulated(t, simstack.Options{MaxLimit: limit})
		var want []string
		for _, id := range []string{"a", "b", "c", "d", "e", "f"} {
			s.AddFlavor("R", flavor.NovaFlavor{ID: id, IsPublic: id != "c", Spec: flavor.Spec{Name: id, VCPUs: 1, RAM: 1, RxTxFactor: 1}})
			want = append(want, id)
		}
		got, err := clouds.Service(r).List(t.Context())
		if err != nil || !slices.Equal(ids(got), want) {
			t.Errorf("pages of %d: %v, %v", limit, ids(got), err)
		}
	}
}

// Lists as no Nova should answer them end all the same.
func TestListEnds(t *testing.T) {
	link := `, "flavors_links": [{"rel": "next", "href": "x"}]`
	pages := func(answer func(n int, marker string) string) http.HandlerFunc {
		n := 0
		return func(w http.ResponseWriter, r *http.Request) {
			n++
			text := answer(n, r.URL.Query().Get("marker"))
			if text == "400" {
				answering(http.StatusBadRequest, "badRequest")(w, r)
				return
			}
			_, _ = io.WriteString(w, text)
		}
	}
	for name, test := range map[string]struct {
		nova http.HandlerFunc
		want []string // nil: unreachable
	}{
		"one page for ever": {pages(func(int, string) string {
			return `{"flavors": [` + flavorText("a") + `]` + link + `}`
		}), nil},
		"two pages for ever": {pages(func(n int, _ string) string {
			return `{"flavors": [` + flavorText(fmt.Sprint(n%2)) + `]` + link + `}`
		}), nil},
		"pages that overlap": {pages(func(n int, _ string) string {
			if n == 3 {
				return `{"flavors": [` + flavorText("3") + `]}`
			}
			return `{"flavors": [` + flavorText(fmt.Sprint(n)) + `, ` + flavorText(fmt.Sprint(n+1)) + `]` + link + `}`
		}), []string{"1", "2", "3"}},
		"an empty last page": {pages(func(n int, _ string) string {
			if n == 2 {
				return `{"flavors": []` + link + `}`
			}
			return `{"flavors": [` + flavorText("a") + `]` + link + `}`
		}), []string{"a"}},
		"the marker is deleted": {pages(func(n int, marker string) string {
			switch {
			case marker == "b":
				return "400"
			case marker == "a":
				return `{"flavors": [` + flavorText("c") + `]}`
			case n == 1:
				return `{"flavors": [` + flavorText("a") + `, ` + flavorText("b") + `]` + link + `}`
			}
			return `{"flavors": [` + flavorText("a") + `]` + link + `}`
		}), []string{"a", "c"}},
		"every marker is unknown": {pages(func(_ int, marker string) string {
			if marker != "" {
				return "400"
			}
			return `{"flavors": [` + flavorText("a") + `]` + link + `}`
		}), nil},
	} {
		f := newFake(t)
		f.nova = test.nova
		got, err := f.clouds(t).Service(f.region()).List(t.Context())
		if test.want == nil {
			wantError(t, err, flavor.CodeUnreachable, "R")
			if n := f.count("GET /v2.1/flavors/detail"); n > 6 {
				t.Errorf("%s: given up after %d pages only", name, n)
			}
		} else if err != nil || !slices.Equal(ids(got), test.want) {
			t.Errorf("%s: %v, %v", name, ids(got), err)
		}
	}
}

// A thousand flavors with the longest descriptions do not fit one answer; they
// are listed in smaller pages.
func TestListLongDescriptions(t *testing.T) {
	f := newFake(t)
	long := strings.Replace(goodFlavor, `"description": null`, `"description": "`+strings.Repeat("ä", 30_000)+`"`, 1)
	f.nova = func(w http.ResponseWriter, r *http.Request) {
		var limit, from int
		_, _ = fmt.Sscan(r.URL.Query().Get("limit"), &limit)
		_, _ = fmt.Sscan(r.URL.Query().Get("marker"), &from)
		_, _ = io.WriteString(w, `{"flavors": [`)
		to := min(from+limit, 250)
		for i := from + 1; i <= to; i++ {
			if i > from+1 {
				_, _ = io.WriteString(w, ", ")
			}
			_, _ = io.WriteString(w, strings.Replace(long, `"f"`, fmt.Sprintf("%q", fmt.Sprint(i)), 1))
		}
		_, _ = io.WriteString(w, `]`)
		if to < 250 {
			_, _ = io.WriteString(w, `, "flavors_links": [{"rel": "next", "href": "x"}]`)
		}
		_, _ = io.WriteString(w, `}`)
	}
	got, err := f.clouds(t).Service(f.region()).List(t.Context())
	if err != nil || len(got) != 250 {
		t.Errorf("%d flavors, %v", len(got), err)
	}
}

// How Nova writes values through its versions.
func TestRecord(t *testing.T) {
	f := newFake(t)
	f.nova = saying(`{"flavor": {"id": "f", "name": "n", "vcpus": 2, "ram": 3, "disk": 4, "swap": 5, "OS-FLV-EXT-DATA:ephemeral": 6,
		"rxtx_factor": null, "description": "d", "links": [], "OS-FLV-DISABLED:disabled": false, "os-flavor-access:is_public": false, "extra_specs": {"k": "v"}}}`)
	c := f.clouds(t).Service(f.region())
	got, err := c.Get(t.Context(), "f")
	want := flavor.Spec{Name: "n", VCPUs: 2, RAM: 3, Disk: 4, Swap: 5, Ephemeral: 6, RxTxFactor: 1, Description: "d", ExtraSpecs: map[string]string{"k": "v"}}
	if err != nil || !got.Equal(want) || got.IsPublic || got.ID != "f" {
		t.Errorf("%+v, %v", got, err)
	}
	// Another flavor than the one asked for is none.
	_, err = c.Get(t.Context(), "F")
	wantError(t, err, flavor.CodeNotFound, "R", `"F"`)
	wantError(t, c.Delete(t.Context(), "F"), flavor.CodeNotFound, "R", `"F"`)
	if f.count("DELETE /v2.1/flavors/F") != 0 {
		t.Error("Nova was told to delete another flavor")
	}
}
