package queue_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"lambent"
	"lambent/queue"
	"lambent/store"
)

// A bed is queues on a data directory, which can be opened again.
type bed struct {
	*queue.Queues
	log   *store.Queue
	close func()
}

func open(t testing.TB, dir string) *bed {
	t.Helper()
	s, err := store.Open(t.Context(), store.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	log, err := s.OpenQueue(t.Context(), store.QueueOptions{Name: "messages"})
	if err != nil {
		t.Fatal(err)
	}
	qs, err := queue.Open(t.Context(), queue.Config{Store: s, Log: log, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	closed := false
	b := &bed{qs, log, func() {
		if closed {
			return
		}
		closed = true
		qs.Close()
		if err := s.Close(); err != nil {
			t.Errorf("closing: %v", err)
		}
	}}
	t.Cleanup(b.close)
	return b
}

const project = "default"

// as returns settings that are the default but for what change does.
func as(change func(*queue.Settings)) queue.Settings {
	s := queue.DefaultSettings()
	if change != nil {
		change(&s)
	}
	return s
}

func fifo(s *queue.Settings) { s.FIFO, s.ContentDedupe = true, true }

func (b *bed) create(t testing.TB, name string, change func(*queue.Settings)) {
	t.Helper()
	if _, err := b.Create(t.Context(), project, name, as(change), nil); err != nil {
		t.Fatal(err)
	}
}

func (b *bed) send(t testing.TB, name string, messages ...queue.Message) []queue.Sent {
	t.Helper()
	sent, errs, err := b.Send(t.Context(), project, name, messages...)
	if err := errors.Join(append(errs, err)...); err != nil {
		t.Fatal(err)
	}
	return sent
}

// text is a message without a delay of its own.
func text(body string) queue.Message { return queue.Message{Body: []byte(body), Delay: -1} }

func in(group, body string) queue.Message {
	m := text(body)
	m.Group = group
	return m
}

func (b *bed) receive(t testing.TB, name string, n int, wait, visibility time.Duration) []queue.Received {
	t.Helper()
	got, err := b.Receive(t.Context(), project, name, n, wait, visibility)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func (b *bed) delete(t testing.TB, name string, got ...queue.Received) {
	t.Helper()
	for _, r := range got {
		errs, err := b.DeleteMessages(t.Context(), project, name, r.Receipt)
		if err := errors.Join(append(errs, err)...); err != nil {
			t.Fatal(err)
		}
	}
}

// expect receives messages of these bodies, in that order, and returns them.
func (b *bed) expect(t testing.TB, name string, wait, visibility time.Duration, bodies ...string) (all []queue.Received) {
	t.Helper()
	var got []string
	for len(got) < len(bodies) {
		some := b.receive(t, name, min(10, len(bodies)-len(got)), wait, visibility)
		if len(some) == 0 {
			break
		}
		for _, r := range some {
			got = append(got, string(r.Body))
		}
		all = append(all, some...)
	}
	if !slices.Equal(got, bodies) {
		t.Fatalf("%s: received %q, want %q", name, got, bodies)
	}
	return all
}

func (b *bed) counts(t testing.TB, name string, visible, out, delayed int) {
	t.Helper()
	i, err := b.Get(project, name)
	if err != nil || i.Visible != visible || i.Out != out || i.Delayed != delayed {
		t.Errorf("%s: %d visible, %d out, %d delayed, %v; want %d, %d, %d", name, i.Visible, i.Out, i.Delayed, err, visible, out, delayed)
	}
}

func wantReason(t testing.TB, err error, kind lambent.Kind, reason string) {
	t.Helper()
	if e, ok := errors.AsType[*lambent.Error](err); !ok || e.Kind != kind || e.Reason != reason {
		t.Errorf("the error is %v; want %v, %s", err, kind, reason)
	}
}

const (
	now  = time.Duration(0)
	long = time.Hour
	soon = 10 * time.Second // at the most
)

// What is sent is received with all that it has, alone, and is gone once it is deleted.
func TestMessages(t *testing.T) {
	t.Parallel()
	b := open(t, t.TempDir())
	b.create(t, "q", nil)
	many := map[string]queue.Attribute{}
	for i := range 10 {
		many[fmt.Sprint("a", i)] = queue.Attribute{Type: "Binary.x", Binary: bytes.Repeat([]byte{byte(i)}, 5000)}
	}
	messages := []queue.Message{
		text("one"), {Body: []byte("two"), Attributes: map[string]queue.Attribute{"n": {Type: "Number", String: "1"}}, Trace: "Root=1", Sender: "LA", Group: "g"},
		{Body: []byte("many"), Attributes: many}, text(strings.Repeat("x", queue.MaxMessageBytes)),
	}
	var sent []queue.Sent
	for _, m := range messages {
		sent = append(sent, b.send(t, "q", m)...)
	}
	b.counts(t, "q", 4, 0, 0)
	got := b.receive(t, "q", 10, soon, long)
	for len(got) < 4 {
		got = append(got, b.receive(t, "q", 10, soon, long)...)
	}
	b.counts(t, "q", 0, 4, 0)
	for i, r := range got {
		m := messages[i]
		if r.ID != sent[i].ID || !bytes.Equal(r.Body, m.Body) || !maps.EqualFunc(r.Attributes, m.Attributes, func(a, b queue.Attribute) bool {
			return a.Type == b.Type && a.String == b.String && bytes.Equal(a.Binary, b.Binary)
		}) || r.Trace != m.Trace || r.Sender != m.Sender || r.Group != m.Group || r.Receives != 1 || time.Since(r.SentAt) > soon || r.SentAt.After(r.FirstReceived) {
			t.Errorf("message %d is %+.200v", i, r)
		}
	}
	if more := b.receive(t, "q", 10, now, long); len(more) != 0 {
		t.Errorf("received twice: %+v", more)
	}
	b.delete(t, "q", got...)
	b.delete(t, "q", got[0]) // once more is no error
	b.counts(t, "q", 0, 0, 0)

	wantMiss := func(err error) {
		t.Helper()
		if !lambent.Is(err, lambent.NotFound) {
			t.Errorf("a queue that is not there: %v", err)
		}
	}
	_, _, err := b.Send(t.Context(), project, "none", text("x"))
	wantMiss(err)
	_, err = b.Receive(t.Context(), project, "none", 1, now, long)
	wantMiss(err)
	_, err = b.DeleteMessages(t.Context(), "other", "q", got[0].Receipt)
	wantMiss(err)
	for _, bad := range []queue.Message{text(""), text(strings.Repeat("x", queue.MaxMessageBytes+1)), {Body: []byte("x"), Delay: 901 * time.Second}, {Body: []byte("x"), DedupeID: "d"}, in("ü", "x")} {
		sent, errs, err := b.Send(t.Context(), project, "q", bad, text("good"))
		if err != nil || errs[1] != nil || sent[1].ID == "" {
			t.Errorf("beside what is refused: %v", errs)
		}
		wantReason(t, errs[0], lambent.Invalid, queue.ReasonValue)
	}
	for _, receipt := range []string{"", "x", "eA", strings.Repeat("A", 100)} {
		errs, err := b.DeleteMessages(t.Context(), project, "q", receipt)
		if err != nil {
			t.Fatal(err)
		}
		wantReason(t, errs[0], lambent.Invalid, queue.ReasonReceipt)
	}
	_, err = b.Receive(t.Context(), project, "q", 11, now, long)
	wantReason(t, err, lambent.Invalid, queue.ReasonValue)
	_, err = b.Receive(t.Context(), project, "q", 1, 21*time.Second, long)
	wantReason(t, err, lambent.Invalid, queue.ReasonValue)
	_, err = b.Receive(t.Context(), project, "q", 1, now, 13*time.Hour)
	wantReason(t, err, lambent.Invalid, queue.ReasonValue)
}

// Who does not delete a message in time has it no more, unless he asks for more time.
func TestVisibility(t *testing.T) {
	t.Parallel()
	b := open(t, t.TempDir())
	b.create(t, "q", func(s *queue.Settings) { s.VisibilityS = 1 })
	b.send(t, "q", text("m"))
	first := b.expect(t, "q", soon, -1, "m")[0]
	begun := time.Now()
	second := b.expect(t, "q", soon, 50*time.Millisecond, "m")[0]
	if took := time.Since(begun); took < 900*time.Millisecond || second.Receives != 2 || second.Receipt == first.Receipt || second.ID != first.ID || !near(second.FirstReceived, first.FirstReceived) {
		t.Errorf("after %v received %+v", took, second)
	}
	third := b.expect(t, "q", soon, 20*time.Millisecond, "m")[0]
	change := func(r queue.Received, d time.Duration) error {
		errs, err := b.ChangeVisibility(project, "q", queue.VisibilityChange{Receipt: r.Receipt, Visibility: d})
		if err != nil {
			t.Fatal(err)
		}
		return errs[0]
	}
	if err := change(third, long); err != nil {
		t.Fatal(err)
	}
	if got := b.receive(t, "q", 1, 200*time.Millisecond, long); len(got) != 0 {
		t.Errorf("received though there is more time: %+v", got)
	}
	wantReason(t, change(first, long), lambent.Invalid, queue.ReasonNotOut)
	b.delete(t, "q", first) // somebody else has it
	wantReason(t, change(third, 13*time.Hour), lambent.Invalid, queue.ReasonValue)
	if err := change(third, 0); err != nil {
		t.Fatal(err)
	}
	wantReason(t, change(third, 0), lambent.Invalid, queue.ReasonNotOut)
	fourth := b.expect(t, "q", now, 0, "m")[0]
	if fourth.Receives != 4 {
		t.Errorf("received %d times", fourth.Receives)
	}
	visible := func() {
		for {
			if i, _ := b.Get(project, "q"); i.Visible == 1 {
				return
			}
			time.Sleep(time.Millisecond)
		}
	}
	visible()
	b.delete(t, "q", first) // others had it since
	fifth := b.expect(t, "q", now, 20*time.Millisecond, "m")[0]
	visible()
	b.delete(t, "q", fifth) // late, but nobody else had it
	b.counts(t, "q", 0, 0, 0)
	if !b.Idle(project, "q") {
		t.Error("something is kept of it")
	}
}

func near(a, b time.Time) bool { return a.Sub(b).Abs() < 5*time.Millisecond }

// Whoever waits has a message as soon as it is sent; of several, as many as there are.
func TestLongPoll(t *testing.T) {
	t.Parallel()
	b := open(t, t.TempDir())
	b.create(t, "q", nil)
	begun := time.Now()
	if got := b.receive(t, "q", 1, 100*time.Millisecond, long); len(got) != 0 || time.Since(begun) < 90*time.Millisecond {
		t.Errorf("received %v after %v", got, time.Since(begun))
	}
	const n = 20
	got := make(chan time.Time, n)
	ctx, cancel := context.WithCancel(t.Context())
	for range n {
		go func() {
			r, err := b.Receive(ctx, project, "q", 1, 20*time.Second, long)
			if err != nil || len(r) != 1 {
				t.Errorf("received %v, %v", r, err)
			}
			got <- time.Now()
		}()
	}
	var worst time.Duration
	for range n {
		sent := time.Now()
		b.send(t, "q", text("m"))
		worst = max(worst, (<-got).Sub(sent))
	}
	if worst > time.Second {
		t.Errorf("a message was waited for for %v", worst)
	}
	cancel()
	for _, end := range []func(context.CancelFunc){func(cancel context.CancelFunc) { cancel() }, func(context.CancelFunc) { b.Stop() }} {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(20*time.Millisecond, func() { end(cancel) })
		if r, _ := b.Receive(ctx, project, "q", 1, 20*time.Second, long); len(r) != 0 {
			t.Errorf("received %v", r)
		}
		cancel()
	}
	if took := time.Since(begun); took > 10*time.Second {
		t.Errorf("let go after %v", took)
	}
}

// A message can be received once its delay is over.
func TestDelay(t *testing.T) {
	t.Parallel()
	b := open(t, t.TempDir())
	b.create(t, "q", func(s *queue.Settings) { s.DelayS = 1 })
	begun := time.Now()
	b.send(t, "q", text("the queue's"), queue.Message{Body: []byte("none"), Delay: 0}, queue.Message{Body: []byte("its own"), Delay: 300 * time.Millisecond})
	b.counts(t, "q", 1, 0, 2)
	b.expect(t, "q", soon, long, "none", "its own")
	if took := time.Since(begun); took < 299*time.Millisecond {
		t.Errorf("after %v", took)
	}
	b.expect(t, "q", soon, long, "the queue's")
	if took := time.Since(begun); took < 999*time.Millisecond {
		t.Errorf("after %v", took)
	}
}

// What is received too often without being deleted goes to the dead letter queue.
func TestDeadLetters(t *testing.T) {
	t.Parallel()
	for _, suffix := range []string{"", ".fifo"} {
		b := open(t, t.TempDir())
		kind := func(s *queue.Settings) {
			if suffix != "" {
				fifo(s)
			}
		}
		b.create(t, "dead"+suffix, kind)
		b.create(t, "q"+suffix, func(s *queue.Settings) { kind(s); s.MaxReceives, s.DeadLetter = 2, "dead"+suffix })
		sent := b.send(t, "q"+suffix, in("g", "bad"))
		b.send(t, "q"+suffix, in("g", "good"))
		for len(b.receive(t, "dead"+suffix, 1, now, 0)) == 0 {
			got := b.receive(t, "q"+suffix, 10, 20*time.Millisecond, long)
			b.delete(t, "q"+suffix, ofBody(slices.Clone(got), "good")...)
			for _, bad := range ofBody(got, "bad") {
				if _, err := b.ChangeVisibility(project, "q"+suffix, queue.VisibilityChange{Receipt: bad.Receipt}); err != nil {
					t.Fatal(err)
				}
			}
		}
		got := b.expect(t, "dead"+suffix, soon, long, "bad")[0]
		if got.ID != sent[0].ID || got.DeadLetterOf != "q"+suffix || got.Group != "g" || got.Sequence != sent[0].Sequence {
			t.Errorf("the dead letter is %+v", got)
		}
		b.delete(t, "dead"+suffix, got)

		// Without that queue a message stays.
		if err := b.Delete(t.Context(), project, "dead"+suffix); err != nil {
			t.Fatal(err)
		}
		b.send(t, "q"+suffix, in("h", "stays"))
		for i := range 4 {
			if got := b.expect(t, "q"+suffix, soon, 0, "stays")[0]; got.Receives != i+1 {
				t.Errorf("received %d times, not %d", got.Receives, i+1)
			}
		}
		b.close()
	}
}

func ofBody(all []queue.Received, body string) []queue.Received {
	return slices.DeleteFunc(all, func(r queue.Received) bool { return string(r.Body) != body })
}

// An answer has about a megabyte of messages: what is over that is received next, and has
// not been received before. Nothing overtakes it in its group.
func TestReceiveLarge(t *testing.T) {
	t.Parallel()
	b := open(t, t.TempDir())
	large := func(c string) string { return strings.Repeat(c, 600<<10) }
	b.create(t, "q", nil)
	for _, c := range []string{"a", "b", "c"} {
		b.send(t, "q", text(large(c)))
	}
	seen := map[string]bool{}
	for range 3 {
		got := b.receive(t, "q", 10, soon, long)
		if len(got) != 1 || got[0].Receives != 1 || seen[string(got[0].Body[:1])] {
			t.Fatalf("received %d messages, the first for time %d", len(got), got[0].Receives)
		}
		seen[string(got[0].Body[:1])] = true
	}
	b.create(t, "q.fifo", fifo)
	for _, body := range []string{large("a"), large("b"), "c"} {
		b.send(t, "q.fifo", in("g", body))
	}
	first := b.receive(t, "q.fifo", 10, soon, long)
	if len(first) != 1 || string(first[0].Body) != large("a") {
		t.Fatalf("received %d messages", len(first))
	}
	if got := b.receive(t, "q.fifo", 10, now, long); len(got) != 0 {
		t.Fatalf("received %d messages behind one that is out", len(got))
	}
	b.delete(t, "q.fifo", first...)
	if got := b.receive(t, "q.fifo", 10, soon, long); len(got) != 2 || string(got[0].Body) != large("b") || string(got[1].Body) != "c" || got[0].Receives != 1 || got[1].Receives != 1 {
		t.Errorf("received %d messages", len(got))
	}
}

// The messages of a group come in their order, none while an earlier one is out.
func TestFIFO(t *testing.T) {
	t.Parallel()
	b := open(t, t.TempDir())
	b.create(t, "q.fifo", fifo)
	var last string
	for _, m := range []queue.Message{in("a", "a1"), in("b", "b1"), in("a", "a2"), in("a", "a3"), in("b", "b2")} {
		if s := b.send(t, "q.fifo", m)[0]; len(s.Sequence) != 20 || s.Sequence <= last {
			t.Errorf("sequence number %q after %q", s.Sequence, last)
		} else {
			last = s.Sequence
		}
	}
	a := b.expect(t, "q.fifo", soon, 100*time.Millisecond, "a1", "a2")[:2]
	bs := b.expect(t, "q.fifo", soon, long, "b1", "b2")
	if got := b.receive(t, "q.fifo", 10, now, long); len(got) != 0 {
		t.Errorf("received %+v while others of their groups are out", got)
	}
	b.counts(t, "q.fifo", 1, 4, 0)
	b.delete(t, "q.fifo", bs...)
	// The first of the group that is out has its time end before the second: both come again, in order.
	if errs, err := b.ChangeVisibility(project, "q.fifo", queue.VisibilityChange{Receipt: a[1].Receipt, Visibility: 300 * time.Millisecond}); err != nil || errs[0] != nil {
		t.Fatal(err, errs)
	}
	again := b.expect(t, "q.fifo", soon, long, "a1", "a2", "a3")
	errs, err := b.DeleteMessages(t.Context(), project, "q.fifo", a[0].Receipt)
	if err != nil {
		t.Fatal(err)
	}
	wantReason(t, errs[0], lambent.Invalid, queue.ReasonValue) // expired
	b.send(t, "q.fifo", in("a", "a4"))
	b.delete(t, "q.fifo", again[1], again[0])
	if got := b.receive(t, "q.fifo", 1, now, long); len(got) != 0 {
		t.Errorf("received %+v", got)
	}
	b.delete(t, "q.fifo", again[2])
	b.delete(t, "q.fifo", b.expect(t, "q.fifo", soon, long, "a4")...)
	if got := b.receive(t, "q.fifo", 1, now, long); len(got) != 0 || !b.Idle(project, "q.fifo") {
		t.Error("something is kept of groups that have nothing")
	}
	for _, bad := range []queue.Message{text("no group"), {Body: []byte("x"), Group: "g", Delay: time.Second}} {
		if _, errs, _ := b.Send(t.Context(), project, "q.fifo", bad); !lambent.Is(errs[0], lambent.Invalid) {
			t.Errorf("%+v: %v", bad, errs[0])
		}
	}
}

// What is sent twice within the window counts once, after a start of the server too.
func TestDedupe(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b := open(t, dir)
	b.create(t, "q.fifo", fifo)
	b.create(t, "each.fifo", func(s *queue.Settings) { s.FIFO, s.DedupePerGroup = true, true })
	with := func(group, id, body string) queue.Message {
		m := in(group, body)
		m.DedupeID = id
		return m
	}
	first := b.send(t, "q.fifo", with("a", "1", "one"), with("b", "1", "the same"), in("a", "body"), in("a", "body"))
	if first[0] != first[1] || first[2] != first[3] || first[0] == first[2] {
		t.Errorf("sent %+v", first)
	}
	each := b.send(t, "each.fifo", with("a", "1", "of a"), with("b", "1", "of b"), with("a", "1", "again"))
	if each[0] == each[1] || each[0] != each[2] {
		t.Errorf("sent %+v", each)
	}
	if _, errs, _ := b.Send(t.Context(), project, "each.fifo", in("a", "without an id")); !lambent.Is(errs[0], lambent.Invalid) {
		t.Errorf("without an id: %v", errs[0])
	}
	b.delete(t, "q.fifo", b.expect(t, "q.fifo", soon, long, "one", "body")...)
	for range 2 {
		if again := b.send(t, "q.fifo", with("a", "1", "one")); again[0] != first[0] {
			t.Errorf("sent again: %+v, first %+v", again, first)
		}
		if again := b.send(t, "each.fifo", with("b", "1", "x")); again[0] != each[1] {
			t.Errorf("sent again: %+v, first %+v", again, each)
		}
		b.counts(t, "q.fifo", 0, 0, 0)
		b.close()
		b = open(t, dir)
	}
	b.Forget(project, "q.fifo")
	if late := b.send(t, "q.fifo", with("a", "1", "late")); late[0] == first[0] {
		t.Error("after the window it is the same message")
	}
	b.expect(t, "q.fifo", soon, long, "late")
}

// What is too old is gone, be it looked for or not.
func TestRetention(t *testing.T) {
	t.Parallel()
	b := open(t, t.TempDir())
	b.create(t, "q", nil)
	b.create(t, "q.fifo", fifo)
	b.send(t, "q", text("one"), text("two"), text("three"))
	b.send(t, "q.fifo", in("a", "one"), in("b", "two"))
	held := b.receive(t, "q", 1, soon, 1200*time.Millisecond)
	b.SetRetention(project, "q", 1)
	b.SetRetention(project, "q.fifo", 1)
	for _, q := range []string{"q", "q.fifo"} {
		for deadline := time.Now().Add(soon); ; time.Sleep(10 * time.Millisecond) {
			i, err := b.Get(project, q)
			if err != nil {
				t.Fatal(err)
			}
			if i.Visible == 0 {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s has %+v", q, i)
			}
		}
	}
	b.send(t, "q", text("new"))
	b.expect(t, "q", soon, long, "new")
	if got := b.receive(t, "q", 1, 1500*time.Millisecond, long); len(got) != 0 || len(held) != 1 {
		t.Errorf("received %+v, which is too old", got)
	}
}

// What there is after a start is what there was, but for what was out: that can be
// received, and still be deleted by who had it.
func TestRestart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b := open(t, dir)
	b.create(t, "q", func(s *queue.Settings) { s.VisibilityS = 77 })
	b.create(t, "q.fifo", fifo)
	if _, err := b.Create(t.Context(), "shop", "q", as(nil), map[string]string{"k": "v"}); err != nil {
		t.Fatal(err)
	}
	b.send(t, "q", text("one"), text("two"), text("three"), queue.Message{Body: []byte("later"), Delay: 900 * time.Second})
	b.send(t, "q.fifo", in("a", "1"), in("a", "2"), in("b", "3"))
	out := b.receive(t, "q", 2, soon, long)
	b.delete(t, "q", out[0])
	b.receive(t, "q.fifo", 1, soon, long)
	b.close()

	b = open(t, dir)
	if i, err := b.Get(project, "q"); err != nil || i.VisibilityS != 77 {
		t.Errorf("%+v, %v", i, err)
	}
	if i, err := b.Get("shop", "q"); err != nil || i.Tags["k"] != "v" {
		t.Errorf("%+v, %v", i, err)
	}
	if l := b.List(project); !slices.Equal(l, []string{"q", "q.fifo"}) {
		t.Errorf("queues %v", l)
	}
	b.counts(t, "q", 2, 0, 1)
	b.delete(t, "q", out[1])
	b.expect(t, "q", soon, long, "three")
	b.counts(t, "q", 0, 1, 1)
	// Which of the groups comes first nothing says.
	groups := map[string][]string{}
	for n := 0; n < 3; {
		got := b.receive(t, "q.fifo", 10, soon, long)
		if len(got) == 0 {
			break
		}
		for _, r := range got {
			groups[r.Group] = append(groups[r.Group], string(r.Body))
		}
		n += len(got)
		b.delete(t, "q.fifo", got...)
	}
	if !slices.Equal(groups["a"], []string{"1", "2"}) || !slices.Equal(groups["b"], []string{"3"}) || len(groups) != 2 {
		t.Errorf("received %v", groups)
	}
}

func TestPurgeAndDelete(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b := open(t, dir)
	ctx := t.Context()
	for _, name := range []string{"q", "q.fifo"} {
		b.create(t, name, func(s *queue.Settings) {
			if name != "q" {
				fifo(s)
			}
		})
		b.send(t, name, in("a", "1"), in("a", "2"), in("b", "3"))
		out := b.receive(t, name, 1, soon, 50*time.Millisecond)
		if err := b.Purge(ctx, project, name); err != nil {
			t.Fatal(err)
		}
		b.counts(t, name, 0, 0, 0)
		if got := b.receive(t, name, 10, 100*time.Millisecond, long); len(got) != 0 {
			t.Errorf("%s: after a purge received %+v", name, got)
		}
		if errs, err := b.DeleteMessages(ctx, project, name, out[0].Receipt); err != nil || name == "q" && errs[0] != nil {
			t.Errorf("%v %v", errs, err)
		}
		b.send(t, name, in("a", "new"))
		b.expect(t, name, soon, long, "new")

		waited := make(chan error, 1)
		go func() {
			_, err := b.Receive(ctx, project, name, 1, 20*time.Second, long)
			waited <- err
		}()
		time.Sleep(20 * time.Millisecond)
		if err := b.Delete(ctx, project, name); err != nil {
			t.Fatal(err)
		}
		if err := <-waited; !lambent.Is(err, lambent.NotFound) {
			t.Errorf("who waits at a queue that is deleted gets %v", err)
		}
		if err := b.Delete(ctx, project, name); !lambent.Is(err, lambent.NotFound) {
			t.Errorf("deleted twice: %v", err)
		}
	}
	isMark := func(lane string) bool { return strings.HasSuffix(lane, "#") } // of what was sent to the FIFO queue, for a while
	for deadline := time.Now().Add(soon); len(slices.DeleteFunc(b.log.Lanes(), isMark)) > 0; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("left: %v", b.log.Lanes())
		}
	}
	b.create(t, "q", nil)
	b.close()
	b = open(t, dir)
	b.counts(t, "q", 0, 0, 0)
}

// What cannot be is refused, and nothing half-done.
func TestSettings(t *testing.T) {
	t.Parallel()
	b := open(t, t.TempDir())
	ctx := t.Context()
	for name, change := range map[string]func(*queue.Settings){
		"":                      nil,
		"a b":                   nil,
		"a.b":                   nil,
		strings.Repeat("x", 81): nil,
		"x.fifo":                nil,
		"fifo":                  fifo,
		"a":                     func(s *queue.Settings) { s.DelayS = 901 },
		"b":                     func(s *queue.Settings) { s.VisibilityS = -1 },
		"c":                     func(s *queue.Settings) { s.WaitS = 21 },
		"d":                     func(s *queue.Settings) { s.RetentionS = 59 },
		"e":                     func(s *queue.Settings) { s.MaxBytes = 1023 },
		"f":                     func(s *queue.Settings) { s.MaxReceives = 1 },
		"g":                     func(s *queue.Settings) { s.MaxReceives, s.DeadLetter = 1, "none" },
		"h":                     func(s *queue.Settings) { s.MaxReceives, s.DeadLetter = 1, "h" },
		"i":                     func(s *queue.Settings) { s.ContentDedupe = true },
	} {
		if _, err := b.Create(ctx, project, name, as(change), nil); !lambent.Is(err, lambent.Invalid) {
			t.Errorf("queue %.20q: %v", name, err)
		}
	}
	if l := b.List(project); len(l) != 0 {
		t.Errorf("there are queues %v", l)
	}
	b.create(t, "q", nil)
	b.create(t, "q", nil) // the same one
	if _, err := b.Create(ctx, project, "q", as(func(s *queue.Settings) { s.DelayS = 1 }), nil); !lambent.Is(err, lambent.Exists) {
		t.Errorf("with another delay: %v", err)
	}
	if err := b.Change(ctx, project, "q", func(s *queue.Settings, tags map[string]string) error {
		s.DelayS, tags["k"] = 5, "v"
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []func(*queue.Settings){func(s *queue.Settings) { s.DelayS = 1000 }, func(s *queue.Settings) { s.FIFO = true }} {
		if err := b.Change(ctx, project, "q", func(s *queue.Settings, tags map[string]string) error {
			tags["x"] = "y"
			bad(s)
			return nil
		}); !lambent.Is(err, lambent.Invalid) {
			t.Errorf("a bad change: %v", err)
		}
	}
	if i, err := b.Get(project, "q"); err != nil || i.DelayS != 5 || !maps.Equal(i.Tags, map[string]string{"k": "v"}) {
		t.Errorf("%+v, %v", i, err)
	}
}
