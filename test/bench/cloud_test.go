package bench_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/flavorsync/flavorsync/internal/flavor"
	"github.com/flavorsync/flavorsync/internal/simstack"
)

// cloudVariable makes this test binary a simulated federation in a process of its
// own, so that its memory and time are not ours: "REGIONS FLAVORS".
const cloudVariable = "FLAVORSYNC_BENCH_CLOUD"

// federation is a simulated one in another process.
type federation struct{ base string }

func (f federation) KeystoneURL() string { return f.base + "/identity/v3" }
func (f federation) KeyRockURL() string  { return f.base + "/idm/user" }

// apart starts a federation of so many regions, each with so many flavors. Every
// second one of these is the same in all of them.
func apart(b *testing.B, regions, flavors int) federation {
	b.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d %d", cloudVariable, regions, flavors))
	return federation{"http://" + listen(b, cmd)}
}

func serveCloud(size string) {
	var regions, flavors int
	if _, err := fmt.Sscan(size, &regions, &flavors); err != nil {
		panic(err)
	}
	cloud := simstack.New(simstack.Options{Regions: regionNames(regions)})
	for _, region := range cloud.Regions() {
		for i := range flavors {
			cloud.AddFlavor(region, seeded(region, i))
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	cloud.SetBaseURL("http://" + l.Addr().String())
	fmt.Printf("{\"msg\":\"listening\",\"address\":%q}\n", l.Addr())
	panic(http.Serve(l, cloud.Handler()))
}

func regionNames(count int) []string {
	names := make([]string, count)
	for i := range names {
		names[i] = fmt.Sprintf("Region%04d", i)
	}
	return names
}

// seeded is the i-th flavor that a region has.
func seeded(region string, i int) flavor.NovaFlavor {
	if i%2 == 0 {
		region = "common"
	}
	return flavor.NovaFlavor{ID: fmt.Sprintf("%s-%d", region, i), IsPublic: true, Spec: flavor.Spec{
		Name: fmt.Sprintf("%s.%d", region, i), VCPUs: 1 + i, RAM: 2048, Disk: 20, RxTxFactor: 1,
		ExtraSpecs: map[string]string{"hw:cpu_policy": "shared"},
	}}
}

// delay has every region take so long for each answer.
func (f federation) delay(b *testing.B, d time.Duration) {
	b.Helper()
	body, err := json.Marshal(map[string]string{"delay": d.String()})
	if err != nil {
		b.Fatal(err)
	}
	r, err := http.NewRequestWithContext(b.Context(), http.MethodPost, f.base+"/_sim/delay", bytes.NewReader(body))
	if err != nil {
		b.Fatal(err)
	}
	answer(b, r, http.StatusNoContent)
}
