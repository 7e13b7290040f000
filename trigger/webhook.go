package trigger

import (
	"context"
	"encoding/json"
	"time"

	"lambent"
	"lambent/store"
)

// webhookPolicy is how often a receiver is told that does not take it: after 5 s, 25 s, 2
// minutes, 10, an hour, 4 hours, 22 hours. That is as long as Standard Webhooks has it,
// about.
var webhookPolicy = lambent.Async{Attempts: 8, Backoff: 5 * time.Second, Factor: 5, MaxAge: 72 * time.Hour}

// maxEnvelope is more than what a receiver is told beside a record.
const maxEnvelope = 256

// mail has a receiver told of the end of an invocation, later.
func (b *Broker) mail(ctx context.Context, id string, inv *lambent.Invocation, url, condition string, record []byte) error {
	event := "lambent.invocation.succeeded"
	if condition != success {
		event = "lambent.invocation.failed"
	}
	it := store.Item{ID: id, Lane: webhookLane(inv.Target), Attempt: 1, Meta: marshal(meta{Qualifier: inv.Target.Qualifier, Webhook: url, Trace: inv.Trace})}
	it.Payload = marshal(struct {
		Type      string          `json:"type"`
		Timestamp string          `json:"timestamp"`
		Data      json.RawMessage `json:"data"`
	}{event, time.Now().UTC().Format(time.RFC3339Nano), record})
	_, err := b.cfg.Queue.Add(ctx, it)
	return err
}

// post tells a receiver once, and says what becomes of that.
func (p *part) post() {
	switch err := p.b.cfg.Post(p.b.ctx, p.inv.Target, p.to, p.inv.ID, p.inv.Raw); {
	case err == nil:
		p.done()
	case p.b.ctx.Err() != nil:
		p.refused(err)
	case passes(err):
		p.again(lambent.UserMessage(err))
	default:
		p.kill(lambent.UserMessage(err))
	}
}
