package main

import (
	"bytes"
	"context"
	"path/filepath"
	"strings"
	"testing"

	"github.com/flavorsync/flavorsync/internal/config"
	"github.com/flavorsync/flavorsync/internal/flavor"
)

// A service manager that stops what is just starting does not see it fail.
func TestStoppedBeforeItServes(t *testing.T) {
	dir := t.TempDir()
	cfg := config.Default()
	cfg.Listen = "127.0.0.1:0"
	cfg.Database.DSN = flavor.Secret(filepath.Join(dir, "flavorsync.db"))
	cfg.CredentialsKeyset = filepath.Join(dir, "keyset.json")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()

	var log bytes.Buffer
	if err := serve(ctx, &cfg, jsonLog(&log)); err != nil {
		t.Errorf("serve: %v", err)
	}
	if !strings.Contains(log.String(), "stopped before it served") {
		t.Errorf("nothing tells why it ended: %s", log.String())
	}

	// That nobody stopped it makes the same a failure.
	cfg.Database.DSN = flavor.Secret(filepath.Join(dir, "nowhere", "flavorsync.db"))
	if err := serve(t.Context(), &cfg, jsonLog(&log)); err == nil {
		t.Error("a start that failed by itself was none")
	}
}

// Two services on one SQLite file would each settle what the other is just
// changing: the second is told which file it is, and the first goes on.
func TestOneServesFromSQLite(t *testing.T) {
	dir := t.TempDir()
	cfg := config.Default()
	cfg.Listen = "127.0.0.1:0"
	file := filepath.Join(dir, "flavorsync.db")
	cfg.Database.DSN = flavor.Secret(file)
	cfg.CredentialsKeyset = filepath.Join(dir, "keyset.json")
	var log bytes.Buffer
	first, err := newService(t.Context(), &cfg, jsonLog(&log), operators)
	if err != nil {
		t.Fatal(err)
	}
	if err := serve(t.Context(), &cfg, jsonLog(&log)); err == nil || !strings.Contains(err.Error(), file) || !strings.Contains(err.Error(), "another process") {
		t.Errorf("a second service: %v", err)
	}
	if err := first.close(); err != nil {
		t.Fatal(err)
	}
	second, err := newService(t.Context(), &cfg, jsonLog(&log), operators)
	if err != nil {
		t.Fatalf("the next service: %v", err)
	}
	if err := second.close(); err != nil {
		t.Error(err)
	}
}
