package telemetry_test

import (
	"bytes"
	"errors"
	"fmt"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"lambent"
	"lambent/internal/telemetry"
)

func usage(function, outcome string) *lambent.Usage {
	return &lambent.Usage{
		Project: "default", Function: function, Version: "latest", Trigger: "http", Outcome: outcome,
		RunUS: 125_000, QueueUS: 90, BilledMS: 2, MemoryMB: 512,
	}
}

// scrape returns what is served, of our own metrics.
func scrape(t testing.TB, m *telemetry.Metrics) string {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if w.Code != 200 {
		t.Fatalf("status %d: %s", w.Code, w.Body)
	}
	return strings.Join(regexp.MustCompile(`(?m)^(faas|lambent)_.*$`).FindAllString(w.Body.String(), -1), "\n")
}

func TestMetrics(t *testing.T) {
	m := telemetry.New(telemetry.Options{
		Sandboxes:  func() map[string]int { return map[string]int{"idle": 3, "busy": 1} },
		QueueDepth: func() int { return 7 },
		Lags: func() []telemetry.Lag {
			return []telemetry.Lag{{Project: "p", Function: "watched", Trigger: "t1", Behind: 1500 * time.Millisecond, Waiting: 5, Retained: 7}}
		},
		Async:   func() map[string]int { return map[string]int{"dead": 2} },
		Dropped: func() int { return 3 },
	})
	cold := usage("f", "ok")
	cold.Cold, cold.InitUS = true, 14020
	m.Observe(cold)
	for range 2 {
		m.Observe(usage("f", "ok"))
	}
	m.Observe(usage("f", "timeout"))
	m.Observe(usage("f", "error"))
	m.Observe(usage("g", "ok"))
	m.Throttled(lambent.Name{Project: "default", Function: "f"})
	got := scrape(t, m)
	for _, want := range []string{
		`faas_invocations_total{function="f",outcome="ok",project="default",trigger="http",version="latest"} 3`,
		`faas_invocations_total{function="f",outcome="timeout",project="default",trigger="http",version="latest"} 1`,
		`faas_invoke_duration_seconds_bucket{function="f",project="default",le="0.0001"} 0`,
		`faas_invoke_duration_seconds_bucket{function="f",project="default",le="0.25"} 5`,
		`faas_invoke_duration_seconds_sum{function="f",project="default"} 0.625`,
		`faas_queue_wait_seconds_bucket{function="f",project="default",le="0.0001"} 5`,
		`faas_init_duration_seconds_count{function="f",project="default"} 1`,
		`faas_coldstarts_total{function="f",project="default"} 1`,
		`faas_errors_total{function="f",project="default"} 2`,
		`faas_timeouts_total{function="f",project="default"} 1`,
		`faas_billed_gb_seconds_total{function="f",project="default"} 0.005`,
		`faas_billed_gb_seconds_total{function="g",project="default"} 0.001`,
		`lambent_throttles_total{function="f",project="default"} 1`,
		`lambent_sandboxes{state="busy"} 1`,
		`lambent_sandboxes{state="idle"} 3`,
		`lambent_queue_depth 7`,
		`lambent_async_invocations{state="dead"} 2`,
		`lambent_trigger_behind_seconds{function="watched",project="p",trigger="t1"} 1.5`,
		`lambent_trigger_waiting_messages{function="watched",project="p",trigger="t1"} 5`,
		`lambent_trigger_retained_bytes{function="watched",project="p",trigger="t1"} 7`,
		`lambent_dead_letters_dropped_total 3`,
	} {
		if !strings.Contains("\n"+got+"\n", "\n"+want+"\n") {
			t.Errorf("%s is missing", want)
		}
	}
	if t.Failed() {
		t.Log(got)
	}
	m.Remove(lambent.Name{Project: "default", Function: "f"})
	got = scrape(t, m)
	if strings.Contains(got, `function="f"`) || !strings.Contains(got, `function="g"`) {
		t.Errorf("after f was removed:\n%s", got)
	}
	m.Observe(usage("f", "ok")) // deployed again
	if got := scrape(t, m); !strings.Contains(got, `faas_invocations_total{function="f",outcome="ok",project="default",trigger="http",version="latest"} 1`) {
		t.Errorf("after f came back:\n%s", got)
	}
}

// Builds are counted by what became of them, and are whole before there is one.
func TestBuilt(t *testing.T) {
	m := telemetry.New(telemetry.Options{})
	if got := scrape(t, m); !strings.Contains(got, "lambent_build_duration_seconds_count 0") {
		t.Errorf("before a build:\n%s", got)
	}
	m.Built(700*time.Millisecond, nil)
	m.Built(2*time.Minute, nil)
	m.Built(time.Second, lambent.Errorf(lambent.Broken, "build", "it does not compile"))
	m.Built(time.Second, fmt.Errorf("deploy: %w", lambent.Errorf(lambent.Canceled, "build", "given up")))
	m.Built(time.Hour, errors.New("the disk is gone"))
	got := scrape(t, m)
	for _, want := range []string{
		`lambent_builds_total{outcome="ok"} 2`,
		`lambent_builds_total{outcome="broken"} 1`,
		`lambent_builds_total{outcome="canceled"} 1`,
		`lambent_builds_total{outcome="internal"} 1`,
		`lambent_build_duration_seconds_bucket{le="0.5"} 0`,
		`lambent_build_duration_seconds_bucket{le="1"} 3`,
		`lambent_build_duration_seconds_bucket{le="120"} 4`,
		`lambent_build_duration_seconds_bucket{le="+Inf"} 5`,
		`lambent_build_duration_seconds_sum 3722.7`,
	} {
		if !strings.Contains("\n"+got+"\n", "\n"+want+"\n") {
			t.Errorf("%s is missing", want)
		}
	}
	if t.Failed() {
		t.Log(got)
	}
}

func TestBoundedSeries(t *testing.T) {
	m := telemetry.New(telemetry.Options{Known: func(n lambent.Name) bool { return n.Function == "f" }})
	for i := range 5000 {
		m.Observe(usage(fmt.Sprint("gone", i), "ok"))
		m.Throttled(lambent.Name{Project: "default", Function: fmt.Sprint("never", i)})
		u := usage("f", "ok")
		u.Version, u.Trigger = fmt.Sprint(i), fmt.Sprint("t", i)
		m.Observe(u)
	}
	got := scrape(t, m)
	if n := strings.Count(got, "\n"); n > 500 {
		t.Errorf("%d lines", n)
	}
	for _, want := range []string{
		`faas_invocations_total{function="(unknown)",outcome="ok",project="(unknown)",trigger="http",version="latest"} 5000`,
		`faas_invocations_total{function="f",outcome="ok",project="default",trigger="(other)",version="(other)"} 4744`,
		`faas_invoke_duration_seconds_count{function="f",project="default"} 5000`,
		`lambent_throttles_total{function="(unknown)",project="(unknown)"} 5000`,
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%s is missing", want)
		}
	}
}

func TestHammer(t *testing.T) {
	m := telemetry.New(telemetry.Options{})
	const writers, each = 8, 2000
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				m.Observe(usage(fmt.Sprint("f", i%10), "ok"))
				if i%100 == 0 {
					m.Observe(usage("gone", "ok"))
					m.Remove(lambent.Name{Project: "default", Function: "gone"})
				}
			}
			if w == 0 {
				scrape(t, m)
			}
		})
	}
	wg.Wait()
	got := scrape(t, m)
	want := fmt.Sprintf(`faas_invocations_total{function="f3",outcome="ok",project="default",trigger="http",version="latest"} %d`, writers*each/10)
	if !strings.Contains(got, want) {
		t.Errorf("%s is missing", want)
	}
}

func BenchmarkObserve(b *testing.B) {
	m := telemetry.New(telemetry.Options{Known: func(lambent.Name) bool { return true }})
	u := usage("f", "ok")
	b.ReportAllocs()
	for b.Loop() {
		m.Observe(u)
	}
}

func BenchmarkScrape(b *testing.B) {
	m := telemetry.New(telemetry.Options{})
	for i := range 1000 {
		m.Observe(usage(fmt.Sprint("f", i), "ok"))
	}
	h := m.Handler()
	var buf bytes.Buffer
	for b.Loop() {
		w := httptest.NewRecorder()
		w.Body = &buf
		buf.Reset()
		h.ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	}
	b.ReportMetric(float64(buf.Len()), "bytes")
}
