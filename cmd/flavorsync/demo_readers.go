package main

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"sync/atomic"

	"github.com/flavorsync/flavorsync/internal/flavor"
	"github.com/flavorsync/flavorsync/internal/glue2"
	"github.com/flavorsync/flavorsync/internal/ucloud/coretest"
)

// demoCore is the Core of a simulated UCloud, of which the demo is a provider.
// Beside what a Core has, GET /_sim/token is the token with which it calls a
// provider, and GET /_sim/products what its users see.
type demoCore struct {
	*coretest.Core
	url      string       // where it answers
	provider atomic.Value // string: where we answer
	core     http.Handler
}

func newDemoCore() (*demoCore, error) {
	core, err := coretest.New(coretest.Options{Provider: "aau"})
	if err != nil {
		return nil, err
	}
	return &demoCore{Core: core, core: core.Handler()}, nil
}

// serves says where the provider answers.
func (c *demoCore) serves(provider string) { c.provider.Store(provider) }

func (c *demoCore) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/_sim/token":
		token, err := c.Token(nil)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		_, _ = io.WriteString(w, token)
	case "/_sim/products":
		provider, _ := c.provider.Load().(string)
		seen, err := c.Poll(r.Context(), provider)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		writeVisible(w, seen.Visible)
	default:
		c.core.ServeHTTP(w, r)
	}
}

// writeVisible writes products as users see them: [{"id", "category", "price"}].
func writeVisible(w http.ResponseWriter, products []coretest.Visible) {
	type product struct {
		ID       string `json:"id"`
		Category string `json:"category"`
		Price    int64  `json:"price"` // in millionths
	}
	list := make([]product, len(products))
	for i, p := range products {
		list[i] = product{p.ID, p.Category, p.Price}
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(list) // there is nobody to tell that telling failed
}

// catchUp pushes what was kept from the last time: this Core is new, and what an
// older one was told is nothing to it. That it fails is in the log and the report.
func (c *demoCore) catchUp(ctx context.Context, s *service) {
	if _, err := s.ucloud.Push(ctx, flavor.Principal{Name: "demo", Manager: true}, false); err != nil {
		s.log.WarnContext(ctx, "the demo's products are not all pushed", "error", err.Error())
	}
}

// demoSites make two of the regions sites of EGI, with made-up names; the third
// shows a region that is none.
func demoSites(keystone string) map[string]glue2.Site {
	site := func(gocdb, id, region string) glue2.Site {
		return glue2.Site{
			GOCDB: gocdb, GOCDBID: id, Endpoint: keystone, Region: region,
			VOs: []glue2.VO{{Name: "vo.access.egi.eu", Auth: glue2.Auth{ProjectID: "operators"}}},
		}
	}
	return map[string]glue2.Site{"Spain2": site("DEMO-SPAIN2", "1G0", "Spain2"), "Trento": site("DEMO-TRENTO", "2G0", "Trento")}
}
