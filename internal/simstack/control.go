package simstack

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"
)

// faultBody is a Fault as it is ordered over HTTP.
type faultBody struct {
	ID      string  `json:"id,omitempty"` // out only
	Region  string  `json:"region,omitempty"`
	Service Service `json:"service,omitempty"`
	Kind    Kind    `json:"kind"`
	Method  string  `json:"method,omitempty"`
	Path    string  `json:"path,omitempty"`
	Delay   string  `json:"delay,omitempty"`
	After   int     `json:"after,omitempty"`
	Times   int     `json:"times,omitempty"`
}

// serveControl answers /_sim/{path}.
func (s *Stack) serveControl(w http.ResponseWriter, r *http.Request, path string) {
	defer func() {
		if refused := recover(); refused != nil {
			err, ok := refused.(controlError)
			if !ok {
				panic(refused)
			}
			writeJSON(w, http.StatusBadRequest, map[string]any{"error": map[string]string{"message": string(err)}})
		}
	}()
	kind, id, _ := strings.Cut(path, "/")
	switch r.Method + " " + kind {
	case "POST faults":
		var body faultBody
		decode(r, &body)
		if !slices.Contains(kinds, body.Kind) {
			refuse("kind must be one of %v", kinds)
		}
		if !slices.Contains([]Service{"", Keystone, Nova, KeyRock}, body.Service) {
			refuse("service must be keystone, nova or keyrock")
		}
		s.checkRegion(body.Region)
		id := s.addFault(body.Region, Fault{
			Service: body.Service, Kind: body.Kind, Method: body.Method, Path: body.Path,
			Delay: duration(body.Delay), After: body.After, Times: body.Times,
		})
		writeJSON(w, http.StatusCreated, map[string]string{"id": id})
	case "GET faults":
		writeJSON(w, http.StatusOK, map[string]any{"faults": s.faultList()})
	case "DELETE faults":
		if id == "" {
			s.ClearFaults()
		} else if !s.clearFault(id) {
			http.NotFound(w, r)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	case "POST delay":
		var body struct{ Region, Delay string }
		decode(r, &body)
		s.checkRegion(body.Region)
		s.Delay(body.Region, duration(body.Delay))
		w.WriteHeader(http.StatusNoContent)
	case "GET requests":
		query := r.URL.Query()
		list := slices.DeleteFunc(s.Requests(), func(q RequestCount) bool {
			return query.Has("region") && q.Region != query.Get("region") || query.Has("service") && string(q.Service) != query.Get("service")
		})
		writeJSON(w, http.StatusOK, map[string]any{"requests": list, "peak": s.peaks()})
	case "DELETE requests":
		s.ForgetRequests()
		w.WriteHeader(http.StatusNoContent)
	case "POST regions":
		var body struct{ Name string }
		decode(r, &body)
		if body.Name == "" || strings.ContainsAny(body.Name, "/?#%") {
			refuse("name must be a region's name")
		}
		s.AddRegion(body.Name)
		w.WriteHeader(http.StatusCreated)
	case "POST identities":
		var body struct {
			Token string
			User  Identity
		}
		decode(r, &body)
		if body.Token == "" {
			refuse("token is missing")
		}
		s.AddIdentity(body.Token, body.User)
		w.WriteHeader(http.StatusCreated)
	case "POST reset":
		s.Reset()
		w.WriteHeader(http.StatusNoContent)
	default:
		http.NotFound(w, r)
	}
}

// controlError is the text of a 400; refuse panics with it.
type controlError string

func refuse(format string, args ...any) { panic(controlError(fmt.Sprintf(format, args...))) }

func decode(r *http.Request, body any) {
	decoder := json.NewDecoder(io.LimitReader(r.Body, 1<<20))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(body); err != nil {
		refuse("the body is not what is documented: %v", err)
	}
}

func duration(text string) time.Duration {
	if text == "" {
		return 0
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 {
		refuse("delay must be a duration such as 200ms")
	}
	return d
}

func (s *Stack) checkRegion(name string) {
	if name != "" && s.region(name) == nil {
		refuse("there is no region %s", name)
	}
}

func (s *Stack) faultList() []faultBody {
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	list := []faultBody{}
	for _, o := range s.faults.orders {
		if o.spent {
			continue
		}
		body := faultBody{
			ID: o.id, Region: o.region, Service: o.Service, Kind: o.Kind, Method: o.Method, Path: o.Path, After: o.skip, Times: o.left,
		}
		if o.Delay > 0 {
			body.Delay = o.Delay.String()
		}
		list = append(list, body)
	}
	return list
}
