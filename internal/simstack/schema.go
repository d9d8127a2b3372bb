package simstack

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/big"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/flavorsync/flavorsync/internal/flavor"
)

// The functions here do what Nova's JSON schemas do (nova/api/openstack/compute/
// schemas, Zed). Each answers Nova's words of refusal, "" for none.

var (
	digits   = regexp.MustCompile(`^[0-9]+$`)
	decimal  = regexp.MustCompile(`^[0-9]+(\.[0-9]+)?$`)
	novaID   = regexp.MustCompile(`^[a-zA-Z0-9._-]([a-zA-Z0-9. _-]*[a-zA-Z0-9._-])?$`)
	novaKey  = regexp.MustCompile(`^[a-zA-Z0-9\-_:. ]{1,255}$`)
	trueish  = []string{"True", "TRUE", "true", "1", "ON", "On", "on", "YES", "Yes", "yes"}
	falseish = []string{"False", "FALSE", "false", "0", "OFF", "Off", "off", "NO", "No", "no"}
	sortKeys = []string{
		"created_at", "description", "disabled", "ephemeral_gb", "flavorid", "id", "is_public", "memory_mb",
		"name", "root_gb", "rxtx_factor", "swap", "updated_at", "vcpu_weight", "vcpus",
	}
)

// pythonText is a value as Nova's messages quote it.
func pythonText(v any) string {
	switch v := v.(type) {
	case nil:
		return "None"
	case bool:
		if v {
			return "True"
		}
		return "False"
	case string:
		return "'" + v + "'"
	case json.Number:
		return v.String()
	}
	b, _ := json.Marshal(v) // what was JSON can be JSON again
	return strings.NewReplacer(`"`, `'`, `:`, `: `, `,`, `, `).Replace(string(b))
}

func bad(field string, value any, why string) string {
	shown := pythonText(value)
	if text, ok := value.(string); ok {
		shown = text
	}
	return "Invalid input for field/attribute " + field + ". Value: " + shown + ". " + why
}

// object is body as an object that has no keys but these.
func object(body any, field string, keys ...string) (map[string]any, string) {
	refuse := func(why string) string {
		if field == "" {
			return why
		}
		return bad(field, body, why)
	}
	o, ok := body.(map[string]any)
	if !ok {
		return nil, refuse(pythonText(body) + " is not of type 'object'")
	}
	var extra []string
	for _, key := range slices.Sorted(maps.Keys(o)) {
		if !slices.Contains(keys, key) {
			extra = append(extra, "'"+key+"'")
		}
	}
	return o, unexpected(extra, refuse)
}

func unexpected(quoted []string, refuse func(string) string) string {
	switch len(quoted) {
	case 0:
		return ""
	case 1:
		return refuse("Additional properties are not allowed (" + quoted[0] + " was unexpected)")
	}
	return refuse("Additional properties are not allowed (" + strings.Join(quoted, ", ") + " were unexpected)")
}

// inEnvelope is the object under the only key of body.
func inEnvelope(body any, envelope string, keys ...string) (map[string]any, string) {
	outer, refusal := object(body, "", envelope)
	if refusal != "" {
		return nil, refusal
	}
	if _, ok := outer[envelope]; !ok {
		return nil, "'" + envelope + "' is a required property"
	}
	return object(outer[envelope], envelope, keys...)
}

// readFlavor is the flavor of a POST; its id is "" where Nova is to choose one.
func readFlavor(body any, minor int) (r record, refusal string) {
	keys := []string{
		"name", "id", "ram", "vcpus", "disk", "OS-FLV-EXT-DATA:ephemeral", "swap", "rxtx_factor", "os-flavor-access:is_public",
	}
	if minor >= 55 {
		keys = append(keys, "description")
	}
	o, refusal := inEnvelope(body, "flavor", keys...)
	if refusal != "" {
		return r, refusal
	}
	for _, key := range []string{"name", "ram", "vcpus", "disk"} {
		if _, ok := o[key]; !ok {
			return r, bad("flavor", o, "'"+key+"' is a required property")
		}
	}
	r = record{Spec: flavor.Spec{RxTxFactor: 1}, public: true}
	for _, n := range []struct {
		key  string
		to   *int
		from int
	}{
		{"ram", &r.RAM, 1}, {"vcpus", &r.VCPUs, 1}, {"disk", &r.Disk, 0},
		{"OS-FLV-EXT-DATA:ephemeral", &r.Ephemeral, 0}, {"swap", &r.Swap, 0},
	} {
		if value, ok := o[n.key]; ok {
			if *n.to, refusal = readInt(n.key, value, n.from); refusal != "" {
				return r, refusal
			}
		}
	}
	if r.Name, refusal = readName(o["name"]); refusal != "" {
		return r, refusal
	}
	if r.id, refusal = readID(o["id"]); refusal != "" {
		return r, refusal
	}
	if value, ok := o["rxtx_factor"]; ok {
		if r.RxTxFactor, refusal = readFactor(value); refusal != "" {
			return r, refusal
		}
	}
	if value, ok := o["os-flavor-access:is_public"]; ok {
		if r.public, ok = value.(bool); !ok {
			text, isText := value.(string)
			if r.public = slices.Contains(trueish, text); !isText || !r.public && !slices.Contains(falseish, text) {
				return r, bad("os-flavor-access:is_public", value, pythonText(value)+" is not one of [True, 'True', 'TRUE', 'true', '1', 'ON', 'On', 'on', 'YES', 'Yes', 'yes', False, 'False', 'FALSE', 'false', '0', 'OFF', 'Off', 'off', 'NO', 'No', 'no']")
			}
		}
	}
	if value, ok := o["description"]; ok {
		r.Description, r.described, refusal = checkDescription(value)
	}
	return r, refusal
}

func readInt(field string, value any, from int) (int, string) {
	var text string
	switch v := value.(type) {
	case json.Number:
		text = v.String()
		if strings.ContainsAny(text, ".eE") {
			return 0, bad(field, value, text+" is not of type 'integer', 'string'")
		}
	case string:
		if text = v; !digits.MatchString(text) {
			return 0, bad(field, value, pythonText(value)+" does not match '^[0-9]+$'")
		}
	default:
		return 0, bad(field, value, pythonText(value)+" is not of type 'integer', 'string'")
	}
	n, ok := new(big.Int).SetString(text, 10)
	switch {
	case !ok:
		return 0, bad(field, value, text+" is not an integer")
	case n.Cmp(big.NewInt(int64(from))) < 0:
		return 0, bad(field, value, fmt.Sprintf("%v is less than the minimum of %d", n, from))
	case n.Cmp(big.NewInt(flavor.MaxNumber)) > 0:
		return 0, bad(field, value, fmt.Sprintf("%v is greater than the maximum of %d", n, flavor.MaxNumber))
	}
	return int(n.Int64()), ""
}

// printable is what Nova calls so: any letter, mark, number, sign or blank of
// the Basic Multilingual Plane.
func printable(r rune) bool {
	return r < 0xFFFF && (unicode.IsPrint(r) || unicode.Is(unicode.Zs, r)) && !unicode.Is(unicode.Co, r)
}

func readName(value any) (string, string) {
	name, ok := value.(string)
	switch {
	case !ok:
		return "", bad("name", value, pythonText(value)+" is not of type 'string'")
	case name == "":
		return "", bad("name", value, "'' is too short")
	case utf8.RuneCountInString(name) > 255:
		return "", bad("name", value, pythonText(value)+" is too long")
	}
	first, _ := utf8.DecodeRuneInString(name)
	last, _ := utf8.DecodeLastRuneInString(name)
	if unicode.Is(unicode.Zs, first) || unicode.Is(unicode.Zs, last) || strings.ContainsFunc(name, func(r rune) bool { return !printable(r) }) {
		return "", "An invalid 'name' value was provided. The name must be: printable characters. Can not start or end with whitespace."
	}
	return name, ""
}

func readID(value any) (string, string) {
	var text string
	switch v := value.(type) {
	case nil:
		return "", ""
	case json.Number:
		return v.String(), ""
	case string:
		text = v
	default:
		return "", bad("id", value, pythonText(value)+" is not of type 'string', 'number', 'null'")
	}
	switch {
	case text == "":
		return "", bad("id", value, "'' is too short")
	case len(text) > 255:
		return "", bad("id", value, pythonText(value)+" is too long")
	case !novaID.MatchString(text):
		return "", bad("id", value, pythonText(value)+" does not match '^(?! )[a-zA-Z0-9. _-]+(?<! )$'")
	}
	return text, ""
}

// readFactor is an rxtx_factor. Nova compares its integer part with the
// minimum, so that nothing below 1 passes.
func readFactor(value any) (float64, string) {
	var text string
	switch v := value.(type) {
	case json.Number:
		text = v.String()
	case string:
		if text = v; !decimal.MatchString(text) {
			return 0, bad("rxtx_factor", value, pythonText(value)+` does not match '^[0-9]+(\\.[0-9]+)?$'`)
		}
	default:
		return 0, bad("rxtx_factor", value, pythonText(value)+" is not of type 'number', 'string'")
	}
	f, err := strconv.ParseFloat(text, 64)
	switch {
	case err != nil || f > 3.40282e+38:
		return 0, bad("rxtx_factor", value, text+" is greater than the maximum of 3.40282e+38")
	case f < 1:
		return 0, bad("rxtx_factor", value, "0 is less than or equal to the minimum of 0")
	}
	return f, ""
}

// checkDescription is a description, and whether it is one and not null. Python's
// $ lets a last line break pass.
func checkDescription(value any) (text string, described bool, refusal string) {
	if value == nil {
		return "", false, ""
	}
	text, ok := value.(string)
	switch {
	case !ok:
		return "", false, bad("description", value, pythonText(value)+" is not of type 'string', 'null'")
	case utf8.RuneCountInString(text) > 65535:
		return "", false, bad("description", "...", "'...' is too long")
	case strings.ContainsFunc(strings.TrimSuffix(text, "\n"), func(r rune) bool { return !printable(r) }):
		return "", false, bad("description", value, pythonText(value)+" does not match the pattern of printable characters")
	}
	return text, true, ""
}

func readDescription(body any) (text string, described bool, refusal string) {
	o, refusal := inEnvelope(body, "flavor", "description")
	if refusal != "" {
		return "", false, refusal
	}
	value, ok := o["description"]
	if !ok {
		return "", false, bad("flavor", o, "'description' is a required property")
	}
	return checkDescription(value)
}

// readSpecs are extra specs, numbers made texts.
func readSpecs(body any, field string) (map[string]string, string) {
	o, ok := body.(map[string]any)
	if !ok {
		_, refusal := object(body, field)
		return nil, refusal
	}
	specs := map[string]string{}
	for _, key := range slices.Sorted(maps.Keys(o)) {
		if !novaKey.MatchString(key) {
			why := "'" + key + "' does not match any of the regexes: '^[a-zA-Z0-9-_:. ]{1,255}$'"
			if field == "" {
				return nil, why
			}
			return nil, bad(field, o, why)
		}
		switch v := o[key].(type) {
		case string:
			specs[key] = v
		case json.Number:
			specs[key] = pythonNumber(v)
		default:
			return nil, bad(key, v, pythonText(v)+" is not of type 'string', 'number'")
		}
		if utf8.RuneCountInString(specs[key]) > 255 {
			return nil, bad(key, o[key], pythonText(o[key])+" is too long")
		}
	}
	return specs, ""
}

// pythonNumber is how Python's str writes a JSON number.
func pythonNumber(n json.Number) string {
	if !strings.ContainsAny(n.String(), ".eE") {
		return n.String()
	}
	f, err := n.Float64()
	if err != nil {
		return n.String()
	}
	text := strconv.FormatFloat(f, 'g', -1, 64)
	if !strings.ContainsAny(text, ".e") {
		text += ".0"
	}
	return text
}

func readTenant(body any, action string) (string, string) {
	o, refusal := inEnvelope(body, action, "tenant")
	if refusal != "" {
		return "", refusal
	}
	value, ok := o["tenant"]
	if !ok {
		return "", bad(action, o, "'tenant' is a required property")
	}
	switch tenant, ok := value.(string); {
	case !ok:
		return "", bad("tenant", value, pythonText(value)+" is not of type 'string'")
	case tenant == "":
		return "", bad("tenant", value, "'' is too short")
	case utf8.RuneCountInString(tenant) > 255:
		return "", bad("tenant", value, pythonText(value)+" is too long")
	default:
		return tenant, ""
	}
}

// checkQuery refuses the parameters of a list.
func checkQuery(query url.Values, minor int) string {
	refuse := func(key, value, why string) string {
		return "Invalid input for query parameters " + key + ". Value: " + value + ". " + why
	}
	var extra []string
	for _, key := range slices.Sorted(maps.Keys(query)) {
		for _, value := range query[key] {
			switch key {
			case "limit":
				if value == "" {
					return refuse(key, value, "'' is too short")
				} else if !digits.MatchString(value) {
					return refuse(key, value, "'"+value+"' does not match '^[0-9]*$'")
				}
			case "sort_key":
				if !slices.Contains(sortKeys, value) {
					return refuse(key, value, "'"+value+"' is not one of ['"+strings.Join(sortKeys, "', '")+"']")
				}
			case "sort_dir":
				if value != "asc" && value != "desc" {
					return refuse(key, value, "'"+value+"' is not one of ['asc', 'desc']")
				}
			}
		}
		switch key {
		case "limit", "marker", "is_public", "minRam", "minDisk", "sort_key", "sort_dir":
		default:
			extra = append(extra, "'"+key+"'")
		}
	}
	if minor < 75 {
		return ""
	}
	return unexpected(extra, func(why string) string { return why })
}

// parseBool is oslo's strict bool_from_string.
func parseBool(text string) (value, ok bool) {
	switch strings.ToLower(strings.TrimSpace(text)) {
	case "t", "true", "on", "y", "yes", "1":
		return true, true
	case "f", "false", "off", "n", "no", "0":
		return false, true
	}
	return false, false
}

const cpuSet = `\^?\d+((-\d+)?(,\^?\d+(-\d+)?)?)*`

// known are the extra specs of namespace hw that Nova validates from 2.86:
// bool, int>=N, a list of words, or a pattern.
var known = func() map[*regexp.Regexp]string {
	all := map[*regexp.Regexp]string{}
	for name, value := range map[string]string{
		`boot_menu`: "bool", `cpu_realtime`: "bool", `ephemeral_encryption`: "bool", `hide_hypervisor_id`: "bool",
		`locked_memory`: "bool", `mem_encryption`: "bool", `pmu`: "bool", `vif_multiqueue_enabled`: "bool",
		`cpu_cores`: "int 1", `cpu_sockets`: "int 1", `cpu_threads`: "int 1", `max_cpu_cores`: "int 1",
		`max_cpu_sockets`: "int 1", `max_cpu_threads`: "int 1", `numa_mem\.\d+`: "int 1", `numa_nodes`: "int 1",
		`serial_port_count`:  "int 0",
		`cpu_dedicated_mask`: cpuSet, `cpu_realtime_mask`: cpuSet, `numa_cpus\.\d+`: cpuSet,
		`cpu_policy`: "dedicated|shared|mixed", `cpu_thread_policy`: "prefer|isolate|require",
		`emulator_threads_policy`: "isolate|share", `ephemeral_encryption_format`: "plain|luks|luksv2",
		`mem_page_size`:            `large|small|any|\d+([kKMGT]i?)?(b|bit|B)?`,
		`pci_numa_affinity_policy`: "required|preferred|legacy|socket",
		`pmem`:                     `([a-zA-Z0-9_]+(,)?)+`,
		`tpm_model`:                "tpm-tis|tpm-crb", `tpm_version`: `1\.2|2\.0`,
		`viommu_model`: "intel|smmuv3|virtio|auto", `watchdog_action`: "none|pause|poweroff|reset|disabled",
	} {
		all[regexp.MustCompile(`^hw:`+name+`$`)] = value
	}
	return all
}()

// checkSpec is Nova's validation of known extra specs from 2.86, for the
// namespace hw; the others are free here.
func checkSpec(key, value string) string {
	if !strings.HasPrefix(key, "hw:") {
		return ""
	}
	for name, rule := range known {
		if !name.MatchString(key) {
			continue
		}
		switch kind, minimum, _ := strings.Cut(rule, " "); kind {
		case "bool":
			if _, ok := parseBool(value); !ok {
				return "Validation failed; '" + value + "' is not a valid boolean-like value."
			}
		case "int":
			n, err := strconv.Atoi(strings.TrimSpace(value))
			least, _ := strconv.Atoi(minimum)
			if err != nil {
				return "Validation failed; '" + value + "' is not a valid integer value."
			} else if n < least {
				return "Validation failed; '" + value + "' is less than the min value of '" + minimum + "'."
			}
		default:
			if !regexp.MustCompile(`^(` + rule + `)$`).MatchString(value) {
				return "Validation failed; '" + value + "' is not one of: " + strings.ReplaceAll(rule, "|", ", ") + "."
			}
		}
		return ""
	}
	return "Validation failed; extra spec '" + key + "' does not appear to be a valid extra spec."
}
