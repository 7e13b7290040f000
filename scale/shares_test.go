package scale_test

import (
	"fmt"
	"math"
	"testing"
	"time"

	"lambent/scale"
)

// A machine gives its processors to what runs on it by weight, as the kernel does,
// but to none more than it asks for.
type machine struct {
	processors float64
	shares     scale.Shares
	all        []*scale.Share
	asks       map[*scale.Share]float64 // processors; a thread can use one
}

func (m *machine) add(project string, weight, asks float64) *scale.Share {
	i := &scale.Share{Project: project, Weight: weight, Part: 1}
	if m.asks == nil {
		m.asks = map[*scale.Share]float64{}
	}
	m.all, m.asks[i] = append(m.all, i), asks
	return i
}

// run has it run for so many looks, and returns what each project had of it in the
// last.
func (m *machine) run(looks int) map[string]float64 {
	const every = 100 * time.Millisecond
	var had map[string]float64
	for range looks {
		had = map[string]float64{}
		got, left := map[*scale.Share]float64{}, m.processors
		for again := true; again; { // who has all that it asks for leaves the rest to the others
			again = false
			sum := 0.0
			for _, i := range m.all {
				if _, ok := got[i]; !ok {
					sum += i.Weight * i.Part
				}
			}
			free := left
			for _, i := range m.all {
				if _, ok := got[i]; !ok && m.asks[i] <= free*i.Weight*i.Part/sum {
					got[i], again = m.asks[i], true
					left -= m.asks[i]
				}
			}
			if !again {
				for _, i := range m.all {
					if _, ok := got[i]; !ok {
						got[i] = left * i.Weight * i.Part / sum
					}
				}
			}
		}
		for _, i := range m.all {
			i.Used = time.Duration(got[i] * float64(every))
			had[i.Project] += got[i]
		}
		m.shares.Look(every, m.all)
	}
	return had
}

func (m *machine) weigh(project string) (sum float64) {
	for _, i := range m.all {
		if i.Project == project {
			sum += i.Weight * i.Part
		}
	}
	return sum
}

func near(t *testing.T, what string, got, want float64) {
	t.Helper()
	if math.Abs(got-want) > 0.02*want {
		t.Errorf("%s: %.3f, want %.3f", what, got, want)
	}
}

// However many compute, and of whatever weight: projects have the same.
func TestSharesAreTheProjects(t *testing.T) {
	for _, c := range []struct {
		many, few             int
		manyWeighs, fewWeighs float64
	}{{8, 1, 128, 128}, {8, 2, 128, 128}, {8, 2, 1769, 128}, {3, 2, 128, 10240}, {500, 4, 128, 512}} {
		t.Run(fmt.Sprint(c), func(t *testing.T) {
			m := machine{processors: 2}
			for range c.many {
				m.add("many", c.manyWeighs, 1)
			}
			for range c.few {
				m.add("few", c.fewWeighs, 1)
			}
			had := m.run(20)
			near(t, "the many", had["many"], 1)
			near(t, "the few", had["few"], 1)
		})
	}
}

// Within a project it is the memory that counts.
func TestSharesWithinAProject(t *testing.T) {
	m := machine{processors: 1}
	small, big := m.add("a", 128, 1), m.add("a", 512, 1)
	m.add("b", 1024, 1)
	m.run(20)
	near(t, "the big one's", float64(big.Used)/float64(small.Used), 4)
}

// What a project cannot use the others have, in equal parts, and its calls go first.
func TestSharesOfWhoAsksForLittle(t *testing.T) {
	m := machine{processors: 2}
	for range 8 {
		m.add("flood", 128, 1)
		m.add("rest", 512, 1)
	}
	m.add("rest", 512, 1)
	light := m.add("light", 128, 0.05)
	had := m.run(50)
	near(t, "light", had["light"], 0.05)
	near(t, "flood", had["flood"], 0.975)
	near(t, "rest", had["rest"], 0.975)
	near(t, "who asks for little weighs more, by times", m.weigh("light")/m.weigh("flood"), 32)
	if light.Part != 1 {
		t.Errorf("it is lowered to %.3f", light.Part)
	}
}

// Who begins to compute has its share at once, at its whole weight, and soon no more.
func TestSharesOfWhoBegins(t *testing.T) {
	m := machine{processors: 2}
	for range 8 {
		m.add("flood", 1769, 1)
	}
	burst := m.add("burst", 128, 0)
	m.run(20)
	for _, i := range m.all[2:] { // the others have ended: there is one for each processor, and one more
		if i != burst {
			m.asks[i] = 0
		}
	}
	m.asks[burst] = 1
	if had := m.run(1); had["burst"] < 0.95 {
		t.Errorf("in its first tenth of a second it had %.3f processors", had["burst"])
	}
	if had := m.run(30); had["burst"] < 0.98 || had["burst"] > 1.02 {
		t.Errorf("later it had %.3f", had["burst"])
	}
}

// A weight that is thought to be another shows, and is mended.
func TestSharesMendWhatIsMisjudged(t *testing.T) {
	m := machine{processors: 1}
	for range 2 {
		m.add("a", 128, 1)
	}
	m.add("b", 128, 1)
	for range 20 {
		m.add("b", 128, 0.001) // which wait, nearly always
	}
	had := m.run(50)
	if had["b"] < 0.48 || had["b"] > 0.52 {
		t.Errorf("%v", had)
	}
}

// Parts are always such that a driver takes them.
func TestSharesOfAnything(t *testing.T) {
	var s scale.Shares
	s.Look(time.Second, nil)
	all := []*scale.Share{{Project: "a", Weight: 128}, {Project: "b", Weight: 10240}, {Project: "b", Weight: 1}}
	for _, took := range []time.Duration{0, time.Nanosecond, 100 * time.Millisecond, time.Hour} {
		for _, used := range []time.Duration{0, time.Nanosecond, time.Hour} {
			for i, sh := range all {
				sh.Used = used * time.Duration(i)
			}
			s.Look(took, all)
			for _, sh := range all {
				if took > 0 && !(sh.Part > 0 && sh.Part <= 1) {
					t.Errorf("%v in %v: a part of %v", used, took, sh.Part)
				}
			}
		}
	}
}
