package openstack

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/gophercloud/gophercloud/v2"

	"github.com/flavorsync/flavorsync/internal/flavor"
	"github.com/flavorsync/flavorsync/internal/outgoing"
)

// Compute is Nova of one region, as one caller may use it. Every method is one
// operation of at most Config.RegionTimeout, waiting and authentication
// included; every error is a *flavor.Error that names the region. Besides the
// codes they tell of, all may answer CodeUnreachable, and with a caller's own
// token CodeKeystone (refused) and CodeForbidden. It is safe for concurrent use.
type Compute struct {
	clouds    *Clouds
	region    string
	delegated bool
	session   session
	undoing   func(context.Context) (end func(), err error) // nil: see Undoing
}

// Undoing is c for one who has a creation undone only while he may: begin is asked
// before, and end is called when that is over, which may be after Create has returned.
func (c *Compute) Undoing(begin func(context.Context) (end func(), err error)) *Compute {
	own := *c
	own.undoing = begin
	return &own
}

// begin starts an operation.
func (c *Compute) begin(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, c.clouds.cfg.RegionTimeout)
}

// attempt starts the description of a call; doing is followed by the region.
func (c *Compute) attempt(doing string) attempt {
	return attempt{clouds: c.clouds, region: c.region, party: nova, delegated: c.delegated, doing: doing + " " + c.region}
}

// on is attempt for one flavor: "deleting flavor "x" of Trento".
func (c *Compute) on(doing, id string) attempt {
	a := c.attempt(fmt.Sprintf("%s flavor %q of", doing, id))
	a.flavorID = id
	return a
}

// do makes one call, of that name, with a client of its session. A service account
// whose token Nova refuses authenticates again, once.
func (c *Compute) do(ctx context.Context, a attempt, name string, ask func(*gophercloud.ServiceClient) error) error {
	call := func(client *gophercloud.ServiceClient) error {
		started := time.Now()
		err := ask(client)
		c.clouds.observe(ctx, a, name, started, err)
		return err
	}
	client, err := c.session.client(ctx)
	if err != nil {
		return a.explain(err)
	}
	err = call(client)
	if unauthorized(err) && c.session.refused(client) {
		if client, err = c.session.client(ctx); err != nil {
			return a.explain(err)
		}
		if err = call(client); unauthorized(err) {
			c.session.refused(client)
		}
	}
	return a.explain(err)
}

func unauthorized(err error) bool {
	answer, ok := errors.AsType[gophercloud.ErrUnexpectedResponseCode](err)
	return ok && answer.Actual == http.StatusUnauthorized
}

// fetch reads the JSON at address into value, within the limits of the wire.
func fetch(ctx context.Context, client *gophercloud.ServiceClient, address string, value any) (size int, err error) {
	resp, err := client.Get(ctx, address, nil, &gophercloud.RequestOpts{KeepResponseBody: true})
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	return decode(resp, value)
}

// decode reads the JSON of an answer into value.
func decode(resp *http.Response, value any) (size int, err error) {
	var text bytes.Buffer
	if n := resp.ContentLength; n > 0 && n <= maxAnswer {
		text.Grow(int(n) + bytes.MinRead)
	}
	if _, err := text.ReadFrom(resp.Body); err != nil {
		return 0, err
	}
	if err := json.Unmarshal(text.Bytes(), value); err != nil {
		return 0, errNonsense
	}
	return text.Len(), nil
}

// flavorURL is the address of a flavor, or of something under it. gophercloud
// escapes nothing.
func flavorURL(client *gophercloud.ServiceClient, id string, under ...string) string {
	return client.ServiceURL(append([]string{"flavors", url.PathEscape(id)}, under...)...)
}

// The bounds of a list: a Nova of an owner we know little of must not fill our
// memory, whatever it answers.
const (
	maxAnswer    = 8 << 20   // bytes of one answer
	pageLimit    = 1000      // Nova's longest
	maxListed    = 100_000   // flavors
	maxListBytes = 128 << 20 // of JSON
)

// List is every flavor of the region that the caller may see: a service
// account's, and any administrator's, has the non-public ones. Each has its
// extra specs. They come in Nova's order, by id.
func (c *Compute) List(ctx context.Context) ([]flavor.NovaFlavor, error) {
	ctx, cancel := c.begin(ctx)
	defer cancel()
	a := c.attempt("listing flavors of")
	var found []flavor.NovaFlavor
	err := c.do(ctx, a, callListFlavors, func(client *gophercloud.ServiceClient) error {
		var err error
		// A flavor deleted while we page may be the very marker; then all
		// begins again.
		for range 3 {
			if found, err = list(ctx, client); !errors.Is(err, errMarkerGone) {
				break
			}
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return found, nil
}

var (
	errMarkerGone = errors.New("the marker of the next page is gone")
	errEndless    = fmt.Errorf("%w: the list does not end", errNonsense)
)

// page is one answer of GET /flavors/detail.
type page struct {
	Flavors *[]record `json:"flavors"`
	Links   []struct {
		Rel string `json:"rel"`
	} `json:"flavors_links"`
}

func (p page) more(limit int) bool {
	for _, l := range p.Links {
		if l.Rel == "next" {
			return true
		}
	}
	return len(*p.Flavors) >= limit
}

// list reads page after page. The next link is never followed, as it may name
// any host: the last id is the next marker.
func list(ctx context.Context, client *gophercloud.ServiceClient) ([]flavor.NovaFlavor, error) {
	var (
		all   []flavor.NovaFlavor
		seen  = make(map[string]struct{})
		limit = pageLimit
		taken int
	)
	query := url.Values{"is_public": {"None"}}
	for {
		query.Set("limit", strconv.Itoa(limit))
		var p page
		size, err := fetch(ctx, client, client.ServiceURL("flavors", "detail")+"?"+query.Encode(), &p)
		if errors.Is(err, outgoing.ErrTooLarge) && limit > 10 {
			// 1000 flavors with descriptions of 64 KB do not fit.
			limit /= 10
			continue
		}
		if err != nil {
			if answer, ok := errors.AsType[gophercloud.ErrUnexpectedResponseCode](err); ok &&
				answer.Actual == http.StatusBadRequest && query.Has("marker") {
				return nil, errors.Join(errMarkerGone, err)
			}
			return nil, err
		}
		if p.Flavors == nil {
			return nil, errNonsense
		}
		if all == nil {
			all = make([]flavor.NovaFlavor, 0, len(*p.Flavors))
		}
		before := len(all)
		for i := range *p.Flavors {
			r := &(*p.Flavors)[i]
			f, err := r.flavor()
			if err != nil {
				return nil, err
			}
			if _, again := seen[f.ID]; !again {
				seen[f.ID] = struct{}{}
				all = append(all, f)
			}
		}
		if len(*p.Flavors) == 0 || !p.more(limit) {
			return all, nil
		}
		if taken += size; len(all) == before || len(all) > maxListed || taken > maxListBytes {
			return nil, errEndless
		}
		query.Set("marker", (*p.Flavors)[len(*p.Flavors)-1].ID)
	}
}

// record is a flavor as Nova writes it at microversion 2.61.
type record struct {
	ID          string            `json:"id"`
	Name        string            `json:"name"`
	VCPUs       int               `json:"vcpus"`
	RAM         int               `json:"ram"`
	Disk        int               `json:"disk"`
	Swap        swap              `json:"swap"`
	Ephemeral   int               `json:"OS-FLV-EXT-DATA:ephemeral"`
	RxTxFactor  *float64          `json:"rxtx_factor"`
	IsPublic    *bool             `json:"os-flavor-access:is_public"`
	Description text              `json:"description"`
	ExtraSpecs  map[string]string `json:"extra_specs"`
}

// flavor is the record as a flavor. It fails where the record cannot be one of
// Nova at the microversion that was asked for.
func (r *record) flavor() (flavor.NovaFlavor, error) {
	if r.ID == "" || r.Name == "" || r.VCPUs < 1 || r.RAM < 1 || !r.Description.present {
		return flavor.NovaFlavor{}, errNonsense
	}
	f := flavor.NovaFlavor{
		ID: r.ID,
		Spec: flavor.Spec{
			Name: r.Name, VCPUs: r.VCPUs, RAM: r.RAM, Disk: r.Disk, Swap: int(r.Swap), Ephemeral: r.Ephemeral,
			RxTxFactor: 1, Description: r.Description.value, ExtraSpecs: r.ExtraSpecs,
		},
		IsPublic: r.IsPublic == nil || *r.IsPublic,
	}
	if r.RxTxFactor != nil && *r.RxTxFactor > 0 {
		f.RxTxFactor = *r.RxTxFactor
	}
	return f, nil
}

// swap is "" for 0 up to 2.74.
type swap int

// UnmarshalJSON takes a number or an empty string.
func (s *swap) UnmarshalJSON(b []byte) error {
	if string(b) == `""` || string(b) == "null" {
		*s = 0
		return nil
	}
	n, err := strconv.Atoi(string(b))
	if err != nil {
		return errNonsense
	}
	*s = swap(n)
	return nil
}

// text is a string or null that must be there.
type text struct {
	value   string
	present bool
}

// UnmarshalJSON takes a string or null.
func (t *text) UnmarshalJSON(b []byte) error {
	t.present = true
	if string(b) == "null" {
		t.value = ""
		return nil
	}
	return json.Unmarshal(b, &t.value)
}

// Get is the flavor whose id is exactly id, with its extra specs. CodeNotFound:
// there is none, also where a Nova that tells no case apart answers another.
func (c *Compute) Get(ctx context.Context, id string) (flavor.NovaFlavor, error) {
	ctx, cancel := c.begin(ctx)
	defer cancel()
	return c.get(ctx, c.on("reading", id), id)
}

// get reads the flavor on behalf of a.
func (c *Compute) get(ctx context.Context, a attempt, id string) (flavor.NovaFlavor, error) {
	a.write = false
	if err := flavor.ValidateID(id); err != nil {
		// Nova has no such id, and its path might lead elsewhere.
		return flavor.NovaFlavor{}, a.gone(err)
	}
	var f flavor.NovaFlavor
	err := c.do(ctx, a, callShowFlavor, func(client *gophercloud.ServiceClient) error {
		var answer struct {
			Flavor *record `json:"flavor"`
		}
		if _, err := fetch(ctx, client, flavorURL(client, id), &answer); err != nil {
			return err
		}
		if answer.Flavor == nil {
			return errNonsense
		}
		var err error
		f, err = answer.Flavor.flavor()
		return err
	})
	if err != nil {
		return flavor.NovaFlavor{}, err
	}
	if f.ID != id {
		return flavor.NovaFlavor{}, a.gone(errors.New("its Nova answered another flavor"))
	}
	return f, nil
}

// Check authenticates and asks for one flavor, and tells how that went.
func (c *Compute) Check(ctx context.Context) flavor.RegionStatus {
	ctx, cancel := c.begin(ctx)
	defer cancel()
	err := c.do(ctx, c.attempt("checking"), callCheck, func(client *gophercloud.ServiceClient) error {
		var p page
		if _, err := fetch(ctx, client, client.ServiceURL("flavors", "detail")+"?is_public=None&limit=1", &p); err != nil {
			return err
		}
		if p.Flavors == nil {
			return errNonsense
		}
		for i := range *p.Flavors {
			if _, err := (*p.Flavors)[i].flavor(); err != nil {
				return err
			}
		}
		return nil
	})
	return StatusOf(err, c.clouds.now())
}

// StatusOf is what err, the outcome of asking a region with its service account
// at that time, says of its state: up where it is nil, refused where the cloud
// said no to the account, else unreachable.
func StatusOf(err error, at time.Time) flavor.RegionStatus {
	status := flavor.RegionStatus{State: flavor.RegionUp, CheckedAt: at.UTC()}
	if err == nil {
		return status
	}
	status.State, status.LastError = flavor.RegionUnreachable, "it could not be asked; try again later"
	if e, ok := errors.AsType[*flavor.Error](err); ok {
		status.LastError = e.Message
		if errors.Is(err, errRefused) || e.Code == flavor.CodeKeystone || e.Code == flavor.CodeForbidden {
			status.State = flavor.RegionRefused
		}
	}
	return status
}
