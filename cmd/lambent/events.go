package main

import (
	"bytes"
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
  lambent events put -d @event.json              a whole CloudEvent

What was accepted is kept for a week (serve --keep-events), to be looked at and replayed.

  lambent events list --since 1h --source shop
  lambent events show ID
  lambent events replay ID
  lambent events replay --since 2h --until 1h --source shop --dry-run
  lambent events replay --since 2h --function thumbs     to thumbs alone

A crash loses what was kept within the last 50 ms, so that what is listed and replayed may lack
an event that has invoked its functions.`

func eventsCommand(p *program) *cobra.Command {
	return group(&cobra.Command{Use: "events", Short: "Events of your own", Long: eventsHelp},
		eventsPutCommand(p), eventsListCommand(p), eventsShowCommand(p), eventsReplayCommand(p))
}

// selectFlags adds what selects events, or dead letters; what is what has happened to those
// within the time.
func selectFlags(c *cobra.Command, s *client.Selection, what string) {
	f := c.Flags()
	f.StringVar(&s.Since, "since", "", what+" since then: a time, or a duration before now such as 1h")
	f.StringVar(&s.Until, "until", "", what+" before then")
	f.StringVar(&s.Source, "source", "", "of that source alone, as CloudEvents has it, such as shop")
	f.StringVar(&s.Type, "type", "", "of that type alone")
	f.StringVar(&s.Trigger, "trigger", "", "of the trigger of that id alone")
	f.StringVar(&s.Kind, "kind", "", "of triggers of that kind alone: schedule, pattern, database, bucket, queue or broker")
}

// checkSelection refuses an empty flag: that is a variable of a script's that is not set, and
// not all there is.
func checkSelection(c *cobra.Command) error {
	for _, flag := range []string{"since", "until", "source", "type", "trigger", "kind", "function", "error"} {
		if s, err := c.Flags().GetString(flag); err == nil && s == "" && c.Flags().Changed(flag) {
			return usagef(c, "--%s is empty", flag)
		}
	}
	return nil
}

// eventFlags adds what selects events of the history.
func eventFlags(c *cobra.Command, r *client.ReplayRequest) {
	selectFlags(c, &r.Selection, "accepted")
	c.Flags().StringVar(&r.Function, "function", "", "that function alone, with what invokes it now")
}

func eventsListCommand(p *program) *cobra.Command {
	var r client.ReplayRequest
	var limit int
	c := &cobra.Command{Use: "list", Short: "List events that were accepted lately, the newest first", Long: eventsHelp, Args: args(0), Aliases: []string{"ls"}}
	eventFlags(c, &r)
	c.Flags().IntVar(&limit, "limit", 100, "the most of them, 1 to 1000")
	o := outputFlag(c, "table", "json", "yaml", "name")
	c.RunE = p.withClient(func(c *cobra.Command, cl *client.Client, _ []string) error {
		if err := checkSelection(c); err != nil {
			return err
		}
		events, err := cl.Events(c.Context(), r, limit)
		if err != nil {
			return err
		}
		ids := []string{}
		t := table{{"ID", "ACCEPTED", "SOURCE", "TYPE", "SUBJECT"}}
		for _, k := range events {
			e, err := lambent.ParseEvent(k.Event)
			if err != nil || e == nil {
				continue // of a later server's making
			}
			ids = append(ids, e.ID)
			t = append(t, []string{e.ID, k.Accepted.Local().Format(time.DateTime), e.Source, e.Type, e.Subject})
		}
		return o.print(p.out, events, ids, t)
	})
	return c
}

func eventsShowCommand(p *program) *cobra.Command {
	return &cobra.Command{
		Use: "show ID", Short: "Print an event as CloudEvents has it in JSON", Long: eventsHelp, Args: args(1, "ID"),
		RunE: p.withClient(func(c *cobra.Command, cl *client.Client, args []string) error {
			events, err := cl.Events(c.Context(), client.ReplayRequest{Selection: client.Selection{ID: args[0]}}, 1)
			if err != nil {
				return err
			}
			if len(events) == 0 {
				return lambent.Errorf(lambent.NotFound, "", "the history has no event %q", args[0]).WithHint("lambent events list")
			}
			_, err = fmt.Fprintf(p.out, "%s\n", events[0].Event)
			return err
		}),
	}
}

func eventsReplayCommand(p *program) *cobra.Command {
	var r client.ReplayRequest
	c := &cobra.Command{Use: "replay [ID]", Short: "Have events invoke functions again", Long: eventsHelp, Args: args(0, "ID")}
	eventFlags(c, &r)
	c.Flags().BoolVar(&r.DryRun, "dry-run", false, "only count them")
	c.RunE = p.withClient(func(c *cobra.Command, cl *client.Client, args []string) (err error) {
		if err := checkSelection(c); err != nil {
			return err
		}
		if r.ID, err = optionalID(c, args); err != nil {
			return err
		}
		if r.ID == "" && r.Since == "" {
			return usagef(c, "events replay needs an ID, or --since")
		}
		done := p.step("events are replayed, the oldest first")
		a, err := cl.Replay(c.Context(), r)
		done()
		switch {
		case err != nil:
			return err
		case r.DryRun:
			p.note("events: %d; invocations that there would be of them: %d", a.Events, a.Invocations)
		default:
			p.note("events replayed: %d; invocations to be of them: %d", a.Events, a.Invocations)
		}
		return nil
	})
	return c
}

func eventsPutCommand(p *program) *cobra.Command {
	var data, source, typ, subject, id string
	c := &cobra.Command{Use: "put", Short: "Publish an event; standard output is its id", Long: eventsHelp, Args: args(0)}
	f := c.Flags()
	f.StringVarP(&data, "data", "d", "", "with --source and --type the event's data, otherwise all of it as CloudEvents has it in JSON: text, @FILE, or @- for standard input")
	f.StringVar(&source, "source", "", "where it happened, such as shop")
	f.StringVar(&typ, "type", "", "what happened, such as order.placed")
	f.StringVar(&subject, "subject", "", "what it happened to")
	f.StringVar(&id, "id", "", "the same id and source again are the same event, which for some minutes invokes nothing again, has the same answer, and is listed once (default: a new one)")
	c.RunE = p.withClient(func(c *cobra.Command, cl *client.Client, _ []string) error {
		if (source == "") != (typ == "") || source == "" && (subject != "" || id != "") {
			return usagef(c, "--source and --type go together, and --subject and --id with them")
		}
		in, err := p.payload("-d", data)
		if err != nil {
			return err
		}
		defer in.Close()
		event, err := io.ReadAll(in)
		if err != nil {
			return lambent.Errorf(lambent.Invalid, "", "-d cannot be read: %w", err)
		}
		if source != "" {
			if text := bytes.TrimSpace(event); bytes.HasPrefix(text, []byte("{")) && !json.Valid(text) {
				p.note("note: the data is no JSON, and goes as a text")
			}
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
