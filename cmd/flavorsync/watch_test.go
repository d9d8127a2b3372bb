package main

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metricsql"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/model"
	"go.yaml.in/yaml/v3"

	"github.com/flavorsync/flavorsync/internal/config"
	"github.com/flavorsync/flavorsync/internal/flavor"
	"github.com/flavorsync/flavorsync/internal/identity"
	"github.com/flavorsync/flavorsync/internal/openstack"
	"github.com/flavorsync/flavorsync/internal/store"
)

const (
	alertsFile    = "../../configs/prometheus-alerts.yaml"
	dashboardFile = "../../configs/grafana-dashboard.json"
)

// printed are the series that /metrics prints, by name, each with the values of its
// labels: those of a service that runs, after everything has happened once.
func printed(t *testing.T) map[string][]*dto.Metric {
	t.Helper()
	dir := t.TempDir()
	cfg := config.Default()
	cfg.Database.DSN, cfg.CredentialsKeyset = flavor.Secret(dir+"/flavorsync.db"), dir+"/keyset.json"
	s, err := newService(t.Context(), &cfg, slog.New(slog.DiscardHandler), operators, both)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.close(context.Background()) })
	if _, err := s.db.Catalogue(t.Context()); err != nil {
		t.Fatal(err)
	}
	m := s.metrics
	for _, route := range []string{"/v1/promotedflavors", "/v1/flavors", "/v1/products", "/v1/match"} {
		for _, status := range []int{200, 404, 500, 502} {
			m.observe("GET", route, status, time.Second)
		}
	}
	for _, call := range openstack.Calls {
		for _, outcome := range openstack.Outcomes {
			m.regionCall(openstack.Call{Region: "Trento", Name: call, Outcome: outcome})
		}
	}
	for _, outcome := range []string{"ok", "refused", "unavailable"} {
		m.identityCall(identity.Call{Provider: "keyrock", Outcome: outcome})
	}
	m.transaction(store.Transaction{Write: true, Attempts: 2})
	m.transaction(store.Transaction{Write: true, Attempts: 1, Err: os.ErrInvalid})
	other := withEngine(&engineMetrics{
		of: asked(func(context.Context) (flavor.FederationStatus, error) { return aFederation, nil }), limit: time.Minute,
		breakers: func() map[string]bool { return map[string]bool{"Spain2": false, "Trento": true} },
	})
	series := map[string][]*dto.Metric{}
	for _, m := range []*metrics{m, other} {
		families, err := m.registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			names := []string{f.GetName()}
			if f.GetType() == dto.MetricType_HISTOGRAM {
				names = []string{f.GetName() + "_bucket", f.GetName() + "_sum", f.GetName() + "_count"}
			}
			for _, name := range names {
				series[name] = append(series[name], f.GetMetric()...)
			}
		}
	}
	return series
}

// checkQuery sees that expr can be parsed, and selects series that there are. It
// notes the metrics that it asks for.
func checkQuery(t *testing.T, series map[string][]*dto.Metric, asked map[string]bool, where, expr string) {
	t.Helper()
	parsed, err := metricsql.Parse(regexp.MustCompile(`\[\$__\w+\]`).ReplaceAllString(expr, "[5m]"))
	if err != nil {
		t.Errorf("%s: %s: %v", where, expr, err)
		return
	}
	metricsql.VisitAll(parsed, func(e metricsql.Expr) {
		selected, ok := e.(*metricsql.MetricExpr)
		if !ok {
			return
		}
		for _, filters := range selected.LabelFilterss {
			name := ""
			var wanted []metricsql.LabelFilter
			for _, f := range filters {
				switch f.Label {
				case "__name__":
					name = f.Value
				case "job", "instance": // Prometheus's own
				default:
					wanted = append(wanted, f)
				}
			}
			if name == "up" {
				continue
			}
			asked[name] = true
			if !slices.ContainsFunc(series[name], func(m *dto.Metric) bool { return selects(t, wanted, name, m) }) {
				t.Errorf("%s: /metrics prints nothing that %s asks for", where, selected.AppendString(nil))
			}
		}
	})
}

// selects says whether m has what is wanted of its labels.
func selects(t *testing.T, wanted []metricsql.LabelFilter, name string, m *dto.Metric) bool {
	t.Helper()
	labels := map[string]string{}
	if strings.HasSuffix(name, "_bucket") {
		labels["le"] = "1"
	}
	for _, l := range m.GetLabel() {
		labels[l.GetName()] = l.GetValue()
	}
	for _, f := range wanted {
		value, there := labels[f.Label]
		if !there {
			return false
		}
		if strings.HasPrefix(f.Value, "$") {
			continue // a variable of the dashboard
		}
		same := value == f.Value
		if f.IsRegexp {
			same = regexp.MustCompile("^(?:" + f.Value + ")$").MatchString(value)
		}
		if same == f.IsNegative {
			return false
		}
	}
	return true
}

// An alert on a metric that was renamed would never fire again.
func TestAlertsAndDashboard(t *testing.T) {
	series, asking := printed(t), map[string]bool{}

	text, err := os.ReadFile(alertsFile)
	if err != nil {
		t.Fatal(err)
	}
	var rules struct {
		Groups []struct {
			Name  string
			Rules []struct {
				Alert, Expr, For    string
				Labels, Annotations map[string]string
			}
		}
	}
	d := yaml.NewDecoder(bytes.NewReader(text))
	d.KnownFields(true)
	if err := d.Decode(&rules); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, g := range rules.Groups {
		for _, r := range g.Rules {
			if !regexp.MustCompile(`^Flavorsync[A-Za-z]+$`).MatchString(r.Alert) || seen[r.Alert] {
				t.Errorf("the alert %q needs a name of its own", r.Alert)
			}
			seen[r.Alert] = true
			if r.For != "" {
				if _, err := model.ParseDuration(r.For); err != nil {
					t.Errorf("%s: for: %v", r.Alert, err)
				}
			}
			if s := r.Labels["severity"]; s != "page" && s != "ticket" {
				t.Errorf("%s: severity is %q, not page or ticket", r.Alert, s)
			}
			if r.Annotations["summary"] == "" || r.Annotations["description"] == "" {
				t.Errorf("%s: says not what is wrong, or not what to do", r.Alert)
			}
			checkQuery(t, series, asking, r.Alert, r.Expr)
		}
	}
	if len(seen) < 10 {
		t.Errorf("only %d alerts were found", len(seen))
	}

	if text, err = os.ReadFile(dashboardFile); err != nil {
		t.Fatal(err)
	}
	type datasource struct{ Type, UID string }
	var board struct {
		Title, UID string
		Panels     []struct {
			ID         int
			Type       string
			Title      string
			Datasource datasource
			GridPos    struct{ X, Y, W, H int }
			Targets    []struct {
				Datasource datasource
				Expr       string
			}
		}
		Templating struct {
			List []struct{ Name, Type, Definition string }
		}
	}
	if err := json.Unmarshal(text, &board); err != nil {
		t.Fatal(err)
	}
	variables := map[string]string{}
	for _, v := range board.Templating.List {
		variables[v.Name] = v.Type
		if _, query, ok := strings.Cut(v.Definition, "label_values("); ok {
			query, _, _ = strings.Cut(query, ", ")
			checkQuery(t, series, asking, "the variable "+v.Name, query)
		}
	}
	if variables["datasource"] != "datasource" {
		t.Error("whoever imports the dashboard cannot choose the data source")
	}
	ids := map[int]bool{}
	for _, p := range board.Panels {
		if ids[p.ID] || p.Title == "" || p.GridPos.W == 0 || p.GridPos.X+p.GridPos.W > 24 {
			t.Errorf("the panel %d, %q, is none: %+v", p.ID, p.Title, p.GridPos)
		}
		ids[p.ID] = true
		for _, target := range p.Targets {
			if target.Datasource.UID != "${datasource}" || p.Datasource.UID != "${datasource}" {
				t.Errorf("the panel %q has a data source of its own", p.Title)
			}
			for _, name := range regexp.MustCompile(`\$(\w+)`).FindAllStringSubmatch(target.Expr, -1) {
				if variables[name[1]] == "" && !strings.HasPrefix(name[1], "__") {
					t.Errorf("the panel %q needs a variable %s", p.Title, name[1])
				}
			}
			checkQuery(t, series, asking, "the panel "+p.Title, target.Expr)
		}
	}

	// What nobody looks at need not be counted.
	for _, name := range slices.Sorted(maps.Keys(series)) {
		base := strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(name, "_bucket"), "_sum"), "_count")
		if strings.HasPrefix(name, "flavorsync_") && !asking[name] && !asking[base+"_bucket"] && !asking[base+"_count"] {
			t.Errorf("%s is in no alert and on no panel", name)
		}
	}
}
