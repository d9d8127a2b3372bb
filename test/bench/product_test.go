package bench_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/labstack/echo/v4"

	"github.com/flavorsync/flavorsync/internal/simstack"
)

// bareVariable makes this test binary a bare echo handler that answers with the
// bytes of the file it names: what the product is measured against.
const bareVariable = "FLAVORSYNC_BENCH_BARE"

var binary string // of flavorsync, as users run it

func TestMain(m *testing.M) {
	if file := os.Getenv(bareVariable); file != "" {
		serveBare(file)
		return
	}
	if size := os.Getenv(cloudVariable); size != "" {
		serveCloud(size)
		return
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "flavorsync-bench-")
	if err != nil {
		panic(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	binary = filepath.Join(dir, "flavorsync")
	build := exec.Command("go", "build", "-trimpath", "-o", binary, "github.com/flavorsync/flavorsync/cmd/flavorsync")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "building flavorsync:", err)
		return 1
	}
	return m.Run()
}

func serveBare(file string) {
	body, err := os.ReadFile(file)
	if err != nil {
		panic(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	e := echo.New()
	length := strconv.Itoa(len(body))
	e.GET("/*", func(c echo.Context) error {
		c.Response().Header().Set(echo.HeaderContentLength, length) // a long body would go in chunks else
		return c.Blob(http.StatusOK, "application/json; charset=utf-8", body)
	})
	fmt.Printf("{\"msg\":\"listening\",\"address\":%q}\n", l.Addr())
	panic(http.Serve(l, e))
}

// listen starts cmd and waits for the line of its log that says where it
// listens. It ends with the benchmark.
func listen(b *testing.B, cmd *exec.Cmd) (address string) {
	b.Helper()
	out, err := cmd.StderrPipe()
	if err != nil {
		b.Fatal(err)
	}
	cmd.Stdout = cmd.Stderr
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	lines := bufio.NewReader(out)
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			b.Fatalf("%s ended: %v, %v", cmd.Path, err, cmd.Wait())
		}
		var said struct{ Msg, Address string }
		if json.Unmarshal([]byte(line), &said) == nil && said.Msg == "listening" {
			address = said.Address
			break
		}
	}
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		_, _ = io.Copy(io.Discard, lines)
	}()
	b.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		<-drained
		_ = cmd.Wait()
	})
	return address
}

// bare starts a bare echo handler that answers with body.
func bare(b *testing.B, body []byte) (address string) {
	b.Helper()
	file := filepath.Join(b.TempDir(), "body")
	if err := os.WriteFile(file, body, 0o600); err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), bareVariable+"="+file)
	return listen(b, cmd)
}

// product is a running `flavorsync serve` on SQLite, with its defaults but for
// addresses, and a KeyRock that knows the demo's tokens.
type product struct {
	address string
	base    string
	pid     int
}

// serve starts it, with more settings beside its own, by their section.
func serve(b *testing.B, keystone string, cloud interface{ KeyRockURL() string }, more ...map[string]any) product {
	b.Helper()
	dir := b.TempDir()
	settings := map[string]any{
		"listen":             "127.0.0.1:0",
		"database":           map[string]any{"driver": "sqlite", "dsn": filepath.Join(dir, "flavorsync.db")},
		"credentials_keyset": filepath.Join(dir, "keyset.json"),
		"keystone_url":       keystone,
		"outgoing":           map[string]any{"allow_http": true, "allow_networks": []string{"127.0.0.0/8"}},
		"identity":           []any{map[string]any{"type": "keyrock", "url": cloud.KeyRockURL()}},
	}
	for _, sections := range more {
		maps.Copy(settings, sections)
	}
	cfg, err := json.Marshal(settings)
	if err != nil {
		b.Fatal(err)
	}
	file := filepath.Join(dir, "flavorsync.yaml") // JSON is YAML
	if err := os.WriteFile(file, cfg, 0o600); err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command(binary, "serve", "--config", file)
	address := listen(b, cmd)
	return product{address: address, base: "http://" + address + "/v1", pid: cmd.Process.Pid}
}

// call asks as a manager; body is marshalled where there is one.
func (p product) call(b *testing.B, method, path string, body any) *http.Request {
	b.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		b.Fatal(err)
	}
	r, err := http.NewRequestWithContext(b.Context(), method, p.base+path, bytes.NewReader(text))
	if err != nil {
		b.Fatal(err)
	}
	r.Header.Set("X-Auth-Token", "manager")
	r.Header.Set("Content-Type", "application/json")
	return r
}

// get asks as a manager, without a body.
func (p product) get(b *testing.B, path string) *http.Request {
	b.Helper()
	r := p.call(b, http.MethodGet, path, nil)
	r.Body, r.ContentLength = http.NoBody, 0
	return r
}

// register registers regions with the operator's service account.
func (p product) register(b *testing.B, keystone string, regions ...string) {
	b.Helper()
	for _, region := range regions {
		timed(b, p.call(b, http.MethodPost, "/infrastructures", map[string]any{"infrastructure": map[string]string{
			"name": region, "keystone_url": keystone, "username": "operator", "password": "operator-secret", "tenant": "operators",
		}}))
	}
}

// simulate starts a simulated federation that ends with the benchmark.
func simulate(b *testing.B, regions ...string) *simstack.Stack {
	b.Helper()
	cloud := simstack.New(simstack.Options{Regions: regions})
	_, stop, err := cloud.Start("127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(stop)
	return cloud
}

// report prints a figure beside its target, for people, and as metrics.
func report(b *testing.B, what string, figure float64, sign string, target float64) {
	b.Helper()
	verdict := "met"
	if sign == ">=" && figure < target || sign == "<=" && figure > target {
		verdict = "MISSED"
	}
	fmt.Printf("%s: %.2f (target %s %.2f, %s)\n", what, figure, strings.NewReplacer(">=", "at least", "<=", "at most").Replace(sign), target, verdict)
	b.ReportMetric(figure, "figure")
	b.ReportMetric(target, "target")
	b.ReportMetric(0, "ns/op")
}
