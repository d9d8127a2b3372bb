package httpapi

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"

	"github.com/flavorsync/flavorsync/internal/flavor"
	"github.com/flavorsync/flavorsync/internal/keyed"
)

// etag is a strong tag over exactly these bytes.
func etag(body []byte) string { return `"` + digest(body) + `"` }

// settingsTag is etag, with a second part behind a dot, over what a client can
// change of the resource. The first part differs with every look at a region;
// whoever read its settings before that look may change them all the same.
func settingsTag(body, settings []byte) string {
	return `"` + digest(body) + "." + digest(settings) + `"`
}

func digest(text []byte) string {
	sum := sha256.Sum256(text)
	return base64.RawURLEncoding.EncodeToString(sum[:18])
}

// changeable is the part of a tag that If-Match compares.
func changeable(tag string) string {
	if i := strings.IndexByte(tag, '.'); i >= 0 {
		return tag[i:]
	}
	return tag
}

// matches says whether a list of entity tags, or *, names tag. Strongly, as
// If-Match compares, a weak tag never matches (RFC 9110, 8.8.3.2).
func matches(header []string, tag string, strong bool) bool {
	for part := range strings.SplitSeq(strings.Join(header, ","), ",") {
		part = strings.TrimSpace(part)
		if !strong {
			part = strings.TrimPrefix(part, "W/")
		}
		if part == "*" || part == tag || strong && !strings.HasPrefix(part, "W/") && changeable(part) == changeable(tag) {
			return true
		}
	}
	return false
}

// guard is called before a resource is changed, and release when that is done.
// Where the request has a condition, it is checked against the tag that the
// matching GET has now, and nobody else changes the resource here in between.
func (k *call) guard(resource string, tagNow func() (string, error)) (release func(), err error) {
	h := k.Request().Header
	must, mustNot := h["If-Match"], h["If-None-Match"]
	conditional := must != nil || mustNot != nil
	release, err = k.s.resource.lock(k.ctx, resource, conditional)
	if err != nil || !conditional {
		return release, err
	}
	if err := k.check(must, mustNot, tagNow); err != nil {
		release()
		return nil, err
	}
	return release, nil
}

// check compares the resource with the conditions.
func (k *call) check(must, mustNot []string, tagNow func() (string, error)) error {
	// Without the resource the call itself could not succeed, and a condition
	// counts only where it could (RFC 9110, 13.2.1): its error is the answer.
	tag, err := tagNow()
	if err != nil {
		return err
	}
	if tag == "" && must == nil {
		return nil // what is not there yet is none of them, nor *
	}
	if must != nil && (tag == "" || !matches(must, tag, true)) {
		return flavor.Errorf(flavor.CodePrecondition, "it has changed since you read it (If-Match): read it again, with the same Accept; nothing was done")
	}
	if mustNot != nil && matches(mustNot, tag, false) {
		return flavor.Errorf(flavor.CodePrecondition, "it is as If-None-Match says it must not be; nothing was done")
	}
	return nil
}

// everybody is the weight of a lock that excludes all others.
const everybody = 1 << 30

// resourceLocks keeps a change with a condition apart from all other changes of
// the same resource in this process; changes without one run side by side.
type resourceLocks struct{ *keyed.Semaphores[string] }

func newResourceLocks() resourceLocks { return resourceLocks{keyed.New[string](everybody)} }

func (l resourceLocks) lock(ctx context.Context, resource string, alone bool) (release func(), err error) {
	weight := int64(1)
	if alone {
		weight = everybody
	}
	if release, err = l.Acquire(ctx, resource, weight); err != nil {
		return nil, fmt.Errorf("while waiting for another change of the same resource: %w", err)
	}
	return release, nil
}

// representation answers a GET with a body whose tag is known, or with 304.
func (k *call) representation(contentType []string, body []byte, tag, length string) error {
	h := k.Response().Header()
	h["Etag"] = k.headerValue(tagValue, tag)
	if theirs, ok := k.Request().Header["If-None-Match"]; ok && matches(theirs, tag, false) {
		k.Response().WriteHeader(http.StatusNotModified)
		return nil
	}
	return k.write(http.StatusOK, contentType, body, length)
}

// write sends a whole body; to a HEAD its length alone.
func (k *call) write(status int, contentType []string, body []byte, length string) error {
	h := k.Response().Header()
	h["Content-Type"] = contentType
	h["Content-Length"] = k.headerValue(lengthValue, length)
	k.Response().WriteHeader(status)
	if k.Request().Method == http.MethodHead {
		return nil
	}
	// A client that has gone is no fault of ours, and there is nobody to tell.
	_, _ = k.Response().Write(body)
	return nil
}
