package httpapi

import (
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/flavorsync/flavorsync/internal/flavor"
	"github.com/flavorsync/flavorsync/internal/marketplace"
)

// rendered is a body that is answered again and again, with what stands in the
// headers of it.
type rendered struct {
	body        []byte
	tag, length string
}

func render(body []byte) *rendered {
	return &rendered{body: body, tag: etag(body), length: strconv.Itoa(len(body))}
}

// renderedList is the last whole list that was asked for in one format. The
// marketplace answers the same slice until something changes, so its place in
// memory, which is not used again while it is kept here, tells it.
type renderedList struct{ atomic.Pointer[listed] }

type listed struct {
	*rendered
	of []flavor.Flavor
}

func (l *renderedList) of(list []flavor.Flavor, as format) *rendered {
	last := l.Load()
	if last != nil && len(last.of) == len(list) && unsafe.SliceData(last.of) == unsafe.SliceData(list) { //nolint:gosec // compared, never followed
		return last.rendered
	}
	next := &listed{render(encodeFlavors(as, list)), list}
	l.Store(next)
	return next.rendered
}

// maxListings is how many bytes of listings are kept rendered at most.
const maxListings = 64 << 20

// renderedListings are the last listings that were asked for. Each is for all who
// see the same, as its version says; nothing else is relied on. Of one audience
// the newest is kept alone, since nobody asks for an old one again, and of the
// audiences the longest silent is forgotten first.
type renderedListings struct {
	most int // bytes

	mu   sync.Mutex
	kept *simplelru.LRU[audience, *renderedListing]
	size int // bytes of kept
}

// audience is who sees the same as a rule, and how they want it.
type audience struct {
	format           format
	public, promoted string
	manager          bool
	regions          string // their own
}

func audienceOf(as format, p flavor.Principal, f marketplace.Filter) audience {
	told := func(filter *bool) string {
		if filter == nil {
			return ""
		}
		return strconv.FormatBool(*filter)
	}
	return audience{as, told(f.Public), told(f.Promoted), p.Manager, strings.Join(p.Regions, ", ")}
}

type renderedListing struct {
	version any
	size    int // bytes; 0 until it is rendered
	render  func() *rendered
}

func newRenderedListings(most int) *renderedListings {
	r := &renderedListings{most: most}
	r.kept, _ = simplelru.NewLRU(remembered, func(_ audience, l *renderedListing) { r.size -= l.size })
	return r
}

// of is the listing encoded, which those who come meanwhile wait for.
func (r *renderedListings) of(a audience, l marketplace.Listing, encode func([]flavor.Flavor) []byte) *rendered {
	if l.Version == nil {
		return render(encode(l.All()))
	}
	return r.newest(a, l.Version, func() []byte { return encode(l.All()) }).render()
}

// newest is what is kept for the audience, if that is of this version, and else
// one that will be.
func (r *renderedListings) newest(a audience, version any, encode func() []byte) *renderedListing {
	r.mu.Lock()
	defer r.mu.Unlock()
	if last, ok := r.kept.Get(a); ok && last.version == version {
		return last
	}
	next := &renderedListing{version: version}
	next.render = sync.OnceValue(func() *rendered {
		body := render(encode())
		r.weigh(a, next, len(body.body))
		return body
	})
	r.kept.Remove(a)
	r.kept.Add(a, next)
	return next
}

// weigh notes the size of a listing that has just been rendered, unless a newer
// one has come meanwhile, and forgets others where all are too much.
func (r *renderedListings) weigh(a audience, l *renderedListing, size int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now, ok := r.kept.Peek(a); !ok || now != l {
		return
	}
	l.size = size
	for r.size += size; r.size > r.most; {
		r.kept.RemoveOldest()
	}
}
