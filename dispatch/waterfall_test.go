package dispatch_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"lambent"
	"lambent/dispatch"
)

// slowly is a caller who takes half a second for each part of an answer.
type slowly struct{ reply }

func (r *slowly) Write(b []byte) (int, error) {
	time.Sleep(500 * time.Millisecond)
	return r.reply.Write(b)
}

// TestWaterfall: a cold call waits a second for a place, which another function has, is two
// in getting its code in place, three in its init and four in its run, for one and a half of
// which the caller takes what is streamed. The second one, who finds it idle, only runs.
func TestWaterfall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stream := func(_ context.Context, _ *scripted, inv *lambent.Invocation, out lambent.Reply) error {
			if inv.Target.Function == "other" {
				time.Sleep(time.Second)
				answer(out, "ok")
				return nil
			}
			time.Sleep(2500 * time.Millisecond)
			err := out.Begin(200, nil)
			for range 3 {
				_, wrong := out.Write([]byte("part"))
				err = errors.Join(err, wrong)
			}
			out.End(lambent.Result{})
			return err
		}
		s := &script{invoke: stream, init: func(_ context.Context, k int) error {
			if k == 2 {
				time.Sleep(3 * time.Second)
			}
			return nil
		}}
		n := newNode(t, s, func(c *dispatch.Config) { c.MaxInstances = 1 })
		n.driver.AssignErr = func() error {
			if s.starts.Load() == 2 {
				time.Sleep(2 * time.Second)
			}
			return nil
		}
		n.function("a", "other", 128)
		n.function("b", "f", 128)
		go n.call("a", "other")
		synctest.Wait()
		for range 2 {
			r := &slowly{}
			if err := n.Invoke(t.Context(), &lambent.Invocation{ID: lambent.NewID(), Target: lambent.Name{Project: "b", Function: "f"}}, r); err != nil {
				t.Fatal(err)
			}
		}
		const second = 1_000_000
		for k, want := range []lambent.Usage{
			{RunUS: second},
			{QueueUS: 1 * second, PlaceUS: 2 * second, InitUS: 3 * second, RunUS: 4 * second, StreamUS: 1.5 * second, Cold: true},
			{RunUS: 4 * second, StreamUS: 1.5 * second},
		} {
			u := n.records()[k]
			got := lambent.Usage{QueueUS: u.QueueUS, PlaceUS: u.PlaceUS, InitUS: u.InitUS, RunUS: u.RunUS, StreamUS: u.StreamUS, RespondUS: u.RespondUS, Cold: k > 0 && u.Cold}
			if got != want {
				t.Errorf("call %d: queue %d, place %d, init %d, run %d, of which streaming %d, respond %d us, cold: %v", k, u.QueueUS, u.PlaceUS, u.InitUS, u.RunUS, u.StreamUS, u.RespondUS, u.Cold)
			}
			if took := u.End.Sub(u.Start).Microseconds(); took != u.QueueUS+u.PlaceUS+u.InitUS+u.RunUS {
				t.Errorf("call %d: the steps are not the %d us that it took", k, took)
			}
		}
	})
}
