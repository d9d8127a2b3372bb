package openstack_test

import (
	"testing"

	"github.com/flavorsync/flavorsync/internal/simstack"
)

// TestSimulated runs the suite on the simulation, with both ways a Nova's
// database may compare.
func TestSimulated(t *testing.T) {
	for name, collation := range map[string]simstack.Collation{"exact": simstack.Exact, "blind": simstack.Blind} {
		t.Run(name, func(t *testing.T) {
			s := simstack.New(simstack.Options{Collation: collation})
			_, stop, err := s.Start("127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(stop)
			run(t, federation{keystone: s.KeystoneURL(), blind: collation == simstack.Blind})
		})
	}
}
