package httpapi

import (
	"errors"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/flavorsync/flavorsync/internal/flavor"
)

// statuses is what each code becomes. A code that is not here is a 500.
var statuses = map[flavor.Code]int{
	flavor.CodeInvalid:      http.StatusBadRequest,
	flavor.CodeUnauthorized: http.StatusUnauthorized,
	flavor.CodeKeystone:     http.StatusUnauthorized,
	flavor.CodePromote:      http.StatusUnauthorized,
	flavor.CodeForbidden:    http.StatusForbidden,
	flavor.CodeNotFound:     http.StatusNotFound,
	flavor.CodeManagerOnly:  http.StatusMethodNotAllowed,
	flavor.CodeNotAllowed:   http.StatusMethodNotAllowed,
	flavor.CodeConflict:     http.StatusConflict,
	flavor.CodePrecondition: http.StatusPreconditionFailed,
	flavor.CodeTooLarge:     http.StatusRequestEntityTooLarge,
	flavor.CodeMediaType:    http.StatusUnsupportedMediaType,
	flavor.CodeTooMany:      http.StatusTooManyRequests,
	flavor.CodeUnreachable:  http.StatusBadGateway,
	flavor.CodeUnavailable:  http.StatusServiceUnavailable,
	flavor.CodeInternal:     http.StatusInternalServerError,

	flavor.CodeNotImplemented: http.StatusNotImplemented,
}

func statusOf(code flavor.Code) int {
	if status, ok := statuses[code]; ok {
		return status
	}
	return http.StatusInternalServerError
}

// errNoPath is the answer to a path that is not served.
var errNoPath = flavor.NotFound("nothing is served at this path: /openapi.yaml describes what is")

// known is err as the client may be told of it: the first flavor.Error of its
// chain, echo's own for paths and methods, and an internal error else.
func known(err error) *flavor.Error {
	if e, ok := errors.AsType[*flavor.Error](err); ok {
		return e
	}
	if e, ok := errors.AsType[*echo.HTTPError](err); ok {
		switch e.Code {
		case http.StatusNotFound:
			return errNoPath
		case http.StatusMethodNotAllowed:
			return flavor.Errorf(flavor.CodeNotAllowed, "this path does not take this method: the Allow header names those it takes")
		}
	}
	return &flavor.Error{Code: flavor.CodeInternal, Cause: err}
}

// fail answers with err.
func (k *call) fail(err error) {
	e := known(err)
	status := statusOf(e.Code)
	h := k.Response().Header()
	h["Cache-Control"] = noStore
	for _, name := range []string{"Etag", "Link", "Location", unreachableHeader} {
		delete(h, name)
	}
	switch status {
	case http.StatusUnauthorized:
		h["Www-Authenticate"] = k.challenges(e.Code)
	case http.StatusMethodNotAllowed:
		if k.route != nil {
			h.Set("Allow", k.route.allow(e.Code))
		}
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		h.Set("Retry-After", retryAfter(e.RetryAfter))
	}
	var body []byte
	contentType := contentTypes[k.format]
	switch {
	case isUCloud(k.Request().URL.Path):
		body, contentType = appendUCloudError(nil, status, k.publicError(e)), contentTypes[asJSON]
	case e.Code == flavor.CodeUnauthorized:
		body, contentType = []byte(unauthorizedText), plainText
	case e.Code == flavor.CodeManagerOnly:
		body, contentType = []byte(managerOnlyText), plainText
	default:
		body = encodeError(k.format, k.publicError(e))
	}
	_ = k.write(status, contentType, body, strconv.Itoa(len(body)))
}

var plainText = []string{"text/plain; charset=utf-8"}

// publicError is e without what is for the log only, and with the request id
// where the fault is not the client's.
func (k *call) publicError(e *flavor.Error) *flavor.Error {
	told := &flavor.Error{Code: e.Code, Message: e.Message, Nodes: e.Nodes}
	status := statusOf(e.Code)
	if status == http.StatusInternalServerError || told.Message == "" {
		told.Message, told.Nodes = "internal error", nil
	}
	if status >= http.StatusInternalServerError {
		told.Message += " (request id " + k.id + ")"
	}
	return told
}

// challenges tells how to prove who one is. Basic is for one who sent Basic
// alone: to others a browser would show its login window.
func (k *call) challenges(code flavor.Code) []string {
	challenge := `Bearer realm="flavorsync"`
	switch {
	case code == flavor.CodePromote:
		challenge += `, error="insufficient_scope"`
	case code == flavor.CodeKeystone:
		challenge += `, error="invalid_token", error_description="X-Auth-Token-KeyStone"`
	case k.cred.Token != "":
		challenge += `, error="invalid_token"`
	}
	if k.sentBasic {
		return []string{`Basic realm="flavorsync", charset="UTF-8"`, challenge}
	}
	return []string{challenge}
}

// retryAfter is in whole seconds, at least one.
func retryAfter(wait time.Duration) string {
	return strconv.Itoa(max(1, int(math.Ceil(wait.Seconds()))))
}

// redact takes the request's own credentials out of a text for the log. No error
// should hold one; a URL in the error of a foreign library once may.
func (k *call) redact(text string) string {
	for _, secret := range k.secrets() {
		text = strings.ReplaceAll(text, secret, "***")
		text = strings.ReplaceAll(text, url.QueryEscape(secret), "***")
	}
	return text
}
