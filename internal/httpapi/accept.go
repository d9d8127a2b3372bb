package httpapi

import (
	"slices"
	"strconv"
	"strings"
)

// format is a media type that answers are made in.
type format int

const (
	asJSON    format = iota // application/json
	asXML                   // application/xml
	asTextXML               // text/xml, the same bytes
	formats   = 3
)

var contentTypes = [formats][]string{
	{"application/json; charset=utf-8"},
	{"application/xml; charset=utf-8"},
	{"text/xml; charset=utf-8"},
}

var mediaTypes = [formats]string{"application/json", "application/xml", "text/xml"}

// negotiate picks the format by Accept; JSON where none is served.
func negotiate(accept []string) format {
	if len(accept) == 0 || len(accept) == 1 && (accept[0] == "*/*" || accept[0] == "application/json") {
		return asJSON
	}
	return format(preferred(accept, mediaTypes[:]))
}

// yamlTypes are what clients call YAML.
var yamlTypes = []string{"application/x-yaml", "application/yaml", "text/yaml"}

// prefersYAML says whether Accept asks for YAML more than for any format.
func prefersYAML(accept []string) bool {
	return len(accept) > 0 && preferred(accept, append(slices.Clone(mediaTypes[:]), yamlTypes...)) >= formats
}

// preferred is the place in offered of the media type that Accept asks for: the
// highest q, then the range that says it most exactly, then the one named first;
// the first of offered where Accept names none.
func preferred(accept, offered []string) int {
	// Of the ranges that match a type the most exact one tells its q.
	best := make([]struct {
		q     float64
		exact int // 0 is no match
		place int
	}, len(offered))
	place := 0
	for _, header := range accept {
		for part := range strings.SplitSeq(header, ",") {
			mediaRange, q, ok := acceptRange(part)
			if !ok {
				continue
			}
			place++
			for i, mediaType := range offered {
				exact := 0
				kind, _, _ := strings.Cut(mediaType, "/")
				switch mediaRange {
				case mediaType:
					exact = 3
				case kind + "/*":
					exact = 2
				case "*/*":
					exact = 1
				}
				if exact > best[i].exact {
					best[i].q, best[i].exact, best[i].place = q, exact, place
				}
			}
		}
	}
	chosen := 0
	for i := 1; i < len(offered); i++ {
		a, b := best[i], best[chosen]
		switch {
		case a.exact == 0 || a.q == 0:
		case b.exact == 0, a.q > b.q,
			a.q == b.q && a.exact > b.exact,
			a.q == b.q && a.exact == b.exact && a.place < b.place:
			chosen = i
		}
	}
	return chosen
}

// acceptRange reads one part of an Accept header; a malformed one says nothing.
func acceptRange(part string) (mediaRange string, q float64, ok bool) {
	mediaRange, parameters, _ := strings.Cut(part, ";")
	mediaRange = strings.ToLower(strings.TrimSpace(mediaRange))
	if mediaRange == "" {
		return "", 0, false
	}
	q = 1
	for parameter := range strings.SplitSeq(parameters, ";") {
		name, value, _ := strings.Cut(parameter, "=")
		if strings.EqualFold(strings.TrimSpace(name), "q") {
			var err error
			q, err = strconv.ParseFloat(strings.TrimSpace(value), 64)
			if err != nil || !(q >= 0 && q <= 1) {
				return "", 0, false
			}
		}
	}
	return mediaRange, q, true
}
