package trigger

import (
	"encoding/json"
	"slices"
	"strconv"

	"lambent"
	"lambent/internal/pattern"
)

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
