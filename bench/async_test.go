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
	const producers, interval = 4, 4 * time.Millisecond
	sent := make([]map[string]time.Time, producers)
	var wg sync.WaitGroup
	b.ResetTimer()
	for i := range producers {
		p := newProducer(b, d, "echo", []byte(`{"body":"hello"}`))
		sent[i] = map[string]time.Time{}
		wg.Go(func() {
			next := time.Now().Add(time.Duration(i) * interval / producers)
			for range min(b.N/producers+1, 10_000/producers) {
				time.Sleep(time.Until(next))
				next = next.Add(interval)
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
	b.StopTimer()
	drained(b, d)
	list, err := d.Invocations(b.Context(), "echo", client.Period{}, 10_000)
	if err != nil {
		b.Fatal(err)
	}
	var all bench.Latencies
	for _, r := range list.Invocations {
		for _, s := range sent {
			if begun, ok := s[r.ID]; ok {
				started := r.Start.Add(time.Duration(r.QueueUS+r.PlaceUS+r.InitUS) * time.Microsecond)
				all = append(all, started.Sub(begun))
			}
		}
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(len(all)), "calls")
	b.ReportMetric(us(all.Percentile(50)), "p50-us")
	b.ReportMetric(us(all.Percentile(99)), "p99-us")
}
