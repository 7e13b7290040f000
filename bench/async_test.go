package bench_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"lambent/bench"
	"lambent/client"
	"lambent/test/daemon"
)

// A producer has calls accepted, one after the other, over a connection of its own.
type producer struct {
	conn    net.Conn
	in      *bufio.Reader
	request []byte
}

func newProducer(b *testing.B, d *daemon.Daemon, function string, payload []byte) *producer {
	b.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(d.URL, "http://"))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { conn.Close() })
	head := fmt.Sprintf("POST /v1/functions/%s/invocations HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\nPrefer: respond-async\r\nContent-Length: %d\r\n\r\n", function, d.Token, len(payload))
	return &producer{conn, bufio.NewReader(conn), append([]byte(head), payload...)}
}

// accept has one accepted, and returns its id.
func (p *producer) accept() (id string, err error) {
	if _, err := p.conn.Write(p.request); err != nil {
		return "", err
	}
	for first := true; ; first = false {
		line, err := p.in.ReadSlice('\n')
		switch {
		case err != nil:
			return "", err
		case first && !bytes.HasPrefix(line, []byte("HTTP/1.1 202")):
			return "", errors.New(string(line))
		case len(line) <= 2:
			return id, nil
		}
		if name, value, _ := bytes.Cut(line, []byte(":")); bytes.EqualFold(name, []byte("Lambent-Request-Id")) {
			id = string(bytes.TrimSpace(value))
		}
	}
}

// drained waits until nothing is left of what was accepted.
func drained(b *testing.B, d *daemon.Daemon) {
	b.Helper()
	for begun := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		left := 0.0
		for _, state := range []string{"waiting", "delayed", "running"} {
			left += d.Metric(b, `lambent_async_invocations{state="`+state+`"}`)
		}
		if left == 0 {
			return
		}
		if time.Since(begun) > 5*time.Minute {
			b.Fatalf("%v are left", left)
		}
	}
}

// BenchmarkAccept is what it takes to have a call of 1 KB accepted, on disk: latency and
// rate of 1 and of 64 producers, while the calls run.
func BenchmarkAccept(b *testing.B) {
	l := languages[0]
	d, _ := l.start(b)
	payload := []byte(`{"body":"` + strings.Repeat("x", 1024) + `"}`) // as a URL's event has it, which the echo looks for
	for _, clients := range []int{1, 64} {
		b.Run(fmt.Sprint(clients), func(b *testing.B) {
			producers := make([]*producer, clients)
			for i := range producers {
				producers[i] = newProducer(b, d, "echo", payload)
			}
			var left atomic.Int64
			left.Store(int64(b.N))
			each := make([]bench.Latencies, clients)
			before := bench.CPU(bench.Server(d.PID())...)
			b.ResetTimer()
			var wg sync.WaitGroup
			for i, p := range producers {
				wg.Go(func() {
					for left.Add(-1) >= 0 {
						begun := time.Now()
						if _, err := p.accept(); err != nil {
							b.Error(err)
							return
						}
						each[i] = append(each[i], time.Since(begun))
					}
				})
			}
			wg.Wait()
			b.StopTimer()
			took := b.Elapsed()
			drained(b, d)
			var all bench.Latencies
			for _, l := range each {
				all = append(all, l...)
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(float64(b.N)/took.Seconds(), "accepted/s")
			b.ReportMetric(us(all.Percentile(50)), "p50-us")
			b.ReportMetric(us(all.Percentile(99)), "p99-us")
			b.ReportMetric(us(bench.CPU(bench.Server(d.PID())...)-before)/float64(b.N), "cpu-us/call") // the running included
		})
	}
}

// BenchmarkAcceptToStart is how long it is from the sending of a call that nobody waits
// for to its start in the function, at a thousand a second.
func BenchmarkAcceptToStart(b *testing.B) {
	l := languages[0]
	d, _ := l.start(b)
	b.ResetTimer()
	all := paced(b, d, "echo", 4, min(b.N, 10_000), time.Millisecond)
	b.StopTimer()
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(len(all)), "calls")
	b.ReportMetric(us(all.Percentile(50)), "p50-us")
	b.ReportMetric(us(all.Percentile(99)), "p99-us")
}

// paced has n calls of a function accepted, one each interval, by several producers, waits
// for them, and returns how long it was from the sending of each to its start.
func paced(b *testing.B, d *daemon.Daemon, function string, producers, n int, interval time.Duration) (all bench.Latencies) {
	b.Helper()
	since := time.Now().UTC().Format(time.RFC3339Nano)
	sent := make([]map[string]time.Time, producers)
	var wg sync.WaitGroup
	for i := range producers {
		p := newProducer(b, d, function, []byte(`{"body":"hello"}`))
		sent[i] = map[string]time.Time{}
		wg.Go(func() {
			next := time.Now().Add(time.Duration(i) * interval)
			for range n / producers {
				time.Sleep(time.Until(next))
				next = next.Add(time.Duration(producers) * interval)
				begun := time.Now()
				id, err := p.accept()
				if err != nil {
					b.Error(err)
					return
				}
				sent[i][id] = begun
			}
		})
	}
	wg.Wait()
	for begun := time.Now(); len(all) < n/producers*producers && !b.Failed(); time.Sleep(50 * time.Millisecond) {
		all = nil
		list, err := d.Invocations(b.Context(), function, client.Period{Since: since}, 10_000)
		if err != nil {
			b.Fatal(err)
		}
		for _, r := range list.Invocations {
			for _, s := range sent {
				if begun, ok := s[r.ID]; ok {
					started := r.Start.Add(time.Duration(r.QueueUS+r.PlaceUS+r.InitUS) * time.Microsecond)
					all = append(all, started.Sub(begun))
				}
			}
		}
		if time.Since(begun) > time.Minute {
			b.Fatalf("of %d calls %d have run", n, len(all))
		}
	}
	return all
}

// BenchmarkFailing is how long calls of one function wait, from their sending to their
// start, beside another that always fails: with nothing of that, while 200,000 calls of it
// are accepted as fast as that goes, each of which runs once and waits for a day then, and
// with these waiting.
func BenchmarkFailing(b *testing.B) {
	const failing, others, interval = 200_000, 200, 20 * time.Millisecond
	l := languages[0]
	for b.Loop() {
		d, _ := l.start(b)
		l.deploy(b, d, "fails", func(r *client.DeployRequest) {
			r.Async = &client.AsyncRequest{BackoffMS: new((24 * time.Hour).Milliseconds()), MaxAgeMS: new((48 * time.Hour).Milliseconds())}
		})
		paced(b, d, "echo", 1, 50, interval) // it is warm
		alone := paced(b, d, "echo", 1, others, interval)
		var flood sync.WaitGroup
		var left atomic.Int64
		left.Store(failing)
		begun := time.Now()
		for range 16 {
			p := newProducer(b, d, "fails", []byte(`{"no":"body"}`))
			flood.Go(func() {
				for left.Add(-1) >= 0 {
					if _, err := p.accept(); err != nil {
						b.Error(err)
						return
					}
				}
			})
		}
		done := make(chan time.Duration, 1)
		go func() { flood.Wait(); done <- time.Since(begun) }()
		var beside bench.Latencies
		var took time.Duration
		for took == 0 && !b.Failed() {
			beside = append(beside, paced(b, d, "echo", 1, others, interval)...)
			select {
			case took = <-done:
			default:
			}
		}
		for d.Metric(b, `lambent_async_invocations{state="waiting"}`)+d.Metric(b, `lambent_async_invocations{state="running"}`) > 0 {
			time.Sleep(100 * time.Millisecond)
		}
		delayed := d.Metric(b, `lambent_async_invocations{state="delayed"}`)
		after := paced(b, d, "echo", 1, others, interval)
		b.ReportMetric(0, "ns/op")
		b.ReportMetric(failing/took.Seconds(), "accepted/s")
		b.ReportMetric(delayed, "waiting")
		for _, phase := range []struct {
			name string
			all  bench.Latencies
		}{{"alone", alone}, {"beside", beside}, {"after", after}} {
			b.ReportMetric(us(phase.all.Percentile(50)), phase.name+"-p50-us")
			b.ReportMetric(us(phase.all.Percentile(99)), phase.name+"-p99-us")
		}
		d.Kill()
	}
}

// BenchmarkUnaffected is how long calls of one function wait at two thousand a second, alone,
// beside a hundred a second of another, and beside as many of one that always fails, in
// turns. The slowest of some seconds are the machine's own pauses: there are many turns.
func BenchmarkUnaffected(b *testing.B) {
	const n, turns, interval = 4000, 8, 500 * time.Microsecond
	l := languages[0]
	d, _ := l.start(b)
	l.deploy(b, d, "works")
	l.deploy(b, d, "fails")
	paced(b, d, "echo", 4, n, interval)
	beside := map[string]bench.Latencies{}
	others := map[string]*producer{
		"alone": nil,
		"works": newProducer(b, d, "works", []byte(`{"body":"hello"}`)),
		"fails": newProducer(b, d, "fails", []byte(`{"no":"body"}`)),
	}
	for b.Loop() {
		for range turns {
			for other, p := range others {
				stop := p.every(b, 10*time.Millisecond)
				beside[other] = append(beside[other], paced(b, d, "echo", 4, n, interval)...)
				stop()
			}
		}
	}
	b.ReportMetric(0, "ns/op")
	for other, all := range beside {
		b.ReportMetric(us(all.Percentile(50)), other+"-p50-us")
		b.ReportMetric(us(all.Percentile(99)), other+"-p99-us")
	}
}

// every has a call accepted at each interval, until it is stopped; of no producer none.
func (p *producer) every(b *testing.B, interval time.Duration) (stop func()) {
	if p == nil {
		return func() {}
	}
	end, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(interval)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				if _, err := p.accept(); err != nil {
					b.Error(err)
				}
			case <-end:
				return
			}
		}
	}()
	return func() { close(end); <-ended }
}
