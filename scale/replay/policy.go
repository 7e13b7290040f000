package replay

import (
	"strconv"
	"strings"
	"time"

	"lambent"
	"lambent/scale"
)

// Parse reads a contender as it is written on a command line: NAME, NAME:VALUE,
// and with @START where its starts take another time than the given one.
//
//	default, default:RATE    scale.Thrift, with RATE GB-s for a second of delay, and the forecast
//	fixed:DURATION           scale.Fixed
//	histogram                scale.Histogram
//	none                     scale.None
//
// An error is Invalid and quotes what was written.
func Parse(s string, start, init time.Duration) (Contender, error) {
	c := Contender{Name: s, Start: start, Init: init}
	bad := func(why string) (Contender, error) {
		return c, lambent.Errorf(lambent.Invalid, "replay.Parse", "policy %q: %s", s, why)
	}
	spec, at, ok := strings.Cut(s, "@")
	if ok {
		d, err := time.ParseDuration(at)
		if err != nil || d < 0 {
			return bad("what follows @ is what a start takes, such as 150ms")
		}
		c.Start = d
	}
	name, value, given := strings.Cut(spec, ":")
	switch name {
	case "fixed":
		d, err := time.ParseDuration(value)
		if err != nil || d < 0 {
			return bad("it needs a time, such as fixed:10m")
		}
		c.New = func() scale.Policy { return scale.Fixed(d) }
		return c, nil
	case "default":
		rate := float64(scale.DefaultRate)
		if given {
			var err error
			if rate, err = strconv.ParseFloat(value, 64); err != nil || !(rate >= 0 && rate <= 1e12) {
				return bad("its value is what a second of delay is worth in GB-s, such as default:1500")
			}
		}
		c.New, c.Forecast = func() scale.Policy { return scale.NewThrift(rate) }, true
		return c, nil
	case "histogram":
		c.New = func() scale.Policy { return scale.NewHistogram() }
	case "none":
		c.New = func() scale.Policy { return scale.None{} }
	default:
		return bad("there are default, fixed:DURATION, histogram and none")
	}
	if given {
		return bad("it takes no value")
	}
	return c, nil
}
