package httpapi

import (
	"errors"
	"io"
	"mime"
	"net/http"
	"strings"
	"time"

	"github.com/flavorsync/flavorsync/internal/flavor"
)

// A body has at most maxBody bytes. Of a longer one so much is read in all, that
// a client which sends first and reads then gets to read the answer.
const (
	maxBody  = 1 << 20
	maxDrain = 8 << 20
)

// flavorPatch is the request's body, a flavor.
func (k *call) flavorPatch() (flavor.Patch, error) {
	var patch flavor.Patch
	err := k.decode(flavorDocument(&patch))
	return patch, err
}

// infrastructurePatch is the request's body, an infrastructure, and the id in it.
func (k *call) infrastructurePatch() (patch flavor.RegionPatch, id *string, err error) {
	err = k.decode(infrastructureDocument(&patch, &id))
	return patch, id, err
}

// decode reads the body: first its size, then its media type, then what it says.
func (k *call) decode(d document) error {
	body, mediaType, err := k.body(d.envelope)
	if err != nil {
		return err
	}
	switch mediaType {
	case mediaTypes[asJSON]:
		return decodeJSON(body, d)
	case mediaTypes[asXML], mediaTypes[asTextXML]:
		return decodeXML(body, d)
	}
	return unsupported("application/json, application/xml or text/xml")
}

func unsupported(served string) error {
	return flavor.Errorf(flavor.CodeMediaType, "the Content-Type must be %s", served)
}

// body is the whole body, which must not be empty, and its media type. what says
// what was expected.
func (k *call) body(what string) (body []byte, mediaType string, err error) {
	if body, err = k.readBody(); err != nil {
		return nil, "", err
	}
	if len(body) == 0 {
		return nil, "", flavor.Invalid("the body is empty; a %s was expected", what)
	}
	h := k.Request().Header
	if encoding := h.Get("Content-Encoding"); encoding != "" && !strings.EqualFold(encoding, "identity") {
		return nil, "", flavor.Errorf(flavor.CodeMediaType, "the body must not be encoded (Content-Encoding)")
	}
	mediaType, parameters, err := mime.ParseMediaType(h.Get("Content-Type"))
	if err != nil && !errors.Is(err, mime.ErrInvalidMediaParameter) {
		mediaType = ""
	}
	if charset, ok := parameters["charset"]; ok && !strings.EqualFold(charset, "utf-8") {
		return nil, "", flavor.Errorf(flavor.CodeMediaType, "the body must be in UTF-8, whatever Content-Type says")
	}
	return body, mediaType, nil
}

// limitBody gives the client so long from now to send the body; 0 is no limit,
// for when it is read. Where the connection cannot tell time it has none.
func (k *call) limitBody(limit time.Duration) {
	var deadline time.Time
	if limit > 0 {
		deadline = time.Now().Add(limit)
	}
	_ = http.NewResponseController(k.Response()).SetReadDeadline(deadline)
}

func (k *call) readBody() ([]byte, error) {
	r := k.Request()
	tooLarge := flavor.Errorf(flavor.CodeTooLarge, "the body has more than %d bytes", maxBody)
	if r.ContentLength > maxBody && r.Header.Get("Expect") != "" {
		return nil, tooLarge
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	if err != nil {
		return nil, flavor.Invalid("the body could not be read to its end: %w", err)
	}
	// Only now: net/http itself reads on in a body that was not read to its end.
	if len(body) > maxBody {
		if n, _ := io.CopyN(io.Discard, r.Body, maxDrain-maxBody); n == maxDrain-maxBody {
			k.Response().Header()["Connection"] = closing
		}
		return nil, tooLarge
	}
	k.limitBody(0)
	return body, nil
}
