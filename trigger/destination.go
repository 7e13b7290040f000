package trigger

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"time"

	"lambent"
)

// Conditions under which an invocation ends, in AWS's words.
const (
	success   = "Success"
	exhausted = "RetriesExhausted"
	aged      = "EventAgeExceeded"
)

// A record is what a destination is told
// (https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-retain-records.html).
type record struct {
	Version        string `json:"version"`
	Timestamp      string `json:"timestamp"`
	RequestContext struct {
		RequestID              string `json:"requestId"`
		FunctionARN            string `json:"functionArn"`
		Condition              string `json:"condition"`
		ApproximateInvokeCount int    `json:"approximateInvokeCount"`
	} `json:"requestContext"`
	RequestPayload  json.RawMessage  `json:"requestPayload"` // null: it is too large, as the answer may be
	ResponseContext *responseContext `json:"responseContext,omitempty"`
	ResponsePayload json.RawMessage  `json:"responsePayload"`
}

type responseContext struct {
	StatusCode      int    `json:"statusCode"`
	ExecutedVersion string `json:"executedVersion"`
	FunctionError   string `json:"functionError,omitempty"`
}

// succeeds finishes an item whose function did well, once its destination knows.
func (p *part) succeeds() {
	err := p.tell(p.policy.OnSuccess, success, "")
	switch {
	case err == nil:
		p.done()
	case p.b.ctx.Err() != nil:
		p.refused(err)
	default:
		p.kill(fmt.Sprintf("it succeeded, and %s could not be told: %s", p.policy.OnSuccess, lambent.UserMessage(err)))
	}
}

// dies is the end of an item that is not tried any more: a destination is told, or it is
// a dead letter.
func (p *part) dies(condition, note string) {
	if p.policy.OnFailure == "" {
		p.kill(note)
		return
	}
	err := p.tell(p.policy.OnFailure, condition, note)
	switch {
	case err == nil:
		p.done()
	case p.b.ctx.Err() != nil:
		p.refused(err)
	default:
		p.kill(fmt.Sprintf("%s; and %s could not be told: %s", note, p.policy.OnFailure, lambent.UserMessage(err)))
	}
}

// tell has a destination know of the end, durably, and tries for half a minute. While it
// tries again, the lane has one place less for those that wait.
func (p *part) tell(to lambent.AsyncDestination, condition, note string) error {
	if to == "" {
		return nil
	}
	record := p.record(condition, note)
	body := record.fit(p.b.cfg.MaxPayload - maxEnvelope)
	for pause, begun := firstPause, time.Now(); ; pause *= 2 {
		err := p.tellOnce(to, condition, body)
		left := lastPause - time.Since(begun)
		if err == nil || !passes(err) || left <= 0 {
			return err
		}
		if pause == firstPause && p.ran {
			p.b.wait(p.l, 1)
			defer p.b.wait(p.l, -1)
		}
		timer := time.NewTimer(min(pause, left))
		select {
		case <-timer.C:
		case <-p.b.ctx.Done():
			timer.Stop()
			return err
		}
	}
}

// tellOnce is not cut off by Stop: what has ended need not end again.
func (p *part) tellOnce(to lambent.AsyncDestination, condition string, body []byte) error {
	const op = "trigger.destination"
	ctx, cancel := context.WithTimeout(context.WithoutCancel(p.b.ctx), 10*time.Second)
	defer cancel()
	// One that is redriven and ends again has ended twice.
	id := lambent.IDOf(fmt.Sprintf("destination %s %s %d %s", p.w.Lane, p.inv.ID, p.w.Added.UnixMilli(), condition))
	project := p.inv.Target.Project
	if url, ok := to.Webhook(); ok {
		return p.b.mail(ctx, id, p.inv, url, condition, body)
	}
	if name, ok := to.Queue(); ok {
		return p.b.cfg.Send(ctx, project, name, p.inv.Trace, p.inv.Hops+1, body)
	}
	n, isFunction, err := to.Function(project)
	if err != nil {
		return err
	}
	if p.inv.Hops+1 >= maxHops {
		return lambent.Errorf(lambent.Invalid, op, "%s", inALoop)
	}
	if isFunction {
		return p.b.Invoke(ctx, &lambent.Invocation{
			ID: id, Target: n, Async: true, Hops: p.inv.Hops + 1, Trace: p.inv.Trace, Raw: body,
		}, nil)
	}
	what := "Success"
	if condition != success {
		what = "Failure"
	}
	e := lambent.Event{
		ID: id, Source: "lambda", Type: "Lambda Function Invocation Result - " + what, Subject: p.inv.Target.Function,
		Time: time.Now().UTC(), DataContentType: "application/json", Data: body, Hops: p.inv.Hops + 1,
	}
	e.SetTrace(p.inv.Trace)
	_, err = p.b.Publish(ctx, project, e)
	return err
}

func (p *part) record(condition, note string) (r record) {
	target := p.inv.Target
	if target.Qualifier == "" {
		target.Qualifier = lambent.Latest
	}
	r.Version, r.Timestamp = "1.0", time.Now().UTC().Format("2006-01-02T15:04:05.000Z")
	r.RequestContext.RequestID, r.RequestContext.FunctionARN = p.inv.ID, target.ARN()
	r.RequestContext.Condition, r.RequestContext.ApproximateInvokeCount = condition, p.w.Attempt
	r.RequestPayload = p.request()
	if condition == aged {
		r.RequestContext.ApproximateInvokeCount--
		return r
	}
	version := p.out.result.Version
	if version == lambent.Latest {
		version = "$LATEST"
	}
	r.ResponseContext = &responseContext{StatusCode: 200, ExecutedVersion: version}
	answer := p.out.body
	if condition != success {
		r.ResponseContext.FunctionError = "Unhandled"
		if f := p.out.result.Fault; f != nil {
			answer = f.Payload
		} else { // of the platform's words none are the function's
			answer = marshal(map[string]string{"errorMessage": note})
		}
	}
	if len(answer) <= maxOutcome {
		r.ResponsePayload = asJSON(answer)
	}
	return r
}

// fit is the record in JSON, without what is too large for it.
func (r *record) fit(most int) []byte {
	b := marshal(r)
	if len(b) > most {
		r.RequestPayload = nil
		b = marshal(r)
	}
	if len(b) > most {
		r.ResponsePayload = nil
		b = marshal(r)
	}
	return b
}

// request is what the function was called with.
func (p *part) request() json.RawMessage {
	if len(p.inv.Events) == 1 {
		if b, err := p.inv.Events[0].Structured(); err == nil {
			return b
		}
	}
	return asJSON(p.inv.Raw)
}

// asJSON is a payload where JSON is to stand: as a string if it is none.
func asJSON(b []byte) json.RawMessage {
	if len(b) == 0 {
		return nil
	}
	if json.Valid(b) {
		return b
	}
	return marshal(string(b))
}

// marshal is JSON of ours, which always has that form, as it is written for people.
func marshal(v any) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		panic(fmt.Sprintf("trigger: %T always has a JSON form: %v", v, err))
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}
