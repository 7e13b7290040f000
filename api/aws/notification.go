package aws

import (
	"cmp"
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"lambent"
	"lambent/queue"
	"lambent/trigger"
)

// Notifications of buckets to functions are triggers, as others are: what is configured by
// S3's API is seen in ours, and the other way round. Those that came with a function's code
// are shown, and are that code's to remove. Those to queues are kept with the queue.

// A notificationConfiguration is S3's document
// (https://docs.aws.amazon.com/AmazonS3/latest/API/API_NotificationConfiguration.html).
type notificationConfiguration struct {
	XMLName     xml.Name       `xml:"NotificationConfiguration"`
	Namespace   string         `xml:"xmlns,attr,omitempty"`
	Functions   []notification `xml:"CloudFunctionConfiguration"`
	Topics      []struct{}     `xml:"TopicConfiguration"`
	Queues      []notification `xml:"QueueConfiguration"`
	EventBridge *struct{}      `xml:"EventBridgeConfiguration"`
}

// A notification is of a function, or of a queue.
type notification struct {
	ID       string   `xml:"Id,omitempty"`
	Function string   `xml:"CloudFunction,omitempty"`
	Queue    string   `xml:"Queue,omitempty"`
	Events   []string `xml:"Event"`
	Filter   *struct {
		Rules []filterRule `xml:"S3Key>FilterRule"`
	} `xml:"Filter"`
}

type filterRule struct {
	Name  string
	Value string
}

// maxNotification bounds the document, which has at most 100 configurations on AWS.
const maxNotification, maxConfigurations = 1 << 20, 100

// notifications answers for the notifications of buckets.
type notifications struct {
	Buckets
	changing sync.Mutex // held while those of a bucket are replaced
}

func (n *notifications) serve(w http.ResponseWriter, r *http.Request, project, bucket string) error {
	if err := n.Exists(project, bucket); err != nil {
		return err
	}
	switch r.Method {
	case http.MethodGet:
		out := notificationConfiguration{Namespace: "http://s3.amazonaws.com/doc/2006-03-01/"}
		for _, st := range n.of(project, bucket) {
			out.Functions = append(out.Functions, functionNotification(&st.Trigger))
		}
		for _, q := range n.Buckets.Queues.Notifications(project, bucket) {
			f := notificationOf(q.ID, &q.Bucket)
			f.Queue = arnOf(project, q.Queue)
			out.Queues = append(out.Queues, f)
		}
		writeXML(w, http.StatusOK, out)
		return nil
	case http.MethodPut:
		b, err := io.ReadAll(io.LimitReader(r.Body, maxNotification+1))
		if err != nil {
			return err
		}
		var in notificationConfiguration
		if len(b) > maxNotification || xml.Unmarshal(b, &in) != nil {
			return because("MalformedXML", lambent.Errorf(lambent.Invalid, "aws", "the notification configuration is not the XML that S3 has for it"))
		}
		triggers, queues, err := n.wanted(project, bucket, &in)
		if err != nil {
			return err
		}
		if r.Header.Get("X-Amz-Skip-Destination-Validation") != "true" {
			if err := n.test(r.Context(), project, bucket, queues); err != nil {
				return err
			}
		}
		if err := n.replace(r.Context(), project, bucket, triggers, queues); err != nil {
			return err
		}
		w.WriteHeader(http.StatusOK)
		return nil
	}
	return because("MethodNotAllowed", lambent.Errorf(lambent.Unsupported, "aws", "notifications are got and put"))
}

// of returns the triggers of a bucket.
func (n *notifications) of(project, bucket string) []trigger.Status {
	return slices.DeleteFunc(n.Triggers.Triggers(project, ""), func(s trigger.Status) bool { return s.Bucket == nil || s.Bucket.Name != bucket })
}

// functionNotification is a trigger in S3's words.
func functionNotification(t *lambent.Trigger) notification {
	f := notificationOf(t.ID, t.Bucket)
	f.Function = t.Target.ARN()
	return f
}

// notificationOf is what is wanted of a bucket in S3's words, but for who wants it.
func notificationOf(id string, b *lambent.Bucket) notification {
	f := notification{ID: cmp.Or(b.Label, id), Events: b.Events}
	if len(f.Events) == 0 {
		f.Events = []string{"s3:ObjectCreated:*"}
	}
	var rules []filterRule
	for _, rule := range []filterRule{{"Prefix", b.Prefix}, {"Suffix", b.Suffix}} {
		if rule.Value != "" {
			rules = append(rules, rule)
		}
	}
	if len(rules) > 0 {
		f.Filter = &struct {
			Rules []filterRule `xml:"S3Key>FilterRule"`
		}{rules}
	}
	return f
}

// wanted are what a configuration asks for, checked.
func (n *notifications) wanted(project, bucket string, in *notificationConfiguration) (triggers []lambent.Trigger, queues []queue.Notification, err error) {
	if len(in.Topics) > 0 || in.EventBridge != nil {
		return nil, nil, lambent.Errorf(lambent.Unsupported, "aws", "notifications are for functions and queues: topics and EventBridge are not offered here")
	}
	if n := len(in.Functions) + len(in.Queues); n > maxConfigurations {
		return nil, nil, refused("there are %d configurations: at most %d", n, maxConfigurations)
	}
	const invalid = "Unable to validate the following destination configurations: %s"
	for i := range in.Functions {
		f := &in.Functions[i]
		b, err := f.bucket(bucket)
		if err != nil {
			return nil, nil, err
		}
		t := lambent.Trigger{Bucket: &b}
		if t.Target, err = functionOf(project, f.Function); err != nil {
			return nil, nil, err
		}
		if err := n.Triggers.Check(t); err != nil {
			return nil, nil, err
		}
		if err := n.Function(t.Target); err != nil {
			return nil, nil, refused(invalid, lambent.UserMessage(err))
		}
		triggers = append(triggers, t)
	}
	for i := range in.Queues {
		f := &in.Queues[i]
		b, err := f.bucket(bucket)
		if err == nil {
			err = b.Validate()
		}
		if err != nil {
			return nil, nil, err
		}
		name, ok := queueOf(project, f.Queue)
		if !ok {
			return nil, nil, refused(invalid, fmt.Sprintf("%.200q is not the ARN of a queue of this project, such as %s", f.Queue, arnOf(project, "uploads")))
		}
		if _, err := n.Buckets.Queues.Get(project, name); err != nil {
			return nil, nil, refused(invalid, lambent.UserMessage(err))
		}
		if strings.HasSuffix(name, lambent.FIFO) {
			return nil, nil, refused(invalid, fmt.Sprintf("queue %q is a FIFO queue, and a bucket's changes are in no order", name))
		}
		queues = append(queues, queue.Notification{Queue: name, Bucket: b})
	}
	return triggers, queues, nil
}

func refused(format string, args ...any) error {
	return lambent.Errorf(lambent.Invalid, "aws", format, args...)
}

// bucket is what a notification wants of a bucket.
func (f *notification) bucket(name string) (lambent.Bucket, error) {
	b := lambent.Bucket{Name: name, Events: f.Events, Label: f.ID}
	if len(f.Events) == 0 {
		return b, refused("a configuration names no event")
	}
	if f.Filter == nil {
		return b, nil
	}
	for _, rule := range f.Filter.Rules {
		switch strings.ToLower(rule.Name) {
		case "prefix":
			b.Prefix = rule.Value
		case "suffix":
			b.Suffix = rule.Value
		default:
			return b, refused("a filter rule is called %.40q: it is prefix or suffix", rule.Name)
		}
	}
	return b, nil
}

// test sends to queues what S3 does before it notifies them, to see that they take it.
func (n *notifications) test(ctx context.Context, project, bucket string, queues []queue.Notification) error {
	id := lambent.NewID()
	body, err := json.Marshal(struct{ Service, Event, Time, Bucket, RequestId, HostId string }{
		"Amazon S3", "s3:TestEvent", time.Now().UTC().Format("2006-01-02T15:04:05.000Z"), bucket, id, id,
	})
	if err != nil {
		return err
	}
	told := map[string]bool{}
	for _, q := range queues {
		if told[q.Queue] {
			continue
		}
		told[q.Queue] = true
		_, errs, err := n.Buckets.Queues.Send(ctx, project, q.Queue, queue.Message{Body: body, Delay: -1})
		if err := errors.Join(append(errs, err)...); err != nil {
			return err
		}
	}
	return nil
}

// functionOf reads a function's ARN, ACCOUNT:function:NAME, or name. Whose account and region
// that is does not matter: who signs has one project.
func functionOf(project, arn string) (n lambent.Name, err error) {
	n.Project = project
	if rest, ok := strings.CutPrefix(arn, "arn:"); ok {
		parts := strings.Split(rest, ":") // aws:lambda:REGION:ACCOUNT:function:NAME[:QUALIFIER]
		if len(parts) < 6 || len(parts) > 7 || parts[1] != "lambda" || parts[4] != "function" {
			return n, lambent.Errorf(lambent.Invalid, "aws", "%.200q is not the ARN of a function", arn)
		}
		arn = strings.Join(parts[5:], ":")
	} else if _, rest, ok := strings.Cut(arn, ":function:"); ok {
		arn = rest
	}
	n.Function, n.Qualifier, _ = strings.Cut(arn, ":")
	if strings.EqualFold(n.Qualifier, "$LATEST") {
		n.Qualifier = ""
	}
	return n, n.Validate()
}

// replace has a bucket have these triggers, beside those that came with code, and have
// these queues told. Of an error it has those that it had.
func (n *notifications) replace(ctx context.Context, project, bucket string, wanted []lambent.Trigger, queues []queue.Notification) (err error) {
	n.changing.Lock()
	defer n.changing.Unlock()
	told := n.Buckets.Queues.Notifications(project, bucket)
	defer func() {
		if err != nil {
			err = errors.Join(err, n.Buckets.Queues.Notify(context.WithoutCancel(ctx), project, bucket, told))
		}
	}()
	if err := n.Buckets.Queues.Notify(ctx, project, bucket, queues); err != nil {
		return err
	}
	had := n.of(project, bucket)
	var added []string
	for i := range wanted {
		t := &wanted[i]
		if j := slices.IndexFunc(had, func(s trigger.Status) bool { return same(&s.Trigger, t) }); j >= 0 {
			had = slices.Delete(had, j, j+1)
			continue
		}
		st, err := n.Triggers.Add(ctx, *t)
		if err != nil {
			for _, id := range added {
				err = errors.Join(err, n.Triggers.Delete(context.WithoutCancel(ctx), project, id))
			}
			return err
		}
		added = append(added, st.ID)
	}
	for i := range had {
		if !had[i].Deployed {
			if err := n.Triggers.Delete(ctx, project, had[i].ID); err != nil && !lambent.Is(err, lambent.NotFound) {
				return err
			}
		}
	}
	return nil
}

// same reports whether two triggers are one notification: its Id may be the id of the
// trigger, which is what it has without one.
func same(has, wanted *lambent.Trigger) bool {
	a, b := *has.Bucket, *wanted.Bucket
	if a.Label = cmp.Or(a.Label, has.ID); b.Label == "" {
		b.Label = a.Label
	}
	return has.Target == wanted.Target && a.Equal(&b)
}
