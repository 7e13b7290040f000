package dispatch

import (
	"context"
	"errors"
	"runtime"
	"strconv"
	"time"

	"lambent"
	"lambent/guest"
	"lambent/sandbox"
)

// An attempt is one invocation's way through an instance. It is the Reply that
// the guest sees: it counts, and it holds back the head of the answer and the
// write that would complete it until the usage record is in the ledger.
type attempt struct {
	d      *Dispatcher
	inv    *lambent.Invocation
	target lambent.Target
	reply  lambent.Reply
	in     *instance

	arrived  time.Time
	runStart time.Time
	bytesIn  int64

	status int
	header map[string][]string
	begun  bool   // the head has been passed on
	length int64  // that the head announced; -1: none
	out    int64  // bytes of body so far
	held   []byte // the write that completes length
	err    error  // of the ledger
	apart  bool   // the protocol was switched

	cancel    context.CancelFunc // ends the run; nil: a caller who is gone does not
	streaming time.Duration      // the caller was written to, before the end
	computed  time.Duration      // processor time; 0: not known
	slice     slice              // of an instance that serves several at a time
	answers   bool               // it is with the guest, and the instance may serve others
	first     bool               // that the instance serves
	cold      bool               // and it waited for its start
	oom       bool               // the kernel ended something inside for the memory limit
}

func newAttempt(d *Dispatcher, inv *lambent.Invocation, t lambent.Target, reply lambent.Reply) *attempt {
	a := &attempt{d: d, inv: inv, target: t, reply: reply, arrived: inv.Arrived, length: -1, bytesIn: int64(len(inv.Raw))}
	if a.arrived.IsZero() {
		a.arrived = time.Now()
	}
	if inv.HTTP != nil && inv.HTTP.ContentLength > 0 {
		a.bytesIn = inv.HTTP.ContentLength
	}
	return a
}

// run serves the invocation with an instance. again says that the code never saw
// it, so that another instance may; only if mayRetry.
func (a *attempt) run(caller context.Context, in *instance, mayRetry bool) (again bool, err error) {
	cfg := in.p.rev.Config
	if a.in = in; in.division == nil {
		a.runStart = time.Now()
	} else {
		a.slice, a.runStart = in.division.begin(in.usedUS)
	}
	a.first = in.fresh.Swap(false)
	a.cold = a.first && !in.why.Ahead()
	if a.inv.Started != nil {
		a.inv.Started()
	}
	in.output.begin(a.inv.ID, a.inv.WantLog, startLine(a.inv.ID, in.p.rev.Version))
	if cfg.OnDisconnect != lambent.DisconnectCancel {
		caller = context.WithoutCancel(caller)
	}
	ctx, cancel := context.WithDeadline(caller, a.deadline(cfg.Timeout))
	defer cancel()
	if cfg.OnDisconnect == lambent.DisconnectCancel {
		a.cancel = cancel
	}
	if !in.settled.Load() {
		defer time.AfterFunc(settleAfter, in.settle).Stop()
	}
	a.answers = true
	err = in.guest.Invoke(ctx, a.inv, a)
	a.answers = false
	if err == nil {
		if a.oom { // what is left lacks a part of itself
			in.p.lose(in, a.runStart)
		}
		return false, a.err
	}
	undelivered := errors.Is(err, guest.ErrNotDelivered)
	if undelivered && mayRetry {
		a.unbegin()
		go in.p.lose(in, a.runStart)
		return true, nil
	}
	if _, ok := errors.AsType[*lambent.Error](err); ok && !undelivered {
		a.unbegin()
		in.p.free(in, time.Since(a.runStart))
		return false, err
	}
	kind := lambent.FaultExit
	if ctx.Err() == nil {
		select { // the connection may break a moment before the process is seen to end
		case <-in.sandbox.Done():
		case <-ctx.Done():
		}
	}
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		kind = lambent.FaultTimeout
	case ctx.Err() != nil:
		kind = lambent.FaultCanceled
	}
	a.End(lambent.Result{Fault: in.guest.Fault(kind, a.inv)})
	in.p.lose(in, a.runStart)
	return false, a.err
}

// unbegin takes back an invocation that the code has not seen.
func (a *attempt) unbegin() {
	if a.in.division != nil {
		a.in.division.cancel(a.slice)
	}
	a.in.output.end(a.inv.ID)
}

// deadline is when the function's timeout ends the attempt. An init that was repeated
// for it is a part of it.
func (a *attempt) deadline(timeout time.Duration) time.Time {
	if a.cold {
		timeout -= a.in.repeated
	}
	return a.runStart.Add(timeout)
}

// failed answers an invocation whose instance could not be started.
func (a *attempt) failed(f *failure) {
	fault := f.words(a.inv)
	u := a.usage(time.Now(), fault)
	u.Guest = f.kind
	if f.sandbox != "" { // or it was not tried again so soon: nothing ran
		u.Instance, u.InitType, u.Cold = f.sandbox, lambent.InitOnDemand, true
		u.PlaceUS, u.InitUS = f.place.Microseconds(), f.took.Microseconds()
		u.BilledMS = lambent.Billed(f.took, 0)
		if u.Concurrency > 0 {
			u.BusyUS = u.InitUS
		}
	}
	u.QueueUS = max(0, u.End.Sub(u.Start).Microseconds()-u.PlaceUS-u.InitUS)
	a.finish(u, lambent.Result{Fault: fault}, func(lines ...[]byte) []byte {
		log, now := a.d.cfg.Log(a.target.Revision.Name), time.Now()
		tail := []byte(fault.Said) // which the log has already
		if n := len(tail); n > 0 && tail[n-1] != '\n' {
			tail = append(tail, '\n')
		}
		for _, l := range append([][]byte{startLine(a.inv.ID, u.Version)}, lines...) {
			log.Line(now, u.Version, a.inv.ID, l)
			tail = append(append(tail, l...), '\n')
		}
		if !a.inv.WantLog {
			return nil
		}
		return tail[max(0, len(tail)-logTailSize):]
	})
}

// Begin implements lambent.Reply.
func (a *attempt) Begin(status int, header map[string][]string) error {
	a.status, a.header = status, header
	if l := header["Content-Length"]; len(l) == 1 {
		if n, err := strconv.ParseInt(l[0], 10, 64); err == nil {
			a.length = n
		}
	}
	return nil
}

// Write implements lambent.Reply.
func (a *attempt) Write(b []byte) (int, error) {
	a.out += int64(len(b))
	if a.out == a.length {
		a.held = b
		return len(b), nil
	}
	begun := time.Now()
	defer func() { a.streaming += time.Since(begun) }()
	if err := a.begin(); err != nil {
		return 0, err
	}
	n, err := a.reply.Write(b)
	if err != nil && a.cancel != nil {
		a.cancel() // whoever takes nothing any more is gone
	}
	return n, err
}

func (a *attempt) begin() error {
	if a.begun || a.status == 0 {
		return nil
	}
	a.begun = true
	return a.reply.Begin(a.status, a.header)
}

// Switch implements lambent.Switcher. What the client and the code say to each other
// from then on may take for ever: Close does not wait for it.
func (a *attempt) Switch(header map[string][]string) (lambent.Conn, error) {
	s, ok := a.reply.(lambent.Switcher)
	if !ok {
		return nil, lambent.Errorf(lambent.Unsupported, "dispatch", "the caller has no connection to switch")
	}
	c, err := s.Switch(header)
	if err != nil {
		return nil, err
	}
	a.begun, a.apart = true, true
	a.d.apart.Add(1)
	a.d.look()
	return counted{c, a}, nil
}

// A counted connection counts what passes.
type counted struct {
	lambent.Conn
	a *attempt
}

// Read implements io.Reader.
func (c counted) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.a.bytesIn += int64(n)
	return n, err
}

// Write implements io.Writer.
func (c counted) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.a.out += int64(n)
	return n, err
}

// End implements lambent.Reply.
func (a *attempt) End(res lambent.Result) {
	now := time.Now()
	used, peak, unread := a.in.sandbox.Stats()
	var init time.Duration
	if a.cold {
		init = a.in.init
	}
	var shareUS, busyUS, cpuUS int64
	switch {
	case a.in.division != nil:
		shareUS, busyUS, cpuUS, now = a.in.division.end(a.slice, used, init)
	case unread == nil:
		cpuUS = max(0, used-a.in.cpuUS.Swap(used))
	}
	a.computed = time.Duration(cpuUS) * time.Microsecond
	// The kernel may take a child and leave the runtime, which then answers what it
	// likes: the answer is not the function's.
	if w, ok := a.in.sandbox.(sandbox.Witness); ok && (res.Fault == nil || res.Fault.Kind == lambent.FaultHandler || res.Fault.Kind == lambent.FaultBroken) && w.OOMKilled() {
		a.oom, res.Fault = true, a.in.guest.Fault(lambent.FaultMemory, a.inv)
	}
	u := a.usage(now, res.Fault)
	run := now.Sub(a.runStart)
	u.Guest, u.Instance, u.InitType, u.RunUS = a.in.kind, a.in.sandbox.ID(), a.in.initType(), run.Microseconds()
	u.BusyUS = busyUS
	if a.in.division != nil && shareUS != u.RunUS {
		u.ShareUS, run = shareUS, time.Duration(shareUS)*time.Microsecond
	}
	u.QueueUS = a.runStart.Sub(a.arrived).Microseconds()
	if a.cold {
		// It may have come when the start had begun.
		waited := max(0, u.QueueUS-init.Microseconds())
		u.Cold, u.InitUS = true, init.Microseconds()
		u.PlaceUS = min(waited, a.in.place.Microseconds())
		u.QueueUS = waited - u.PlaceUS
	}
	u.BilledMS = lambent.Billed(init, run)
	if a.first && !a.cold {
		u.AheadUS = a.in.init.Microseconds()
	}
	if unread == nil {
		u.CPUUS, u.PeakMB = cpuUS, (peak+1<<20-1)>>20
	}
	a.finish(u, res, func(lines ...[]byte) (tail []byte) {
		tail = a.in.output.end(a.inv.ID, lines...)
		if a.answers && !a.oom {
			a.release()
		}
		return tail
	})
}

// release gives the instance to the next in line, if there is one, before what is
// left to do for this invocation is done: the instance has nothing to do with it,
// and would wait for it.
func (a *attempt) release() {
	a.in.settle()
	if a.in.p.settle(a.in, a.runStart, a.computed) {
		runtime.Gosched() // to who was waiting
	}
}

func (a *attempt) usage(now time.Time, fault *lambent.Fault) *lambent.Usage {
	rev := a.target.Revision
	if h := a.inv.HTTP; h != nil {
		if up, ok := h.Body.(lambent.Upload); ok {
			a.bytesIn = up.Count()
		}
	}
	u := &lambent.Usage{
		ID: a.inv.ID, Attempt: max(1, a.inv.Attempt), Project: rev.Name.Project, Function: rev.Name.Function,
		Version: rev.Version, Alias: a.target.Alias, Trigger: trigger(a.inv), Runtime: rev.Config.Runtime,
		Start: a.arrived, End: now, MemoryMB: rev.Config.MemoryMB, TmpMB: rev.Config.TmpMB,
		BytesIn: a.bytesIn, BytesOut: a.out, Outcome: lambent.OutcomeOK,
	}
	if rev.Config.Concurrency > 1 {
		u.Concurrency = rev.Config.Concurrency
	}
	if fault != nil {
		u.Outcome, u.Error = string(fault.Kind), fault.Type
	}
	return u
}

// finish puts the log's closing lines and the record in place, then lets the
// caller have the rest of the answer.
func (a *attempt) finish(u *lambent.Usage, res lambent.Result, closeLog func(...[]byte) []byte) {
	switch f := res.Fault; {
	case f == nil || f.Kind == lambent.FaultHandler:
		res.LogTail = closeLog(endLine(u.ID), ReportLine(u))
	case f.Kind == lambent.FaultTimeout:
		res.LogTail = closeLog(faultLine(u, f), endLine(u.ID), ReportLine(u), limitLine(u))
	default:
		res.LogTail = closeLog(faultLine(u, f), endLine(u.ID), ReportLine(u))
	}
	u.StreamUS, u.RespondUS = a.streaming.Microseconds(), time.Since(u.End).Microseconds()
	if a.err = a.d.cfg.Usage(u); a.err != nil {
		a.d.cfg.Logger.Error("a usage record cannot be written", "request", u.ID, "error", a.err)
		return
	}
	// Of an answer that failed before its first byte nothing is passed on: the
	// failure can still be the whole of it.
	if (res.Fault == nil || a.begun) && a.begin() == nil && a.held != nil {
		_, _ = a.reply.Write(a.held)
	}
	res.Version, res.Usage = u.Version, *u
	a.reply.End(res)
}

func trigger(inv *lambent.Invocation) string {
	switch {
	case inv.Source != "":
		return inv.Source
	case inv.HTTP != nil:
		return "http"
	}
	return "invoke"
}
