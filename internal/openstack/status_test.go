package openstack

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/flavorsync/flavorsync/internal/flavor"
	"github.com/flavorsync/flavorsync/internal/simstack"
)

// What a look and a check find out about a region is told alike.
func TestStatusOf(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.FixedZone("", 3600))
	for _, test := range []struct {
		fault simstack.Fault
		state flavor.RegionState
	}{
		{simstack.Fault{}, flavor.RegionUp},
		{simstack.Fault{Service: simstack.Keystone, Kind: simstack.Unauthorized}, flavor.RegionRefused},
		{simstack.Fault{Kind: simstack.Denied}, flavor.RegionRefused},
		{simstack.Fault{Kind: simstack.ServerError}, flavor.RegionUnreachable},
		{simstack.Fault{Kind: simstack.Refuse}, flavor.RegionUnreachable},
	} {
		s, clouds, r := simulated(t, simstack.Options{})
		if test.fault.Kind != "" {
			region := "R"
			if test.fault.Service == simstack.Keystone {
				region = ""
			}
			s.Fault(region, test.fault)
		}
		_, err := clouds.Service(r).List(t.Context())
		got := StatusOf(err, now)
		checked := clouds.Service(r).Check(t.Context())
		if got.State != test.state || checked.State != test.state || got.CheckedAt != now.UTC() || (got.LastError == "") != (err == nil) {
			t.Errorf("%+v: a look says %+v, a check %+v; not %s", test.fault, got, checked, test.state)
		}
	}
	const foreign = "a foreign byte"
	if got := StatusOf(errors.New(foreign), now); got.State != flavor.RegionUnreachable || got.LastError == "" || strings.Contains(got.LastError, foreign) {
		t.Errorf("an error that is not ours: %+v", got)
	}
}
