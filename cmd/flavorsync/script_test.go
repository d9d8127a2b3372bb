package main

import (
	"bufio"
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/flavorsync/flavorsync/internal/kms/vaulttest"
	"github.com/flavorsync/flavorsync/internal/store/storetest"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"flavorsync": main})
}

// patience is how long a process may take for anything.
const patience = time.Minute

// The commands do what their help and the contract say, for one who has nothing
// but the binary.
func TestScript(t *testing.T) {
	testscript.Run(t, params("testdata/script"))
}

// A database of flavor-sync 1.0 is taken over by one command.
func TestScriptMariaDB(t *testing.T) {
	p := params("testdata/mariadb")
	v1, own := storetest.DSN(t, "mysql"), storetest.DSN(t, "mysql")
	loadV1(t, v1)
	p.Setup = func(env *testscript.Env) error {
		env.Setenv("V1_DSN", v1)
		env.Setenv("OWN_DSN", own)
		return setup(env)
	}
	testscript.Run(t, p)
}

func loadV1(t *testing.T, dsn string) {
	t.Helper()
	dump, err := os.ReadFile("../../internal/store/testdata/flavorsync-1.0.sql")
	if err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("mysql", dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for statement := range strings.SplitSeq(string(dump), ";\n") {
		if strings.TrimSpace(statement) == "" {
			continue
		}
		if _, err := db.ExecContext(t.Context(), statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
}

// Besides testscript's own commands the scripts have:
//
//	start NAME PROGRAM ARGS...   starts it; when it says it listens, $NAME is where
//	logged NAME                  what it has printed so far becomes stdout
//	end NAME [STATUS]            sends SIGTERM and waits for the end
//	terminate NAME               sends SIGTERM, and returns when it takes no more connections
//	killed NAME                  sends SIGTERM again, which must end it by the signal
//	begin NAME USER:PASSWORD     sends the head of a POST /v1/promotedflavors, until its handler runs
//	finish NAME STATUS [EXIT]    sends the body of that, wants the status, and then the end of the process
//	call STATUS METHOD URL [USER:PASSWORD [FILE]]   the body becomes stdout
//	taken VARIABLE               an address at which something listens
//	vault                        starts a simulated Vault, and sets $VAULT_URI, $VAULT_TOKEN and $VAULT_CACERT
//	novault                      stops it
//	indented FILE                the lines of stdout that are indented, without that
//	record VARIABLE ADDRESS      $VARIABLE is an address that hands on to ADDRESS, and is listened to
//	recorded                     what was handed on since the last time, METHOD path, becomes stdout
func params(dir string) testscript.Params {
	return testscript.Params{
		Dir:                 dir,
		Setup:               setup,
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Deadline:            time.Now().Add(3 * patience), // a server that should have refused would run for ever
		Condition: func(name string) (bool, error) {
			if name == "ci" {
				return os.Getenv("CI") == "true", nil
			}
			return false, fmt.Errorf("no condition %q", name)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"start": func(ts *testscript.TestScript, _ bool, args []string) { start(ts, args[0], args[1:]) },
			"logged": func(ts *testscript.TestScript, _ bool, args []string) {
				_, err := ts.Stdout().Write(named(ts, args[0]).text())
				ts.Check(err)
			},
			"end": func(ts *testscript.TestScript, _ bool, args []string) {
				p := named(ts, args[0])
				ts.Check(p.cmd.Process.Signal(syscall.SIGTERM))
				p.wantExit(ts, args[1:])
			},
			"terminate": func(ts *testscript.TestScript, _ bool, args []string) { named(ts, args[0]).terminate(ts) },
			"killed": func(ts *testscript.TestScript, _ bool, args []string) {
				p := named(ts, args[0])
				ts.Check(p.cmd.Process.Signal(syscall.SIGTERM))
				<-p.ended
				if status := p.cmd.ProcessState.Sys().(syscall.WaitStatus); !status.Signaled() {
					ts.Fatalf("the second signal did not kill it: %v\n%s", p.cmd.ProcessState, p.text())
				}
			},
			"begin": func(ts *testscript.TestScript, _ bool, args []string) {
				user, password, _ := strings.Cut(args[1], ":")
				named(ts, args[0]).begin(ts, user, password)
			},
			"finish": func(ts *testscript.TestScript, _ bool, args []string) {
				p := named(ts, args[0])
				p.finish(ts, args[1])
				p.wantExit(ts, args[2:])
			},
			"call": func(ts *testscript.TestScript, _ bool, args []string) { call(ts, args) },
			"taken": func(ts *testscript.TestScript, _ bool, args []string) {
				l, err := net.Listen("tcp", "127.0.0.1:0")
				ts.Check(err)
				ts.Defer(func() { l.Close() })
				ts.Setenv(args[0], l.Addr().String())
			},
			"vault": func(ts *testscript.TestScript, _ bool, _ []string) {
				v, err := vaulttest.Start(ts.MkAbs("."))
				ts.Check(err)
				ts.Defer(v.Stop)
				ts.Setenv("VAULT_URI", v.URI)
				ts.Setenv("VAULT_TOKEN", v.Token)
				ts.Setenv("VAULT_CACERT", v.CAFile)
				*ts.Value(vaultKey{}).(**vaulttest.Vault) = v
			},
			"novault": func(ts *testscript.TestScript, _ bool, _ []string) {
				(*ts.Value(vaultKey{}).(**vaulttest.Vault)).Stop()
			},
			"record": func(ts *testscript.TestScript, _ bool, args []string) {
				r := ts.Value(recorderKey{}).(*recorder)
				r.Handler = httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: args[1]})
				server := httptest.NewServer(r)
				ts.Defer(server.Close)
				ts.Setenv(args[0], server.Listener.Addr().String())
			},
			"recorded": func(ts *testscript.TestScript, _ bool, _ []string) {
				_, err := io.WriteString(ts.Stdout(), ts.Value(recorderKey{}).(*recorder).since())
				ts.Check(err)
			},
			"indented": func(ts *testscript.TestScript, _ bool, args []string) {
				var found []string
				for line := range strings.Lines(ts.ReadFile("stdout")) {
					if rest, ok := strings.CutPrefix(line, "  "); ok {
						found = append(found, rest)
					}
				}
				ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(strings.Join(found, "")), 0o600))
			},
		},
	}
}

type (
	processesKey struct{}
	vaultKey     struct{}
	recorderKey  struct{}
)

// recorder remembers what was asked of the handler.
type recorder struct {
	http.Handler

	mu    sync.Mutex
	asked strings.Builder
}

func (r *recorder) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	r.mu.Lock()
	fmt.Fprintln(&r.asked, q.Method, q.URL.Path)
	r.mu.Unlock()
	r.Handler.ServeHTTP(w, q)
}

// since is what was asked since it was called last.
func (r *recorder) since() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	asked := r.asked.String()
	r.asked.Reset()
	return asked
}

func setup(env *testscript.Env) error {
	env.Values[processesKey{}] = map[string]*process{}
	env.Values[vaultKey{}] = new(*vaulttest.Vault)
	env.Values[recorderKey{}] = &recorder{}
	// Nothing of the surroundings decides how a command behaves.
	env.Setenv("no_proxy", "*")
	env.Setenv("GORACE", "atexit_sleep_ms=0") // else each command takes a second to end
	return nil
}

// process is a running command, and a connection to it that is idle.
type process struct {
	address string
	cmd     *exec.Cmd
	ended   chan struct{} // closed after Wait
	idle    net.Conn
	request net.Conn // begin has sent a head on it

	mu      sync.Mutex
	printed bytes.Buffer
}

func named(ts *testscript.TestScript, name string) *process {
	p, ok := ts.Value(processesKey{}).(map[string]*process)[name]
	if !ok {
		ts.Fatalf("there is no process %s", name)
	}
	return p
}

// start runs a command until it says that it listens.
func start(ts *testscript.TestScript, name string, args []string) {
	var program string
	for _, dir := range filepath.SplitList(ts.Getenv("PATH")) {
		if found, err := exec.LookPath(filepath.Join(dir, args[0])); err == nil {
			program = found
			break
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	p := &process{cmd: exec.CommandContext(ctx, program, args[1:]...), ended: make(chan struct{})}
	p.cmd.Dir = ts.MkAbs(".")
	for _, variable := range []string{"PATH", "HOME", "TMPDIR", "GOCOVERDIR", "GORACE", "FLAVORSYNC_LISTEN", "FLAVORSYNC_DATABASE_DSN",
		"FLAVORSYNC_CREDENTIALS_KMS", "VAULT_TOKEN", "VAULT_CACERT"} {
		if value := ts.Getenv(variable); value != "" {
			p.cmd.Env = append(p.cmd.Env, variable+"="+value)
		}
	}
	out, in, err := os.Pipe()
	ts.Check(err)
	p.cmd.Stdout, p.cmd.Stderr = in, in
	err = p.cmd.Start()
	in.Close()
	ts.Check(err)
	listens := make(chan addresses, 1)
	go func() {
		defer close(p.ended)
		p.read(out, listens)
		out.Close()
		_ = p.cmd.Wait() // ProcessState tells how
		cancel()
	}()
	ts.Defer(func() {
		_ = p.cmd.Process.Kill()
		<-p.ended
		ts.Check(p.keepLog())
	})
	at, ok := <-listens
	if !ok {
		<-p.ended
		ts.Fatalf("%s ended before it listened: %v\n%s", name, p.cmd.ProcessState, p.text())
	}
	p.address = at.api
	ts.Setenv(name, at.api)
	ts.Setenv(name+"_metrics", at.metrics)
	ts.Value(processesKey{}).(map[string]*process)[name] = p

	p.idle = p.dial(ts)
	_, err = io.WriteString(p.idle, "GET /healthz HTTP/1.1\r\nHost: flavorsync\r\n\r\n")
	ts.Check(err)
	answer, err := http.ReadResponse(bufio.NewReader(p.idle), nil)
	ts.Check(err)
	_, err = io.Copy(io.Discard, answer.Body)
	ts.Check(err)
}

type addresses struct{ api, metrics string }

// read keeps what the process prints, and tells where it listens.
func (p *process) read(out io.Reader, listens chan<- addresses) {
	defer close(listens)
	lines := bufio.NewReader(out)
	var at addresses
	for {
		line, err := lines.ReadBytes('\n')
		p.mu.Lock()
		p.printed.Write(line)
		p.mu.Unlock()
		if err != nil {
			return
		}
		var entry struct{ Msg, Address string }
		if json.Unmarshal(line, &entry) != nil {
			continue // not yet the log
		}
		switch entry.Msg {
		case "listening for metrics":
			at.metrics = entry.Address
		case "listening":
			at.api = entry.Address
			listens <- at
		}
	}
}

func (p *process) text() []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	return bytes.Clone(p.printed.Bytes())
}

// keepLog keeps the log for who searches those of the whole run. The demo tells its
// passwords beside that, on purpose.
func (p *process) keepLog() error {
	dir := os.Getenv("FLAVORSYNC_TEST_LOGS")
	if dir == "" {
		return nil
	}
	f, err := os.CreateTemp(dir, "command-*.log")
	if err != nil {
		return err
	}
	for line := range bytes.Lines(p.text()) {
		if bytes.HasPrefix(line, []byte("{")) {
			_, err = f.Write(line)
		}
	}
	return errors.Join(err, f.Close())
}

func (p *process) dial(ts *testscript.TestScript) net.Conn {
	conn, err := net.Dial("tcp", p.address)
	ts.Check(err)
	ts.Check(conn.SetDeadline(time.Now().Add(patience)))
	ts.Defer(func() { conn.Close() })
	return conn
}

// wantExit waits for the end of the process, with that status or 0.
func (p *process) wantExit(ts *testscript.TestScript, args []string) {
	wanted := "0"
	if len(args) > 0 {
		wanted = args[0]
	}
	<-p.ended
	if status := strconv.Itoa(p.cmd.ProcessState.ExitCode()); status != wanted {
		ts.Fatalf("it ended with %v, not with %s\n%s", p.cmd.ProcessState, wanted, p.text())
	}
}

// terminate returns when the process has closed its idle connections, which it
// does after it has stopped listening.
func (p *process) terminate(ts *testscript.TestScript) {
	ts.Check(p.cmd.Process.Signal(syscall.SIGTERM))
	if _, err := io.Copy(io.Discard, p.idle); err != nil {
		ts.Fatalf("the idle connection stays open: %v", err)
	}
	if conn, err := net.Dial("tcp", p.address); err == nil {
		conn.Close()
		ts.Fatalf("it takes new connections after SIGTERM")
	}
}

const slowBody = `{"flavor": {"name": "slow", "vcpus": 1, "ram": 512, "disk": 1}}`

// begin returns when the handler asks for the body of a request.
func (p *process) begin(ts *testscript.TestScript, user, password string) {
	r, err := http.NewRequest(http.MethodPost, "http://"+p.address+"/v1/promotedflavors", nil)
	ts.Check(err)
	r.SetBasicAuth(user, password)
	p.request = p.dial(ts)
	_, err = fmt.Fprintf(p.request, "POST /v1/promotedflavors HTTP/1.1\r\nHost: flavorsync\r\nAuthorization: %s\r\n"+
		"Content-Type: application/json\r\nContent-Length: %d\r\nExpect: 100-continue\r\n\r\n", r.Header.Get("Authorization"), len(slowBody))
	ts.Check(err)
	wanted := "HTTP/1.1 100 Continue\r\n\r\n"
	line := make([]byte, len(wanted))
	if _, err := io.ReadFull(p.request, line); err != nil || string(line) != wanted {
		ts.Fatalf("it did not ask for the body: %q, %v", line, err)
	}
}

func (p *process) finish(ts *testscript.TestScript, status string) {
	_, err := io.WriteString(p.request, slowBody)
	ts.Check(err)
	answer, err := http.ReadResponse(bufio.NewReader(p.request), nil)
	if err != nil {
		ts.Fatalf("the running request was not answered: %v\n%s", err, p.text())
	}
	wantStatus(ts, answer, status)
}

func call(ts *testscript.TestScript, args []string) {
	status, method, url := args[0], args[1], args[2]
	var body io.Reader
	if len(args) > 4 {
		body = strings.NewReader(ts.ReadFile(args[4]))
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, url, body)
	ts.Check(err)
	if len(args) > 3 {
		user, password, _ := strings.Cut(args[3], ":")
		r.SetBasicAuth(user, password)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Close = true
	answer, err := http.DefaultClient.Do(r)
	ts.Check(err)
	wantStatus(ts, answer, status)
}

// wantStatus copies the body to stdout.
func wantStatus(ts *testscript.TestScript, answer *http.Response, wanted string) {
	body, err := io.ReadAll(answer.Body)
	answer.Body.Close()
	ts.Check(err)
	_, err = ts.Stdout().Write(body)
	ts.Check(err)
	if strconv.Itoa(answer.StatusCode) != wanted {
		ts.Fatalf("%s, not %s: %s", answer.Status, wanted, body)
	}
}
