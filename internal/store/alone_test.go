package store

import (
	"bufio"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func opened(t *testing.T, name string) *Store {
	t.Helper()
	s, err := Open(t.Context(), Config{Driver: driverSQLite, DSN: name, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// Two services on one SQLite file would each settle the changes that the other
// is just making.
func TestHoldAlone(t *testing.T) {
	name := filepath.Join(t.TempDir(), "flavorsync.db")
	release, err := opened(t, name).HoldAlone()
	if err != nil {
		t.Fatal(err)
	}
	second := opened(t, name)
	alias := name + ".alias"
	if err := os.Symlink(name, alias); err != nil {
		t.Fatal(err)
	}
	for _, s := range []*Store{second, opened(t, alias)} {
		if _, err := s.HoldAlone(); err == nil || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), "stop it") {
			t.Errorf("a second holder: %v", err)
		}
	}
	other, err := opened(t, name+".other").HoldAlone()
	if err != nil {
		t.Errorf("the holder of another file: %v", err)
	} else if err := other(); err != nil {
		t.Error(err)
	}
	for range 2 {
		if err := release(); err != nil {
			t.Errorf("release: %v", err)
		}
	}
	if release, err = second.HoldAlone(); err != nil {
		t.Fatalf("the next holder: %v", err)
	}
	if err := release(); err != nil {
		t.Error(err)
	}
	if st, err := os.Stat(name + ".lock"); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("the lock file: %v, %v", st, err)
	}

	// MariaDB serves many.
	many := &Store{driver: driverMySQL}
	for range 2 {
		if release, err := many.HoldAlone(); err != nil || release() != nil {
			t.Errorf("on MariaDB: %v", err)
		}
	}
}

const holdVariable = "FLAVORSYNC_TEST_HOLD"

// A process that is killed leaves nothing behind that keeps the next one out.
func TestHoldAloneEndsWithTheProcess(t *testing.T) {
	if name := os.Getenv(holdVariable); name != "" {
		if _, err := opened(t, name).HoldAlone(); err != nil {
			t.Fatal(err)
		}
		_, _ = os.Stdout.WriteString("held\n")
		_, _ = io.Copy(io.Discard, os.Stdin) // until it is killed, or the test is gone
		return
	}
	name := filepath.Join(t.TempDir(), "flavorsync.db")
	child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestHoldAloneEndsWithTheProcess$")
	child.Env = append(os.Environ(), holdVariable+"="+name)
	in, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = in.Close() }()
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	s := opened(t, name)
	if _, held := s.HoldAlone(); held == nil || line != "held\n" {
		t.Errorf("the other process said %q, %v; a second holder: %v", line, err, held)
	}
	_ = child.Process.Kill()
	_ = child.Wait()
	release, err := s.HoldAlone()
	if err != nil {
		t.Fatalf("after the other process was killed: %v", err)
	}
	if err := release(); err != nil {
		t.Error(err)
	}
}
