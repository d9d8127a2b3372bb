package kms_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/flavorsync/flavorsync/internal/kms"
	"github.com/flavorsync/flavorsync/internal/kms/vaulttest"
)

func start(t *testing.T) *vaulttest.Vault {
	t.Helper()
	v, err := vaulttest.Start(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(v.Stop)
	return v
}

// surround sets the environment that Vault's client reads.
func surround(t *testing.T, v *vaulttest.Vault, token string) {
	t.Helper()
	t.Setenv("VAULT_TOKEN", token)
	t.Setenv("VAULT_CACERT", v.CAFile)
	t.Setenv("VAULT_ADDR", "http://127.0.0.1:1") // of another Vault
}

// What a Vault has encrypted it decrypts, with the same associated data only.
func TestVault(t *testing.T) {
	v := start(t)
	surround(t, v, v.Token)
	key, err := kms.Open(v.URI)
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := key.Encrypt([]byte("the keyset"), []byte("ours"))
	if err != nil || strings.Contains(string(sealed), "keyset") {
		t.Fatalf("Encrypt = %q, %v", sealed, err)
	}
	if plain, err := key.Decrypt(sealed, []byte("ours")); err != nil || string(plain) != "the keyset" {
		t.Errorf("Decrypt = %q, %v", plain, err)
	}
	if _, err := key.Decrypt(sealed, []byte("another's")); err == nil || !strings.Contains(err.Error(), "the one that encrypted this keyset") {
		t.Errorf("with other associated data: %v", err)
	}
	other, err := kms.Open(strings.Replace(v.URI, "/flavorsync", "/another", 1))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.Decrypt(sealed, []byte("ours")); err == nil {
		t.Error("another key decrypted it")
	}
}

// An operator whose Flavorsync does not start is told what is wrong with Vault, in
// words that are not Vault's.
func TestVaultFails(t *testing.T) {
	v := start(t)
	try := func(uri string) error {
		key, err := kms.Open(uri)
		if err != nil {
			return err
		}
		_, err = key.Encrypt([]byte("the keyset"), nil)
		return err
	}
	surround(t, v, "")
	want := func(err error, words string) {
		t.Helper()
		if err == nil || !strings.Contains(err.Error(), words) || strings.Contains(err.Error(), vaulttest.Foreign) || strings.Contains(err.Error(), v.Token) {
			t.Errorf("%v does not tell of %q", err, words)
		}
	}
	t.Setenv("HOME", t.TempDir()) // of nobody who has logged in to a Vault
	want(try(v.URI), "set VAULT_TOKEN")
	surround(t, v, "hvs.wrong")
	want(try(v.URI), "VAULT_TOKEN is no good")
	surround(t, v, v.Token)
	want(try(strings.Replace(v.URI, "/transit/", "/transfer/", 1)), "there is no such path")
	v.Answer(http.StatusServiceUnavailable)
	want(try(v.URI), "it is sealed")
	v.Answer(http.StatusTeapot)
	want(try(v.URI), "answered with status 418")
	v.Answer(0)
	t.Setenv("VAULT_CACERT", "")
	want(try(v.URI), "certificate")
	surround(t, v, v.Token)
	v.Stop()
	want(try(v.URI), "cannot be reached")
}

func TestCheckURI(t *testing.T) {
	for uri, good := range map[string]bool{
		"hcvault://vault.example.org:8200/transit/keys/flavorsync": true,
		"hcvault://vault.example.org/a/mount/keys/flavorsync":      true,
		"https://vault.example.org:8200/transit/keys/flavorsync":   false,
		"hcvault:///transit/keys/flavorsync":                       false,
		"hcvault://me:pw@vault.example.org/transit/keys/f":         false,
		"hcvault://vault.example.org/transit/keys/":                false,
		"hcvault://vault.example.org/keys/flavorsync":              false,
		"hcvault://vault.example.org/transit/keys/f?token=secret":  false,
		"aws-kms://arn:aws:kms:eu-west-1:1:key/1":                  false,
	} {
		if err := kms.CheckURI(uri); (err == nil) != good || err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", uri, err)
		}
	}
}
