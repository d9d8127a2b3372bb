package flavor

import (
	"math"
	"math/big"
	"regexp"
	"strconv"
	"strings"
)

// Amount is money, in millionths of a unit of its currency: exact, and never a
// float. It is also what UCloud calls credits.
type Amount int64

// AmountUnit is one whole unit of a currency.
const AmountUnit Amount = 1_000_000

const amountDigits = 6

var (
	decimal = regexp.MustCompile(`^(0|[1-9][0-9]*)(\.[0-9]+)?$`)
	negated = regexp.MustCompile(`^-[0-9]`)
)

// ParseAmount reads a decimal such as 0.34: digits, and at most six of them
// behind a point. field is what an error, CodeInvalid, begins with.
func ParseAmount(field, text string) (Amount, error) {
	whole, fraction, _ := strings.Cut(text, ".")
	switch {
	case negated.MatchString(text):
		return 0, Invalid("%s: must not be below 0", field)
	case !decimal.MatchString(text):
		return 0, Invalid("%s: must be a decimal number such as 0.34, not %.40q", field, text)
	case len(fraction) > amountDigits:
		return 0, Invalid("%s: must have at most %d digits behind the point, not %d", field, amountDigits, len(fraction))
	}
	millionths, err := strconv.ParseInt(whole+fraction+strings.Repeat("0", amountDigits-len(fraction)), 10, 64)
	if err != nil {
		return 0, tooMuch(field)
	}
	return Amount(millionths), nil
}

func tooMuch(field string) error {
	return Invalid("%s: must be at most %s", field, Amount(math.MaxInt64))
}

// String is a as ParseAmount reads it, without zeros at its end: 0.34, 5.5, 8.
func (a Amount) String() string {
	sign, rest := "", uint64(a) //nolint:gosec // the sign is taken off below
	if a < 0 {
		sign, rest = "-", -uint64(a) //nolint:gosec // as above; this holds for the smallest, too
	}
	digits := strconv.FormatUint(rest, 10)
	if missing := amountDigits + 1 - len(digits); missing > 0 {
		digits = strings.Repeat("0", missing) + digits
	}
	point := len(digits) - amountDigits
	if fraction := strings.TrimRight(digits[point:], "0"); fraction != "" {
		return sign + digits[:point] + "." + fraction
	}
	return sign + digits[:point]
}

// Pricing is what a product costs by its size, each Period: the sum of its
// vCPUs, its GB of memory (1024 MB each) and its GPUs. Currency and Period hold
// for products of which nobody has said another, priced by it or not.
type Pricing struct {
	VCPU, GB, GPU Amount
	Currency      string
	Period        Period
}

// Configured says whether p prices anything.
func (p Pricing) Configured() bool { return p.VCPU != 0 || p.GB != 0 || p.GPU != 0 }

// Price is the price of a flavor of this size with so many GPUs, rounded half up
// to a millionth; CodeInvalid where it is beyond an Amount.
func (p Pricing) Price(s Spec, gpus int) (Amount, error) {
	// In 1024ths of a millionth: a MB is the 1024th part of a GB.
	sum := new(big.Int).Mul(big.NewInt(int64(p.VCPU)), big.NewInt(1024*int64(s.VCPUs)))
	sum.Add(sum, new(big.Int).Mul(big.NewInt(int64(p.GB)), big.NewInt(int64(s.RAM))))
	sum.Add(sum, new(big.Int).Mul(big.NewInt(int64(p.GPU)), big.NewInt(1024*int64(gpus))))
	sum.Rsh(sum.Add(sum, big.NewInt(512)), 10)
	if !sum.IsInt64() {
		return 0, tooMuch("price")
	}
	return Amount(sum.Int64()), nil
}
