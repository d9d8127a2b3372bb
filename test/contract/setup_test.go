package contract_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"golang.org/x/crypto/bcrypt"
)

// regionTimeout is engine.region_timeout of every server under test. Real Novas share
// their processors with all other tests.
func (s *setup) regionTimeout() time.Duration {
	if s.real {
		return 5 * time.Second
	}
	return 2 * time.Second
}

// patience bounds every wait for something that must happen.
const patience = 60 * time.Second

// The three regions every set-up has.
const (
	spain2   = "Spain2"
	trento   = "Trento"
	lannion2 = "Lannion2"
)

// setup is one of the four worlds the suite runs in: a kind of database, an
// identity provider, and a cloud of three regions, registered with the one
// server most chapters share.
type setup struct {
	name     string
	database string // "sqlite" or "mysql"
	real     bool   // the cloud is a real Keystone and three real Novas

	cloud   *cloud
	idm     *idm
	product *product

	manager, user caller
}

func (s *setup) start(t *testing.T) {
	if s.database == "mysql" && os.Getenv("FLAVORSYNC_TEST_MYSQL_DSN") == "" {
		missing(t, "MariaDB is missing: FLAVORSYNC_TEST_MYSQL_DSN is not set")
	}
	if s.real {
		keystone := os.Getenv("FLAVORSYNC_TEST_KEYSTONE_URL")
		if keystone == "" {
			missing(t, "OpenStack is missing: FLAVORSYNC_TEST_KEYSTONE_URL is not set")
		}
		s.cloud = realCloud(t, keystone)
	} else {
		s.cloud = simulatedCloud(t, spain2, trento, lannion2)
	}
	s.idm = startIDM(t)
	s.manager = s.idm.manager(t)
	s.user = s.idm.user(t)
	s.product = s.serve(t)
	s.product.watched = true
	s.registerAll(t, s.product)
	s.cloud.rememberAll(t)
}

// registerAll registers the set-up's three regions with a server.
func (s *setup) registerAll(t *testing.T, pr *product) {
	t.Helper()
	for _, region := range s.cloud.regions {
		pr.as(s.manager).post(t, "/infrastructures", s.cloud.infrastructure(region)).want(t, http.StatusCreated)
	}
}

// product is one running `flavorsync serve` with its database and its log.
type product struct {
	command  string // its path
	url      string
	config   string // path of its configuration
	database string // name of its MariaDB database, "" with SQLite
	process  *process
	log      *logBuffer
	watched  bool     // every request through it must have its line in the log
	failing  bool     // the test broke it: it may answer 500
	only     string   // the part that it does: api or engine; "" for both
	requests sync.Map // request ids of the answers seen, each with "METHOD path"
}

// A process is one life of a server.
type process struct {
	cmd    *exec.Cmd
	exited chan struct{}
	err    error // valid once exited is closed
}

// An option changes a server's configuration before it starts.
type option func(config map[string]any)

// with sets one section or scalar of the configuration.
func with(key string, value any) option {
	return func(config map[string]any) { config[key] = value }
}

// Accounts of the provider `accounts`; their passwords are random, so that the
// log can be searched for them.
var accounts = struct {
	manager, spain2, nobody string
	passwords               map[string]string
}{
	manager: "federation-manager", spain2: "spain2-operator", nobody: "nobody-special",
	passwords: map[string]string{
		"federation-manager": secret("account"), "spain2-operator": secret("account"), "nobody-special": secret("account"),
	},
}

// passwordHashes are the bcrypt hashes of the accounts' passwords.
var passwordHashes = sync.OnceValue(func() map[string]string {
	hashes := make(map[string]string)
	for name, password := range accounts.passwords {
		hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
		if err != nil {
			panic(err)
		}
		hashes[name] = string(hash)
	}
	return hashes
})

// serve starts a server on a fresh database; it is stopped, its exit code and
// its log are checked, and the database is dropped when the test ends.
func (s *setup) serve(t *testing.T, options ...option) *product {
	t.Helper()
	dir := t.TempDir()
	hashes := passwordHashes()
	config := map[string]any{
		"listen":             "127.0.0.1:0",
		"database":           map[string]any{"driver": "sqlite", "dsn": filepath.Join(dir, "flavorsync.db")},
		"keystone_url":       s.cloud.keystone,
		"credentials_keyset": filepath.Join(dir, "keyset.json"),
		"outgoing":           map[string]any{"allow_http": true, "allow_networks": []string{"127.0.0.0/8"}},
		"limits":             map[string]any{"requests_per_second": 0, "failed_logins_per_minute": 0},
		"engine":             map[string]any{"region_timeout": s.regionTimeout().String()},
		"identity": []any{
			map[string]any{"type": "keyrock", "url": s.idm.url},
			map[string]any{"type": "accounts", "users": []any{
				map[string]any{"name": accounts.manager, "password_hash": hashes[accounts.manager], "roles": []string{"InfrastructureManager"}, "regions": []string{}},
				map[string]any{"name": accounts.spain2, "password_hash": hashes[accounts.spain2], "roles": []string{}, "regions": []string{spain2}},
				map[string]any{"name": accounts.nobody, "password_hash": hashes[accounts.nobody], "roles": []string{}, "regions": []string{}},
			}},
		},
	}
	pr := &product{command: binary, config: filepath.Join(dir, "flavorsync.yaml"), log: newLogBuffer()}
	if s.real {
		pr.command = quick
	}
	if s.database == "mysql" {
		pr.database = createDatabase(t)
		config["database"] = map[string]any{"driver": "mysql", "dsn": mysqlDSN(t, pr.database)}
	}
	pr.begin(t, config, options)
	return pr
}

// replica starts one more server on the database of pr, with its configuration but for
// the options.
func (pr *product) replica(t *testing.T, options ...option) *product {
	t.Helper()
	text, err := os.ReadFile(pr.config)
	if err != nil {
		t.Fatal(err)
	}
	var config map[string]any
	if err := json.Unmarshal(text, &config); err != nil {
		t.Fatal(err)
	}
	other := &product{command: pr.command, config: filepath.Join(t.TempDir(), "flavorsync.yaml"), database: pr.database, log: newLogBuffer()}
	other.begin(t, config, options)
	return other
}

// begin is the first run, and sees to the end of the last.
func (pr *product) begin(t *testing.T, config map[string]any, options []option) {
	t.Helper()
	for _, o := range options {
		o(config)
	}
	text, err := json.MarshalIndent(config, "", "  ") // JSON is YAML
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(pr.config, text, 0o600); err != nil {
		t.Fatal(err)
	}
	pr.run(t)
	t.Cleanup(func() {
		pr.terminate(t)
		pr.checkLeaks(t)
		if t.Failed() && os.Getenv("FLAVORSYNC_TEST_LOG") != "" {
			t.Logf("the server's log:\n%s", pr.log.text())
		}
	})
}

// becomes starts the server anew as one that does only that part.
func (pr *product) becomes(t *testing.T, only string) {
	t.Helper()
	pr.terminate(t)
	pr.only = only
	pr.run(t)
}

// beside is another process on the database of pr, that does only that part.
func (pr *product) beside(t *testing.T, only string) *product {
	t.Helper()
	other := &product{command: pr.command, config: pr.config, log: newLogBuffer(), only: only}
	other.run(t)
	t.Cleanup(func() {
		other.terminate(t)
		other.checkLeaks(t)
	})
	return other
}

// run starts the process and waits until it listens.
func (pr *product) run(t *testing.T) {
	t.Helper()
	args := []string{"serve", "--config", pr.config}
	if pr.only != "" {
		args = append(args, "--only", pr.only)
	}
	cmd := exec.Command(pr.command, args...)
	cmd.Env = environment()
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = writer, writer
	listening := make(chan string, 1)
	if err := cmd.Start(); err != nil {
		t.Fatalf("starting %s serve: %v", pr.command, err)
	}
	writer.Close()
	p := &process{cmd: cmd, exited: make(chan struct{})}
	pr.process = p
	copied := make(chan struct{})
	go func() {
		defer close(copied)
		defer reader.Close()
		pr.log.copy(reader, listening)
	}()
	go func() {
		p.err = cmd.Wait()
		<-copied
		close(p.exited)
	}()
	select {
	case address := <-listening:
		pr.url = "http://" + address
	case <-p.exited:
		t.Fatalf("flavorsync serve ended before it listened: %v\n%s", p.err, pr.log.text())
	case <-time.After(patience):
		p.cmd.Process.Kill()
		t.Fatalf("flavorsync serve logged no line with msg \"listening\" and its address within %s:\n%s", patience, pr.log.text())
	}
}

// environment is ours without what would configure the server.
func environment() []string {
	var env []string
	for _, variable := range os.Environ() {
		if !strings.HasPrefix(variable, "FLAVORSYNC_") || strings.HasPrefix(variable, "FLAVORSYNC_TEST_") {
			env = append(env, variable)
		}
	}
	return env
}

// terminate asks the server to end, as an operator or a supervisor does, and
// expects it to end well. A server that is not running is left alone.
func (pr *product) terminate(t *testing.T) {
	t.Helper()
	p := pr.process
	select {
	case <-p.exited:
		return
	default:
	}
	p.cmd.Process.Signal(syscall.SIGTERM)
	pr.awaitExit(t)
	if p.err != nil {
		t.Errorf("SIGTERM: the server did not exit with 0: %v\n%s", p.err, pr.log.tail(20))
	}
}

func (pr *product) awaitExit(t *testing.T) {
	t.Helper()
	select {
	case <-pr.process.exited:
	case <-time.After(patience):
		pr.process.cmd.Process.Kill()
		t.Errorf("SIGTERM: the server did not exit within %s", patience)
		<-pr.process.exited
	}
}

// kill ends the server as a power cut does.
func (pr *product) kill(t *testing.T) {
	t.Helper()
	if err := pr.process.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Fatal(err)
	}
	<-pr.process.exited
}

var databases atomic.Int64

func createDatabase(t *testing.T) string {
	t.Helper()
	name := fmt.Sprintf("contract_%s_%d", run, databases.Add(1))
	executeSQL(t, "CREATE DATABASE "+name)
	t.Cleanup(func() { executeSQL(t, "DROP DATABASE "+name) })
	return name
}

func executeSQL(t *testing.T, statement string) {
	t.Helper()
	db, err := sql.Open("mysql", mysqlDSN(t, ""))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.ExecContext(context.Background(), statement); err != nil {
		t.Fatalf("%s on FLAVORSYNC_TEST_MYSQL_DSN: %v", statement, err)
	}
}

func mysqlDSN(t *testing.T, database string) string {
	t.Helper()
	config, err := mysql.ParseDSN(os.Getenv("FLAVORSYNC_TEST_MYSQL_DSN"))
	if err != nil {
		t.Fatalf("FLAVORSYNC_TEST_MYSQL_DSN: %v", err)
	}
	if len(config.Passwd) >= 6 {
		secrets.add(config.Passwd)
	}
	config.DBName = database
	return config.FormatDSN()
}

// run tells this run's databases, flavors and regions from those of others
// that share a MariaDB or a Nova with it.
var run = func() string {
	random := make([]byte, 3)
	rand.Read(random)
	return hex.EncodeToString(random)
}()

var names atomic.Int64

// namer makes names that are this test's own: n("small") is "c1f00d-17-small".
type namer func(word string) string

func unique() namer {
	prefix := fmt.Sprintf("c%s-%d-", run, names.Add(1))
	return func(word string) string { return prefix + word }
}

// names is unique for a test that uses flavors in the set-up's own Novas: what
// of them is left there is removed when the test ends.
func (s *setup) names(t *testing.T) namer {
	n := unique()
	t.Cleanup(func() { s.cloud.removeAll(t, n("")) })
	return n
}

// newUUID is a random UUID in canonical form.
func newUUID() string {
	b := make([]byte, 16)
	rand.Read(b)
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// secret makes a new password or token and has everything searched for it.
func secret(kind string) string {
	random := make([]byte, 12)
	rand.Read(random)
	value := kind + "-" + hex.EncodeToString(random)
	secrets.add(value)
	return value
}

// logBuffer holds everything a server wrote to its standard output and error,
// over all its lives.
type logBuffer struct {
	mu    sync.Mutex
	lines [][]byte
}

func newLogBuffer() *logBuffer { return &logBuffer{} }

func (l *logBuffer) copy(r io.Reader, listening chan<- string) {
	lines := bufio.NewReader(r)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 {
			l.mu.Lock()
			l.lines = append(l.lines, line)
			l.mu.Unlock()
			var entry struct{ Msg, Address string }
			if json.Unmarshal(line, &entry) == nil && entry.Msg == "listening" && entry.Address != "" {
				select {
				case listening <- entry.Address:
				default:
				}
			}
		}
		if err != nil {
			return
		}
	}
}

func (l *logBuffer) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(bytes.Join(l.lines, nil))
}

func (l *logBuffer) tail(n int) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(bytes.Join(l.lines[max(0, len(l.lines)-n):], nil))
}

// entries are the log's lines, decoded; a line that is not JSON fails the test.
func (l *logBuffer) entries(t *testing.T) []map[string]any {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	var all []map[string]any
	for _, line := range l.lines {
		var entry map[string]any
		if err := json.Unmarshal(line, &entry); err != nil {
			t.Errorf("the log has a line that is not JSON: %s", line)
			continue
		}
		all = append(all, entry)
	}
	return all
}

// checkRequestLog: one line for each request, with what an operator looks for.
func (pr *product) checkRequestLog(t *testing.T) {
	seen := make(map[string]int)
	for _, entry := range pr.log.entries(t) {
		id, _ := entry["request_id"].(string)
		if id == "" || entry["route"] == nil {
			continue // not the line of a request
		}
		seen[id]++
		for _, attribute := range []string{"time", "level", "method", "route", "status", "duration_ms"} {
			if entry[attribute] == nil {
				t.Errorf("the line of request %s has no %s: %v", id, attribute, entry)
			}
		}
	}
	total := 0
	pr.requests.Range(func(id, what any) bool {
		total++
		if n := seen[id.(string)]; n != 1 {
			t.Errorf("%s (request %s) has %d lines in the log, not 1", what, id, n)
		}
		return true
	})
	t.Logf("%d requests", total)
}

// eventually polls until ok, and fails the test when patience ends. It is for
// what happens in another process and tells nobody.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-ctx.Done():
			t.Fatalf("within %s it did not happen that %s", patience, what)
		case <-tick.C:
		}
	}
}
