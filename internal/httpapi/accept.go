package httpapi

import (
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

// negotiate picks the format by Accept: the highest q, then the range that says
// it most exactly, then the one named first; JSON where none is served.
func negotiate(accept []string) format {
	if len(accept) == 0 || len(accept) == 1 && (accept[0] == "*/*" || accept[0] == "application/json") {
		return asJSON
	}
	// Of the ranges that match a format the most exact one tells its q.
	var best [formats]struct {
		q     float64
		exact int // 0 is no match
		place int
	}
	place := 0
	for _, header := range accept {
		for part := range strings.SplitSeq(header, ",") {
			mediaRange, q, ok := acceptRange(part)
			if !ok {
				continue
			}
			place++
			for f := range formats {
				exact := 0
				kind, _, _ := strings.Cut(mediaTypes[f], "/")
				switch mediaRange {
				case mediaTypes[f]:
					exact = 3
				case kind + "/*":
					exact = 2
				case "*/*":
					exact = 1
				}
				if exact > best[f].exact {
					best[f].q, best[f].exact, best[f].place = q, exact, place
				}
			}
		}
	}
	chosen := asJSON
	for f := asJSON + 1; f < formats; f++ {
		a, b := best[f], best[chosen]
		switch {
		case a.exact == 0 || a.q == 0:
		case b.exact == 0, a.q > b.q,
			a.q == b.q && a.exact > b.exact,
			a.q == b.q && a.exact == b.exact && a.place < b.place:
			chosen = f
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
