package httpapi

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/labstack/echo/v4"

	"github.com/flavorsync/flavorsync/internal/flavor"
	"github.com/flavorsync/flavorsync/internal/marketplace"
	"github.com/flavorsync/flavorsync/internal/openstack"
)

// route is one method of one path.
type route struct {
	method  string
	pattern string // canonical, as the log and the description name it
	action  flavor.Action
	local   bool // no cloud is called
	handle  func(*call) error
	// siblings are all the routes of the pattern.
	siblings []*route
	// deeper says that there are routes below this one.
	deeper bool
}

// routes are all that is served below both prefixes.
func (s *Server) routes() []*route {
	return []*route{
		{method: http.MethodGet, pattern: "/v1/promotedflavors", action: flavor.ReadPromoted, local: true, handle: listPromoted},
		{method: http.MethodPost, pattern: "/v1/promotedflavors", action: flavor.CreatePromoted, handle: createPromoted},
		{method: http.MethodGet, pattern: "/v1/promotedflavors/{id}", action: flavor.ReadPromoted, local: true, handle: getPromoted},
		{method: http.MethodPut, pattern: "/v1/promotedflavors/{id}", action: flavor.ChangePromoted, handle: changePromoted},
		{method: http.MethodDelete, pattern: "/v1/promotedflavors/{id}", action: flavor.DeletePromoted, handle: deletePromoted},

		{method: http.MethodGet, pattern: "/v1/promotedflavors/{id}/coverage", action: flavor.ReadCompliance, local: true, handle: getCoverage},
		{method: http.MethodGet, pattern: "/v1/promotedflavors/{id}/product", action: flavor.ReadProducts, local: true, handle: getProduct},
		{method: http.MethodPut, pattern: "/v1/promotedflavors/{id}/product", action: flavor.ChangeProduct, handle: changeProduct},
		{method: http.MethodDelete, pattern: "/v1/promotedflavors/{id}/product", action: flavor.EndProduct, handle: endProduct},
		{method: http.MethodGet, pattern: "/v1/products", action: flavor.ReadProducts, local: true, handle: listProducts},
		{method: http.MethodGet, pattern: "/v1/products/push", action: flavor.ReadPush, handle: getPush},
		{method: http.MethodPost, pattern: "/v1/products/push", action: flavor.RunPush, handle: runPush},

		{method: http.MethodGet, pattern: "/v1/regions", action: flavor.ListRegions, local: true, handle: listRegions},
		{method: http.MethodGet, pattern: "/v1/regions/{region}/flavors", action: flavor.ReadRegionFlavors, handle: listRegionFlavors},
		{method: http.MethodPost, pattern: "/v1/regions/{region}/flavors", action: flavor.CreateRegionFlavor, handle: createRegionFlavor},
		{method: http.MethodGet, pattern: "/v1/regions/{region}/flavors/{id}", action: flavor.ReadRegionFlavors, handle: getRegionFlavor},
		{method: http.MethodPut, pattern: "/v1/regions/{region}/flavors/{id}", action: flavor.ChangeRegionFlavor, handle: changeRegionFlavor},
		{method: http.MethodDelete, pattern: "/v1/regions/{region}/flavors/{id}", action: flavor.DeleteRegionFlavor, handle: deleteRegionFlavor},

		{method: http.MethodGet, pattern: "/v1/regions/{region}/compliance", action: flavor.ReadCompliance, local: true, handle: getCompliance},
		{method: http.MethodGet, pattern: "/v1/regions/{region}/glue2", action: flavor.ReadGLUE2, handle: getGLUE2},

		{method: http.MethodGet, pattern: "/v1/infrastructures", action: flavor.ListInfrastructures, handle: listInfrastructures},
		{method: http.MethodPost, pattern: "/v1/infrastructures", action: flavor.CreateInfrastructure, handle: createInfrastructure},
		{method: http.MethodGet, pattern: "/v1/infrastructures/{id}", action: flavor.ReadInfrastructure, handle: getInfrastructure},
		{method: http.MethodPut, pattern: "/v1/infrastructures/{id}", action: flavor.ChangeInfrastructure, handle: changeInfrastructure},
		{method: http.MethodDelete, pattern: "/v1/infrastructures/{id}", action: flavor.DeleteInfrastructure, handle: deleteInfrastructure},

		{method: http.MethodGet, pattern: "/v1/flavors", action: flavor.ReadFlavors, handle: listFlavors},
		{method: http.MethodPost, pattern: "/v1/flavors", action: flavor.CreateFlavor, handle: createFlavor},
		{method: http.MethodGet, pattern: "/v1/flavors/{id}", action: flavor.ReadFlavors, handle: getFlavor},
		{method: http.MethodPut, pattern: "/v1/flavors/{id}", action: flavor.ChangeFlavor, handle: changeFlavor},
		{method: http.MethodDelete, pattern: "/v1/flavors/{id}", action: flavor.DeleteFlavor, handle: deleteFlavor},

		{method: http.MethodGet, pattern: "/v1/operations", action: flavor.ReadOperations, local: true, handle: listOperations},
		{method: http.MethodGet, pattern: "/v1/operations/{id}", action: flavor.ReadOperations, local: true, handle: getOperation},
		{method: http.MethodDelete, pattern: "/v1/operations/{id}", action: flavor.CancelOperation, local: true, handle: cancelOperation},

		{method: http.MethodPost, pattern: "/v1/match", action: flavor.Match, local: true, handle: matchFlavors},

		{method: http.MethodGet, pattern: "/v1/events", action: flavor.ReadEvents, local: true, handle: getEvents},

		{method: http.MethodGet, pattern: "/v1/audit", action: flavor.ReadAudit, local: true, handle: getAudit},

		{method: http.MethodGet, pattern: "/v1/status", action: flavor.ReadStatus, local: true, handle: getStatus},
		{method: http.MethodGet, pattern: "/v1/whoami", action: flavor.ReadSelf, local: true, handle: whoami},
	}
}

// register tells echo of everything: each path below both prefixes and under
// its other names, and HEAD for each GET.
func (s *Server) register() {
	s.add(&route{method: http.MethodGet, pattern: "/healthz", action: flavor.ReadService, handle: healthz}, "/healthz")
	s.add(&route{method: http.MethodGet, pattern: "/readyz", action: flavor.ReadService, handle: readyz}, "/readyz")
	if s.cfg.HealthOnly {
		return
	}
	all := s.routes()
	byPattern := map[string][]*route{}
	for _, rt := range all {
		byPattern[rt.pattern] = append(byPattern[rt.pattern], rt)
	}
	for _, rt := range all {
		rt.siblings = byPattern[rt.pattern]
		rt.deeper = slices.ContainsFunc(all, func(other *route) bool { return strings.HasPrefix(other.pattern, rt.pattern+"/") })
		for _, path := range aliases(rt.pattern) {
			s.add(rt, path)
			s.add(rt, "/api"+path)
		}
	}
	s.registerUCloud()
	s.document("/openapi.yaml", "application/yaml", s.cfg.OpenAPI)
	s.document("/flavorsync.xsd", "application/xml; charset=utf-8", s.cfg.XSD)
}

var echoParameters = strings.NewReplacer("{", ":", "}", "")

func (s *Server) add(rt *route, path string) {
	handler := func(c echo.Context) error { return c.(*call).serve(rt) }
	path = echoParameters.Replace(path)
	s.echo.Add(rt.method, path, handler)
	if rt.method == http.MethodGet {
		s.echo.Add(http.MethodHead, path, handler)
	}
	if strings.HasSuffix(path, "/:id") && !rt.deeper {
		// Without this the last parameter takes the rest of the path, slashes too.
		s.echo.RouteNotFound(path+"/*", echo.NotFoundHandler)
	}
}

// aliases are a canonical path and its other names.
func aliases(path string) []string {
	if path == "/v1/regions" {
		return []string{path, "/v1/nodes"}
	}
	if rest, ok := strings.CutPrefix(path, "/v1/regions/"); ok {
		return []string{path, "/v1/region/" + rest, "/v1/nodes/" + rest}
	}
	return []string{path}
}

// serve runs rt's handler once the caller is known, and the table of rights lets
// them ask for rt's action at all. Whether they may do it in the very regions that
// it touches, the marketplace says by the same table.
func (k *call) serve(rt *route) error {
	k.route = rt
	right := flavor.RightTo(rt.action)
	switch right.Who {
	case flavor.Anybody:
		return rt.handle(k)
	case flavor.Core:
		return k.serveCore(rt)
	}
	if err := k.authenticate(); err != nil {
		return err
	}
	if !rt.local {
		k.ctx, k.trace = openstack.WithTrace(k.ctx)
	}
	if right.Changes {
		return k.acting(rt)
	}
	return k.handle(rt)
}

// handle runs rt's handler if the table lets the caller ask for it.
func (k *call) handle(rt *route) error {
	if err := k.who.May(rt.action); err != nil {
		return err
	}
	if k.queryErr != nil {
		return k.queryErr
	}
	return rt.handle(k)
}

// allow is the Allow header of a 405 that one of our own rules made: without
// the method that is not allowed now, and, for who is no manager, without any
// that is a manager's.
func (rt *route) allow(code flavor.Code) string {
	methods := []string{http.MethodOptions}
	for _, sibling := range rt.siblings {
		if sibling == rt || code == flavor.CodeManagerOnly && flavor.RightTo(sibling.action).Who == flavor.Manager {
			continue
		}
		methods = append(methods, sibling.method)
		if sibling.method == http.MethodGet {
			methods = append(methods, http.MethodHead)
		}
	}
	slices.Sort(methods)
	return strings.Join(methods, ", ")
}

// The answers of the handlers.

func (k *call) answer(body []byte) error {
	return k.representation(contentTypes[k.format], body, etag(body), strconv.Itoa(len(body)))
}

func (k *call) flavor(f flavor.Flavor, err error) error {
	if err != nil {
		return err
	}
	return k.answer(encodeFlavor(k.format, &f))
}

func (k *call) flavors(list []flavor.Flavor, err error) error {
	if err != nil {
		return err
	}
	if list, err = k.narrow(list); err != nil {
		return err
	}
	return k.answer(encodeFlavors(k.format, list))
}

// narrow is what the query leaves of a list: one page of what it filters.
func (k *call) narrow(list []flavor.Flavor) ([]flavor.Flavor, error) {
	list, err := k.byGPU(list)
	if err != nil {
		return nil, err
	}
	return k.page(list)
}

func (k *call) changed(body []byte) error {
	return k.write(http.StatusOK, contentTypes[k.format], body, strconv.Itoa(len(body)))
}

func (k *call) changedFlavor(f flavor.Flavor, err error) error {
	if err != nil {
		return err
	}
	return k.changed(encodeFlavor(k.format, &f))
}

// created answers 201, with a Location below the path that was called.
func (k *call) created(id string, body []byte) error {
	k.Response().Header().Set("Location", k.Request().URL.EscapedPath()+"/"+url.PathEscape(id))
	return k.write(http.StatusCreated, contentTypes[k.format], body, strconv.Itoa(len(body)))
}

func (k *call) createdFlavor(f flavor.Flavor, err error) error {
	if err != nil {
		return err
	}
	return k.created(f.ID, encodeFlavor(k.format, &f))
}

func (k *call) deleted(err error) error {
	if err != nil {
		return err
	}
	k.Response().WriteHeader(http.StatusNoContent)
	return nil
}

// guardFlavor is guard for a flavor, by its id in the catalogue (one flavor has
// several paths), or by a region and its id there: Nova is asked while the lock
// is held, and a region that hangs must hold up nobody else.
func (k *call) guardFlavor(flavorID string, get func() (flavor.Flavor, error)) (release func(), err error) {
	return k.guard("flavor "+flavorID, func() (string, error) {
		f, err := get()
		return etag(encodeFlavor(k.format, &f)), err
	})
}

// Promoted flavors.

func listPromoted(k *call) error {
	list, err := k.s.cfg.Market.PromotedFlavors(k.ctx)
	if err != nil || len(k.query) > 0 {
		return k.flavors(list, err)
	}
	r := k.s.promoted[k.format].of(list, k.format)
	return k.representation(contentTypes[k.format], r.body, r.tag, r.length)
}

func getPromoted(k *call) error {
	id, err := k.flavorID()
	if err != nil {
		return err
	}
	return k.flavor(k.s.cfg.Market.PromotedFlavor(k.ctx, id))
}

func createPromoted(k *call) error {
	patch, err := k.flavorPatch()
	if err != nil {
		return err
	}
	return k.createdFlavor(k.s.cfg.Market.CreatePromoted(k.ctx, k.who, patch))
}

func changePromoted(k *call) error {
	id, err := k.flavorID()
	if err != nil {
		return err
	}
	patch, err := k.flavorPatch()
	if err != nil {
		return err
	}
	release, err := k.guardFlavor(id, func() (flavor.Flavor, error) { return k.s.cfg.Market.PromotedFlavor(k.ctx, id) })
	if err != nil {
		return err
	}
	defer release()
	return k.changedFlavor(k.s.cfg.Market.ChangePromoted(k.ctx, k.who, id, patch))
}

func deletePromoted(k *call) error {
	id, err := k.flavorID()
	if err != nil {
		return err
	}
	uninstall, err := k.flag("uninstall")
	if err != nil {
		return err
	}
	release, err := k.guardFlavor(id, func() (flavor.Flavor, error) { return k.s.cfg.Market.PromotedFlavor(k.ctx, id) })
	if err != nil {
		return err
	}
	defer release()
	return k.deleted(k.s.cfg.Market.DeletePromoted(k.ctx, k.who, id, uninstall))
}

// Regions and their own flavors.

func listRegions(k *call) error {
	names, err := k.s.cfg.Market.Regions(k.ctx)
	if err != nil {
		return err
	}
	return k.answer(encodeRegions(k.format, names))
}

func listRegionFlavors(k *call) error {
	region, err := k.region("region")
	if err != nil {
		return err
	}
	return k.flavors(k.s.cfg.Market.RegionFlavors(k.ctx, k.who, region, k.keystoneToken()))
}

func createRegionFlavor(k *call) error {
	region, err := k.region("region")
	if err != nil {
		return err
	}
	patch, err := k.flavorPatch()
	if err != nil {
		return err
	}
	return k.createdFlavor(k.s.cfg.Market.CreateRegionFlavor(k.ctx, k.who, region, k.keystoneToken(), patch))
}

// regionAndID are both parameters of a path below a region.
func (k *call) regionAndID() (region, id string, err error) {
	if region, err = k.region("region"); err == nil {
		id, err = k.flavorID()
	}
	return region, id, err
}

func getRegionFlavor(k *call) error {
	region, id, err := k.regionAndID()
	if err != nil {
		return err
	}
	return k.flavor(k.s.cfg.Market.RegionFlavor(k.ctx, k.who, region, k.keystoneToken(), id))
}

func changeRegionFlavor(k *call) error {
	region, id, err := k.regionAndID()
	if err != nil {
		return err
	}
	patch, err := k.flavorPatch()
	if err != nil {
		return err
	}
	release, err := k.guardFlavor(region+" "+id, func() (flavor.Flavor, error) {
		return k.s.cfg.Market.RegionFlavor(k.ctx, k.who, region, k.keystoneToken(), id)
	})
	if err != nil {
		return err
	}
	defer release()
	return k.changedFlavor(k.s.cfg.Market.ChangeRegionFlavor(k.ctx, k.who, region, k.keystoneToken(), id, patch))
}

func deleteRegionFlavor(k *call) error {
	region, id, err := k.regionAndID()
	if err != nil {
		return err
	}
	release, err := k.guardFlavor(region+" "+id, func() (flavor.Flavor, error) {
		return k.s.cfg.Market.RegionFlavor(k.ctx, k.who, region, k.keystoneToken(), id)
	})
	if err != nil {
		return err
	}
	defer release()
	return k.deleted(k.s.cfg.Market.DeleteRegionFlavor(k.ctx, k.who, region, k.keystoneToken(), id))
}

// getGLUE2 is JSON whatever is accepted: EGI's readers know nothing else.
func getGLUE2(k *call) error {
	region, err := k.region("region")
	if err != nil {
		return err
	}
	body, err := k.s.cfg.Market.GLUE2(k.ctx, k.who, region)
	if err != nil {
		return err
	}
	return k.representation(contentTypes[asJSON], body, etag(body), strconv.Itoa(len(body)))
}

// Infrastructures.

func listInfrastructures(k *call) error {
	list, err := k.s.cfg.Market.Infrastructures(k.ctx, k.who)
	if err != nil {
		return err
	}
	return k.answer(encodeInfrastructures(k.format, list))
}

func getInfrastructure(k *call) error {
	name, err := k.region("id")
	if err != nil {
		return err
	}
	r, err := k.s.cfg.Market.Infrastructure(k.ctx, k.who, name)
	if err != nil {
		return err
	}
	body := encodeInfrastructure(k.format, &r)
	return k.representation(contentTypes[k.format], body, k.infrastructureTag(r), strconv.Itoa(len(body)))
}

func createInfrastructure(k *call) error {
	patch, _, err := k.infrastructurePatch()
	if err != nil {
		return err
	}
	r, err := k.s.cfg.Market.CreateInfrastructure(k.ctx, k.who, patch)
	if err != nil {
		return err
	}
	return k.created(r.Name, encodeInfrastructureName(k.format, r.Name))
}

func (k *call) guardInfrastructure(name string) (release func(), err error) {
	return k.guard("infrastructure "+name, func() (string, error) {
		r, err := k.s.cfg.Market.Infrastructure(k.ctx, k.who, name)
		return k.infrastructureTag(r), err
	})
}

func (k *call) infrastructureTag(r flavor.Region) string {
	body := encodeInfrastructure(k.format, &r)
	r.Status = flavor.RegionStatus{}
	return settingsTag(body, encodeInfrastructure(k.format, &r))
}

func changeInfrastructure(k *call) error {
	name, err := k.region("id")
	if err != nil {
		return err
	}
	patch, id, err := k.infrastructurePatch()
	if err != nil {
		return err
	}
	if id != nil && *id != name {
		return flavor.Invalid("id: is the region's name, %s, and does not change", name)
	}
	release, err := k.guardInfrastructure(name)
	if err != nil {
		return err
	}
	defer release()
	r, err := k.s.cfg.Market.ChangeInfrastructure(k.ctx, k.who, name, patch)
	if err != nil {
		return err
	}
	return k.changed(encodeInfrastructureName(k.format, r.Name))
}

func deleteInfrastructure(k *call) error {
	name, err := k.region("id")
	if err != nil {
		return err
	}
	force, err := k.flag("force")
	if err != nil {
		return err
	}
	release, err := k.guardInfrastructure(name)
	if err != nil {
		return err
	}
	defer release()
	return k.deleted(k.s.cfg.Market.DeleteInfrastructure(k.ctx, k.who, name, force))
}

// Public flavors, and the private ones beside them.

func listFlavors(k *call) error {
	var filter marketplace.Filter
	var err error
	if filter.Public, err = k.filter("public"); err != nil {
		return err
	}
	if filter.Promoted, err = k.filter("promoted"); err != nil {
		return err
	}
	filter.Fresh = noCache(k.Request().Header)
	listing, err := k.s.cfg.Market.Flavors(k.ctx, k.who, filter)
	if err != nil {
		return err
	}
	part := k.wantsPart()
	var list []flavor.Flavor
	if part {
		if list, err = k.narrow(listing.All()); err != nil {
			return err
		}
	}
	k.seen(listing.Unreachable, listing.Age)
	if part {
		return k.answer(encodeFlavors(k.format, list))
	}
	r := k.s.listings.of(audienceOf(k.format, k.who, filter), listing, func(all []flavor.Flavor) []byte { return encodeFlavors(k.format, all) })
	return k.representation(contentTypes[k.format], r.body, r.tag, r.length)
}

// wantsPart says whether the query asks for some of a list's flavors in a way of
// the edge's own: by their GPUs, or page by page.
func (k *call) wantsPart() bool {
	return slices.ContainsFunc([]string{"gpu", "gpu_model", "limit", "marker"}, func(name string) bool { return len(k.query[name]) > 0 })
}

// noCache says whether the client wants nothing that was known before.
func noCache(h http.Header) bool {
	for _, value := range h["Cache-Control"] {
		for directive := range strings.SplitSeq(value, ",") {
			if strings.EqualFold(strings.TrimSpace(directive), "no-cache") {
				return true
			}
		}
	}
	return false
}

// idAndNode are {id} of the path and ?node=.
func (k *call) idAndNode() (id, node string, err error) {
	if id, err = k.flavorID(); err == nil {
		node, err = k.node()
	}
	return id, node, err
}

func getFlavor(k *call) error {
	id, node, err := k.idAndNode()
	if err != nil {
		return err
	}
	f, err := k.s.cfg.Market.Flavor(k.ctx, k.who, id, node, noCache(k.Request().Header))
	if err != nil {
		return err
	}
	unreachable, age, err := k.s.cfg.Market.Seen(k.ctx)
	if err != nil {
		return err
	}
	k.seen(unreachable, age)
	return k.flavor(f, nil)
}

func createFlavor(k *call) error {
	patch, err := k.flavorPatch()
	if err != nil {
		return err
	}
	return k.createdFlavor(k.s.cfg.Market.CreateFlavor(k.ctx, k.who, patch))
}

func changeFlavor(k *call) error {
	id, node, err := k.idAndNode()
	if err != nil {
		return err
	}
	patch, err := k.flavorPatch()
	if err != nil {
		return err
	}
	release, err := k.guardFlavor(id, func() (flavor.Flavor, error) { return k.s.cfg.Market.Flavor(k.ctx, k.who, id, node, false) })
	if err != nil {
		return err
	}
	defer release()
	async := later(k.Request().Header)
	f, o, err := k.s.cfg.Market.ChangeFlavor(k.ctx, k.who, id, node, patch, async)
	if err == nil && async {
		k.Response().Header().Set("Preference-Applied", respondAsync)
	}
	if err == nil && o != nil {
		return k.accepted(o)
	}
	return k.changedFlavor(f, err)
}

func deleteFlavor(k *call) error {
	id, node, err := k.idAndNode()
	if err != nil {
		return err
	}
	release, err := k.guardFlavor(id, func() (flavor.Flavor, error) { return k.s.cfg.Market.Flavor(k.ctx, k.who, id, node, false) })
	if err != nil {
		return err
	}
	defer release()
	return k.deleted(k.s.cfg.Market.DeleteFlavor(k.ctx, k.who, id, node))
}

func whoami(k *call) error { return k.answer(encodeWhoami(k.format, &k.who)) }

// Health and descriptions.

func (k *call) plain(status int, text string) error {
	h := k.Response().Header()
	h["Cache-Control"] = noStore
	return k.write(status, plainText, []byte(text), strconv.Itoa(len(text)))
}

func healthz(k *call) error { return k.plain(http.StatusOK, "ok\n") }

func readyz(k *call) error {
	// Nobody needs to be known here: however many ask, the database is asked once.
	_, err, _ := k.s.ready.Do("", func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(k.ctx), readyTimeout)
		defer cancel()
		return nil, k.s.cfg.Ready(ctx)
	})
	if err != nil {
		k.Response().Header().Set("Retry-After", "5")
		// The answer is out: the error goes on to the log alone.
		return errors.Join(err, k.plain(http.StatusServiceUnavailable, "not ready: the log says why (request id "+k.id+")\n"))
	}
	return k.plain(http.StatusOK, "ok\n")
}

// document serves a file that does not change while we run.
func (s *Server) document(path, contentType string, body []byte) {
	if body == nil {
		return
	}
	types, tag, length := []string{contentType}, etag(body), strconv.Itoa(len(body))
	s.add(&route{method: http.MethodGet, pattern: path, action: flavor.ReadService, handle: func(k *call) error {
		return k.representation(types, body, tag, length)
	}}, path)
}
