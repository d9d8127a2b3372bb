package flavor

import (
	"errors"
	"fmt"
	"time"
)

// Code says what kind of failure an Error is; the HTTP edge turns it into a
// status, the command line into an exit code.
type Code string

// The codes, with the HTTP status each becomes.
const (
	CodeInvalid      Code = "invalid"         // 400: malformed, or refused by validation
	CodeUnauthorized Code = "unauthorized"    // 401: no or bad credential
	CodeKeystone     Code = "bad_keystone"    // 401: no or bad Keystone token
	CodePromote      Code = "may_not_promote" // 401: promoting without the right
	CodeForbidden    Code = "forbidden"       // 403: not yours, or Nova forbids it to this token
	CodeNotFound     Code = "not_found"       // 404
	CodeManagerOnly  Code = "manager_only"    // 405: a manager's call by one who is not
	CodeNotAllowed   Code = "not_allowed"     // 405: not allowed in this state
	CodeConflict     Code = "conflict"        // 409
	CodePrecondition Code = "precondition"    // 412
	CodeTooLarge     Code = "too_large"       // 413
	CodeMediaType    Code = "media_type"      // 415
	CodeTooMany      Code = "too_many"        // 429, with RetryAfter
	CodeUnreachable  Code = "unreachable"     // 502: an OpenStack cannot be asked, or refuses our service account
	CodeUnavailable  Code = "unavailable"     // 503, with RetryAfter: the identity provider cannot be reached
	CodeInternal     Code = "internal"        // 500: its text goes to the log only

	CodeNotImplemented Code = "not_implemented" // 501: a call of UCloud's that this provider does not have
)

// Error is a failure the client is told of. Message tells who, what, where and
// what to do next, and never holds a secret or a byte of a foreign answer.
type Error struct {
	Code       Code
	Message    string
	Nodes      []NodeError   // where several nodes fail each in its own way
	RetryAfter time.Duration // with CodeTooMany and CodeUnavailable
	Cause      error         // for the log only
}

// NodeError is the failure of one node of several.
type NodeError struct {
	Node string
	Err  *Error
}

func (e *Error) Error() string {
	if e.Cause != nil {
		return e.Message + ": " + e.Cause.Error()
	}
	return e.Message
}

func (e *Error) Unwrap() error { return e.Cause }

// CodeOf is the code of the first Error in err's chain, CodeInternal where
// there is none, and "" for nil.
func CodeOf(err error) Code {
	if err == nil {
		return ""
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code
	}
	return CodeInternal
}

// Errorf makes an Error; a %w operand becomes its Cause and is not part of the
// Message, so end the format with it: Errorf(code, "asking %s: %w", name, err).
func Errorf(code Code, format string, args ...any) *Error {
	e := &Error{Code: code}
	if n := len(args); n > 0 && len(format) > 4 && format[len(format)-4:] == ": %w" {
		e.Cause, _ = args[n-1].(error)
		format, args = format[:len(format)-4], args[:n-1]
	}
	e.Message = fmt.Sprintf(format, args...)
	return e
}

// Invalid is Errorf with CodeInvalid.
func Invalid(format string, args ...any) *Error { return Errorf(CodeInvalid, format, args...) }

// NotFound is Errorf with CodeNotFound.
func NotFound(format string, args ...any) *Error { return Errorf(CodeNotFound, format, args...) }

// Conflict is Errorf with CodeConflict.
func Conflict(format string, args ...any) *Error { return Errorf(CodeConflict, format, args...) }

// Forbidden is Errorf with CodeForbidden.
func Forbidden(format string, args ...any) *Error {
	return Errorf(CodeForbidden, format, args...)
}
