// Package events hears of uploads, messages and orders, as functions of Google's.
package events

import (
	"context"
	"encoding/json"
	"errors"
	"log"
	"strings"

	"github.com/GoogleCloudPlatform/functions-framework-go/functions"
	"github.com/cloudevents/sdk-go/v2/event"
)

func init() {
	functions.CloudEvent("stored", stored)
	functions.Typed("ordered", ordered)
}

// stored hears of an upload, as a CloudEvent.
func stored(_ context.Context, e event.Event) error {
	var object struct{ Bucket, Name string }
	if err := json.Unmarshal(e.Data(), &object); err != nil {
		return err
	}
	log.Printf("%s: %s/%s", e.Type(), object.Bucket, object.Name)
	return nil
}

// A Message is one of a topic, as background functions of before CloudEvents have it.
type Message struct {
	Data []byte `json:"data"`
}

// Received hears of a message. It is exported and registers nothing: its name is
// enough.
func Received(_ context.Context, m Message) error {
	if string(m.Data) == "bad" {
		return errors.New("a bad message")
	}
	log.Printf("received: %s", m.Data)
	return nil
}

// An Order is JSON, in and out.
type Order struct {
	Item  string `json:"item"`
	Count int    `json:"count"`
}

func ordered(o Order) (Order, error) {
	o.Item = strings.ToUpper(o.Item)
	return o, nil
}
