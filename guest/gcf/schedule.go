package gcf

import (
	"encoding/json"
	"time"

	"lambent"
)

// scheduled says what is due as Cloud Scheduler does: as a request with its headers
// (https://cloud.google.com/scheduler/docs/reference/rest/v1/projects.locations.jobs#HttpTarget)
// or, to a function that is for events, as a message of Pub/Sub's. The body, or the message,
// is the trigger's input; without one a request has none, and a message says when it is due.
func (in *instance) scheduled(inv *lambent.Invocation) (*request, error) {
	switch in.unit.Revision.Config.Env[signatureVariable] {
	case "event", "cloudevent":
		return in.scheduledMessage(inv)
	}
	r := &request{method: "POST", target: "/", body: inv.Raw, bodied: true}
	r.add("Host", in.host())
	r.add("User-Agent", "Google-Cloud-Scheduler")
	r.add("X-Cloudscheduler", "true")
	r.add("X-Cloudscheduler-Jobname", inv.TriggerID)
	if !inv.Due.IsZero() {
		r.add("X-Cloudscheduler-Scheduletime", inv.Due.UTC().Format(time.RFC3339))
	}
	if json.Valid(r.body) {
		r.add("Content-Type", "application/json")
	} else if len(r.body) > 0 {
		r.add("Content-Type", "application/octet-stream")
	}
	return r, nil
}

// scheduledMessage is to a topic that is called as the trigger is. An input that is an event
// is that event.
func (in *instance) scheduledMessage(inv *lambent.Invocation) (*request, error) {
	m := lambent.QueueMessage{Queue: inv.TriggerID, ID: inv.ID, Body: inv.Raw, Sent: inv.Due}
	if len(inv.Events) > 0 {
		m.Body = inv.Events[0].Data
	} else if e, err := lambent.ParseEvent(inv.Raw); e != nil || err != nil {
		return in.event(inv.Raw)
	}
	e, err := pubsubEvent(&m, inv.Target.Project)
	if err != nil {
		return nil, err
	}
	return binaryMode(e, in.host()), nil
}
