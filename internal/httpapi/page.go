package httpapi

import (
	"encoding/base64"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/flavorsync/flavorsync/internal/flavor"
)

// page cuts out what ?limit and ?marker ask for, and sets the Link to the next.
func (k *call) page(all []flavor.Flavor) ([]flavor.Flavor, error) {
	limit, limited, err := k.queryValue("limit")
	if err != nil {
		return nil, err
	}
	marker, marked, err := k.queryValue("marker")
	if err != nil {
		return nil, err
	}
	count := len(all)
	if limited {
		if count, err = parseLimit(limit, flavor.MaxNumber); err != nil {
			return nil, err
		}
	}
	if marked {
		last, err := parseMarker(marker)
		if err != nil {
			return nil, err
		}
		all = all[after(all, last):]
	}
	if len(all) <= count {
		return all, nil
	}
	k.Response().Header().Set("Link", "<"+k.nextPage(markerOf(all[count-1]))+`>; rel="next"`)
	return all[:count], nil
}

// parseLimit is ?limit=, from 1 to most.
func parseLimit(limit string, most int) (int, error) {
	n, err := strconv.ParseUint(limit, 10, 31)
	if err != nil || n == 0 || n > uint64(most) { //nolint:gosec // most is above 0
		return 0, flavor.Invalid("limit: must be a whole number from 1 to %d", most)
	}
	return int(n), nil
}

var errMarker = flavor.Invalid("marker: is none of ours; take it from the Link header of the page before")

// after is the place in all, which is in order, of the first flavor behind last;
// last itself may have gone meanwhile, or be in other nodes.
func after(all []flavor.Flavor, last flavor.Flavor) int {
	if i := slices.IndexFunc(all, func(f flavor.Flavor) bool {
		return f.ID == last.ID && f.Name == last.Name && f.Public == last.Public &&
			(f.Public || slices.Equal(f.Nodes, last.Nodes))
	}); i >= 0 {
		return i + 1
	}
	i, _ := slices.BinarySearchFunc(all, last, func(f, last flavor.Flavor) int {
		if flavor.Compare(f, last) <= 0 {
			return -1
		}
		return 1
	})
	return i
}

// A marker is the last flavor of a page: version, kind, name, id and region.
const markerVersion = "1"

func markerOf(f flavor.Flavor) string {
	kind, region := "public", ""
	if !f.Public {
		kind = "private"
	}
	if len(f.Nodes) > 0 {
		region = f.Nodes[0]
	}
	return base64.RawURLEncoding.EncodeToString([]byte(strings.Join([]string{markerVersion, kind, f.Name, f.ID, region}, "\x00")))
}

func parseMarker(marker string) (flavor.Flavor, error) {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(marker)
	parts := strings.Split(string(raw), "\x00")
	if err != nil || len(parts) != 5 || parts[0] != markerVersion || parts[1] != "public" && parts[1] != "private" || !utf8.Valid(raw) {
		return flavor.Flavor{}, errMarker
	}
	f := flavor.Flavor{ID: parts[3], Spec: flavor.Spec{Name: parts[2]}, Public: parts[1] == "public"}
	if parts[4] != "" {
		f.Nodes = []string{parts[4]}
	}
	return f, nil
}

// nextPage is the URL that was called, as a path, with another marker. What may
// be a credential is left out, whatever the client put there.
func (k *call) nextPage(marker string) string {
	query := url.Values{}
	for name, values := range k.query {
		switch strings.ToLower(name) {
		case "marker", "token", "user", "username", "password", "x-auth-token", "x-auth-token-keystone", "authorization":
		default:
			query[name] = values
		}
	}
	query.Set("marker", marker)
	return k.Request().URL.EscapedPath() + "?" + query.Encode()
}
