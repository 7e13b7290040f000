package meter

import (
	"bytes"
	"embed"
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"github.com/shopspring/decimal"

	"lambent"
)

//go:embed books/*.json
var books embed.FS

// A PriceBook is the price list of a cloud, or of one's own, as data.
type PriceBook struct {
	Name     string   `json:"name"`
	Title    string   `json:"title"`
	Source   string   `json:"source,omitempty"` // where the prices are published
	Date     string   `json:"date,omitempty"`   // as of when
	Note     string   `json:"note,omitempty"`
	Currency string   `json:"currency"`
	Guests   []string `json:"guests,omitempty"` // those of the functions that the cloud runs
	// RoundMS is what the time for which an instance is busy without a pause is rounded
	// up to a multiple of; 0: each call's own time counts, as BilledMS has it.
	RoundMS int64   `json:"round_ms,omitempty"`
	VCPU    *VCPU   `json:"vcpu,omitempty"` // where processors have a price of their own
	Prices  []Price `json:"prices"`
}

// A Price is what Per units of one item cost.
type Price struct {
	Item  string          `json:"item"` // one of quantities
	Unit  string          `json:"unit"`
	Price decimal.Decimal `json:"price"`
	Per   decimal.Decimal `json:"per"`
}

// A VCPU says how many processors an instance has at a cloud.
type VCPU struct {
	Source     string          `json:"source,omitempty"`
	Concurrent decimal.Decimal `json:"concurrent"` // at least, if it may serve several at a time
	ByMemory   []VCPURow       `json:"by_memory"`  // the least memory first
}

// A VCPURow is for instances with no more than its memory, the last one for all others.
type VCPURow struct {
	MemoryMB int             `json:"memory_mb"`
	VCPU     decimal.Decimal `json:"vcpu"`
}

func (v *VCPU) of(s size) decimal.Decimal {
	i := slices.IndexFunc(v.ByMemory, func(row VCPURow) bool { return s.memoryMB <= row.MemoryMB })
	if i < 0 {
		i = len(v.ByMemory) - 1
	}
	if s.concurrent {
		return decimal.Max(v.ByMemory[i].VCPU, v.Concurrent)
	}
	return v.ByMemory[i].VCPU
}

// Books returns the names of the price books that come with the program.
func Books() []string {
	files, err := books.ReadDir("books")
	if err != nil {
		panic("meter: the books are embedded: " + err.Error())
	}
	var names []string
	for _, f := range files {
		names = append(names, strings.TrimSuffix(f.Name(), ".json"))
	}
	return names
}

// OwnCloud is what [Choose] calls all books, each for what its cloud runs.
const OwnCloud = "cloud"

// Choose returns the price book of a name, which all functions are priced by, or all
// of them. Kind: NotFound.
func Choose(name string) ([]*PriceBook, error) {
	const op = "meter.Choose"
	names := Books()
	if name != OwnCloud {
		if !slices.Contains(names, name) {
			return nil, lambent.Errorf(lambent.NotFound, op, "there is no price book %.40q: one of %s, or %s for each function's own", name, strings.Join(names, ", "), OwnCloud).
				WithHint("lambent usage --price %s", OwnCloud)
		}
		names = []string{name}
	}
	var chosen []*PriceBook
	for _, name := range names {
		b, err := books.ReadFile("books/" + name + ".json")
		if err != nil {
			return nil, lambent.Errorf(lambent.Internal, op, "%w", err)
		}
		p, err := ParseBook(b)
		if err != nil {
			return nil, err
		}
		chosen = append(chosen, p)
	}
	return chosen, nil
}

// ParseBook reads a price book in the form of those in meter/books.
func ParseBook(b []byte) (*PriceBook, error) {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	p := new(PriceBook)
	bad := func(format string, args ...any) error {
		return lambent.Errorf(lambent.Invalid, "meter.ParseBook", "price book "+format, args...)
	}
	if err := d.Decode(p); err != nil {
		return nil, bad("cannot be read: %w", err)
	}
	switch {
	case p.Name == "":
		return nil, bad("has no name")
	case p.Currency == "":
		return nil, bad("%s: currency is empty: give one, such as USD", p.Name)
	case p.RoundMS < 0 || p.RoundMS > maxRoundMS:
		return nil, bad("%s: round_ms is %d: 0 to %d", p.Name, p.RoundMS, maxRoundMS)
	case len(p.Prices) == 0:
		return nil, bad("%s: it has no prices", p.Name)
	}
	if v := p.VCPU; v != nil {
		if len(v.ByMemory) == 0 {
			return nil, bad("%s: by_memory of vcpu is empty", p.Name)
		}
		if v.Concurrent.IsNegative() || outOfRange(v.Concurrent) {
			return nil, bad("%s: concurrent of vcpu is negative, or has more than 30 digits", p.Name)
		}
		for i, row := range v.ByMemory {
			if i > 0 && row.MemoryMB <= v.ByMemory[i-1].MemoryMB {
				return nil, bad("%s: %d MB follow %d in by_memory of vcpu: the least come first", p.Name, row.MemoryMB, v.ByMemory[i-1].MemoryMB)
			}
			if !row.VCPU.IsPositive() || outOfRange(row.VCPU) {
				return nil, bad("%s: %d MB have %s vCPUs: it must be over 0", p.Name, row.MemoryMB, short(row.VCPU))
			}
		}
	}
	seen := make(map[string]bool)
	for _, price := range p.Prices {
		switch {
		case quantities[price.Item] == nil:
			return nil, bad("%s: item %.40q: one of %s", p.Name, price.Item, strings.Join(slices.Sorted(maps.Keys(quantities)), ", "))
		case price.Item == "vcpu" && p.VCPU == nil:
			return nil, bad("%s: item vcpu has a price, and vcpu does not say how many there are", p.Name)
		case seen[price.Item]:
			return nil, bad("%s: item %s has two prices", p.Name, price.Item)
		case price.Price.IsNegative() || outOfRange(price.Price):
			return nil, bad("%s: price of %s is negative, or has more than 30 digits", p.Name, price.Item)
		case !price.Per.IsPositive() || outOfRange(price.Per):
			return nil, bad("%s: price of %s is per %s units: it must be over 0", p.Name, price.Item, short(price.Per))
		}
		seen[price.Item] = true
	}
	return p, nil
}

const maxRoundMS = 3_600_000

// outOfRange keeps a number such as 1e999999999 from being written out.
func outOfRange(d decimal.Decimal) bool {
	return d.Exponent() < -30 || d.Exponent() > 30 || d.Coefficient().BitLen() > 100
}

func short(d decimal.Decimal) string {
	if outOfRange(d) {
		return "that many"
	}
	return d.String()
}
