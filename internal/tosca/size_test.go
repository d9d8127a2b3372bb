package tosca_test

import (
	"math/big"
	"strings"
	"testing"

	"github.com/flavorsync/flavorsync/internal/flavor"
	"github.com/flavorsync/flavorsync/internal/tosca"
)

// A size that is read wrongly gets somebody a machine that is too small, or
// nothing at all.
func TestParseSize(t *testing.T) {
	for text, want := range map[string]tosca.Size{
		"4 GB":                      {4_000_000_000, 4 << 30},
		"4 GiB":                     {4 << 30, 4 << 30},
		"4GB":                       {4_000_000_000, 4 << 30},
		"4   gb":                    {4_000_000_000, 4 << 30},
		" 4\tgIb ":                  {4 << 30, 4 << 30},
		"0 MB":                      {0, 0},
		"512 MB":                    {512_000_000, 512 << 20},
		"512 B":                     {512, 512},
		"1 kB":                      {1000, 1024},
		"1 KB":                      {1000, 1024},
		"1 KiB":                     {1024, 1024},
		"2 TB":                      {2_000_000_000_000, 2 << 40},
		"2 TiB":                     {2 << 40, 2 << 40},
		"1.5 GB":                    {1_500_000_000, 3 << 29},
		"1.50 GiB":                  {3 << 29, 3 << 29},
		"0.1 GiB":                   {107374183, 107374183}, // 107374182.4
		"0.5 B":                     {1, 1},
		"1.000000000000000000001 B": {2, 2},
		"0004 GB":                   {4_000_000_000, 4 << 30},
		"9007199254740993 B":        {9007199254740993, 9007199254740993}, // no float64
		"4194303 TiB":               {4194303 << 40, 4194303 << 40},
	} {
		got, err := tosca.ParseSize("mem_size", text)
		if err != nil || got != want {
			t.Errorf("%q: got %v, %v, not %v", text, got, err, want)
		}
	}
	const kinds = "must be a number and a unit, such as 4 GB, not "
	for text, want := range map[string]string{
		"":                       kinds + `""`,
		"4":                      kinds + `"4"; the units are B, kB, KiB, MB, MiB, GB, GiB, TB and TiB`,
		"GB":                     kinds,
		"4 XB":                   kinds + `"4 XB"`,
		"4 G":                    kinds,
		"4 EB":                   kinds,
		"4 GB 2":                 kinds,
		"4,5 GB":                 kinds,
		"4. GB":                  kinds,
		".5 GB":                  kinds,
		"+4 GB":                  kinds,
		"1e309":                  kinds,
		"1e3 GB":                 kinds,
		"NaN":                    kinds,
		"Inf GB":                 kinds,
		"0x4 GB":                 kinds,
		"4\nGB":                  kinds,
		"４ GB":                   kinds,
		"-1 GB":                  "must not be below 0",
		" -.5 GB":                "must not be below 0",
		"99999999999 TB":         `must be below 4194304 TiB, not "99999999999 TB"`,
		"4194304 TB":             "must be below 4194304 TiB",
		"4194304 TiB":            "must be below 4194304 TiB",
		strings.Repeat("9", 41):  kinds + `"` + strings.Repeat("9", 40) + `"`,
		strings.Repeat("x", 1e6): kinds,
	} {
		_, err := tosca.ParseSize("mem_size", text)
		if flavor.CodeOf(err) != flavor.CodeInvalid || !strings.HasPrefix(err.Error(), "mem_size: "+want) || len(err.Error()) > 200 {
			t.Errorf("%.50q: got %.300v", text, err)
		}
	}
}

func FuzzParseSize(f *testing.F) {
	for _, text := range []string{"4 GB", "1.5 gib", "0.1 KiB", "-1 GB", "1e309", "NaN", "", "99999999999 TB", "4194303.999999999999999 TB"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, err := tosca.ParseSize("mem_size", text)
		if err != nil {
			if flavor.CodeOf(err) != flavor.CodeInvalid || len(err.Error()) > 600 {
				t.Fatalf("%q: %v", text, err)
			}
			return
		}
		// Against the rational number, rounded up.
		text = strings.ToLower(strings.TrimSpace(text))
		digits := strings.TrimRight(text, "bkmgti")
		exact, ok := new(big.Rat).SetString(strings.TrimSpace(digits))
		unit := strings.TrimPrefix(text, digits)
		if !ok {
			t.Fatalf("%q is no number", text)
		}
		power := map[byte]int64{'b': 0, 'k': 1, 'm': 2, 'g': 3, 't': 4}[unit[0]]
		in := func(base int64) int64 {
			n := new(big.Rat).Mul(exact, new(big.Rat).SetInt(new(big.Int).Exp(big.NewInt(base), big.NewInt(power), nil)))
			up := new(big.Int).Add(n.Num(), n.Denom())
			return up.Sub(up, big.NewInt(1)).Quo(up, n.Denom()).Int64()
		}
		want := tosca.Size{Bytes: in(1000), Binary: in(1024)}
		if strings.Contains(unit, "i") {
			want.Bytes = want.Binary
		}
		if got != want || got.Bytes < 0 {
			t.Fatalf("%q: got %v, not %v", text, got, want)
		}
	})
}
