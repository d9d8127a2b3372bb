package openstack_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/flavorsync/flavorsync/internal/flavor"
	"github.com/flavorsync/flavorsync/internal/openstack"
	"github.com/flavorsync/flavorsync/internal/simstack"
)

// BenchmarkDelegatedList lists a region with a caller's token, and asks its Nova
// for the same list directly with the same token, the two interleaved. It
// reports the ratio of their medians; the target is 1.10 for the whole product.
func BenchmarkDelegatedList(b *testing.B) {
	for _, flavors := range []int{0, 50} {
		b.Run(fmt.Sprint(flavors), func(b *testing.B) {
			f := federation{keystone: os.Getenv("FLAVORSYNC_TEST_KEYSTONE_URL")}
			if f.keystone == "" {
				s := simstack.New(simstack.Options{})
				_, stop, err := s.Start("127.0.0.1:0")
				if err != nil {
					b.Fatal(err)
				}
				b.Cleanup(stop)
				s.Delay("Trento", 10*time.Millisecond) // about what a real one takes
				f.keystone = s.KeystoneURL()
			}
			benchmarkDelegatedList(b, f, flavors)
		})
	}
}

func benchmarkDelegatedList(b *testing.B, f federation, flavors int) {
	clouds := openstack.New(openstack.Config{KeystoneURL: f.keystone, RegionTimeout: time.Minute, AllowHTTP: true, Unguarded: true})
	b.Cleanup(clouds.Close)
	for range flavors {
		put(b, clouds.Service(f.region("Trento")), fresh())
	}
	token := f.token(b, "operator", "operator-secret", "operators")
	url := f.novaURL(b, token, "Trento") + "/flavors/detail?is_public=None&limit=1000"
	direct := func() time.Duration {
		start := time.Now()
		req, err := http.NewRequestWithContext(b.Context(), http.MethodGet, url, nil)
		if err != nil {
			b.Fatal(err)
		}
		req.Header.Set("X-Auth-Token", string(token))
		req.Header.Set("OpenStack-API-Version", "compute 2.61")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			b.Fatal(err)
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil || !json.Valid(text) {
			b.Fatal(resp.Status, err)
		}
		return time.Since(start)
	}
	ours := func() time.Duration {
		start := time.Now()
		c, err := clouds.Delegated(b.Context(), flavor.Region{Name: "Trento"}, token, "")
		if err != nil {
			b.Fatal(err)
		}
		if _, err := c.List(b.Context()); err != nil {
			b.Fatal(err)
		}
		return time.Since(start)
	}
	direct()
	ours()
	var theirs, own []time.Duration
	for b.Loop() {
		theirs = append(theirs, direct())
		own = append(own, ours())
	}
	slices.Sort(theirs)
	slices.Sort(own)
	p50 := func(d []time.Duration) float64 { return float64(d[len(d)/2].Microseconds()) / 1000 }
	b.ReportMetric(p50(theirs), "direct-p50-ms")
	b.ReportMetric(p50(own), "ours-p50-ms")
	b.ReportMetric(p50(own)/p50(theirs), "ratio(≤1.10)")
}
