// Package events hears of uploads, messages, orders and what becomes of them, as functions of Google's.
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
	functions.CloudEvent("published", published)
	functions.CloudEvent("shipped", shipped)
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

// A Message is one of a topic.
type Message struct {
	Data []byte `json:"data"`
}

// published hears of a message, as a CloudEvent.
func published(_ context.Context, e event.Event) error {
	var data struct{ Message Message }
	if err := json.Unmarshal(e.Data(), &data); err != nil {
		return err
	}
	log.Printf("%s: %s", e.ID(), data.Message.Data)
	return nil
}

// Received hears of a message, as background functions of before CloudEvents do. It is
// exported and registers nothing: its name is enough.
func Received(_ context.Context, m Message) error {
	if string(m.Data) == "bad" {
		return errors.New("a bad message")
	}
	log.Printf("received: %s", m.Data)
	return nil
}

// shipped hears of events of one's own. One that names nobody is tried again, and is a
// dead letter then.
func shipped(_ context.Context, e event.Event) error {
	var parcel struct{ Customer string }
	if err := json.Unmarshal(e.Data(), &parcel); err != nil {
		return err
	}
	if parcel.Customer == "" {
		return errors.New("shipped to nobody")
	}
	log.Printf("shipped to %s", parcel.Customer)
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
