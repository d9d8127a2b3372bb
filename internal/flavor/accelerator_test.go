package flavor_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/flavorsync/flavorsync/internal/flavor"
)

type specs = map[string]string

func gpu(n int, vendor, model string) []flavor.Accelerator {
	return []flavor.Accelerator{{Number: n, Vendor: vendor, Model: model, Type: "GPU"}}
}

func accelerators(name string, extra specs) []flavor.Accelerator {
	return flavor.Spec{Name: name, ExtraSpecs: extra}.Accelerators()
}

// What the sites of EGI, of INFN and others write must be read as they mean it,
// or nobody finds their GPUs, or pays for them.
func TestAcceleratorsOfRealFlavors(t *testing.T) {
	for name, c := range map[string]struct {
		extra specs
		want  []flavor.Accelerator
	}{
		"EGI's documentation, IISAS-GPUCloud's gpu1cpu2": {
			specs{
				"Accelerator:Version": "0", "Accelerator:Memory": "5", "Accelerator:Model": "Tesla K20m", "Accelerator:Number": "1.0",
				"Accelerator:Type": "GPU", "Accelerator:Vendor": "NVIDIA", "Accelerator:VirtualizationType": "PCI passthrough",
				"pci_passthrough:alias": "GPU:1",
			},
			[]flavor.Accelerator{{Number: 1, Vendor: "NVIDIA", Model: "Tesla K20m", Memory: 5, Type: "GPU"}},
		},
		"EGI, a GPU that is shared":           {specs{"Accelerator:Number": "0.5", "Accelerator:Model": "Tesla A100"}, []flavor.Accelerator{{Number: 1, Vendor: "NVIDIA", Model: "Tesla A100"}}},
		"EGI, two and a half":                 {specs{"Accelerator:Number": "2.5", "Accelerator:Type": "gpu"}, gpu(3, "", "")},
		"EGI, memory in MB":                   {specs{"Accelerator:Number": "2", "Accelerator:Memory": "40536 MiB"}, []flavor.Accelerator{{Number: 2, Memory: 40}}},
		"EGI, an FPGA":                        {specs{"Accelerator:Number": "1", "Accelerator:Type": "FPGA", "Accelerator:Vendor": "Xilinx", "Accelerator:Model": "Alveo U250"}, []flavor.Accelerator{{Number: 1, Vendor: "Xilinx", Model: "Alveo U250", Type: "FPGA"}}},
		"EGI, an FPGA called as a GPU is":     {specs{"Accelerator:Number": "1", "Accelerator:Type": "FPGA", "Accelerator:Model": "Arria A10"}, []flavor.Accelerator{{Number: 1, Model: "Arria A10", Type: "FPGA"}}},
		"EGI, in the case of a blind MariaDB": {specs{"accelerator:number": "2", "accelerator:model": "V100"}, []flavor.Accelerator{{Number: 2, Vendor: "NVIDIA", Model: "V100"}}},
		"EGI, a model over two lines":         {specs{"Accelerator:Number": "1", "Accelerator:Model": " Tesla\n T4 ", "Accelerator:Type": "GPU"}, gpu(1, "NVIDIA", "Tesla T4")},

		"Nova's vGPU":                         {specs{"resources:VGPU": "1", "trait:CUSTOM_NVIDIA_11": "required"}, gpu(1, "", "")},
		"Nova's vGPUs from two groups":        {specs{"resources1:VGPU": "1", "resources2:VGPU": "1", "group_policy": "isolate"}, gpu(2, "", "")},
		"Nova's vGPU of a named group":        {specs{"resources_gpu-a:VGPU": "2", "resources:VGPU": "x"}, gpu(2, "", "")},
		"Nova's physical GPU, by Cyborg":      {specs{"resources:PGPU": "1"}, gpu(1, "", "")},
		"Nova's vGPU, case-blind":             {specs{"Resources1:vgpu": "1"}, gpu(1, "", "")},
		"Nova's vGPU goes before the alias":   {specs{"resources:VGPU": "1", "pci_passthrough:alias": "a100:4"}, gpu(1, "", "")},
		"Nova's vGPU, its model by INFN":      {specs{"resources:VGPU": "1", "gpu_model": "A16", "gpu_vendor": "Nvidia"}, gpu(1, "NVIDIA", "A16")},
		"no vGPU: heads of a display":         {specs{"resources:VGPU_DISPLAY_HEAD": "1", "resources:VCPU": "0", "resources:CUSTOM_VGPU": "1", "VGPU": "1", "xresources:VGPU": "1"}, nil},
		"DEEP's g5.large of IFCA":             {specs{"gpu:model": "1080 Ti", "gpu:number": "1", "gpu:vendor": "NVIDIA Corporation", "pci_passthrough:alias": "NVIDIA1080TI:1"}, gpu(1, "NVIDIA", "1080TI")},
		"DEEP's keys alone":                   {specs{"gpu:model": "1080 Ti", "gpu:number": "1", "gpu:vendor": "NVIDIA Corporation"}, gpu(1, "NVIDIA", "1080 Ti")},
		"INFN's Federation-Registry":          {specs{"gpu_number": "2", "gpu_model": "T4", "gpu_vendor": "nvidia"}, gpu(2, "NVIDIA", "T4")},
		"INFN, with an alias that says less":  {specs{"gpu_number": "2", "gpu_model": "T4", "gpu_vendor": "NVIDIA", "pci_passthrough:alias": "gpu:1"}, gpu(1, "NVIDIA", "T4")},
		"INFN, without GPUs":                  {specs{"gpu_number": "0", "gpu_model": "T4"}, nil},
		"SCS's own sample in the second form": {specs{"scs:name-v2": "SCS-16T-64-3x10s_bms_hwv_i3h_GNa-64_ib"}, gpu(1, "NVIDIA", "Ampere")},
		"SCS's own sample in the first form":  {specs{"scs:name-v1": "SCS-16T:64:3x10s-GNa:64-ib"}, gpu(1, "NVIDIA", "Ampere")},
		"SCS, the shorter variants":           {specs{"scs:name-v1": "SCS-2V:4", "scs:name-v4": "SCS-2V-4_gA2"}, gpu(1, "AMD", "RDNA2/CDNA2")},
		"SCS's own keys":                      {specs{"scs:gpu-number": "2", "scs:gpu-model": "A100", "scs:gpu-vram": "40", "scs:name-v2": "SCS-1V-1_GAa"}, []flavor.Accelerator{{Number: 2, Vendor: "NVIDIA", Model: "A100", Memory: 40, Type: "GPU"}}},
		"SCS's own keys without a number":     {specs{"scs:gpu-vendor": "amd", "scs:gpu-model": "MI210"}, gpu(1, "AMD", "MI210")},
		"SCS goes behind everything":          {specs{"scs:name-v2": "SCS-16V-64_GNa-14h", "gpu_number": "2"}, gpu(2, "", "")},

		"nothing":                              {specs{"hw:cpu_policy": "dedicated", "scs:name-v2": "SCS-2V-4-20s", "quota:vif_outbound_peak": "1"}, nil},
		"keys that only look alike":            {specs{"Accelerator:Numbers": "1", "gpu_numbers": "1", "scs:gpu": "1", "gpu": "1"}, nil},
		"the next place, if one is unreadable": {specs{"Accelerator:Number": "x", "resources:VGPU": "-1", "pci_passthrough:alias": "qat:1", "gpu_number": "0", "scs:name-v2": "SCS-1V-1_GI0.95"}, gpu(1, "Intel", "Gen9.5")},
	} {
		if diff := cmp.Diff(c.want, accelerators("m1.gpu", c.extra)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

// A GPU must be told from a NIC by its alias, and by what operators call it.
func TestAcceleratorsOfAliases(t *testing.T) {
	for alias, want := range map[string][]flavor.Accelerator{
		"a100:2":                gpu(2, "NVIDIA", "a100"),
		"A100:1":                gpu(1, "NVIDIA", "A100"),
		"gpu-a100:1":            gpu(1, "NVIDIA", "a100"),
		"gpu_a100:2":            gpu(2, "NVIDIA", "a100"),
		"gpu-p100:2":            gpu(2, "NVIDIA", "p100"),
		"nvidia-t4:1":           gpu(1, "NVIDIA", "t4"),
		"nvidia_l40s:1":         gpu(1, "NVIDIA", "l40s"),
		"nvidia-a6000:2":        gpu(2, "NVIDIA", "a6000"),
		"nvidia-rtx3090:1":      gpu(1, "NVIDIA", "rtx3090"),
		"tesla-v100:4":          gpu(4, "NVIDIA", "tesla v100"),
		"v100-pci:1":            gpu(1, "NVIDIA", "v100"),
		"a100-pcie-40g:1":       gpu(1, "NVIDIA", "a100 pcie 40g"),
		"h100-nvlink:8":         gpu(8, "NVIDIA", "h100 nvlink"),
		"rtx6000:1":             gpu(1, "NVIDIA", "rtx6000"),
		"rtx2080ti:1":           gpu(1, "NVIDIA", "rtx2080ti"),
		"2080ti-rtx-a:1":        gpu(1, "NVIDIA", "2080ti rtx a"),
		"4090:1":                gpu(1, "NVIDIA", "4090"),
		"geforce-gtx:1":         gpu(1, "NVIDIA", "geforce gtx"),
		"K2_Grid:1":             gpu(1, "NVIDIA", "K2 Grid"),
		"T4:1":                  gpu(1, "NVIDIA", "T4"),
		"t4gpu:1":               gpu(1, "NVIDIA", "t4"),
		"NVIDIA1080TI:1":        gpu(1, "NVIDIA", "1080TI"),
		"nvidia-gpu:1":          gpu(1, "NVIDIA", ""),
		"GPU:1":                 gpu(1, "", ""),
		"gpus:1":                gpu(1, "", ""),
		"gpu-1:1":               gpu(1, "", ""),
		"gpuserver:1":           gpu(1, "", "gpuserver"),
		"gpu-3060:1,audio:1":    gpu(1, "NVIDIA", "3060"),
		"amd-mi210:2":           gpu(2, "AMD", "mi210"),
		"instinct:1":            gpu(1, "AMD", "instinct"),
		"intel-flex170:1":       gpu(1, "Intel", "flex170"),
		"intel-gpu:1":           gpu(1, "Intel", ""),
		" a30 : 1 , nvme0:4":    gpu(1, "NVIDIA", "a30"), //nolint:gocritic // its blanks are the case
		"a100:x,t4:2,v100":      gpu(2, "NVIDIA", "t4"),
		"a100:1:1":              nil,
		"gpu":                   nil,
		"a100:0":                nil,
		"QuickAssist:1":         nil,
		"qat-c62x-vf:1":         nil,
		"C62x:1":                nil,
		"IB:1":                  nil,
		"a-vf:1":                nil,
		"a1:1":                  nil,
		"alias_1:2":             nil,
		"intel-x710:1":          nil,
		"amd-pensando:1":        nil,
		"sriov:2,rdma:1":        nil,
		"fpga:1":                nil,
		"nvidia-audio:1":        nil,
		"gpu_audio:1,gpu-usb:1": nil,
		"nvidia-connectx6:1":    nil,
		"nvidia-cx7:1":          nil,
		"h100-nvswitch:4":       nil,
		"ssd:1":                 nil,
		"":                      nil,
		",:,":                   nil,
	} {
		if diff := cmp.Diff(want, accelerators("m1.gpu", specs{"pci_passthrough:alias": alias})); diff != "" {
			t.Errorf("%s: %s", alias, diff)
		}
	}
	// Where there are several kinds, nothing else can tell which of them it means.
	got := accelerators("m1.gpu", specs{"pci_passthrough:alias": "a100:1,mi210:2", "gpu_model": "T4", "Accelerator:Memory": "40"})
	if diff := cmp.Diff(slices.Concat(gpu(1, "NVIDIA", "a100"), gpu(2, "AMD", "mi210")), got); diff != "" {
		t.Error(diff)
	}
}

// The names are those of SCS's standard and of its script that checks names.
func TestAcceleratorsOfSCSNames(t *testing.T) {
	for name, want := range map[string][]flavor.Accelerator{
		"SCS-16V-64-500s_GNa-14h":          gpu(1, "NVIDIA", "Ampere"),
		"SCS-16T-64-200s_GNa-64_ib":        gpu(1, "NVIDIA", "Ampere"),
		"SCS-2C-4-_bms_z3h_GNa-64_ib":      gpu(1, "NVIDIA", "Ampere"),
		"SCS-16T:64:200s-GNa:64-ib":        gpu(1, "NVIDIA", "Ampere"),
		"SCS-8V-32_gN":                     gpu(1, "NVIDIA", ""),
		"SCS-8V-32_gNx":                    gpu(1, "NVIDIA", ""),
		"SCS-8V-32_GNg":                    gpu(1, "NVIDIA", "Grace Hopper"),
		"SCS-8V-32_GA0.5-60":               gpu(1, "AMD", "GCN5"),
		"SCS-8V-32_GI3_ib":                 gpu(1, "Intel", "Arc"),
		"SCS-8V-32-100_z3_GNl-142hh-48h":   {{Number: 1, Vendor: "NVIDIA", Model: "Ada Lovelace", Memory: 48, Type: "GPU"}},
		"SCS-8V:32:100-z3-GNl:142:48h":     {{Number: 1, Vendor: "NVIDIA", Model: "Ada Lovelace", Memory: 48, Type: "GPU"}},
		"SCS-2V-4-20s":                     nil,
		"SCS-2C-4-3x10s_bms_z3":            nil,
		"SCS-4C-16-2x200p_a1":              nil,
		"SCS-8V-32_GX":                     nil,
		"SCS-8V-32_GNabc":                  nil,
		"SCS-8V-32_ng_N":                   nil,
		"scs-16V-64-500s_GNa-14h":          nil,
		"my SCS-16V-64-500s_GNa-14h":       nil,
		"SCS-":                             nil,
		"gpu.large":                        nil,
		"a100":                             nil,
		"SCS-8V-32_GNa-9999999999999999":   gpu(1, "NVIDIA", "Ampere"),
		"SCS-8V-32_GNa-1-9999999999999999": gpu(1, "NVIDIA", "Ampere"),
	} {
		for _, extra := range []specs{nil, {"hw:cpu_policy": "shared"}} {
			if diff := cmp.Diff(want, accelerators(name, extra)); diff != "" {
				t.Errorf("%s, %v: %s", name, extra, diff)
			}
		}
	}
}

// A number that cannot be must neither be sold nor overflow a price.
func TestAcceleratorNumbers(t *testing.T) {
	for text, want := range map[string]int{
		"1": 1, " 8 ": 8, "1.0": 1, "0.25": 1, "1000": 1000, "0": 0, "0.0": 0, "-1": 0, "+1": 0, "x": 0, "": 0, "1e9": 0, "1001": 0, "1000.1": 0,
		"99999999999999999999": 0, "0x2": 0, "1,5": 0, ".5": 0, "1.": 0, "NaN": 0, "Inf": 0, "١": 0, "1 GPU": 0,
	} {
		for _, key := range []string{"Accelerator:Number", "resources:VGPU", "gpu_number", "gpu:number"} {
			if got := (flavor.Spec{ExtraSpecs: specs{key: text}}).GPUs(); got != want {
				t.Errorf("%s=%q: %d GPUs, not %d", key, text, got, want)
			}
		}
	}
}

func TestAcceleratorMemory(t *testing.T) {
	for text, want := range map[string]int{
		"16": 16, "16 GB": 16, "16GiB": 16, "16g": 16, " 80  gb ": 80, "16384 MB": 16, "16384M": 16, "11264MiB": 11, "15.8": 16, "141": 141,
		"0": 0, "-16": 0, "x": 0, "": 0, "16 TB": 0, "16B": 0, "16384": 0, "99999999999999999999": 0, "1e3": 0, "2x16": 0,
	} {
		got := accelerators("m1", specs{"Accelerator:Number": "1", "Accelerator:Memory": text})
		if diff := cmp.Diff([]flavor.Accelerator{{Number: 1, Memory: want}}, got); diff != "" {
			t.Errorf("%q: %s", text, diff)
		}
	}
}

// What is no GPU must not be counted, or paid for, as one.
func TestGPUs(t *testing.T) {
	for _, c := range []struct {
		extra specs
		want  int
	}{
		{nil, 0},
		{specs{"Accelerator:Number": "2"}, 2},
		{specs{"Accelerator:Number": "2", "Accelerator:Type": "gpu"}, 2},
		{specs{"Accelerator:Number": "2", "Accelerator:Type": "vGPU"}, 2},
		{specs{"Accelerator:Number": "2", "Accelerator:Type": "FPGA"}, 0},
		{specs{"Accelerator:Number": "2", "Accelerator:Type": "MIC"}, 0},
		{specs{"pci_passthrough:alias": "a100:1,nic:4,t4:2"}, 3},
		{specs{"resources1:VGPU": "1", "resources2:VGPU": "2", "resources:PGPU": "4"}, 7},
	} {
		if got := (flavor.Spec{Name: "m1", ExtraSpecs: c.extra}).GPUs(); got != c.want {
			t.Errorf("%v: %d, not %d", c.extra, got, c.want)
		}
	}
}

// Keys that differ in case only must give the same answer each time, that of the
// key as Nova reads it; maps are read in any order.
func TestAcceleratorKeysThatDifferInCase(t *testing.T) {
	for range 50 {
		for _, c := range []struct {
			extra specs
			want  int
		}{
			{specs{"ACCELERATOR:NUMBER": "1", "Accelerator:Number": "2", "accelerator:number": "3"}, 2},
			{specs{"accelerator:number": "3", "ACCELERATOR:number": "1", "accelerator:NUMBER": "2"}, 1},
			{specs{"Resources:VGPU": "1", "resources:VGPU": "2", "resources:vgpu": "3"}, 2},
			{specs{"RESOURCES:VGPU": "1", "resources:vgpu": "3"}, 1},
			{specs{"PCI_PASSTHROUGH:ALIAS": "a100:1", "pci_passthrough:alias": "a100:2"}, 2},
		} {
			if got := (flavor.Spec{ExtraSpecs: c.extra}).GPUs(); got != c.want {
				t.Fatalf("%v: %d, not %d", c.extra, got, c.want)
			}
		}
	}
}

// Who asks for an A10 must not get an A100, nor miss it because of a hyphen.
func TestIsModel(t *testing.T) {
	for _, c := range []struct {
		vendor, model, wanted string
		want                  bool
	}{
		{"NVIDIA", "Tesla T4", "T4", true},
		{"NVIDIA", "Tesla T4", "tesla-t4", true},
		{"NVIDIA", "Tesla T4", "Tesla", true},
		{"NVIDIA", "Tesla T4", "NVIDIA T4", true},
		{"NVIDIA", "Tesla T4", "nvidia/tesla t4", true},
		{"NVIDIA", "Tesla T4", "Nvidia", true},
		{"", "Tesla T4", "tesla t4", true},
		{"NVIDIA", "NVIDIA A100-SXM4-40GB", "NVIDIA A100", true},
		{"NVIDIA", "A100 PCIe 40GB", "a100-pcie", true},
		{"NVIDIA", "GeForce RTX A6000", "RTX A6000", true},
		{"NVIDIA", "rtx6000", "RTX 6000", true},
		{"NVIDIA", "Quadro RTX 6000", "rtx6000", true},
		{"NVIDIA Corporation", "1080 Ti", "NVIDIA Corporation 1080ti", true},
		{"NVIDIA", "A100", "A10", false},
		{"NVIDIA", "A10", "A100", false},
		{"NVIDIA", "Tesla T4", "4", false},
		{"NVIDIA", "Tesla T4", "T4 Tesla", false},
		{"NVIDIA", "Tesla T4", "Tesla T40", false},
		{"NVIDIA", "Tesla T4", "AMD T4", false},
		{"NVIDIA", "Tesla T4", "AMD", false},
		{"NVIDIA", "GeForce RTX A6000", "6000", false},
		{"NVIDIA", "GeForce RTX 3090", "GeForce 3090", false},
		{"NVIDIA", "", "T4", false},
		{"NVIDIA", "Tesla T4", "", false},
		{"NVIDIA", "Tesla T4", " -/ ", false},
		{"", "", "", false},
	} {
		if got := (flavor.Accelerator{Vendor: c.vendor, Model: c.model}).IsModel(c.wanted); got != c.want {
			t.Errorf("%s %s is %q: %v", c.vendor, c.model, c.wanted, got)
		}
	}
}

// Every list asks it of each flavor, and most have none.
func TestNoAcceleratorsCostNothing(t *testing.T) {
	for _, s := range []flavor.Spec{{Name: "m1.large"}, {Name: "m1.large", ExtraSpecs: specs{"hw:cpu_policy": "dedicated", "Gpu": "1"}}} {
		if n := testing.AllocsPerRun(100, func() { s.Accelerators() }); n != 0 {
			t.Errorf("%v: %v allocations", s.ExtraSpecs, n)
		}
	}
}

// FuzzAccelerators: nothing that a Nova holds may panic, and the same specs tell
// the same, at least one of each kind and each in one line.
func FuzzAccelerators(f *testing.F) {
	for _, seed := range [][3]string{
		{"m1", "Accelerator:Number", "1.0"}, {"m1", "accelerator:number", "1e9"}, {"m1", "resources1:VGPU", "2"}, {"m1", "RESOURCES:pgpu", "-1"},
		{"m1", "pci_passthrough:alias", "gpu-a100:2,qat:1,NVIDIA1080TI:1"}, {"m1", "pci_passthrough:alias", ":,:1,İ:1"}, {"m1", "gpu_number", "1"},
		{"SCS-16V-64-500s_GNa-14h", "scs:name-v1", "SCS-16T:64:3x10s-GNa:64:40h-ib"}, {"SCS-_G", "scs:name-v2", "SCS-_gA0.-"}, {"\xff", "resource\u017f:VGPU", "1"},
	} {
		f.Add(seed[0], seed[1], seed[2])
	}
	f.Fuzz(func(t *testing.T, name, key, value string) {
		s := flavor.Spec{Name: name, ExtraSpecs: specs{key: value, "Accelerator:Model": value, "gpu_vendor": name, "accelerator:memory": value}}
		got := s.Accelerators()
		total := 0
		for _, a := range got {
			if a.Number < 1 || a.Memory < 0 || strings.Contains(a.Vendor+a.Model+a.Type, "\n") {
				t.Fatalf("%+v", a)
			}
			total += a.Number
			a.IsModel(value)
			if a.Model != "" && strings.ContainsFunc(a.Model, func(r rune) bool { return r >= '0' && r <= '9' }) && !a.IsModel(a.Model) {
				t.Fatalf("%+v is not its own model", a)
			}
		}
		if n := s.GPUs(); n < 0 || n > total {
			t.Fatalf("%d GPUs of %d accelerators", n, total)
		}
		s.ExtraSpecs = maps.Clone(s.ExtraSpecs)
		if diff := cmp.Diff(got, s.Accelerators()); diff != "" {
			t.Fatal(diff)
		}
	})
}

// An owner could make every list of everybody slow with one flavor whose extra
// specs take long to look through.
func TestManyExtraSpecsAreLookedThroughOnce(t *testing.T) {
	many := specs{}
	for i := range 4000 {
		many[fmt.Sprintf("resources%04x:vgpu", i)] = "1"
	}
	if as := accelerators("any", many); as != nil {
		t.Errorf("4000 groups of one vGPU each are %v", as)
	}
	took := func(times int, extra specs) time.Duration {
		begun := time.Now()
		for range times {
			accelerators("any", extra)
		}
		return time.Since(begun)
	}
	few := took(20_000, specs{"resources1:VGPU": "1", "resources2:VGPU": "1"})
	all := took(10, many)
	// Each key costs the same; else it would be two thousand times as much.
	if ratio := float64(all) / float64(few); ratio > 50 {
		t.Errorf("a key among 4000 takes %.0f times as long as one of two", ratio)
	}
}
