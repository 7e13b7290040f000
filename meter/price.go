package meter

import (
	"bytes"
	"embed"
	"encoding/json"
	"slices"
	"strings"

	"github.com/shopspring/decimal"

	"lambent"
)

//go:embed books/*.json
var books embed.FS

// A PriceBook is the price list of a cloud, or of one's own, as data.
type PriceBook struct {
	Name     string  `json:"name"`
	Title    string  `json:"title"`
	Source   string  `json:"source,omitempty"` // where the prices are published
	Date     string  `json:"date,omitempty"`   // as of when
	Note     string  `json:"note,omitempty"`
	Currency string  `json:"currency"`
	Prices   []Price `json:"prices"`
}

// A Price is what Per units of one item cost.
type Price struct {
	Item  string          `json:"item"` // "requests", "duration" or "storage"
	Unit  string          `json:"unit"`
	Price decimal.Decimal `json:"price"`
	Per   decimal.Decimal `json:"per"`
}

// quantities says how much of an item a total has.
var quantities = map[string]func(*Total) decimal.Decimal{
	"requests": func(t *Total) decimal.Decimal { return decimal.NewFromInt(t.Count) },
	"duration": (*Total).GBSeconds,
	"storage":  (*Total).TmpGBSeconds,
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

// Book returns a price book that comes with the program. Kind: NotFound.
func Book(name string) (*PriceBook, error) {
	if !slices.Contains(Books(), name) {
		return nil, lambent.Errorf(lambent.NotFound, "meter.Book", "there is no price book %.40q: one of %s, or a file of your own", name, strings.Join(Books(), ", ")).
			WithHint("lambent usage --price aws")
	}
	b, err := books.ReadFile("books/" + name + ".json")
	if err != nil {
		return nil, lambent.Errorf(lambent.Internal, "meter.Book", "%w", err)
	}
	return ParseBook(b)
}

// ParseBook reads a price book in the form of those in meter/books.
func ParseBook(b []byte) (*PriceBook, error) {
	const op = "meter.ParseBook"
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	p := new(PriceBook)
	if err := d.Decode(p); err != nil {
		return nil, lambent.Errorf(lambent.Invalid, op, "price book: %w", err)
	}
	switch {
	case p.Name == "":
		return nil, lambent.Errorf(lambent.Invalid, op, "price book: name is empty")
	case p.Currency == "":
		return nil, lambent.Errorf(lambent.Invalid, op, "price book %s: currency is empty: give one, such as USD", p.Name)
	case len(p.Prices) == 0:
		return nil, lambent.Errorf(lambent.Invalid, op, "price book %s: it has no prices", p.Name)
	}
	seen := make(map[string]bool)
	for _, price := range p.Prices {
		switch {
		case quantities[price.Item] == nil:
			return nil, lambent.Errorf(lambent.Invalid, op, "price book %s: item %.40q: one of duration, requests, storage", p.Name, price.Item)
		case seen[price.Item]:
			return nil, lambent.Errorf(lambent.Invalid, op, "price book %s: item %s has two prices", p.Name, price.Item)
		case price.Price.IsNegative() || outOfRange(price.Price):
			return nil, lambent.Errorf(lambent.Invalid, op, "price book %s: price of %s is negative, or has more than 30 digits", p.Name, price.Item)
		case !price.Per.IsPositive() || outOfRange(price.Per):
			return nil, lambent.Errorf(lambent.Invalid, op, "price book %s: price of %s is per %s units: it must be over 0", p.Name, price.Item, short(price.Per))
		}
		seen[price.Item] = true
	}
	return p, nil
}

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

// A Bill is what totals cost under one book.
type Bill struct {
	Book     string          `json:"book"`
	Currency string          `json:"currency"`
	Lines    []BillLine      `json:"lines"`
	Total    decimal.Decimal `json:"total"`
}

// A BillLine is one item of one function.
type BillLine struct {
	Project  string          `json:"project"`
	Function string          `json:"function"`
	Item     string          `json:"item"`
	Unit     string          `json:"unit"`
	Quantity decimal.Decimal `json:"quantity"` // exact
	Amount   decimal.Decimal `json:"amount"`
}

// billPlaces are the decimal places of an amount: one millisecond of the
// smallest function costs 20 units of the last.
const billPlaces = 10

// Price prices totals. The arithmetic is exact, and rounded once: each line to
// ten decimal places, half away from zero. The total is the sum of the lines as
// they stand, so that a bill always adds up. Items of which nothing was used have
// no line.
func (p *PriceBook) Price(totals []Total) Bill {
	bill := Bill{Book: p.Name, Currency: p.Currency}
	for i := range totals {
		t := &totals[i]
		for _, price := range p.Prices {
			quantity := quantities[price.Item](t)
			if quantity.IsZero() {
				continue
			}
			line := BillLine{
				Project: t.Project, Function: t.Function, Item: price.Item, Unit: price.Unit, Quantity: quantity,
				Amount: quantity.Mul(price.Price).DivRound(price.Per, billPlaces),
			}
			bill.Lines = append(bill.Lines, line)
			bill.Total = bill.Total.Add(line.Amount)
		}
	}
	return bill
}

// Of returns what one function's lines add up to.
func (b *Bill) Of(project, function string) decimal.Decimal {
	var sum decimal.Decimal
	for _, line := range b.Lines {
		if line.Project == project && line.Function == function {
			sum = sum.Add(line.Amount)
		}
	}
	return sum
}
