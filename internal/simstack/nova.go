package simstack

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

const (
	minMinor = 1      // of Nova's microversions 2.x
	maxMinor = 93     // Zed's
	maxBody  = 114688 // oslo's max_request_body_size, bytes
)

// novaCall is an authenticated request to one region's Nova.
type novaCall struct {
	s      *Stack
	w      http.ResponseWriter
	r      *http.Request
	region *region
	base   string // scheme://host/compute/region
	minor  int    // of the microversion that was asked for
	*session
}

func (s *Stack) serveNova(w http.ResponseWriter, r *http.Request, c call) {
	// The path as it was sent: a server resolves "." and "..", but not %2e%2e.
	raw, _, _ := strings.Cut(r.RequestURI, "?")
	if raw == "" || !strings.HasPrefix(raw, "/") {
		raw = r.URL.EscapedPath()
	}
	if strings.Contains(raw, "/.") {
		slash := strings.HasSuffix(raw, "/.") || strings.HasSuffix(raw, "/..")
		if raw = path.Clean(raw); slash {
			raw += "/"
		}
	}
	decoded, err := url.PathUnescape(raw)
	prefix := "/compute/" + c.region.name
	rest, ok := strings.CutPrefix(decoded, prefix)
	if err != nil || !ok {
		webError(w, r, http.StatusNotFound, "The resource could not be found.")
		return
	}
	n := &novaCall{s: s, w: w, r: r, region: c.region, base: s.baseFor(r) + "/compute/" + url.PathEscape(c.region.name)}
	rest, versioned := strings.CutPrefix(rest, "/v2.1")
	if rest == "" || rest == "/" {
		if !versioned {
			writeJSON(w, http.StatusOK, map[string]any{"versions": []any{n.version(false)}})
			return
		}
		novaRequestID(w)
		n.minor = minMinor
		n.versionHeaders("2.1")
		writeJSON(w, http.StatusOK, map[string]any{"version": n.version(true)})
		return
	}
	if !versioned || rest[0] != '/' {
		writeJSON(w, http.StatusMultipleChoices, map[string]any{"choices": []any{n.version(true)}})
		return
	}
	novaRequestID(w)
	if r.ContentLength > maxBody {
		webError(w, r, http.StatusRequestEntityTooLarge, "Request is too large. Larger than max_request_body_size (114688).")
		return
	}
	now := s.opts.Now()
	session, revoked := s.keystone.known(r.Header.Get("X-Auth-Token"), now)
	if session == nil || !c.region.believes(session, revoked, now, s.opts.TokenCache) {
		s.novaUnauthorized(w, r)
		return
	}
	n.session = session
	n.route(rest)
}

func (n *novaCall) version(withMedia bool) map[string]any {
	v := map[string]any{
		"id": "v2.1", "status": "CURRENT", "version": "2." + strconv.Itoa(maxMinor), "min_version": "2." + strconv.Itoa(minMinor),
		"updated": "2013-07-23T11:33:21Z",
		"links":   []any{map[string]string{"rel": "self", "href": n.base + "/v2.1/"}},
	}
	if withMedia {
		v["media-types"] = []any{map[string]string{"base": "application/json", "type": "application/vnd.openstack.compute+json;version=2.1"}}
	}
	return v
}

func novaRequestID(w http.ResponseWriter) {
	id := requestID()
	w.Header().Set("X-Openstack-Request-Id", id)
	w.Header().Set("X-Compute-Request-Id", id)
}

func (s *Stack) novaUnauthorized(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("WWW-Authenticate", `Keystone uri="`+s.baseFor(r)+`/identity/v3"`)
	keystoneError(w, http.StatusUnauthorized, "The request you have made requires authentication.")
}

var faultNames = map[int]string{
	400: "badRequest", 401: "unauthorized", 403: "forbidden", 404: "itemNotFound", 405: "badMethod",
	409: "conflictingRequest", 413: "overLimit", 415: "badMediaType", 429: "overLimit", 501: "notImplemented", 503: "serviceUnavailable",
}

func novaError(w http.ResponseWriter, code int, message string) {
	name := faultNames[code]
	if name == "" {
		name = "computeFault"
	}
	b, _ := json.Marshal(map[string]any{name: map[string]any{"code": code, "message": message}}) // texts can be marshalled
	w.Header().Set("Content-Type", "application/json; charset=UTF-8")
	w.WriteHeader(code)
	w.Write(b)
}

// webError is an error from before Nova's own code: a web page, unless the
// client accepts JSON only, or says nothing of what it accepts.
func webError(w http.ResponseWriter, r *http.Request, code int, message string) {
	title := strconv.Itoa(code) + " " + http.StatusText(code)
	accept := strings.Join(r.Header.Values("Accept"), ",")
	switch {
	case strings.Contains(accept, "html"), strings.Contains(accept, "*/*"):
		w.Header().Set("Content-Type", "text/html; charset=UTF-8")
		w.WriteHeader(code)
		io.WriteString(w, "<html>\n <head>\n  <title>"+title+"</title>\n </head>\n <body>\n  <h1>"+title+"</h1>\n  "+message+"<br /><br />\n\n\n\n </body>\n</html>")
	case strings.Contains(accept, "json"):
		writeJSON(w, code, map[string]string{"message": message + "<br /><br />\n\n\n", "code": title, "title": http.StatusText(code)})
	default:
		w.Header().Set("Content-Type", "text/plain; charset=UTF-8")
		w.WriteHeader(code)
		io.WriteString(w, title+"\n\n"+message+"\n\n\n   \n")
	}
}

func (n *novaCall) versionHeaders(version string) {
	h := n.w.Header()
	h.Set("OpenStack-API-Version", "compute "+version)
	h.Set("X-OpenStack-Nova-API-Version", version)
	h["Vary"] = []string{"OpenStack-API-Version", "X-OpenStack-Nova-API-Version"}
}

var microversion = regexp.MustCompile(`^([1-9]\d*)\.([1-9]\d*|0)$`)

// negotiate finds the microversion; false if the answer is given already.
func (n *novaCall) negotiate() bool {
	asked := ""
	for one := range strings.SplitSeq(n.r.Header.Get("OpenStack-API-Version"), ",") {
		if version, ok := strings.CutPrefix(strings.TrimSpace(one), "compute "); ok {
			asked = strings.TrimSpace(version)
		}
	}
	if asked == "" {
		asked = n.r.Header.Get("X-OpenStack-Nova-API-Version")
	}
	switch asked {
	case "":
		asked = "2.1"
	case "latest":
		asked = "2." + strconv.Itoa(maxMinor)
	}
	m := microversion.FindStringSubmatch(asked)
	if m == nil {
		novaError(n.w, http.StatusBadRequest, "API Version String "+asked+" is of invalid format. Must be of format MajorNum.MinorNum.")
		return false
	}
	n.versionHeaders(asked)
	minor, err := strconv.Atoi(m[2])
	if err != nil || m[1] != "2" || minor < minMinor || minor > maxMinor {
		novaError(n.w, http.StatusNotAcceptable, "Version "+asked+" is not supported by the API. Minimum is 2.1 and maximum is 2."+strconv.Itoa(maxMinor)+".")
		return false
	}
	n.minor = minor
	return true
}

var projectSegment = regexp.MustCompile(`^[0-9a-f-]+$`)

// route calls what answers that path (after /v2.1).
func (n *novaCall) route(path string) {
	parts := strings.Split(path[1:], "/")
	if len(parts) > 1 && projectSegment.MatchString(parts[0]) {
		if parts[0] != n.projectID {
			if n.negotiate() {
				n.invalid("Malformed request URL: URL's project_id '" + parts[0] + "' doesn't match Context's project_id '" + n.projectID + "'")
			}
			return
		}
		parts = parts[1:]
	}
	serve := n.find(parts)
	if parts[0] != "flavors" || serve == nil || slices.Contains(parts, "") {
		webError(n.w, n.r, http.StatusNotFound, "The resource could not be found.")
		return
	}
	if n.negotiate() {
		serve()
	}
}

// find is what answers a path in segments, the first of which is "flavors".
func (n *novaCall) find(parts []string) func() {
	method := n.r.Method
	id := func(serve func(string)) func() { return func() { serve(parts[1]) } }
	key := func(serve func(id, key string)) func() { return func() { serve(parts[1], parts[3]) } }
	switch {
	case len(parts) == 1:
		switch method {
		case http.MethodGet:
			return func() { n.listFlavors(false) }
		case http.MethodPost:
			return n.createFlavor
		}
	case len(parts) == 2:
		switch method {
		case http.MethodGet:
			if parts[1] == "detail" {
				return func() { n.listFlavors(true) }
			}
			return id(n.showFlavor)
		case http.MethodPut:
			return id(n.describeFlavor)
		case http.MethodDelete:
			return id(n.deleteFlavor)
		}
	case len(parts) == 3 && parts[2] == "os-extra_specs":
		switch method {
		case http.MethodGet:
			return id(n.listSpecs)
		case http.MethodPost:
			return id(n.createSpecs)
		}
	case len(parts) == 4 && parts[2] == "os-extra_specs":
		switch method {
		case http.MethodGet:
			return key(n.showSpec)
		case http.MethodPut:
			return key(n.updateSpec)
		case http.MethodDelete:
			return key(n.deleteSpec)
		}
	case len(parts) == 3 && parts[2] == "os-flavor-access" && method == http.MethodGet:
		return id(n.listAccess)
	case len(parts) == 3 && parts[2] == "action" && method == http.MethodPost:
		return id(n.act)
	}
	return nil
}

func (n *novaCall) invalid(message string)  { novaError(n.w, http.StatusBadRequest, message) }
func (n *novaCall) missing(message string)  { novaError(n.w, http.StatusNotFound, message) }
func (n *novaCall) conflict(message string) { novaError(n.w, http.StatusConflict, message) }

func (n *novaCall) noFlavor(id string) { n.missing("Flavor " + id + " could not be found.") }

// allowed says whether the caller may write; it has answered if not.
func (n *novaCall) allowed(policy string) bool {
	if n.admin() {
		return true
	}
	novaError(n.w, http.StatusForbidden, "Policy doesn't allow os_compute_api:"+policy+" to be performed.")
	return false
}

// lookup is the flavor as this caller sees it; it has answered if there is none.
func (n *novaCall) lookup(id string) *record {
	if n.projectID == "" && !n.admin() {
		novaError(n.w, http.StatusForbidden, "Forbidden") // of an unscoped token; lists are allowed to it
		return nil
	}
	r := n.region.find(id)
	if r == nil || !n.admin() && !r.visible(n.projectID) {
		n.noFlavor(id)
		return nil
	}
	return r
}

// body is the request's JSON; false if the answer is given already.
func (n *novaCall) body() (any, bool) {
	raw, err := io.ReadAll(io.LimitReader(n.r.Body, maxBody+1))
	if err != nil || len(raw) > maxBody {
		n.invalid("Malformed request body")
		return nil, false
	}
	switch media, _, _ := strings.Cut(n.r.Header.Get("Content-Type"), ";"); {
	case len(raw) == 0, media == "application/json", media == "", media == "text/plain":
	default:
		novaError(n.w, http.StatusUnsupportedMediaType, "Unsupported Content-Type")
		return nil, false
	}
	if len(raw) == 0 {
		return nil, true
	}
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber()
	var body any
	if !utf8.Valid(raw) || decoder.Decode(&body) != nil || !errors.Is(decoder.Decode(new(any)), io.EOF) {
		n.invalid("Malformed request body")
		return nil, false
	}
	return body, true
}

// view is how a flavor is shown at this microversion.
func (n *novaCall) view(r *record, detail bool) map[string]any {
	id := (&url.URL{Path: r.id}).EscapedPath()
	id = strings.TrimPrefix(id, "./")
	v := map[string]any{
		"id":   r.id,
		"name": r.Name,
		"links": []any{
			map[string]string{"rel": "self", "href": n.base + "/v2.1/flavors/" + id},
			map[string]string{"rel": "bookmark", "href": n.base + "/flavors/" + id},
		},
	}
	if n.minor >= 55 {
		v["description"] = nil
		if r.described {
			v["description"] = r.Description
		}
	}
	if !detail {
		return v
	}
	v["ram"], v["disk"], v["vcpus"] = r.RAM, r.Disk, r.VCPUs
	v["swap"] = any(r.Swap)
	if r.Swap == 0 && n.minor < 75 {
		v["swap"] = ""
	}
	v["OS-FLV-EXT-DATA:ephemeral"] = r.Ephemeral
	v["OS-FLV-DISABLED:disabled"] = false
	v["os-flavor-access:is_public"] = r.public
	v["rxtx_factor"] = r.RxTxFactor
	if n.minor >= 61 {
		v["extra_specs"] = specsOf(r)
	}
	return v
}

func specsOf(r *record) map[string]string {
	if r.ExtraSpecs == nil {
		return map[string]string{}
	}
	return r.ExtraSpecs
}

func (n *novaCall) show(r *record) {
	writeJSON(n.w, http.StatusOK, map[string]any{"flavor": n.view(r, true)})
}

func (n *novaCall) showFlavor(id string) {
	if r := n.lookup(id); r != nil {
		n.show(r)
	}
}

func (n *novaCall) listFlavors(detail bool) {
	query, err := url.ParseQuery(n.r.URL.RawQuery)
	if err != nil {
		n.invalid("Malformed query")
		return
	}
	if refusal := checkQuery(query, n.minor); refusal != "" {
		n.invalid(refusal)
		return
	}
	last := func(key string) string { // of a repeated parameter
		if values := query[key]; len(values) > 0 {
			return values[len(values)-1]
		}
		return ""
	}
	limit := n.s.opts.MaxLimit
	if query.Has("limit") {
		if asked, err := strconv.Atoi(last("limit")); err == nil {
			limit = min(limit, asked)
		}
	}
	keep := func(r *record) bool { return r.visible(n.projectID) }
	if filter := last("is_public"); n.admin() && query.Has("is_public") {
		switch public, ok := parseBool(filter); {
		case strings.EqualFold(filter, "none"):
			keep = func(*record) bool { return true }
		case !ok:
			n.invalid("Invalid is_public filter [" + filter + "]")
			return
		case !public:
			keep = func(r *record) bool { return !r.public }
		}
	}
	var minimum [2]int
	for i, key := range []string{"minRam", "minDisk"} {
		if query.Has(key) {
			if minimum[i], err = strconv.Atoi(last(key)); err != nil {
				n.invalid("Invalid " + key + " filter [" + last(key) + "]")
				return
			}
		}
	}
	all := n.region.all()
	if key, descending := last("sort_key"), last("sort_dir") == "desc"; key != "" && key != "flavorid" || descending {
		if key == "" {
			key = "flavorid"
		}
		by := compareBy(key, n.region.collation)
		all = slices.Clone(all)
		slices.SortStableFunc(all, func(a, b *record) int {
			order := by(a, b)
			if order == 0 {
				order = a.number - b.number
			}
			if descending {
				return -order
			}
			return order
		})
	}
	if query.Has("marker") {
		marker := n.region.collation.key(last("marker"))
		at := slices.IndexFunc(all, func(r *record) bool { return r.key == marker && (n.admin() || r.visible(n.projectID)) })
		if at < 0 {
			n.invalid("marker [" + last("marker") + "] not found")
			return
		}
		all = all[at+1:]
	}
	views := []any{}
	next := ""
	for _, r := range all {
		if len(views) == limit {
			break
		}
		if keep(r) && r.RAM >= minimum[0] && r.Disk >= minimum[1] {
			views, next = append(views, n.view(r, detail)), r.id
		}
	}
	page := map[string]any{"flavors": views}
	// A full page has a link, even where nothing follows.
	if len(views) > 0 && len(views) == limit {
		query.Set("marker", next)
		here := "/v2.1/flavors"
		if detail {
			here += "/detail"
		}
		page["flavors_links"] = []any{map[string]string{"rel": "next", "href": n.base + here + "?" + query.Encode()}}
	}
	writeJSON(n.w, http.StatusOK, page)
}

func (n *novaCall) createFlavor() {
	body, ok := n.body()
	if !ok {
		return
	}
	r, refusal := readFlavor(body, n.minor)
	if refusal != "" {
		n.invalid(refusal)
		return
	}
	if !n.allowed("os-flavor-manage:create") {
		return
	}
	if r.id == "" {
		r.id = strings.TrimPrefix(requestID(), "req-")
	}
	created, err := n.region.insert(r)
	switch {
	case errors.Is(err, errIDTaken):
		n.conflict("Flavor with ID " + r.id + " already exists.")
	case err != nil:
		n.conflict("Flavor with name " + r.Name + " already exists.")
	default:
		n.show(created)
	}
}

func (n *novaCall) describeFlavor(id string) {
	if n.minor < 55 {
		n.missing("The resource could not be found.")
		return
	}
	body, ok := n.body()
	if !ok {
		return
	}
	description, described, refusal := readDescription(body)
	if refusal != "" {
		n.invalid(refusal)
		return
	}
	if !n.allowed("os-flavor-manage:update") {
		return
	}
	r, _ := n.region.change(id, func(r *record) error {
		r.Description, r.described = description, described
		return nil
	})
	if r == nil {
		n.noFlavor(id)
		return
	}
	n.show(r)
}

func (n *novaCall) deleteFlavor(id string) {
	if !n.allowed("os-flavor-manage:delete") {
		return
	}
	if !n.region.remove(id) {
		n.noFlavor(id)
		return
	}
	n.w.Header().Set("Content-Type", "application/json")
	n.w.WriteHeader(http.StatusAccepted)
}

func (n *novaCall) listSpecs(id string) {
	if r := n.lookup(id); r != nil {
		writeJSON(n.w, http.StatusOK, map[string]any{"extra_specs": specsOf(r)})
	}
}

func (n *novaCall) showSpec(id, key string) {
	r := n.lookup(id)
	if r == nil {
		return
	}
	value, ok := r.ExtraSpecs[key]
	if !ok {
		n.missing("Flavor " + id + " has no extra specs with key " + key + ".")
		return
	}
	writeJSON(n.w, http.StatusOK, map[string]string{key: value})
}

func (n *novaCall) createSpecs(id string) {
	body, ok := n.body()
	if !ok {
		return
	}
	envelope, refusal := object(body, "", "extra_specs")
	if refusal != "" {
		n.invalid(refusal)
		return
	}
	if _, ok := envelope["extra_specs"]; !ok {
		n.invalid("'extra_specs' is a required property")
		return
	}
	specs, refusal := readSpecs(envelope["extra_specs"], "extra_specs")
	n.writeSpecs(id, "create", specs, refusal, body)
}

func (n *novaCall) updateSpec(id, key string) {
	body, ok := n.body()
	if !ok {
		return
	}
	specs, refusal := readSpecs(body, "")
	if refusal == "" && len(specs) != 1 {
		refusal = pythonText(body) + " has too many properties"
		if len(specs) == 0 {
			refusal = "{} does not have enough properties"
		}
	}
	if _, ok := specs[key]; refusal == "" && !ok && n.admin() {
		refusal = "Request body and URI mismatch"
	}
	n.writeSpecs(id, "update", specs, refusal, body)
}

var errCollides = errors.New("an extra spec's key collides with another")

func (n *novaCall) writeSpecs(id, action string, specs map[string]string, refusal string, body any) {
	if refusal != "" {
		n.invalid(refusal)
		return
	}
	if !n.allowed("os-flavor-extra-specs:" + action) {
		return
	}
	if n.minor >= 86 {
		for key, value := range specs {
			if refusal := checkSpec(key, value); refusal != "" {
				n.invalid(refusal)
				return
			}
		}
	}
	r, err := n.region.change(id, func(r *record) error {
		maps.Copy(r.ExtraSpecs, specs)
		seen := map[string]bool{}
		for key := range r.ExtraSpecs {
			folded := n.region.collation.key(key)
			if seen[folded] {
				return errCollides
			}
			seen[folded] = true
		}
		return nil
	})
	switch {
	case r == nil:
		n.noFlavor(id)
	case err != nil:
		n.conflict("Flavor " + strconv.Itoa(r.number) + " extra spec cannot be updated or created after 10 retries.")
	default:
		writeJSON(n.w, http.StatusOK, body)
	}
}

func (n *novaCall) deleteSpec(id, key string) {
	if !n.allowed("os-flavor-extra-specs:delete") {
		return
	}
	r, err := n.region.change(id, func(r *record) error {
		if _, ok := r.ExtraSpecs[key]; !ok {
			return errors.New("there is no such key")
		}
		delete(r.ExtraSpecs, key)
		return nil
	})
	switch {
	case r == nil:
		n.noFlavor(id)
	case err != nil:
		n.missing("Flavor " + id + " has no extra specs with key " + key + ".")
	default:
		n.w.Header().Set("Content-Type", "application/json")
		n.w.WriteHeader(http.StatusOK)
	}
}

func (n *novaCall) listAccess(id string) {
	r := n.lookup(id)
	switch {
	case r == nil:
	case r.public:
		n.missing("Access list not available for public flavors.")
	default:
		n.showAccess(r)
	}
}

func (n *novaCall) showAccess(r *record) {
	list := []any{}
	for _, project := range r.projects {
		list = append(list, map[string]string{"flavor_id": r.id, "tenant_id": project})
	}
	writeJSON(n.w, http.StatusOK, map[string]any{"flavor_access": list})
}

var (
	errPublic = errors.New("the flavor is public")
	errAccess = errors.New("the project has, or has not, access already")
)

// act is POST /flavors/{id}/action.
func (n *novaCall) act(id string) {
	body, ok := n.body()
	if !ok {
		return
	}
	actions, ok := body.(map[string]any)
	if !ok || len(actions) == 0 {
		n.invalid("Malformed request body")
		return
	}
	_, add := actions["addTenantAccess"]
	action, policy := "addTenantAccess", "os-flavor-access:add_tenant_access"
	if !add {
		action, policy = "removeTenantAccess", "os-flavor-access:remove_tenant_access"
		if _, ok := actions[action]; !ok {
			for unknown := range actions {
				n.invalid("There is no such action: " + unknown)
				return
			}
		}
	}
	project, refusal := readTenant(body, action)
	if refusal != "" {
		n.invalid(refusal)
		return
	}
	if !n.allowed(policy) {
		return
	}
	if add && !n.s.keystone.hasProject(project) {
		n.invalid("Project ID " + project + " is not a valid project.")
		return
	}
	r, err := n.region.change(id, func(r *record) error {
		at, has := slices.BinarySearch(r.projects, project)
		switch {
		case add && r.public && n.minor >= 7:
			return errPublic
		case add == has:
			return errAccess
		case add:
			r.projects = slices.Insert(r.projects, at, project)
		default:
			r.projects = slices.Delete(r.projects, at, at+1)
		}
		return nil
	})
	switch {
	case r == nil:
		n.noFlavor(id)
	case errors.Is(err, errPublic):
		n.conflict("Can not add access to a public flavor.")
	case err != nil && add:
		n.conflict("Flavor access already exists for flavor " + strconv.Itoa(r.number) + " and project " + project + " combination.")
	case err != nil:
		n.missing("Flavor access not found for " + strconv.Itoa(r.number) + " / " + project + " combination.")
	default:
		n.showAccess(r)
	}
}
