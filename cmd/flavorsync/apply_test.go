package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/flavorsync/flavorsync/internal/declared"
)

// catalogued is a flavor as the API answers with it.
func catalogued(id, name, more string) string {
	return fmt.Sprintf(`{"id": %q, "name": %q, "vcpus": 1, "ram": 512, "disk": 0, "swap": 0, "promoted": true, "public": true, "nodes": []%s}`, id, name, more)
}

// answering is what answers as a Flavorsync does, or as the test says instead.
type answering struct {
	instead map[string]http.HandlerFunc // by "METHOD path"
	pages   []string                    // lists of flavors
	byID    map[string]string
	asked   []string
}

func (a *answering) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ask := r.Method + " " + strings.TrimPrefix(r.URL.Path, "/v1")
	a.asked = append(a.asked, ask)
	if tag := r.Header.Get("If-Match"); tag != "" {
		a.asked[len(a.asked)-1] += " if " + tag
	}
	if r.Header.Get("Cache-Control") == "no-cache" {
		a.asked[len(a.asked)-1] += " now"
	}
	if instead := a.instead[ask]; instead != nil {
		instead(w, r)
		return
	}
	id := r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:]
	switch {
	case ask == "GET /flavors":
		page, _ := strconv.Atoi(r.URL.Query().Get("marker"))
		if page+1 < len(a.pages) {
			w.Header().Set("Link", fmt.Sprintf(`</elsewhere/v1/flavors?limit=1000&marker=%d>; rel="next"`, page+1))
		}
		fmt.Fprintf(w, `{"flavors": [%s]}`, a.pages[page])
	case ask == "GET /regions":
		fmt.Fprint(w, `{"Infrastructures": [{"id": "Trento", "name": "Trento"}]}`)
	case ask == "GET /whoami":
		fmt.Fprint(w, `{"whoami": {"regions": []}}`)
	case r.Method == http.MethodGet && a.byID[id] != "":
		w.Header().Set("ETag", `"`+id+`"`)
		fmt.Fprintf(w, `{"flavor": %s}`, a.byID[id])
	case r.Method == http.MethodDelete:
		w.WriteHeader(http.StatusNoContent)
	case r.Method == http.MethodPost:
		w.WriteHeader(http.StatusCreated)
		fmt.Fprintf(w, `{"flavor": %s}`, catalogued("new", "new", ""))
	case r.Method == http.MethodPut:
		fmt.Fprintf(w, `{"flavor": %s}`, a.byID[id])
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

// applied runs apply for a file against a, with the wish to prune.
func applied(t *testing.T, a *answering, flavors string) (out, complaints string, err error) {
	t.Helper()
	server := httptest.NewServer(a)
	t.Cleanup(server.Close)
	c, err := newClient(func(name string) string {
		return map[string]string{"FLAVORSYNC_URL": server.URL, "FLAVORSYNC_TOKEN": "secret-token"}[name]
	})
	if err != nil {
		t.Fatal(err)
	}
	file, err := declared.Parse("f.yaml", []byte("flavors:\n"+flavors), declared.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var o, e bytes.Buffer
	err = apply(t.Context(), &o, &e, c, file, applyFlags{wish: declared.Wish{Prune: true}})
	if strings.Contains(o.String()+e.String()+fmt.Sprint(err), "secret-token") {
		t.Errorf("the token is told:\n%s%s%v", o.String(), e.String(), err)
	}
	return o.String(), e.String(), err
}

func status(code int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(code)
		fmt.Fprint(w, body)
	}
}

const (
	declaredA = "  - {name: a, vcpus: 1, ram: 512, disk: 0}\n"
	changedA  = "  - {name: a, vcpus: 1, ram: 512, disk: 0, description: new}\n"
	changedB  = "  - {name: b, vcpus: 1, ram: 512, disk: 0, description: new}\n"
)

// What stands on a later page is in the catalogue too. The regions are asked once. The credential goes to no
// other place than FLAVORSYNC_URL, wherever the link points.
func TestApplyReadsAllPages(t *testing.T) {
	a := &answering{pages: []string{catalogued("1", "x", ""), catalogued("2", "y", ""), catalogued("3", "a", "")}}
	out, _, err := applied(t, a, declaredA+"  - {name: x, vcpus: 1, ram: 512, disk: 0}\n  - {name: y, vcpus: 1, ram: 512, disk: 0}\n")
	if err != nil || !strings.Contains(out, "= 3 as declared\nnothing to do") {
		t.Errorf("%v\n%s", err, out)
	}
	if diff := cmp.Diff([]string{"GET /flavors now", "GET /flavors", "GET /flavors"}, a.asked); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// What somebody changed since it was shown is not overwritten; that a region has it
// now is no change, and the flavor is read again.
func TestApplyOverwritesNothing(t *testing.T) {
	for _, tc := range []struct {
		name, now, want string
		refused         int // times that the PUT is 412
		asked           []string
	}{
		{name: "as it was", now: "", asked: []string{"GET /promotedflavors/1", `PUT /promotedflavors/1 if "1"`}},
		{
			name: "other nodes meanwhile", refused: 1,
			asked: []string{"GET /promotedflavors/1", `PUT /promotedflavors/1 if "1"`, "GET /promotedflavors/1", `PUT /promotedflavors/1 if "1"`},
		},
		{name: "another description", now: `, "description": "theirs"`, want: "somebody changed it meanwhile", asked: []string{"GET /promotedflavors/1"}},
		{name: "retired", now: `, "retired": true`, want: "somebody changed it meanwhile", asked: []string{"GET /promotedflavors/1"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a := &answering{pages: []string{catalogued("1", "a", "")}, byID: map[string]string{"1": catalogued("1", "a", tc.now)}}
			a.instead = map[string]http.HandlerFunc{}
			if tc.refused > 0 {
				a.instead["PUT /promotedflavors/1"] = func(w http.ResponseWriter, r *http.Request) {
					delete(a.instead, "PUT /promotedflavors/1")
					status(http.StatusPreconditionFailed, `{"error": {"message": "it has changed"}}`)(w, r)
				}
			}
			_, complaints, err := applied(t, a, changedA)
			if (err != nil) != (tc.want != "") || !strings.Contains(complaints, tc.want) {
				t.Errorf("%v\n%s", err, complaints)
			}
			if diff := cmp.Diff(tc.asked, a.asked[1:]); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// A PUT says what differs, and nothing else.
func TestApplySendsDifferences(t *testing.T) {
	a := &answering{pages: []string{catalogued("1", "a", "")}, byID: map[string]string{"1": catalogued("1", "a", "")}}
	var body map[string]any
	a.instead = map[string]http.HandlerFunc{"PUT /promotedflavors/1": func(w http.ResponseWriter, r *http.Request) {
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
			t.Error(err)
		}
		fmt.Fprintf(w, `{"flavor": %s}`, a.byID["1"])
	}}
	if _, complaints, err := applied(t, a, changedA); err != nil {
		t.Errorf("%v\n%s", err, complaints)
	}
	if diff := cmp.Diff(map[string]any{"description": "new"}, body); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// One failure stops nothing but itself: which flavor, what, and why are told.
func TestApplyGoesOn(t *testing.T) {
	for name, tc := range map[string]struct {
		answer http.HandlerFunc
		want   string
	}{
		"conflict":      {status(http.StatusConflict, `{"error": {"message": "it is installed in Trento"}}`), "flavorsync: a: cannot be changed (description): Flavorsync answers 409: it is installed in Trento\n"},
		"several":       {status(http.StatusBadGateway, `{"error": {"message": "not every node: down", "nodes": [{"node": "A", "message": "down"}, {"node": "B", "message": "full"}]}}`), "502: not every node: down; B: full\n"},
		"no manager":    {status(http.StatusMethodNotAllowed, "The method specified …"), "405: only a manager may do this: give a manager's FLAVORSYNC_TOKEN"},
		"its own fault": {status(http.StatusInternalServerError, `{"error": {"message": "something went wrong (request req-1)"}}`), "500: something went wrong (request req-1)"},
		"a proxy":       {status(http.StatusServiceUnavailable, "<html>"), "Flavorsync answers 503 Service Unavailable"},
	} {
		t.Run(name, func(t *testing.T) {
			a := &answering{
				pages:   []string{catalogued("1", "a", "") + "," + catalogued("2", "b", "") + "," + catalogued("3", "gone", "")},
				byID:    map[string]string{"1": catalogued("1", "a", ""), "2": catalogued("2", "b", ""), "3": catalogued("3", "gone", "")},
				instead: map[string]http.HandlerFunc{"PUT /promotedflavors/1": tc.answer},
			}
			out, complaints, err := applied(t, a, changedA+changedB)
			if err == nil || errors.Is(err, errDifferences) || err.Error() != "1 of 3 could not be done: correct what is told above, and run it again" {
				t.Errorf("%v", err)
			}
			if !strings.Contains(complaints, tc.want) {
				t.Errorf("told: %s", complaints)
			}
			if !strings.HasSuffix(out, "b is changed\ngone is deleted\n") || !slices.Contains(a.asked, `DELETE /promotedflavors/3 if "3"`) {
				t.Errorf("%s%v", out, a.asked)
			}
		})
	}
}

// Where nobody answers any more, the rest is not tried one by one.
func TestApplyStopsWhereNobodyAnswers(t *testing.T) {
	a := &answering{pages: []string{catalogued("1", "a", "") + "," + catalogued("2", "b", "")}, byID: map[string]string{"1": catalogued("1", "a", "")}}
	a.instead = map[string]http.HandlerFunc{"PUT /promotedflavors/1": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }}
	_, complaints, err := applied(t, a, changedA+changedB)
	if err == nil || !strings.Contains(err.Error(), "may or may not have been made, and 1 more were not tried: run it again") || !strings.Contains(complaints, "flavorsync: a: ") {
		t.Errorf("%v\n%s", err, complaints)
	}
}

// Nothing is done on the word of something that is no Flavorsync, or that hides what
// a change depends on.
func TestApplyToSomethingElse(t *testing.T) {
	for name, tc := range map[string]struct {
		answers map[string]http.HandlerFunc
		want    string
	}{
		"no JSON":             {map[string]http.HandlerFunc{"GET /flavors": status(http.StatusOK, "<html>")}, "does not answer as Flavorsync does"},
		"other JSON":          {map[string]http.HandlerFunc{"GET /flavors": status(http.StatusOK, `{"ok": true}`)}, "is no Flavorsync"},
		"a redirect":          {map[string]http.HandlerFunc{"GET /flavors": status(http.StatusFound, "")}, "answers 302"},
		"pages without end":   {map[string]http.HandlerFunc{"GET /flavors": endless}, "is no Flavorsync"},
		"bad credential":      {map[string]http.HandlerFunc{"GET /flavors": status(http.StatusUnauthorized, "Could not verify")}, "401: the credential is not accepted"},
		"not for this caller": {map[string]http.HandlerFunc{"GET /flavors": status(http.StatusForbidden, `{"error": {"message": "not yours"}}`)}, "403: not yours"},
		"without tags": {map[string]http.HandlerFunc{"GET /promotedflavors/1": func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprintf(w, `{"flavor": %s}`, catalogued("1", "a", ""))
		}}, "ETag is missing"},
	} {
		t.Run(name, func(t *testing.T) {
			a := &answering{pages: []string{catalogued("1", "a", "")}, instead: tc.answers}
			_, complaints, err := applied(t, a, changedA)
			if err == nil || !strings.Contains(complaints+err.Error(), tc.want) {
				t.Errorf("%v\n%s", err, complaints)
			}
			for _, asked := range a.asked {
				if !strings.HasPrefix(asked, "GET ") {
					t.Errorf("%s was sent", asked)
				}
			}
		})
	}
}

func endless(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Link", `</v1/flavors?marker=again>; rel="next"`)
	fmt.Fprint(w, `{"flavors": []}`)
}

// Whoever is too fast for Flavorsync waits as long as it says, and is done then;
// but not for ever.
func TestApplyWaits(t *testing.T) {
	limited := 0
	a := &answering{pages: []string{""}, instead: map[string]http.HandlerFunc{}}
	var waited []time.Duration
	run := func(times, seconds int) error {
		limited, waited = times, nil
		a.instead["POST /promotedflavors"] = func(w http.ResponseWriter, _ *http.Request) {
			if limited--; limited >= 0 {
				w.Header().Set("Retry-After", strconv.Itoa(seconds))
				w.WriteHeader(http.StatusTooManyRequests)
				return
			}
			w.WriteHeader(http.StatusCreated)
		}
		server := httptest.NewServer(a)
		defer server.Close()
		c, err := newClient(func(name string) string {
			return map[string]string{"FLAVORSYNC_URL": server.URL, "FLAVORSYNC_TOKEN": "t"}[name]
		})
		if err != nil {
			t.Fatal(err)
		}
		applying := applying{client: c, wait: func(_ context.Context, d time.Duration) error {
			waited = append(waited, d)
			return nil
		}}
		_, err = applying.send(t.Context(), http.MethodPost, "/promotedflavors", nil, map[string]any{}, nil)
		return err
	}
	if err := run(2, 7); err != nil || !slices.Equal(waited, []time.Duration{7 * time.Second, 7 * time.Second}) {
		t.Errorf("%v, waited %v", err, waited)
	}
	if err := run(100, 0); statusOf(err) != http.StatusTooManyRequests || len(waited) != maxTries-1 {
		t.Errorf("%v, waited %v", err, waited)
	}
	if err := run(1, 3600); statusOf(err) != http.StatusTooManyRequests || len(waited) != 0 {
		t.Errorf("%v, waited %v", err, waited)
	}
}
