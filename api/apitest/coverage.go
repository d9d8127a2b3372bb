package apitest

import (
	"fmt"
	"mime"
	"net/http"
	"slices"
	"strings"
)

// coverage lists all that can be seen of o.
func (o *operation) coverage() []string {
	var keys []string
	for media := range o.request {
		if media != "text/xml" {
			keys = append(keys, o.name+" request "+media)
		}
	}
	for status, r := range o.responses {
		if status >= 300 || len(r.content) == 0 {
			keys = append(keys, fmt.Sprintf("%s %d", o.name, status))
			continue
		}
		for media := range r.content {
			if media != "text/xml" {
				keys = append(keys, fmt.Sprintf("%s %d %s", o.name, status, media))
			}
		}
	}
	return keys
}

func (d *description) see(o *operation, req *http.Request, resp *http.Response) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, key := range []string{
		fmt.Sprintf("%s %d", o.name, resp.StatusCode),
		fmt.Sprintf("%s %d %s", o.name, resp.StatusCode, media(resp.Header)),
	} {
		if _, ok := d.seen[key]; ok {
			d.seen[key] = true
		}
	}
	if key := o.name + " request " + media(req.Header); resp.StatusCode < 300 {
		if _, ok := d.seen[key]; ok {
			d.seen[key] = true
		}
	}
}

func media(h http.Header) string {
	m, _, _ := mime.ParseMediaType(h.Get("Content-Type"))
	return strings.Replace(m, "text/xml", "application/xml", 1)
}

func (d *description) uncovered() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	var keys []string
	for key, seen := range d.seen {
		if !seen {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}
