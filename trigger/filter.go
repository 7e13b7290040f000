package trigger

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"

	"lambent"
	"lambent/internal/pattern"
)

// checkFilter refuses a filter that asks for what no event of the source has: nothing would
// match it, and what does not match is gone.
func checkFilter(t *lambent.Trigger) error {
	const op = "trigger.filter"
	kind := t.Kind()
	if kind == "pattern" || kind == "schedule" {
		return lambent.Errorf(lambent.Invalid, op, "a trigger of kind %s has no filter", kind)
	}
	p, err := pattern.Parse(t.Filter)
	if err != nil {
		return lambent.Errorf(lambent.Invalid, op, "the filter: %s", lambent.UserMessage(err))
	}
	has := fieldsOf("", &lambent.Event{Extensions: map[string]string{lambent.PartitionKey: ""}, Data: []byte("{}")})
	switch kind {
	case "queue":
		has["body"], has["messageAttributes"] = nil, nil
	case "broker":
		has["body"], has["key"] = nil, nil
	}
	for _, name := range p.Fields() {
		if _, ok := has[name]; !ok {
			return lambent.Errorf(lambent.Invalid, op, "the filter: %.64q is no field of the events of a %s: they have %s", name, kind, strings.Join(slices.Sorted(maps.Keys(has)), ", "))
		}
	}
	return nil
}

// wanted returns those of a source's events that the trigger's filter lets through. What
// cannot be matched is let through, and the trigger's status says so.
func (w *watch) wanted(events []lambent.Event) []lambent.Event {
	if w.filter == nil {
		return events
	}
	return slices.DeleteFunc(slices.Clone(events), func(e lambent.Event) bool {
		doc, err := filtered(w.status.Target.Project, &e)
		matches := false
		if err == nil {
			matches, err = w.filter.Matches(doc)
		}
		if err != nil {
			w.fails("event " + strconv.Quote(e.ID) + " is let through by the filter: " + err.Error())
			return false
		}
		return !matches
	})
}

// filtered is what filters are matched with: what patterns are, and of a message its body,
// as JSON where it is that, and what goes with it, in SQS's words.
func filtered(project string, e *lambent.Event) (pattern.Event, error) {
	more := map[string]any{}
	switch e.Type {
	case lambent.EventQueueMessage:
		var m lambent.QueueMessage
		if err := json.Unmarshal(e.Data, &m); err != nil {
			return pattern.Event{}, err
		}
		more["body"] = bodyOf(m.Body)
		attributes := map[string]any{}
		for name, a := range m.Attributes {
			attributes[name] = map[string]string{"dataType": a.Type, "stringValue": a.String}
		}
		more["messageAttributes"] = attributes
	case lambent.EventBrokerMessage:
		var m lambent.BrokerMessage
		if err := json.Unmarshal(e.Data, &m); err != nil {
			return pattern.Event{}, err
		}
		if m.Body != nil {
			more["body"] = bodyOf(*m.Body)
		}
		if m.Key != nil {
			more["key"] = string(*m.Key)
		}
	}
	return document(project, e, more)
}

// bodyOf is a message's as a pattern sees it.
func bodyOf(b []byte) any {
	if json.Valid(b) {
		return json.RawMessage(b)
	}
	return string(b)
}
