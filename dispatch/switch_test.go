package dispatch_test

import (
	"context"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"lambent"
	"lambent/guest"
)

// A switcher is a reply that gives its connection away.
type switcher struct {
	reply
	conn lambent.Conn
}

func (s *switcher) Switch(map[string][]string) (lambent.Conn, error) { return s.conn, nil }

type pipe struct{ net.Conn }

func (p pipe) CloseWrite() error { return p.Close() }

// speaks switches, answers what it hears by half of it, and ends with its instance.
func speaks(_ context.Context, in *scripted, _ *lambent.Invocation, out lambent.Reply) error {
	c, err := out.(lambent.Switcher).Switch(nil)
	if err != nil {
		out.End(lambent.Result{Fault: in.Fault(lambent.FaultCanceled, nil)})
		return nil
	}
	go func() {
		<-in.sandbox.Done()
		c.Close()
	}()
	buf := make([]byte, 100)
	for {
		n, err := c.Read(buf)
		if err != nil {
			out.End(lambent.Result{})
			return nil
		}
		_, _ = c.Write(buf[:n/2])
	}
}

// A connection that was switched is one invocation, whose bytes are counted, and which
// Close does not wait for; for a call beside it it does.
func TestSwitch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, &script{invoke: func(ctx context.Context, in *scripted, inv *lambent.Invocation, out lambent.Reply) error {
			if inv.HTTP == nil {
				return sleeper(5*time.Second)(ctx, in, inv, out)
			}
			return speaks(ctx, in, inv, out)
		}})
		client, server := net.Pipe()
		s := &switcher{conn: pipe{server}}
		go func() {
			_ = b.Invoke(t.Context(), &lambent.Invocation{ID: "1", Target: b.rev.Name, HTTP: &lambent.Request{Upgrade: "websocket"}}, s)
		}()
		_, _ = io.WriteString(client, "0123456789")
		if n, err := io.ReadFull(client, make([]byte, 5)); n != 5 || err != nil {
			t.Fatal(n, err)
		}
		go b.call(context.Background())
		synctest.Wait()
		begun := time.Now()
		if err := b.Close(t.Context()); err != nil {
			t.Error(err)
		}
		if took := time.Since(begun); took != 5*time.Second+hesitation {
			t.Errorf("Close took %v", took)
		}
		synctest.Wait()
		for _, u := range b.records() {
			if u.ID == "1" && (u.BytesIn != 10 || u.BytesOut != 5 || u.Outcome != lambent.OutcomeOK || u.RunUS != (5*time.Second+hesitation).Microseconds()) {
				t.Errorf("%+v", u)
			}
		}
		if n := len(b.records()); n != 2 || s.ended != 1 {
			t.Errorf("%d records, ended %d times", n, s.ended)
		}
	})
}

// A caller who has no connection to give away is told of no switch.
func TestSwitchOfNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, &script{invoke: speaks})
		if r := b.call(t.Context()); r.err != nil || r.result.Fault == nil || r.status != 0 || r.body.Len() != 0 {
			t.Errorf("%+v", r)
		}
	})
}

// coming is an upload of 1000 bytes.
type coming struct{ count int64 }

func (c *coming) Read(b []byte) (int, error) {
	n := min(int64(len(b)), 1000-c.count)
	if c.count += n; n == 0 {
		return 0, io.EOF
	}
	return int(n), nil
}
func (c *coming) Close() error { return nil }
func (c *coming) Count() int64 { return c.count }

// What came of an upload is counted, whatever was announced; an instance that never saw
// it is followed by another.
func TestUploadIsCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, &script{invoke: func(_ context.Context, in *scripted, inv *lambent.Invocation, out lambent.Reply) error {
			if in.n == 1 {
				return guest.ErrNotDelivered
			}
			_, _ = io.CopyN(io.Discard, inv.HTTP.Body, 300)
			answer(out, "enough")
			return nil
		}})
		r := &reply{}
		up := &coming{}
		err := b.Invoke(t.Context(), &lambent.Invocation{ID: "1", Target: b.rev.Name, HTTP: &lambent.Request{Body: up, ContentLength: 1000}}, r)
		if u := b.records(); err != nil || len(u) != 1 || u[0].BytesIn != up.count || up.count == 0 {
			t.Errorf("%v, %+v", err, u)
		}
	})
}
