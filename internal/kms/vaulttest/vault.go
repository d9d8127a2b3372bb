// Package vaulttest simulates the two calls of a Vault's transit engine that we make,
// strictly. It is written from what is known of Vault's API, not compared with
// the real one.
package vaulttest

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// Vault has a transit engine at /transit with the keys that were asked for, of type
// aes256-gcm96.
type Vault struct {
	// URI names the key flavorsync.
	URI string
	// Token is the one that may encrypt and decrypt.
	Token string
	// CAFile is for VAULT_CACERT.
	CAFile string

	server *httptest.Server
	mu     sync.Mutex
	keys   map[string]cipher.AEAD
	status int // of every answer, where it is not 0
}

// Start starts one, whose certificate is written to a file in dir. Stop it.
func Start(dir string) (*Vault, error) {
	v := &Vault{Token: "hvs." + rand.Text(), CAFile: filepath.Join(dir, "vault-ca.pem"), keys: make(map[string]cipher.AEAD)}
	v.server = httptest.NewTLSServer(v)
	v.server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo) // of callers that do not trust it
	v.URI = "hcvault://" + v.server.Listener.Addr().String() + "/transit/keys/flavorsync"
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: v.server.Certificate().Raw})
	if err := os.WriteFile(v.CAFile, ca, 0o600); err != nil {
		v.Stop()
		return nil, fmt.Errorf("while writing the certificate of the simulated Vault: %w", err)
	}
	return v, nil
}

// Stop has nobody answer any more.
func (v *Vault) Stop() { v.server.Close() }

// Answer has every call answered with that status; 0 is the truth again.
func (v *Vault) Answer(status int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.status = status
}

// Foreign is in the body of each failure: a byte of a foreign server.
const Foreign = "foreign-bytes"

func fail(w http.ResponseWriter, status int, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string][]string{"errors": {message + " " + Foreign}})
}

// ServeHTTP is http.Handler's.
func (v *Vault) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	v.mu.Lock()
	defer v.mu.Unlock()
	operation, name, found := strings.Cut(strings.TrimPrefix(r.URL.Path, "/v1/transit/"), "/")
	switch {
	case v.status != 0:
		fail(w, v.status, "as told")
		return
	case r.Header.Get("X-Vault-Token") != v.Token:
		fail(w, http.StatusForbidden, "permission denied")
		return
	case !strings.HasPrefix(r.URL.Path, "/v1/transit/") || !found || name == "" || strings.Contains(name, "/") || operation != "encrypt" && operation != "decrypt":
		fail(w, http.StatusNotFound, "no handler for route")
		return
	case r.Method != http.MethodPut && r.Method != http.MethodPost:
		fail(w, http.StatusMethodNotAllowed, "unsupported operation")
		return
	}
	var body struct {
		Plaintext      *string `json:"plaintext"`
		Ciphertext     *string `json:"ciphertext"`
		AssociatedData string  `json:"associated_data"`
	}
	in := json.NewDecoder(io.LimitReader(r.Body, 1<<20))
	in.DisallowUnknownFields()
	if err := in.Decode(&body); err != nil {
		fail(w, http.StatusBadRequest, "failed to parse JSON input")
		return
	}
	associated, err := base64.StdEncoding.DecodeString(body.AssociatedData)
	if err != nil {
		fail(w, http.StatusBadRequest, "failed to base64-decode associated_data")
		return
	}
	var answer map[string]any
	if operation == "encrypt" {
		answer = v.encrypt(name, body.Plaintext, associated)
	} else {
		answer = v.decrypt(name, body.Ciphertext, associated)
	}
	if answer == nil {
		fail(w, http.StatusBadRequest, "invalid request")
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{"request_id": "0", "lease_id": "", "renewable": false, "lease_duration": 0, "data": answer})
}

func (v *Vault) encrypt(name string, plaintext *string, associated []byte) map[string]any {
	key, err := v.key(name)
	if err != nil || plaintext == nil {
		return nil
	}
	plain, err := base64.StdEncoding.DecodeString(*plaintext)
	if err != nil {
		return nil
	}
	nonce := make([]byte, key.NonceSize())
	_, _ = rand.Read(nonce) // it never fails
	sealed := key.Seal(nonce, nonce, plain, associated)
	return map[string]any{"ciphertext": "vault:v1:" + base64.StdEncoding.EncodeToString(sealed), "key_version": 1}
}

func (v *Vault) decrypt(name string, ciphertext *string, associated []byte) map[string]any {
	key, err := v.key(name)
	if err != nil || ciphertext == nil {
		return nil
	}
	text, ok := strings.CutPrefix(*ciphertext, "vault:v1:")
	sealed, err := base64.StdEncoding.DecodeString(text)
	if !ok || err != nil || len(sealed) < key.NonceSize() {
		return nil
	}
	plain, err := key.Open(nil, sealed[:key.NonceSize()], sealed[key.NonceSize():], associated)
	if err != nil {
		return nil
	}
	return map[string]any{"plaintext": base64.StdEncoding.EncodeToString(plain)}
}

func (v *Vault) key(name string) (cipher.AEAD, error) {
	if key, ok := v.keys[name]; ok {
		return key, nil
	}
	random := make([]byte, 32)
	_, _ = rand.Read(random) // it never fails
	block, err := aes.NewCipher(random)
	if err != nil {
		return nil, err
	}
	v.keys[name], err = cipher.NewGCM(block)
	return v.keys[name], err
}
