package main

import (
	"encoding/json"
	"fmt"
	"io"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"lambent"
	"lambent/client"
)

const eventsHelp = `Publish events of your own: each function that has a trigger whose pattern an event
matches is invoked with it.

  lambent trigger add bill --pattern '{"source": ["shop"], "detail": {"total": [{"numeric": [">", 100]}]}}'
  lambent events put --source shop --type order.placed -d '{"total": 250}'
  lambent events put -d @event.json              a whole CloudEvent`

func eventsCommand(p *program) *cobra.Command {
	return group(&cobra.Command{Use: "events", Short: "Events of your own", Long: eventsHelp}, eventsPutCommand(p))
}

func eventsPutCommand(p *program) *cobra.Command {
	var data, source, typ, subject, id string
	c := &cobra.Command{Use: "put", Short: "Publish an event; standard output is its id", Long: eventsHelp, Args: args(0)}
	f := c.Flags()
	f.StringVarP(&data, "data", "d", "", "with --source and --type the event's data, otherwise all of it as CloudEvents has it in JSON: text, @FILE, or @- for standard input")
	f.StringVar(&source, "source", "", "where it happened, such as shop")
	f.StringVar(&typ, "type", "", "what happened, such as order.placed")
	f.StringVar(&subject, "subject", "", "what it happened to")
	f.StringVar(&id, "id", "", "the same id and source again are the same event (default: a new one)")
	c.RunE = p.withClient(func(c *cobra.Command, cl *client.Client, _ []string) error {
		if (source == "") != (typ == "") || source == "" && (subject != "" || id != "") {
			return usagef(c, "--source and --type go together, and --subject and --id with them")
		}
		in, err := p.payload(data)
		if err != nil {
			return err
		}
		defer in.Close()
		event, err := io.ReadAll(in)
		if err != nil {
			return lambent.Errorf(lambent.Invalid, "", "-d cannot be read: %w", err)
		}
		if source != "" {
			if id == "" {
				id = lambent.NewID()
			}
			event, err = envelope(source, typ, subject, id, event)
		} else {
			id, err = idOf(event)
		}
		if err != nil {
			return err
		}
		a, err := cl.PublishEvent(c.Context(), event)
		if err != nil {
			return err
		}
		fmt.Fprintln(p.out, id)
		p.note("invocations to be of it: %d", a.Invocations)
		return nil
	})
	return c
}

// envelope makes a CloudEvent around data, which is a text unless it is JSON.
func envelope(source, typ, subject, id string, data []byte) ([]byte, error) {
	e := struct {
		SpecVersion     string          `json:"specversion"`
		ID              string          `json:"id"`
		Source          string          `json:"source"`
		Type            string          `json:"type"`
		Subject         string          `json:"subject,omitempty"`
		Time            time.Time       `json:"time"`
		DataContentType string          `json:"datacontenttype,omitempty"`
		Data            json.RawMessage `json:"data,omitempty"`
		DataBase64      []byte          `json:"data_base64,omitempty"`
	}{"1.0", id, source, typ, subject, time.Now().UTC(), "application/json", data, nil}
	var err error
	switch {
	case len(data) == 0:
		e.DataContentType = ""
	case !utf8.Valid(data):
		e.DataContentType, e.Data, e.DataBase64 = "application/octet-stream", nil, data
	case !json.Valid(data):
		e.DataContentType = "text/plain"
		e.Data, err = json.Marshal(string(data))
	}
	if err != nil {
		return nil, lambent.Errorf(lambent.Invalid, "", "-d: %w", err)
	}
	return json.Marshal(e)
}

// idOf returns the id of an event that a user has written.
func idOf(event []byte) (string, error) {
	e, err := lambent.ParseEvent(event)
	if err != nil {
		return "", err
	}
	if e == nil {
		return "", lambent.Errorf(lambent.Invalid, "", "-d is no event: a CloudEvent is a JSON object with specversion, id, source and type").
			WithHint("lambent events put --source shop --type order.placed -d DATA")
	}
	return e.ID, nil
}
