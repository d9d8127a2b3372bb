package openstack

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"syscall"

	"github.com/gophercloud/gophercloud/v2"

	"github.com/flavorsync/flavorsync/internal/flavor"
	"github.com/flavorsync/flavorsync/internal/outgoing"
)

// party is who answers, or should.
type party string

const (
	nova               party = "Nova"
	keystone           party = "Keystone"
	federationKeystone party = "federation"
)

// attempt is one thing asked of one party, and how its failure is told.
type attempt struct {
	clouds    *Clouds
	region    string
	party     party
	doing     string          // "listing flavors of Trento"
	delegated bool            // with the caller's own token; else with the service account
	authType  flavor.AuthType // of the service account that authenticates
	exchanges bool            // its access token for one of Keystone's
	flavorID  string          // what a 404 is about; "" where there is no such thing
	write     bool            // 400, 409 and 413 are about what was sent
}

var (
	errNonsense = errors.New("the answer is not what this API answers")
	errUnscoped = errors.New("the token is not scoped")
	errExpired  = errors.New("the token has expired")
	errRefused  = errors.New("the service account is refused")
)

// badURLError is a registered, configured or catalogued URL nobody can call.
type badURLError struct{ error }

func (e *badURLError) Unwrap() error { return e.error }

// statusError is an answer by its status alone: the body of a foreign answer
// stays out of errors and logs.
type statusError struct {
	method, url string
	status      int
}

func (e *statusError) Error() string {
	return fmt.Sprintf("%s %s answered %d", e.method, e.url, e.status)
}

// who names the party inside a sentence that has named the region already.
func (a attempt) who() string {
	if a.party == federationKeystone {
		return "the federation's Keystone"
	}
	return "its " + string(a.party)
}

// setting is where the URL of the party can be corrected.
func (a attempt) setting() string {
	switch a.party {
	case federationKeystone:
		return "the operator of this service should check its setting keystone_url"
	case keystone:
		return "check the keystone_url of this infrastructure"
	default:
		return "check the nova_url of this infrastructure, or its endpoint in Keystone's catalog"
	}
}

// explain turns any failure of the attempt into one a client can be told.
func (a attempt) explain(err error) error {
	if err == nil {
		return nil
	}
	if known, ok := errors.AsType[*flavor.Error](err); ok {
		return known
	}
	if answer, ok := errors.AsType[gophercloud.ErrUnexpectedResponseCode](err); ok {
		return a.explainStatus(answer)
	}
	switch {
	case errors.Is(err, errUnscoped):
		return flavor.Errorf(flavor.CodeKeystone,
			"%s: it is not scoped to a project, so it opens no Nova; issue one with a project and send it as X-Auth-Token-KeyStone", a.doing)
	case errors.Is(err, errExpired):
		return flavor.Errorf(flavor.CodeKeystone, "%s: it has expired; issue a new one and send it as X-Auth-Token-KeyStone", a.doing)
	}
	what, cause := a.obstacle(err)
	return flavor.Errorf(flavor.CodeUnreachable, "%s: %s: %w", a.doing, what, cause)
}

// obstacle says why no answer of any use came, and the cause for the log.
func (a attempt) obstacle(err error) (what string, cause error) {
	if busy, ok := errors.AsType[*busyError](err); ok {
		if busy.region {
			return fmt.Sprintf("the %d calls that may run there at once all take too long; try again later", busy.limit), err
		}
		return fmt.Sprintf("the %d calls that this service may have running at once all take too long; try again later", busy.limit), err
	}
	if refusal := outgoing.Refusal(err); refusal != "" {
		return a.who() + " " + refusal, err
	}
	if _, ok := errors.AsType[*badURLError](err); ok {
		return "the URL of " + a.who() + " is not an http or https URL with a host and nothing but a path; " + a.setting(), err
	}
	if _, ok := errors.AsType[*net.DNSError](err); ok && !outgoing.TimedOut(err) {
		return "the host of " + a.who() + " has no address in the DNS; " + a.setting(), err
	}
	if flaw := outgoing.TLSFlaw(err); flaw != "" {
		return a.who() + " " + flaw + a.voucher(err), err
	}
	switch {
	case errors.Is(err, errForeignHost):
		return a.who() + " leads to another host, where no token is sent", err
	case errors.Is(err, context.Canceled):
		return "the request ended before " + a.who() + " had answered", err
	case outgoing.TimedOut(err):
		return fmt.Sprintf("%s did not answer in time (engine.region_timeout is %s); try again later", a.who(), a.clouds.cfg.RegionTimeout), err
	case errors.Is(err, syscall.ECONNREFUSED):
		return a.who() + " accepts no connection; it may be down: try again later, or " + a.setting(), err
	case errors.Is(err, outgoing.ErrTooLarge):
		return a.who() + " answers more than can be taken (8 MiB at once); " + a.setting(), err
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.EPIPE):
		return a.who() + " broke its answer off; try again later", err
	case errors.Is(err, errNonsense), decodeError(err):
		// The decoder's own words hold what it read.
		return a.who() + " answers what is not the API of " + a.api() + "; " + a.setting(), errNonsense
	}
	return a.who() + " cannot be reached; try again later, or " + a.setting(), err
}

// voucher is what to do about an authority that is unknown here: a region may
// have one of its own.
func (a attempt) voucher(err error) string {
	_, unknown := errors.AsType[x509.UnknownAuthorityError](err)
	switch {
	case !unknown || a.party == federationKeystone:
		return ""
	case a.delegated:
		return ", or a manager should register that authority as ca_certificate of this infrastructure"
	default:
		return ", or register that authority as ca_certificate of this infrastructure"
	}
}

func (a attempt) api() string {
	if a.party == nova {
		return "Nova (compute v2.1)"
	}
	return "Keystone (identity v3)"
}

func decodeError(err error) bool {
	if _, ok := errors.AsType[*json.SyntaxError](err); ok {
		return true
	}
	_, ok := errors.AsType[*json.UnmarshalTypeError](err)
	return ok
}

// explainStatus is explain for an answer that came, but with another status
// than a good one.
func (a attempt) explainStatus(answer gophercloud.ErrUnexpectedResponseCode) error {
	status := &statusError{method: answer.Method, url: answer.URL, status: answer.Actual}
	fail := func(code flavor.Code, format string, args ...any) error {
		return flavor.Errorf(code, "%s: %s: %w", a.doing, fmt.Sprintf(format, args...), status)
	}
	if a.party != nova {
		return a.explainKeystone(status, answer, fail)
	}
	switch status.status {
	case http.StatusUnauthorized:
		if a.delegated {
			return fail(flavor.CodeKeystone, "its Nova does not accept your Keystone token; issue a new one and send it as X-Auth-Token-KeyStone")
		}
		return a.refusal(status, "its Nova does not accept the token that its Keystone gave the service account; "+
			"the two may not belong together: check keystone_url and nova_url of this infrastructure")
	case http.StatusForbidden:
		if a.delegated {
			return fail(flavor.CodeForbidden, "its Nova forbids this to your Keystone token; use one of a project where you may (mostly the role admin)")
		}
		return a.refusal(status, "its Nova forbids this to the service account; its operator should give that account the role that may manage flavors (mostly admin)")
	case http.StatusNotFound:
		if kind, _ := says(answer); a.flavorID != "" && kind == "itemNotFound" {
			return a.gone(status)
		}
	case http.StatusConflict:
		if a.write {
			return fail(flavor.CodeConflict, "%s", a.conflict(answer))
		}
	case http.StatusBadRequest:
		if a.write {
			return fail(flavor.CodeInvalid, "its Nova does not accept %s", refusedField(answer))
		}
	case http.StatusRequestEntityTooLarge:
		if a.write {
			return fail(flavor.CodeInvalid, "its Nova takes no request of this size (mostly 114688 bytes); shorten the description or the extra specs")
		}
	case http.StatusNotAcceptable:
		return fail(flavor.CodeUnreachable, "its Nova is too old: microversion %s (Rocky, 2018) is needed", microversion)
	}
	return fail(flavor.CodeUnreachable, "%s", a.misbehaviour(status.status))
}

// gone is the 404 of a flavor.
func (a attempt) gone(cause error) error {
	return flavor.Errorf(flavor.CodeNotFound, "%s: there is no flavor with the id %q in %s; list its flavors to see which there are: %w", a.doing, a.flavorID, a.region, cause)
}

// refusal is a cloud's no to our service account.
func (a attempt) refusal(cause error, format string, args ...any) error {
	return flavor.Errorf(flavor.CodeUnreachable, "%s: %s: %w", a.doing, fmt.Sprintf(format, args...), fmt.Errorf("%w: %w", errRefused, cause))
}

func (a attempt) explainKeystone(status *statusError, answer gophercloud.ErrUnexpectedResponseCode, fail func(flavor.Code, string, ...any) error) error {
	kind, _ := says(answer)
	switch code := status.status; {
	case a.delegated && (code == http.StatusUnauthorized || code == http.StatusForbidden ||
		code == http.StatusNotFound && kind == "error"):
		return fail(flavor.CodeKeystone, "%s does not accept it: it may be expired, revoked or of another cloud; issue a new one and send it as X-Auth-Token-KeyStone", a.who())
	case !a.delegated && (code == http.StatusUnauthorized || code == http.StatusForbidden):
		return a.refusal(status, "its Keystone refuses it; %s with PUT /v1/infrastructures/%s", a.remedy(), a.region)
	case a.authType == flavor.AuthApplicationCredential && code == http.StatusNotFound && kind == "error":
		return a.refusal(status, "its Keystone refuses it; %s with PUT /v1/infrastructures/%s", a.remedy(), a.region)
	case a.exchanges && code == http.StatusNotFound && kind == "error":
		return a.refusal(status, "its Keystone has no such identity provider or protocol; correct identity_provider and protocol of this infrastructure with PUT /v1/infrastructures/%s", a.region)
	default:
		return fail(flavor.CodeUnreachable, "%s", a.misbehaviour(code))
	}
}

// remedy is what to do about a service account that is refused.
func (a attempt) remedy() string {
	switch {
	case a.authType == flavor.AuthApplicationCredential:
		return "its application credential may be expired, deleted, or registered with a mistake: give another"
	case a.exchanges:
		return "its access token may be expired (most live an hour or less), or issued for another client: give a new access_token, " +
			"or an application credential, which lasts,"
	case a.authType == flavor.AuthOIDCAccessToken:
		return "it takes the access token, but not for this project: correct tenant and project_domain_name of this infrastructure"
	default:
		return "correct username, password, tenant and the domain names of this infrastructure"
	}
}

// misbehaviour tells of a status that says nothing about what was asked.
func (a attempt) misbehaviour(status int) string {
	switch {
	case status == http.StatusTooManyRequests:
		return a.who() + " has too many requests (429); try again later"
	case status == http.StatusNotFound, status == http.StatusMethodNotAllowed:
		return fmt.Sprintf("there is no API of %s at its URL (%d); %s", a.api(), status, a.setting())
	case status >= 300 && status < 400:
		return fmt.Sprintf("%s sends us elsewhere (%d), where no token is sent; register the URL it moved to: %s", a.who(), status, a.setting())
	case status >= 500:
		return fmt.Sprintf("%s has a trouble of its own (%d); try again later, or ask its operator", a.who(), status)
	default:
		return fmt.Sprintf("%s answers what the API of %s does not (%d); %s", a.who(), a.api(), status, a.setting())
	}
}

// novaFault is how Nova and Keystone write an error: {"itemNotFound": {"code":
// 404, "message": "..."}}. A long one may be cut, so it is not decoded.
var novaFault = regexp.MustCompile(`^\s*\{\s*"(\w+)"\s*:\s*\{[^{}]*?"message"\s*:\s*"((?:[^"\\]|\\.)*)`)

// says is the kind and the message of an error answer, to be recognised, never
// told; none in that of a proxy or of a wrong path.
func says(answer gophercloud.ErrUnexpectedResponseCode) (kind, message string) {
	if m := novaFault.FindSubmatch(answer.Body); m != nil {
		return string(m[1]), string(m[2])
	}
	return "", ""
}

// conflict says what a 409 of Nova is about.
func (a attempt) conflict(answer gophercloud.ErrUnexpectedResponseCode) string {
	const blind = " (a Nova on MariaDB tells neither case nor accents apart)"
	switch _, said := says(answer); {
	case strings.HasPrefix(said, "Flavor with name "):
		return "its Nova has a flavor of this name already" + blind + "; choose another name, or install that one"
	case strings.HasPrefix(said, "Flavor with ID "):
		return "its Nova has a flavor with this id already" + blind + "; choose another id, or install that one"
	case strings.Contains(said, "extra spec"):
		return "its Nova cannot keep these extra specs side by side" + blind + "; use keys that differ in more than case"
	default:
		return "its Nova says that this conflicts with what is there; look at the region's flavors, then try again"
	}
}

var novaField = regexp.MustCompile(`^Invalid input for field/attribute ([A-Za-z0-9_:-]+)\.|^An invalid '([a-z_]+)' value`)

// fieldNames are the fields Nova may complain of, as ours are called.
var fieldNames = map[string]string{
	"id": "id", "flavorid": "id", "name": "name", "ram": "ram", "vcpus": "vcpus", "disk": "disk", "swap": "swap",
	"rxtx_factor": "rxtx_factor", "OS-FLV-EXT-DATA:ephemeral": "ephemeral", "description": "description", "extra_specs": "extra_specs",
}

// refusedField names the field a 400 of Nova is about, if that can be told.
func refusedField(answer gophercloud.ErrUnexpectedResponseCode) string {
	_, said := says(answer)
	if m := novaField.FindStringSubmatch(said); m != nil {
		if field, ok := fieldNames[m[1]+m[2]]; ok {
			return "the value of " + field
		}
	}
	if strings.HasPrefix(said, "Project ID ") || strings.HasPrefix(said, "Project ") {
		return "the project: its Keystone does not know it"
	}
	return "this flavor, and does not say why in a way that can be passed on; check every field"
}
