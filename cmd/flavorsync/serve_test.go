package main

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
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
	if err := serve(ctx, &cfg, jsonLog(&log), both); err != nil {
		t.Errorf("serve: %v", err)
	}
	if !strings.Contains(log.String(), "stopped before it served") {
		t.Errorf("nothing tells why it ended: %s", log.String())
	}

	// That nobody stopped it makes the same a failure.
	cfg.Database.DSN = flavor.Secret(filepath.Join(dir, "nowhere", "flavorsync.db"))
	if err := serve(t.Context(), &cfg, jsonLog(&log), both); err == nil {
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
	first, err := newService(t.Context(), &cfg, jsonLog(&log), operators, both)
	if err != nil {
		t.Fatal(err)
	}
	if err := serve(t.Context(), &cfg, jsonLog(&log), both); err == nil || !strings.Contains(err.Error(), file) || !strings.Contains(err.Error(), "another process") {
		t.Errorf("a second service: %v", err)
	}
	if err := first.close(t.Context()); err != nil {
		t.Fatal(err)
	}
	second, err := newService(t.Context(), &cfg, jsonLog(&log), operators, both)
	if err != nil {
		t.Fatalf("the next service: %v", err)
	}
	if err := second.close(t.Context()); err != nil {
		t.Error(err)
	}
}

// The configured certificate is what clients of listen see; one that cannot be
// read keeps the service from starting, and says which setting names it.
func TestServesTLS(t *testing.T) {
	shown := httptest.NewUnstartedServer(nil) // for its certificate
	shown.StartTLS()
	shown.Close()
	pair := shown.TLS.Certificates[0]
	key, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cfg := config.Default()
	cfg.Listen = "127.0.0.1:0"
	cfg.Database.DSN = flavor.Secret(filepath.Join(dir, "flavorsync.db"))
	cfg.CredentialsKeyset = filepath.Join(dir, "keyset.json")
	cfg.TLS.CertFile, cfg.TLS.KeyFile = filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	if err := serve(t.Context(), &cfg, slog.New(slog.DiscardHandler), both); err == nil || !strings.Contains(err.Error(), "tls: ") || !strings.Contains(err.Error(), cfg.TLS.CertFile) {
		t.Errorf("without the files: %v", err)
	}
	for path, block := range map[string]*pem.Block{
		cfg.TLS.CertFile: {Type: "CERTIFICATE", Bytes: pair.Certificate[0]}, cfg.TLS.KeyFile: {Type: "PRIVATE KEY", Bytes: key},
	} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}

	ctx, cancel := context.WithCancel(t.Context())
	log, lines := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		ended <- serve(ctx, &cfg, jsonLog(lines), both)
		lines.Close()
	}()
	var address string
	read := json.NewDecoder(log)
	for address == "" {
		var line struct{ Msg, Address string }
		if err := read.Decode(&line); err != nil {
			t.Fatalf("it ended before it listened: %v, %v", err, <-ended)
		}
		if line.Msg == "listening" {
			address = line.Address
		}
	}
	go func() { _, _ = io.Copy(io.Discard, log) }()
	r, err := shown.Client().Get("https://" + address + "/healthz")
	if err != nil {
		t.Fatal(err)
	}
	r.Body.Close()
	if r.StatusCode != http.StatusOK || r.Header.Get("Strict-Transport-Security") == "" {
		t.Errorf("%s: %v", r.Status, r.Header)
	}
	shown.Client().CloseIdleConnections()
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
