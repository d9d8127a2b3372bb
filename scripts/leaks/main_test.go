package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// A search that finds nothing must be able to find something, and nothing in what a
// service does log.
func TestSearch(t *testing.T) {
	for line, secret := range map[string]string{
		`{"msg":"wrong password operator-secret"}`:                            "operator-secret",
		`{"error":"401 for Basic dHJlbnRvOnRyZW50by1zZWNyZXQ="}`:              "Basic dHJlbnRvOnRyZW50by1zZWNyZXQ",
		`{"path":"/v1/regions?access_token=user"}`:                            "?access_token=u",
		`{"token":"gAAAAABmZm9vYmFyYmF6cXV4Zm9vYmFyYmF6cXV4Zm9vYmFyYmF6"}`:    "gAAAAABmZm9vYmFyYmF6cXV4Zm9vYmFyYmF6cXV4Zm9vYmFyYmF6",
		`{"token":"eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJodHRwczovL2V2aWwifQ.c2l"}`: "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJodHRwczovL2V2aWwifQ.",
		`{"hash":"$2y$10$abc"}`:                                               "$2y$10$",
		`{"msg":"a new keyset was made","path":"keyset.json"}`:                "",
		`{"path":"/v1/regions","query":"access_token=***"}`:                   "",
		`{"error":"has characters outside the Basic Multilingual Plane"}`:     "",
		`{"caller":"accounts/manager","region":"Trento"}`:                     "",
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "a.log"), []byte("{}\n"+line), 0o600); err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		logs, found, err := search(&out, dir)
		if err != nil || logs != 1 || (found > 0) != (secret != "") || !bytes.Contains(out.Bytes(), []byte(secret)) {
			t.Errorf("%s: %d of %d, %v: %s", line, found, logs, err, out.String())
		}
	}
}
