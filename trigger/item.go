package trigger

import (
	"encoding/json"
	"hash/fnv"
	"strconv"
	"strings"
	"time"

	"lambent"
	"lambent/store"
)

// A meta is what an item of the queue says of its invocation, beside the payload.
type meta struct {
	Qualifier     string         `json:"q,omitempty"`
	Trigger       string         `json:"t,omitempty"`
	Source        string         `json:"s,omitempty"`
	Entry         string         `json:"e,omitempty"`
	Trace         string         `json:"x,omitempty"`
	Hops          int            `json:"h,omitempty"`
	Due           time.Time      `json:"d,omitzero"`
	ClientContext []byte         `json:"c,omitempty"`
	Event         *lambent.Event `json:"v,omitempty"` // whose data the payload is
	Webhook       string         `json:"w,omitempty"` // who the payload is posted to; the function is only whose it is
	Refused       string         `json:"r,omitempty"` // why it is never to run
}

// laneOf is the name of a function's lane. Names have no slash.
func laneOf(n lambent.Name) string { return n.Project + "/" + n.Function }

// orderedLane is the name of the lane of a trigger that an event goes to: those of one
// key go to the same one.
func orderedLane(t *lambent.Trigger, e *lambent.Event) string {
	key := e.Extensions[lambent.PartitionKey]
	if key == "" {
		key = e.ID
	}
	h := fnv.New32a()
	h.Write([]byte(key))
	return laneOfPart(t, int(h.Sum32()%uint32(max(t.Batch.Parallel, 1))))
}

// laneOfPart is the name of one of the lanes of a trigger.
func laneOfPart(t *lambent.Trigger, i int) string {
	return laneOf(t.Target) + "/" + t.ID + "/" + strconv.Itoa(i)
}

// webhookLane is the name of the lane of what a function's receivers are told: they may be
// slow, and away for days.
func webhookLane(n lambent.Name) string { return laneOf(n) + "/webhook" }

// functionOf is the function of a lane.
func functionOf(lane string) lambent.Name {
	project, rest, _ := strings.Cut(lane, "/")
	function, _, _ := strings.Cut(rest, "/")
	return lambent.Name{Project: project, Function: function}
}

// triggerOf is the trigger of an ordered lane; it is empty for a lane of another kind.
func triggerOf(lane string) string {
	if parts := strings.Split(lane, "/"); len(parts) == 4 {
		return parts[2]
	}
	return ""
}

func encode(inv *lambent.Invocation) (store.Item, error) {
	m := meta{
		Qualifier: inv.Target.Qualifier, Trigger: inv.TriggerID, Source: inv.Source, Entry: inv.Entry, Trace: inv.Trace, Hops: inv.Hops,
		Due: inv.Due, ClientContext: inv.ClientContext,
	}
	it := store.Item{ID: inv.ID, Lane: laneOf(inv.Target), Attempt: 1, Payload: inv.Raw}
	switch len(inv.Events) {
	case 0:
	case 1:
		e := inv.Events[0]
		it.Payload, e.Data = e.Data, nil
		m.Event = &e
	default:
		return it, lambent.Errorf(lambent.Unsupported, "trigger.Invoke", "%d events in one invocation: each is kept by itself", len(inv.Events))
	}
	var err error
	if it.Meta, err = json.Marshal(m); err != nil {
		return it, lambent.Errorf(lambent.Internal, "trigger.Invoke", "the invocation cannot be kept: %w", err)
	}
	return it, nil
}

// decode reads an item: its invocation, and what else is said of it.
func decode(it store.Item) (inv *lambent.Invocation, m meta, err error) {
	if err := json.Unmarshal(it.Meta, &m); err != nil {
		return nil, m, lambent.Errorf(lambent.Invalid, "trigger", "what was kept of the invocation cannot be read: %w", err)
	}
	inv = &lambent.Invocation{
		ID: it.ID, TriggerID: m.Trigger, Source: m.Source, Entry: m.Entry, Trace: m.Trace, Hops: m.Hops, Attempt: it.Attempt, Due: m.Due,
		Target: functionOf(it.Lane), Async: true, ClientContext: m.ClientContext,
	}
	inv.Target.Qualifier = m.Qualifier
	if m.Event == nil {
		inv.Raw = it.Payload
		if inv.Raw == nil {
			inv.Raw = []byte{} // it is what the invocation carries, empty or not
		}
		return inv, m, nil
	}
	m.Event.Data = it.Payload
	inv.Events = []lambent.Event{*m.Event}
	return inv, m, nil
}
