package meter

import (
	"cmp"
	"maps"
	"slices"

	"github.com/shopspring/decimal"

	"lambent"
)

// A Tally adds up records by what their price depends on.
type Tally struct {
	books []*PriceBook
	used  map[user]map[size]*used
}

// A user is a function, under one book.
type user struct {
	project, function string
	book              *PriceBook
}

// A size is what an instance has, used or not.
type size struct {
	memoryMB, tmpMB int
	concurrent      bool
}

type used struct{ requests, us int64 }

// NewTally returns an empty one. A record is priced by the first book that has its
// guest, or else by the first: there has to be one.
func NewTally(books ...*PriceBook) *Tally {
	return &Tally{books: books, used: make(map[user]map[size]*used)}
}

// Add adds a record.
func (t *Tally) Add(u *lambent.Usage) {
	book := t.books[max(0, slices.IndexFunc(t.books, func(p *PriceBook) bool { return slices.Contains(p.Guests, u.Guest) }))]
	by, s := user{u.Project, u.Function, book}, size{u.MemoryMB, u.TmpMB, u.Concurrency > 1}
	sizes := t.used[by]
	if sizes == nil {
		sizes = make(map[size]*used)
		t.used[by] = sizes
	}
	sum := sizes[s]
	if sum == nil {
		sum = new(used)
		sizes[s] = sum
	}
	sum.requests++
	sum.us += book.time(u)
}

// time returns what a record adds to the time that is priced, in us: its share of the
// time for which its instance was busy, and if that ends with it what rounding adds.
func (p *PriceBook) time(u *lambent.Usage) int64 {
	if p.RoundMS == 0 {
		return u.BilledMS * 1000
	}
	own := u.InitUS + cmp.Or(u.ShareUS, u.RunUS)
	busy := u.BusyUS
	if u.Concurrency == 0 {
		busy = own
	}
	round := p.RoundMS * 1000
	return own + (round-busy%round)%round
}

// quantities says how much of an item was used.
var quantities = map[string]func(*PriceBook, size, *used) decimal.Decimal{
	"requests": func(_ *PriceBook, _ size, u *used) decimal.Decimal { return decimal.NewFromInt(u.requests) },
	"duration": func(_ *PriceBook, s size, u *used) decimal.Decimal { return gb(s.memoryMB).Mul(seconds(u.us)) },
	"storage": func(_ *PriceBook, s size, u *used) decimal.Decimal {
		return gb(max(0, s.tmpMB-includedTmpMB)).Mul(seconds(u.us))
	},
	"vcpu": func(p *PriceBook, s size, u *used) decimal.Decimal { return p.VCPU.of(s).Mul(seconds(u.us)) },
}

// A Bill is what was used would cost.
type Bill struct {
	Books    []*PriceBook    `json:"-"` // by which something was priced
	Currency string          `json:"currency"`
	Lines    []BillLine      `json:"lines"`
	Total    decimal.Decimal `json:"total"`
}

// A BillLine is one item of one function.
type BillLine struct {
	Project  string          `json:"project"`
	Function string          `json:"function"`
	Book     string          `json:"book"`
	Item     string          `json:"item"`
	Unit     string          `json:"unit"`
	Quantity decimal.Decimal `json:"quantity"` // exact
	Amount   decimal.Decimal `json:"amount"`
}

// billPlaces are the decimal places of an amount: one millisecond of the
// smallest function costs 20 units of the last.
const billPlaces = 10

// Bill prices what was added. The arithmetic is exact, and rounded once: each line to
// ten decimal places, half away from zero. The total is the sum of the lines as
// they stand, so that a bill always adds up. Items of which nothing was used have
// no line. The books have one currency.
func (t *Tally) Bill() Bill {
	bill := Bill{Currency: t.books[0].Currency}
	for _, by := range slices.SortedFunc(maps.Keys(t.used), func(a, b user) int {
		return cmp.Or(cmp.Compare(a.project, b.project), cmp.Compare(a.function, b.function), cmp.Compare(a.book.Name, b.book.Name))
	}) {
		if !slices.Contains(bill.Books, by.book) {
			bill.Books = append(bill.Books, by.book)
		}
		for _, price := range by.book.Prices {
			var quantity decimal.Decimal
			for s, u := range t.used[by] {
				quantity = quantity.Add(quantities[price.Item](by.book, s, u))
			}
			if quantity.IsZero() {
				continue
			}
			line := BillLine{
				Project: by.project, Function: by.function, Book: by.book.Name, Item: price.Item, Unit: price.Unit, Quantity: quantity,
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
