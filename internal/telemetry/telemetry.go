// Package telemetry keeps the platform's metrics and serves them in the
// Prometheus format.
//
// It has a registry of its own. Observing costs a look-up and some atomic
// additions. The number of series is bounded: a function's labels exist from its
// first invocation until it is removed, an observation of a function that is not
// known goes to the function "(unknown)", and a function's versions, triggers and
// outcomes beyond a few hundred combinations are counted together as "(other)".
package telemetry

import (
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"lambent"
)

// maxCombinations bounds the (version, trigger, outcome) of one function.
const maxCombinations = 256

// Labels that no function, version or trigger can have.
const (
	unknown = "(unknown)"
	other   = "(other)"
)

// buckets of durations, in seconds: from 0.1 ms, which a warm call on the same
// machine is of the order of, to the longest timeout.
var buckets = []float64{
	.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 900,
}

// buildBuckets are of builds: from one out of the cache to the longest that may be, and
// to those that wait for others.
var buildBuckets = []float64{.1, .25, .5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600, 1200}

// Options are what the metrics are read from. Each may be nil.
type Options struct {
	Known      func(lambent.Name) bool // whether there is such a function; nil: every one is
	Sandboxes  func() map[string]int   // by state, such as "idle"
	QueueDepth func() int              // invocations that wait for an instance
	Async      func() map[string]int   // asynchronous ones by state, such as "dead"
	Dropped    func() int              // dead ones that there was no room for
	Lags       func() []Lag            // of triggers whose sources know
}

// A Lag is by how much a trigger's source is behind.
type Lag struct {
	Project, Function, Trigger string
	Behind                     time.Duration
	Waiting                    int64 // messages that the source's origin has
	Retained                   int64 // bytes that it keeps
}

// Metrics are the metrics of one server. Its methods may be called concurrently.
type Metrics struct {
	o        Options
	registry *prometheus.Registry

	invocations                      *prometheus.CounterVec
	duration, init, queue            *prometheus.HistogramVec
	cold, errors, timeouts, throttle *prometheus.CounterVec
	billed                           *prometheus.CounterVec
	builds                           *prometheus.CounterVec
	build                            prometheus.Histogram

	mu           sync.RWMutex // guards the fields below
	functions    map[name]*function
	combinations map[combination]prometheus.Counter // of invocations
}

type name struct{ project, function string }

type combination struct {
	name
	version, trigger, outcome string
}

// A function is what one function's invocations are counted in.
type function struct {
	duration, queue        prometheus.Observer
	billed                 prometheus.Counter
	init                   prometheus.Observer
	cold, errors, timeouts prometheus.Counter
	combinations           int
}

// New returns metrics that are all zero.
func New(o Options) *Metrics {
	perFunction := []string{"project", "function"}
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	histogram := func(name, help string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, perFunction)
	}
	m := &Metrics{
		o: o, registry: prometheus.NewRegistry(),
		functions: make(map[name]*function), combinations: make(map[combination]prometheus.Counter),

		invocations: counter("faas_invocations_total", "Attempts that ended, by outcome.", "project", "function", "version", "trigger", "outcome"),
		duration:    histogram("faas_invoke_duration_seconds", "Time in the function."),
		init:        histogram("faas_init_duration_seconds", "Time to initialise the code, on cold starts."),
		queue:       histogram("faas_queue_wait_seconds", "Time that an invocation waited for an instance."),
		cold:        counter("faas_coldstarts_total", "Attempts that began with a cold start.", perFunction...),
		errors:      counter("faas_errors_total", "Attempts that did not succeed.", perFunction...),
		timeouts:    counter("faas_timeouts_total", "Attempts that were ended for the function's timeout.", perFunction...),
		billed:      counter("faas_billed_gb_seconds_total", "Billed memory and time, in GB-seconds.", perFunction...),
		throttle:    counter("lambent_throttles_total", "Invocations refused for load or for a limit.", perFunction...),
		builds:      counter("lambent_builds_total", "Builds of deploys that ended, by outcome.", "outcome"),
		build: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "lambent_build_duration_seconds", Help: "Time of a build, with that for which it waited for others.", Buckets: buildBuckets,
		}),
	}
	m.registry.MustRegister(m.invocations, m.duration, m.init, m.queue, m.cold, m.errors, m.timeouts, m.billed, m.throttle, m.builds, m.build,
		gauges{o},
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// Observe counts one attempt.
func (m *Metrics) Observe(u *lambent.Usage) {
	c := combination{name{u.Project, u.Function}, u.Version, u.Trigger, u.Outcome}
	m.mu.RLock()
	f, n := m.functions[c.name], m.combinations[c]
	m.mu.RUnlock()
	if n == nil {
		f, n = m.add(c)
	}
	n.Inc()
	f.duration.Observe(seconds(u.RunUS))
	f.queue.Observe(seconds(u.QueueUS))
	f.billed.Add(float64(u.MemoryMB) / 1024 * float64(u.BilledMS) / 1000)
	if u.Cold {
		f.cold.Inc()
		f.init.Observe(seconds(u.InitUS))
	}
	if u.Outcome != lambent.OutcomeOK {
		f.errors.Inc()
		if u.Outcome == string(lambent.FaultTimeout) {
			f.timeouts.Inc()
		}
	}
}

// Throttled counts an invocation that was refused.
func (m *Metrics) Throttled(n lambent.Name) {
	k := m.known(name{n.Project, n.Function})
	m.throttle.WithLabelValues(k.project, k.function).Inc()
}

// Built counts a build that ended, with the kind of its error for an outcome where it
// has one, and ok elsewhere.
func (m *Metrics) Built(took time.Duration, err error) {
	outcome := lambent.OutcomeOK
	if err != nil {
		outcome = lambent.KindOf(err).String()
	}
	m.builds.WithLabelValues(outcome).Inc()
	m.build.Observe(took.Seconds())
}

// Remove drops the series of a function that was deleted.
func (m *Metrics) Remove(n lambent.Name) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.functions, name{n.Project, n.Function})
	for c := range m.combinations {
		if c.project == n.Project && c.function == n.Function {
			delete(m.combinations, c)
		}
	}
	labels := prometheus.Labels{"project": n.Project, "function": n.Function}
	for _, v := range []interface{ DeletePartialMatch(prometheus.Labels) int }{
		m.invocations, m.duration, m.init, m.queue, m.cold, m.errors, m.timeouts, m.billed, m.throttle,
	} {
		v.DeletePartialMatch(labels)
	}
}

// Handler serves the metrics.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{Registry: m.registry, Timeout: 10 * time.Second})
}

// add makes the series that an attempt is counted in.
func (m *Metrics) add(c combination) (*function, prometheus.Counter) {
	c.name = m.known(c.name)
	m.mu.Lock()
	defer m.mu.Unlock()
	p, fn := c.project, c.function
	f := m.functions[c.name]
	if f == nil {
		f = &function{
			duration: m.duration.WithLabelValues(p, fn), queue: m.queue.WithLabelValues(p, fn), init: m.init.WithLabelValues(p, fn),
			billed: m.billed.WithLabelValues(p, fn), cold: m.cold.WithLabelValues(p, fn),
			errors: m.errors.WithLabelValues(p, fn), timeouts: m.timeouts.WithLabelValues(p, fn),
		}
		m.functions[c.name] = f
	}
	n := m.combinations[c]
	if n == nil && f.combinations >= maxCombinations {
		c.version, c.trigger = other, other
		n = m.combinations[c]
	}
	if n == nil {
		n = m.invocations.WithLabelValues(p, fn, c.version, c.trigger, c.outcome)
		m.combinations[c] = n
		f.combinations++
	}
	return f, n
}

func (m *Metrics) known(n name) name {
	if m.o.Known == nil || m.o.Known(lambent.Name{Project: n.project, Function: n.function}) {
		return n
	}
	return name{unknown, unknown}
}

func seconds(us int64) float64 { return float64(us) / 1e6 }

// gauges are read when they are asked for.
type gauges struct{ o Options }

var (
	sandboxesDesc  = prometheus.NewDesc("lambent_sandboxes", "Sandboxes on this node, by state.", []string{"state"}, nil)
	queueDepthDesc = prometheus.NewDesc("lambent_queue_depth", "Invocations that wait for an instance.", nil, nil)
	droppedDesc    = prometheus.NewDesc("lambent_dead_letters_dropped_total", "Dead letters that were removed as their function had too many.", nil, nil)
	asyncDesc      = prometheus.NewDesc("lambent_async_invocations", "Asynchronous invocations that are kept, by state: waiting, delayed (to be tried again), running, dead.", []string{"state"}, nil)
	behindDesc     = prometheus.NewDesc("lambent_trigger_behind_seconds", "How old the last event of a trigger's source was when it was accepted, while there are more.", lagLabels, nil)
	waitingDesc    = prometheus.NewDesc("lambent_trigger_waiting_messages", "Messages that a broker has for a trigger.", lagLabels, nil)
	retainedDesc   = prometheus.NewDesc("lambent_trigger_retained_bytes", "What a database keeps of its log for a trigger.", lagLabels, nil)
	lagLabels      = []string{"project", "function", "trigger"}
)

// Describe implements prometheus.Collector.
func (g gauges) Describe(ch chan<- *prometheus.Desc) {
	ch <- sandboxesDesc
	ch <- queueDepthDesc
	ch <- asyncDesc
	ch <- droppedDesc
	ch <- behindDesc
	ch <- waitingDesc
	ch <- retainedDesc
}

// Collect implements prometheus.Collector.
func (g gauges) Collect(ch chan<- prometheus.Metric) {
	if g.o.Sandboxes != nil {
		for state, n := range g.o.Sandboxes() {
			ch <- prometheus.MustNewConstMetric(sandboxesDesc, prometheus.GaugeValue, float64(n), state)
		}
	}
	if g.o.Dropped != nil {
		ch <- prometheus.MustNewConstMetric(droppedDesc, prometheus.CounterValue, float64(g.o.Dropped()))
	}
	if g.o.Async != nil {
		for state, n := range g.o.Async() {
			ch <- prometheus.MustNewConstMetric(asyncDesc, prometheus.GaugeValue, float64(n), state)
		}
	}
	if g.o.QueueDepth != nil {
		ch <- prometheus.MustNewConstMetric(queueDepthDesc, prometheus.GaugeValue, float64(g.o.QueueDepth()))
	}
	if g.o.Lags != nil {
		for _, l := range g.o.Lags() {
			ch <- prometheus.MustNewConstMetric(behindDesc, prometheus.GaugeValue, l.Behind.Seconds(), l.Project, l.Function, l.Trigger)
			ch <- prometheus.MustNewConstMetric(waitingDesc, prometheus.GaugeValue, float64(l.Waiting), l.Project, l.Function, l.Trigger)
			ch <- prometheus.MustNewConstMetric(retainedDesc, prometheus.GaugeValue, float64(l.Retained), l.Project, l.Function, l.Trigger)
		}
	}
}
