// Package kms speaks with the key management service that may encrypt the
// credentials keyset: HashiCorp Vault's transit engine, or OpenBao's, which has the
// same interface. There is one call when the keyset is read, and one when it is
// written.
package kms

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/hashicorp/vault/api"
	"github.com/tink-crypto/tink-go-hcvault/v2/integration/hcvault"
	"github.com/tink-crypto/tink-go/v2/tink"
)

// timeout is of one call; it is tried three times.
const timeout = 5 * time.Second

// CheckURI says what is wrong with the URI of a key:
// hcvault://vault.example.org:8200/transit/keys/flavorsync.
func CheckURI(uri string) error {
	u, err := url.Parse(uri)
	if err != nil || u.Scheme != "hcvault" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return errors.New("must name a key of a Vault, such as hcvault://vault.example.org:8200/transit/keys/flavorsync")
	}
	parts := strings.Split(u.Path, "/")
	if n := len(parts); n < 4 || parts[n-2] != "keys" || parts[n-1] == "" || strings.Contains(u.Path, "//") {
		return errors.New("must end with the path of a transit key, such as /transit/keys/flavorsync")
	}
	return nil
}

// Open is the key of that URI, at which nobody is asked yet. The token and how TLS
// is checked are what Vault's own client takes from the environment: VAULT_TOKEN,
// VAULT_CACERT, VAULT_NAMESPACE, VAULT_CLIENT_CERT and the like; not the address. No
// error of it has a byte that the server sent, but for a certificate's flaw.
func Open(uri string) (tink.AEAD, error) {
	if err := CheckURI(uri); err != nil {
		return nil, fmt.Errorf("credentials_kms %w", err)
	}
	u, err := url.Parse(uri)
	if err != nil {
		return nil, errors.New("credentials_kms is no URI")
	}
	cfg := api.DefaultConfig()
	if cfg.Error != nil {
		return nil, fmt.Errorf("while reading the environment's VAULT_ variables: %w", cfg.Error)
	}
	cfg.Address, cfg.AgentAddress = "https://"+u.Host, ""
	cfg.Timeout = timeout
	cfg.MinRetryWait, cfg.MaxRetryWait = 100*time.Millisecond, 500*time.Millisecond
	cfg.DisableRedirects = true // the token is for this host
	client, err := api.NewClient(cfg)
	if err != nil {
		return nil, fmt.Errorf("while preparing to ask the KMS at %s: %w", u.Host, err)
	}
	if client.Token() == "" {
		return nil, fmt.Errorf("there is no token for the KMS at %s: set VAULT_TOKEN", u.Host)
	}
	vault, err := hcvault.NewClientWithAEADOptions("hcvault://"+u.Host+"/", client.Logical())
	if err != nil {
		return nil, fmt.Errorf("while preparing to ask the KMS at %s: %w", u.Host, err)
	}
	key, err := vault.GetAEAD(uri)
	if err != nil {
		return nil, fmt.Errorf("while preparing to ask the KMS at %s: %w", u.Host, err)
	}
	return &aead{host: u.Host, key: key}, nil
}

// aead tells in words of ours why a call failed.
type aead struct {
	host string
	key  tink.AEAD
}

func (a *aead) Encrypt(plaintext, associatedData []byte) ([]byte, error) {
	ciphertext, err := a.key.Encrypt(plaintext, associatedData)
	return ciphertext, a.told(err)
}

func (a *aead) Decrypt(ciphertext, associatedData []byte) ([]byte, error) {
	plaintext, err := a.key.Decrypt(ciphertext, associatedData)
	return plaintext, a.told(err)
}

func (a *aead) told(err error) error {
	if err == nil {
		return nil
	}
	if answer, ok := errors.AsType[*api.ResponseError](err); ok {
		advice := ""
		switch answer.StatusCode {
		case http.StatusBadRequest:
			advice = ": is the key of credentials_kms the one that encrypted this keyset?"
		case http.StatusForbidden:
			advice = ": VAULT_TOKEN is no good, or its policy does not allow to encrypt and decrypt with that key"
		case http.StatusNotFound:
			advice = ": there is no such path; is the transit engine where credentials_kms says?"
		case http.StatusServiceUnavailable:
			advice = ": it is sealed"
		}
		return fmt.Errorf("the KMS at %s answered with status %d%s", a.host, answer.StatusCode, advice)
	}
	if _, ok := errors.AsType[*url.Error](err); ok {
		return fmt.Errorf("the KMS at %s cannot be reached: %w", a.host, err)
	}
	return fmt.Errorf("the KMS at %s gave an answer that is not Vault's", a.host)
}
