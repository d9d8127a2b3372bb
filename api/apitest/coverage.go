package apitest

import (
	"fmt"
	"mime"
	"net/http"
	"slices"
)

// coverage lists all that can be seen of o.
func (o *operation) coverage() []string {
	var keys []string
	for media := range o.request {
		if media == canonical(o.request, media) {
			keys = append(keys, o.name+" request "+media)
		}
	}
	for status, r := range o.responses {
		if status >= 300 || len(r.content) == 0 {
			keys = append(keys, fmt.Sprintf("%s %d", o.name, status))
			continue
		}
		for media := range r.content {
			if media == canonical(r.content, media) {
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
		fmt.Sprintf("%s %d %s", o.name, resp.StatusCode, media(o.responses[resp.StatusCode].content, resp.Header)),
	} {
		if _, ok := d.seen[key]; ok {
			d.seen[key] = true
		}
	}
	if key := o.name + " request " + media(o.request, req.Header); resp.StatusCode < 300 {
		if _, ok := d.seen[key]; ok {
			d.seen[key] = true
		}
	}
}

// media is the media type that h says, by the name that stands for its format.
func media(described map[string]*content, h http.Header) string {
	m, _, _ := mime.ParseMediaType(h.Get("Content-Type"))
	return canonical(described, m)
}

// canonical is the name, of several that a format has, that stands for all of
// them; media itself where it is the only one that is described.
func canonical(described map[string]*content, media string) string {
	for _, names := range [][]string{{"application/xml", "text/xml"}, {"application/x-yaml", "application/yaml", "text/yaml"}} {
		if slices.Contains(names, media) && described[names[0]] != nil {
			return names[0]
		}
	}
	return media
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
