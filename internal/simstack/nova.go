package simstack

import (
	"net/http"
	"sync"

	"github.com/flavorsync/flavorsync/internal/flavor"
)

type region struct {
	name      string
	collation Collation

	mu       sync.RWMutex
	endpoint *string // in the catalog; nil: its own
}

func newRegion(name string, c Collation) *region { return &region{name: name, collation: c} }

func (r *region) seed(f flavor.NovaFlavor, projects []string) error { return nil }
func (r *region) remove(id string) bool                              { return false }
func (r *region) list() []flavor.NovaFlavor                          { return nil }
func (r *region) access(id string) []string                          { return nil }

func (s *Stack) serveNova(w http.ResponseWriter, r *http.Request, c call) {}
