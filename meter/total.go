package meter

import (
	"cmp"
	"context"
	"hash/maphash"
	"slices"
	"time"

	"github.com/shopspring/decimal"

	"lambent"
)

// A Total is what a function used over some time. Its numbers are whole and
// exact; what is derived from them is exact too.
type Total struct {
	Project    string    `json:"project"`
	Function   string    `json:"function"`
	Count      int64     `json:"count"`  // attempts
	Errors     int64     `json:"errors"` // of them, that did not succeed
	ColdStarts int64     `json:"cold_starts"`
	BilledMS   int64     `json:"billed_ms"`
	BilledMBMS int64     `json:"billed_mb_ms"` // memory limit x billed time
	TmpMBMS    int64     `json:"tmp_mb_ms"`    // /tmp limit over 512 MB x billed time
	RunUS      int64     `json:"run_us"`
	InitUS     int64     `json:"init_us"`
	QueueUS    int64     `json:"queue_us"`
	CPUUS      int64     `json:"cpu_us"`
	BytesIn    int64     `json:"bytes_in"`
	BytesOut   int64     `json:"bytes_out"`
	PeakMB     int64     `json:"peak_mb"` // the highest
	First      time.Time `json:"first"`   // end of the first attempt
	Last       time.Time `json:"last"`
}

// includedTmpMB is the size of /tmp that every function has.
const includedTmpMB = 512

func (t *Total) add(u *lambent.Usage) {
	t.Count++
	if u.Outcome != lambent.OutcomeOK {
		t.Errors++
	}
	if u.Cold {
		t.ColdStarts++
	}
	t.BilledMS += u.BilledMS
	t.BilledMBMS += int64(u.MemoryMB) * u.BilledMS
	t.TmpMBMS += int64(max(0, u.TmpMB-includedTmpMB)) * u.BilledMS
	t.RunUS += u.RunUS
	t.InitUS += u.InitUS
	t.QueueUS += u.QueueUS
	t.CPUUS += u.CPUUS
	t.BytesIn += u.BytesIn
	t.BytesOut += u.BytesOut
	t.PeakMB = max(t.PeakMB, u.PeakMB)
	if t.First.IsZero() || u.End.Before(t.First) {
		t.First = u.End
	}
	if u.End.After(t.Last) {
		t.Last = u.End
	}
}

// GBSeconds returns billed memory and time in GB-seconds, where a GB is 1024 MB.
func (t *Total) GBSeconds() decimal.Decimal { return gbSeconds(t.BilledMBMS) }

// TmpGBSeconds returns the same of what /tmp has over 512 MB.
func (t *Total) TmpGBSeconds() decimal.Decimal { return gbSeconds(t.TmpMBMS) }

// perMB is a 1024th, which ten decimal places hold exactly.
var perMB = decimal.RequireFromString("0.0009765625")

func gbSeconds(mbms int64) decimal.Decimal { return decimal.New(mbms, -3).Mul(perMB) }

func gb(mb int) decimal.Decimal { return decimal.NewFromInt(int64(mb)).Mul(perMB) }

func seconds(us int64) decimal.Decimal { return decimal.New(us, -6) }

// Sum totals the records that a filter chooses, for each function, in the order
// of their names, and adds them to a tally, if there is one. Its memory is that of the
// totals. The filter's limit is not read.
func (l *Ledger) Sum(ctx context.Context, f Filter, tally *Tally) ([]Total, error) {
	f.Limit = 0
	totals := make(map[lambent.Name]*Total)
	for u, err := range l.Scan(ctx, f) {
		if err != nil {
			return nil, err
		}
		name := lambent.Name{Project: u.Project, Function: u.Function}
		t := totals[name]
		if t == nil {
			t = &Total{Project: u.Project, Function: u.Function}
			totals[name] = t
		}
		t.add(u)
		if tally != nil {
			tally.Add(u)
		}
	}
	list := make([]Total, 0, len(totals))
	for _, t := range totals {
		list = append(list, *t)
	}
	slices.SortFunc(list, func(a, b Total) int {
		return cmp.Or(cmp.Compare(a.Project, b.Project), cmp.Compare(a.Function, b.Function))
	})
	return list, nil
}

// A Report is what Check found.
type Report struct {
	Segments   int
	Records    int64 // that are whole
	Damaged    int64 // lines that are no record
	Duplicates int64 // records whose id and attempt another has too
	Examples   []string
}

const maxExamples = 10

// Check reads the whole ledger and reports what should not be there. It holds 8
// bytes or so for each record.
func (l *Ledger) Check(ctx context.Context) (Report, error) {
	r := Report{Segments: len(l.within(Filter{}))}
	example := func(format string, args ...any) {
		if len(r.Examples) < maxExamples {
			r.Examples = append(r.Examples, lambent.Errorf(lambent.Internal, "", format, args...).Message)
		}
	}
	type identity struct {
		id      string
		attempt int
	}
	seed, seen := maphash.MakeSeed(), make(map[uint64]struct{})
	err := l.lines(ctx, Filter{}, false, func(seg segment, offset int64, line []byte) bool {
		u, err := decode(line)
		if err != nil {
			r.Damaged++
			example("%s at %d: %v", seg.name, offset, err)
			return true
		}
		r.Records++
		// Among a billion records two have the same hash by chance with a probability
		// of 3 %, and a report of it is looked at.
		h := maphash.Comparable(seed, identity{u.ID, u.Attempt})
		if _, ok := seen[h]; ok {
			r.Duplicates++
			example("%s at %d: attempt %d of %s is there already", seg.name, offset, u.Attempt, u.ID)
		}
		seen[h] = struct{}{}
		return true
	})
	return r, err
}
