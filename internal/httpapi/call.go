package httpapi

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/flavorsync/flavorsync/internal/flavor"
	"github.com/flavorsync/flavorsync/internal/identity"
	"github.com/flavorsync/flavorsync/internal/openstack"
)

// call is one request on its way through a handler.
type call struct {
	echo.Context
	s           *Server
	ctx         context.Context
	started     time.Time
	answered    time.Duration // of a stream: how long it took to begin
	id          string        // X-Request-Id
	format      format
	route       *route // nil where no route matched
	query       url.Values
	queryErr    error
	accessToken []string // ?access_token=, taken out of the query
	cred        identity.Credential
	sentBasic   bool // the credential that decided is an Authorization: Basic
	who         flavor.Principal
	trace       *openstack.Trace
	values      [3]string // of the headers below: each in its place, so that none is allocated
}

// The places of call.values.
const (
	requestIDValue = iota
	tagValue
	lengthValue
)

// headerValue is one value of a header that every request has another one of.
func (k *call) headerValue(place int, value string) []string {
	k.values[place] = value
	return k.values[place : place+1 : place+1]
}

// trimSlash takes one trailing slash off the path.
func trimSlash(r *http.Request) {
	u := r.URL
	if len(u.Path) > 1 && strings.HasSuffix(u.Path, "/") && (u.RawPath == "" || strings.HasSuffix(u.RawPath, "/")) {
		u.Path = strings.TrimSuffix(u.Path, "/")
		u.RawPath = strings.TrimSuffix(u.RawPath, "/")
	}
}

// takeQuery parses the query and takes access_token out of the request, so that
// nothing that comes later can log it or repeat it.
func (k *call) takeQuery() {
	r := k.Request()
	if r.URL.RawQuery == "" {
		return
	}
	k.query = url.Values{}
	var kept []string
	for piece := range strings.SplitSeq(r.URL.RawQuery, "&") {
		rawName, rawValue, _ := strings.Cut(piece, "=")
		name, err := url.QueryUnescape(rawName)
		value, valueErr := url.QueryUnescape(rawValue)
		if err == nil && strings.EqualFold(name, "access_token") {
			if valueErr != nil {
				value = rawValue
			}
			if name == "access_token" && value != "" {
				k.accessToken = append(k.accessToken, value)
			}
			continue
		}
		if err != nil || valueErr != nil || strings.Contains(piece, ";") {
			k.queryErr = flavor.Invalid("the query of the URL is malformed")
			continue
		}
		if piece == "" {
			continue
		}
		kept = append(kept, piece)
		k.query[name] = append(k.query[name], value)
	}
	r.URL.RawQuery = strings.Join(kept, "&")
	r.RequestURI = r.URL.RequestURI()
}

// queryValue is the query parameter's value; one that is repeated must say the
// same again.
func (k *call) queryValue(name string) (value string, there bool, err error) {
	values := k.query[name]
	if len(values) == 0 {
		return "", false, nil
	}
	if slices.ContainsFunc(values, func(v string) bool { return v != values[0] }) {
		return "", true, flavor.Invalid("%s: is given more than once, with different values", name)
	}
	return values[0], true, nil
}

// filter is a query parameter that narrows a list. Absent and bare are no
// filter: so flavor-sync 1.0 answered the widget's ?public.
func (k *call) filter(name string) (*bool, error) {
	value, there, err := k.queryValue(name)
	if err != nil || !there || value == "" {
		return nil, err
	}
	return boolean(name, value)
}

// flag is a query parameter that is false where it is absent. A bare one is
// refused: these flags destroy.
func (k *call) flag(name string) (bool, error) {
	value, there, err := k.queryValue(name)
	if err != nil || !there {
		return false, err
	}
	on, err := boolean(name, value)
	return on != nil && *on, err
}

func boolean(name, value string) (*bool, error) {
	switch value {
	case "true", "1":
		return new(true), nil
	case "false", "0":
		return new(false), nil
	}
	return nil, flavor.Invalid("%s: must be true, 1, false or 0 in the query", name)
}

// node is ?node=, "" where it is absent.
func (k *call) node() (string, error) {
	value, there, err := k.queryValue("node")
	if err == nil && there && !flavor.ValidRegionName(value) {
		err = flavor.Invalid("node: %.100q cannot be the name of a region", value)
	}
	return value, err
}

// pathValue is a parameter of the path, decoded exactly once: net/http has done
// so already unless it kept the raw path.
func (k *call) pathValue(name string) (string, error) {
	value := k.Param(name)
	if k.Request().URL.RawPath != "" {
		decoded, err := url.PathUnescape(value)
		if err != nil {
			return "", errNoPath
		}
		value = decoded
	}
	if value == "" || strings.Contains(value, "/") {
		return "", errNoPath
	}
	return value, nil
}

// flavorID is {id} of the path; what no flavor can have as its id is not found.
func (k *call) flavorID() (string, error) {
	id, err := k.pathValue("id")
	if err != nil {
		return "", err
	}
	if flavor.ValidateID(id) != nil {
		return "", flavor.NotFound("no flavor can have the id %.300q", id)
	}
	return id, nil
}

// region is a region's name in the path; what none can have is not found.
func (k *call) region(name string) (string, error) {
	region, err := k.pathValue(name)
	if err != nil {
		return "", err
	}
	if !flavor.ValidRegionName(region) {
		return "", flavor.NotFound("no region can have the name %.100q", region)
	}
	return region, nil
}

// keystoneToken is the caller's own, "" where none was sent.
func (k *call) keystoneToken() flavor.Secret {
	return flavor.Secret(strings.TrimSpace(k.Request().Header.Get("X-Auth-Token-Keystone")))
}
