package flavor

import (
	"cmp"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// Accelerator is a kind of GPU, or of another accelerator, that a flavor brings
// along, as its extra specs or its name say.
type Accelerator struct {
	Number int    // how many, at least 1
	Vendor string // NVIDIA, AMD, Intel or another; "" where nothing tells, as in the next
	Model  string // one line; the generation where that is all that an SCS name tells
	Memory int    // GB of each; 0 where nothing tells
	Type   string // in capitals, as EGI has it: GPU, MIC, FPGA, TPU, NPU; "" where nothing tells
}

// Accelerators are the GPUs and other accelerators of s; none where nothing
// tells of one. They are looked for in this order, and the first place that
// tells a number counts:
//
//  1. Accelerator:Number, with Accelerator:Vendor, Accelerator:Model,
//     Accelerator:Memory (GB) and Accelerator:Type, as agreed among EGI's sites.
//     A share of a GPU (0.5) is one.
//  2. resources:VGPU and resources:PGPU, also of a numbered or named group
//     (resources1:VGPU), as Nova asks Placement for them; all of them are one kind.
//  3. pci_passthrough:alias, such as nvidia-a100:2,qat:1, as Nova has it; each
//     alias is a kind. One counts only where its name is evidently a GPU's: who
//     calls it otherwise can say so in 1, but nobody could take a NIC back that
//     was sold as a GPU.
//  4. gpu_number, with gpu_vendor and gpu_model, as INFN's Federation-Registry
//     reads them, or gpu:number, gpu:vendor and gpu:model, as in INDIGO and DEEP.
//  5. scs:gpu-number, scs:gpu-vendor, scs:gpu-model and scs:gpu-vram (GB): any of
//     them, and one GPU where the number is not told.
//  6. The GPU part of an SCS name, scs-0100: scs:name-v2, scs:name-v1, and the
//     variants v3 and v4 that SCS's own tool writes, then the name of s itself. It
//     is one GPU, as the syntax tells none of their number.
//
// A number that is 0, above 1000 or unreadable is as if it were not said.
// A vendor, model or memory that 1 to 4 leave open is taken from the keys of 1,
// then of 4, unless there is more than one kind; and a GPU's vendor follows from
// its model. A Nova on MariaDB is blind to case, so these keys are, too; one that
// is written as above goes first.
func (s Spec) Accelerators() []Accelerator {
	if len(s.ExtraSpecs) == 0 && !strings.HasPrefix(s.Name, scsPrefix) {
		return nil // most flavors; this is asked of each in every list
	}
	e := aboutAccelerators(s.ExtraSpecs)
	if n := number(e["accelerator:number"]); n > 0 {
		return []Accelerator{e.fill(Accelerator{Number: n, Type: strings.ToUpper(e.line("accelerator:type"))})}
	}
	if n := e.placed(); n > 0 {
		return []Accelerator{e.fill(Accelerator{Number: n, Type: typeGPU})}
	}
	if as := passedThrough(e["pci_passthrough:alias"]); len(as) == 1 {
		return []Accelerator{e.fill(as[0])}
	} else if len(as) > 1 {
		return as
	}
	if n := cmp.Or(number(e["gpu_number"]), number(e["gpu:number"])); n > 0 {
		return []Accelerator{e.fill(Accelerator{Number: n, Type: typeGPU})}
	}
	if a, ok := e.scs(); ok {
		return []Accelerator{a}
	}
	for _, key := range scsNames {
		if a, ok := scsGPU(e[key]); ok {
			return []Accelerator{a}
		}
	}
	if a, ok := scsGPU(s.Name); ok {
		return []Accelerator{a}
	}
	return nil
}

const typeGPU = "GPU"

// IsGPU says whether a is a GPU. What has no type is taken for one: nearly all are.
func (a Accelerator) IsGPU() bool { return a.Type == "" || strings.Contains(a.Type, typeGPU) }

// GPUs is how many GPUs s has in all, without accelerators of another type.
func (s Spec) GPUs() int {
	n := 0
	for _, a := range s.Accelerators() {
		if a.IsGPU() {
			n += a.Number
		}
	}
	return n
}

// IsModel says whether a is what somebody means who writes wanted: its words, in
// any case and however they are parted, are whole words of the model, one after
// the other. T4 and tesla-t4 are a Tesla T4, RTX 6000 is an rtx6000, but A10 is
// no A100. The vendor may stand before it, or alone for all its models.
func (a Accelerator) IsModel(wanted string) bool {
	want, vendor := words(strings.ToLower(wanted)), words(strings.ToLower(a.Vendor))
	all := len(want)
	for len(want) > 0 && slices.Contains(vendor, want[0]) {
		want = want[1:]
	}
	if len(want) == 0 {
		return all > 0
	}
	model, joined := words(strings.ToLower(a.Model)), strings.Join(want, "")
	for i := range model {
		rest := joined
		for _, word := range model[i:] {
			after, ok := strings.CutPrefix(rest, word)
			if !ok {
				break
			}
			if after == "" {
				return true
			}
			rest = after
		}
	}
	return false
}

// words are the parts of text between what is neither letter nor digit.
func words(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) })
}

// extraSpecs are those that tell of accelerators, by their keys in lower case.
type extraSpecs map[string]string

// aboutAccelerators are those of all. Of keys that differ in case only, the one
// that is written as documented counts, else the first in order of bytes.
func aboutAccelerators(all map[string]string) extraSpecs {
	var e extraSpecs
	var from map[string]string // the key that each has its value of
	for key, value := range all {
		if !mayTell(key) {
			continue
		}
		if e == nil {
			e, from = extraSpecs{}, map[string]string{}
		}
		folded := strings.ToLower(key)
		other, taken := from[folded]
		if !taken || documented(key) || !documented(other) && key < other {
			e[folded], from[folded] = value, key
		}
	}
	return e
}

var tellingPrefixes = [...]string{"accelerator:", "resources", "pci_passthrough:alias", "gpu_", "gpu:", "scs:"}

// mayTell says whether key begins as one that tells of accelerators.
func mayTell(key string) bool {
	for _, prefix := range tellingPrefixes {
		if len(key) >= len(prefix) && strings.EqualFold(key[:len(prefix)], prefix) {
			return true
		}
	}
	return false
}

// documented says whether key is written as its makers do: in lower case but for
// EGI's, and for the class of Nova's resources.
func documented(key string) bool {
	switch head, rest, _ := strings.Cut(key, ":"); {
	case strings.EqualFold(head, "accelerator"):
		return head == "Accelerator" && rest != "" && rest == strings.ToUpper(rest[:1])+strings.ToLower(rest[1:])
	case strings.HasPrefix(head, "resources"):
		return strings.ToUpper(rest) == rest
	}
	return strings.ToLower(key) == key
}

// line is the first of the keys' values that is not blank, as one line.
func (e extraSpecs) line(keys ...string) string {
	for _, key := range keys {
		if line := strings.Join(strings.Fields(e[key]), " "); line != "" {
			return line
		}
	}
	return ""
}

// fill is a with what e says of its vendor, model and memory, where a does not.
func (e extraSpecs) fill(a Accelerator) Accelerator {
	a.Model = cmp.Or(a.Model, e.line("accelerator:model", "gpu_model", "gpu:model"))
	a.Vendor = cmp.Or(a.Vendor, e.line("accelerator:vendor", "gpu_vendor", "gpu:vendor"))
	a.Memory = cmp.Or(a.Memory, gigabytes(e["accelerator:memory"]))
	if a.Vendor == "" && a.IsGPU() {
		a.Vendor = maker(a.Model)
	} else {
		a.Vendor = cmp.Or(maker(a.Vendor), a.Vendor)
	}
	return a
}

// scs is the GPU that SCS's own keys tell of, and whether they do.
func (e extraSpecs) scs() (Accelerator, bool) {
	a := Accelerator{
		Number: number(e["scs:gpu-number"]), Vendor: e.line("scs:gpu-vendor"), Model: e.line("scs:gpu-model"),
		Memory: gigabytes(e["scs:gpu-vram"]),
	}
	told := a != Accelerator{}
	a.Number, a.Type, a.Vendor = max(a.Number, 1), typeGPU, cmp.Or(maker(a.Vendor), a.Vendor, maker(a.Model))
	return a, told
}

// placed is how many GPUs Nova asks Placement for, in all groups together; 0 where
// that is more than can be.
func (e extraSpecs) placed() int {
	n := 0
	for key, value := range e {
		group, class, _ := strings.Cut(key, ":")
		if (class == "vgpu" || class == "pgpu") && strings.HasPrefix(group, "resources") {
			n += number(value)
		}
	}
	if n > maxNumber {
		return 0
	}
	return n
}

// passedThrough are the GPUs among the devices of a pci_passthrough:alias.
func passedThrough(aliases string) []Accelerator {
	var as []Accelerator
	for alias := range strings.SplitSeq(aliases, ",") {
		name, count, _ := strings.Cut(alias, ":")
		if n := number(count); n > 0 {
			if a, ok := gpuAlias(name); ok {
				a.Number = n
				as = append(as, a)
			}
		}
	}
	return as
}

// What people call GPUs, by the word: product lines, and models that nothing
// else is called. A1, A2 or K2 alone could be anything.
var (
	nvidia = regexp.MustCompile(`(?i)^(?:(?:tesla|quadro|geforce|titan|grid|[gr]tx).*` +
		`|a(?:10g?|16|30x?|40|100x?|800|[2-6][05]00)|h(?:20|100|200|800)|b[123]00|gh200|gb[23]00|l(?:4|20|40s?)` +
		`|t4g?|v100s?|p(?:4|40|100)|m(?:10|40|60)|k(?:20[cmx]?|40[cmt]?|80)|(?:[1-5]0[3-9]0|16[56]0)(?:d|s|ti|super)?)$`)
	amd   = regexp.MustCompile(`(?i)^(?:(?:radeon|instinct|firepro|vega).*|mi[0-9]{2,3}[ax]?|s7150(?:x2)?)$`)
	intel = regexp.MustCompile(`(?i)^(?:arc|flex1[47]0|max1[15][05]0)$`)
	// otherDevice is on the same card as a GPU, or by the same vendor.
	otherDevice = regexp.MustCompile(`(?i)^(?:audio|snd|sound|usb|(?:smart)?nics?|eth(?:ernet)?[0-9]*|ib|infiniband|rdma|roce` +
		`|mlx[0-9]*|mellanox|connectx.*|cx[0-9].*|bluefield.*|bf[23]|[dnt]pu|nvme[0-9]*|ssd|hba|fpga|qat|nvswitch)$`)
	// filler is what an alias says besides the model: nvidia-t4, t4gpu, v100-pci.
	filler = regexp.MustCompile(`(?i)^(?:v?gpus|pci|passthrough|[pv]f)$|^(?:nvidia|amd|intel|v?gpu)+|v?gpu$`)
)

// brand is the vendor that a word names or implies, "" where it does neither, and
// whether it is evidently a GPU's. bare is the word without filler.
func brand(word, bare string) (vendor string, gpu bool) {
	word = strings.ToLower(word)
	switch {
	case strings.HasPrefix(word, "nvidia") || nvidia.MatchString(bare):
		return "NVIDIA", true
	case amd.MatchString(bare):
		return "AMD", true
	case intel.MatchString(bare):
		return "Intel", true
	case word == "amd":
		return "AMD", false
	case word == "intel":
		return "Intel", false
	}
	return "", strings.Contains(word, "gpu")
}

// maker is the vendor that text names or implies; "" where it does neither.
func maker(text string) string {
	for _, word := range words(text) {
		if vendor, _ := brand(word, filler.ReplaceAllString(word, "")); vendor != "" {
			return vendor
		}
	}
	return ""
}

// gpuAlias is what the name of a PCI alias tells of a GPU, and whether it is one's.
func gpuAlias(name string) (a Accelerator, ok bool) {
	var model []string
	for _, word := range words(name) {
		if otherDevice.MatchString(word) {
			return Accelerator{}, false
		}
		bare := filler.ReplaceAllString(word, "")
		vendor, gpu := brand(word, bare)
		a.Vendor, ok = cmp.Or(a.Vendor, vendor), ok || gpu
		switch {
		case strings.ContainsFunc(bare, unicode.IsDigit):
			model = append(model, bare)
		case bare != "":
			model = append(model, word) // gpuserver is not gpu and server
		}
	}
	a.Type, a.Model = typeGPU, strings.Join(model, " ")
	if len(a.Model) < 3 && !strings.ContainsFunc(a.Model, unicode.IsLetter) {
		a.Model = "" // the 1 of gpu-1
	}
	return a, ok
}

const scsPrefix = "SCS-"

var (
	scsNames = []string{"scs:name-v2", "scs:name-v1", "scs:name-v3", "scs:name-v4"}
	// Passed through (G) or virtual (g), vendor, generation, processing units and
	// VRAM in GiB, each of these two with h where it is fast.
	scsPart = regexp.MustCompile(`_[Gg]([NAI])([a-gi-z]|[0-9.]+)?(?:-[0-9]+)?h*(?:-([0-9]+)h*)?(?:_|$)`)
	scsV1   = strings.NewReplacer("-", "_", ":", "-")
)

var scsVendors = map[string]string{"N": "NVIDIA", "A": "AMD", "I": "Intel"}

var scsGenerations = map[string]string{
	"Nf": "Fermi", "Nk": "Kepler", "Nm": "Maxwell", "Np": "Pascal", "Nv": "Volta", "Nt": "Turing", "Na": "Ampere",
	"Nl": "Ada Lovelace", "Ng": "Grace Hopper",
	"A0.4": "GCN4", "A0.5": "GCN5", "A1": "RDNA1", "A2": "RDNA2/CDNA2", "A3": "RDNA3/CDNA3", "A3.5": "RDNA3.5", "A4": "RDNA4",
	"I0.9": "Gen9", "I0.95": "Gen9.5", "I1": "Xe", "I2": "Xe2", "I3": "Arc",
}

// scsGPU is the GPU that an SCS flavor name tells of, in the syntax of version 1
// or of those since. The rest of the name is not checked.
func scsGPU(name string) (Accelerator, bool) {
	if !strings.HasPrefix(name, scsPrefix) {
		return Accelerator{}, false
	}
	if strings.Contains(name, ":") {
		name = scsV1.Replace(name)
	}
	m := scsPart.FindStringSubmatch(name)
	if m == nil {
		return Accelerator{}, false
	}
	return Accelerator{
		Number: 1, Vendor: scsVendors[m[1]], Model: scsGenerations[m[1]+m[2]], Memory: gigabytes(m[3]), Type: typeGPU,
	}, true
}

var (
	numeral = regexp.MustCompile(`^[0-9]{1,4}(?:\.[0-9]+)?$`)
	size    = regexp.MustCompile(`(?i)^([0-9]{1,7}(?:\.[0-9]+)?)\s*(?:([GM])(?:i?B)?)?$`)
)

// maxNumber is more accelerators than any machine has.
const maxNumber = 1000

// number is how many accelerators text says, rounded up; 0 where it says nothing
// that can be.
func number(text string) int {
	if text = strings.TrimSpace(text); !numeral.MatchString(text) {
		return 0
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil || f > maxNumber {
		return 0
	}
	return int(math.Ceil(f))
}

// gigabytes is the memory that text says, in GB unless it says MB (1024 of which
// are one); 0 where it says nothing that can be.
func gigabytes(text string) int {
	m := size.FindStringSubmatch(strings.TrimSpace(text))
	if m == nil {
		return 0
	}
	f, err := strconv.ParseFloat(m[1], 64)
	if strings.EqualFold(m[2], "M") {
		f /= 1024
	}
	if err != nil || f > 1024 {
		return 0
	}
	return int(math.Round(f))
}
