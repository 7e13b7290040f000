package cron

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"lambent"
)

// A field is one of an expression, with what may be in it.
type field struct {
	name     string
	min, max int
	names    []string // of its values, from min on
	special  *regexp.Regexp
	shift    int // what takes a value to cronexpr's
	cycle    int // after how many values they begin again, so that a range may; 0: they do not
}

var (
	months   = []string{"JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"}
	weekdays = []string{"SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"}

	minute = field{name: "minutes", max: 59}
	month  = field{name: "month", min: 1, max: 12, names: months}
)

// awsFields are those of cron(), in their order
// (https://docs.aws.amazon.com/scheduler/latest/UserGuide/schedule-types.html).
var awsFields = []field{
	minute,
	{name: "hours", max: 23, cycle: 24},
	{name: "day of month", min: 1, max: 31, special: regexp.MustCompile(`^(\?|L|LW|([1-9]|[12][0-9]|3[01])W)$`)},
	month,
	{name: "day of week", min: 1, max: 7, names: weekdays, special: regexp.MustCompile(`^(\?|L|([1-7]|[A-Z]{3})(L|#[1-5]))$`), shift: -1, cycle: 7},
	{name: "year", min: 1970, max: 2099},
}

// unixFields are those of crontab(5), in their order.
var unixFields = []field{
	minute,
	{name: "hours", max: 23},
	{name: "day of month", min: 1, max: 31},
	month,
	{name: "day of week", max: 7, names: weekdays, cycle: 7}, // 7 is Sunday, too
}

// translate returns the fields of an expression as cronexpr has them. It refuses what
// cronexpr would take for something else.
func translate(text string, fields []field) (string, error) {
	given := strings.Fields(text)
	if len(given) != len(fields) {
		var names []string
		for _, f := range fields {
			names = append(names, f.name)
		}
		return "", refuse("%q has %d fields, where there are %d: %s", text, len(given), len(fields), strings.Join(names, ", "))
	}
	for i, f := range fields {
		var items []string
		for item := range strings.SplitSeq(strings.ToUpper(given[i]), ",") {
			out, err := f.item(item)
			if err != nil {
				return "", refuse("%s %q: %v", f.name, given[i], err)
			}
			items = append(items, out)
		}
		if strings.ContainsAny(given[i], "?#") && len(items) > 1 {
			return "", refuse("%s %q: '?' and '#' stand alone", f.name, given[i])
		}
		given[i] = strings.Join(items, ",")
	}
	return strings.Join(given, " "), nil
}

// item translates one of the values that a field lists: *, N or N-M, each with /STEP or
// without, or what is special to it.
func (f *field) item(s string) (string, error) {
	if f.special != nil && f.special.MatchString(s) {
		return f.specially(s)
	}
	values, step, stepped := strings.Cut(s, "/")
	by := 1
	if stepped {
		var err error
		if by, err = strconv.Atoi(step); err != nil || by < 1 || by > f.max {
			return "", fmt.Errorf("the step %q is none of 1 to %d", step, f.max)
		}
	}
	if values == "*" && by == 1 {
		return "*", nil
	}
	low, high, ranged := strings.Cut(values, "-")
	var from, to int
	var err error
	switch {
	case values == "*":
		from, to = f.min, f.max
		if f.cycle > 0 {
			to = from + f.cycle - 1
		}
	case ranged:
		if from, err = f.value(low); err == nil {
			to, err = f.value(high)
		}
		if err == nil && from > to {
			to += f.cycle
		}
		if err == nil && from > to {
			err = fmt.Errorf("%s is behind %s", low, high)
		}
	default:
		if from, err = f.value(low); stepped {
			to = f.max
		} else {
			to = from
		}
	}
	if err != nil {
		return "", err
	}
	var list []string
	for v := from; v <= to; v += by {
		list = append(list, f.number(v))
	}
	return strings.Join(list, ","), nil
}

// value reads a number or a name.
func (f *field) value(s string) (int, error) {
	if i := slices.Index(f.names, s); i >= 0 {
		return f.min + i, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < f.min || n > f.max || len(s) > 4 || s[0] == '+' {
		of := ""
		if f.names != nil {
			of = fmt.Sprintf(" or %s to %s", f.names[0], f.names[len(f.names)-1])
		}
		return 0, fmt.Errorf("%q is none of %d to %d%s", s, f.min, f.max, of)
	}
	return n, nil
}

// number is a value as cronexpr has it.
func (f *field) number(v int) string {
	v += f.shift
	if f.cycle > 0 {
		v %= f.cycle
	}
	return strconv.Itoa(v)
}

// specially translates what only one field has.
func (f *field) specially(s string) (string, error) {
	if f.names == nil || s == "?" { // of the day of the month cronexpr knows them all
		return s, nil
	}
	if s == "L" { // the last of the week
		return f.number(f.max), nil
	}
	i := strings.IndexAny(s[1:], "L#") + 1
	if len(s) > 3 && s[0] > '9' {
		i = 3
	}
	v, err := f.value(s[:i])
	if err != nil {
		return "", err
	}
	return f.number(v) + s[i:], nil
}

func refuse(format string, args ...any) error {
	return lambent.Errorf(lambent.Invalid, "schedule", format, args...)
}
