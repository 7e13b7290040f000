package aws

import (
	"cmp"
	"context"
	"encoding/xml"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"

	"lambent"
	"lambent/trigger"
)

// Notifications of buckets are triggers of functions, as others are: what is configured by
// S3's API is seen in ours, and the other way round. Those that came with a function's code
// are shown, and are that code's to remove.

// A notificationConfiguration is S3's document
// (https://docs.aws.amazon.com/AmazonS3/latest/API/API_NotificationConfiguration.html).
type notificationConfiguration struct {
	XMLName     xml.Name               `xml:"NotificationConfiguration"`
	Namespace   string                 `xml:"xmlns,attr,omitempty"`
	Functions   []functionNotification `xml:"CloudFunctionConfiguration"`
	Topics      []struct{}             `xml:"TopicConfiguration"`
	Queues      []struct{}             `xml:"QueueConfiguration"`
	EventBridge *struct{}              `xml:"EventBridgeConfiguration"`
}

type functionNotification struct {
	ID       string   `xml:"Id,omitempty"`
	Function string   `xml:"CloudFunction"`
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
			out.Functions = append(out.Functions, notificationOf(&st.Trigger))
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
		wanted, err := n.triggers(project, bucket, &in)
		if err != nil {
			return err
		}
		if err := n.replace(r.Context(), project, bucket, wanted); err != nil {
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

// notificationOf is a trigger in S3's words.
func notificationOf(t *lambent.Trigger) functionNotification {
	f := functionNotification{ID: cmp.Or(t.Bucket.Label, t.ID), Function: t.Target.ARN(), Events: t.Bucket.Events}
	if len(f.Events) == 0 {
		f.Events = []string{"s3:ObjectCreated:*"}
	}
	var rules []filterRule
	for _, rule := range []filterRule{{"Prefix", t.Bucket.Prefix}, {"Suffix", t.Bucket.Suffix}} {
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

// triggers are what a configuration asks for, checked.
func (n *notifications) triggers(project, bucket string, in *notificationConfiguration) (all []lambent.Trigger, err error) {
	bad := func(format string, args ...any) error {
		return lambent.Errorf(lambent.Invalid, "aws", format, args...)
	}
	if len(in.Topics)+len(in.Queues) > 0 || in.EventBridge != nil {
		return nil, lambent.Errorf(lambent.Unsupported, "aws", "notifications are for functions: topics, queues and EventBridge are not offered here")
	}
	if len(in.Functions) > maxConfigurations {
		return nil, bad("there are %d configurations: at most %d", len(in.Functions), maxConfigurations)
	}
	for i := range in.Functions {
		f := &in.Functions[i]
		t := lambent.Trigger{Bucket: &lambent.Bucket{Name: bucket, Events: f.Events, Label: f.ID}}
		if t.Target, err = functionOf(project, f.Function); err != nil {
			return nil, err
		}
		if len(f.Events) == 0 {
			return nil, bad("a configuration names no event")
		}
		if f.Filter != nil {
			for _, rule := range f.Filter.Rules {
				switch strings.ToLower(rule.Name) {
				case "prefix":
					t.Bucket.Prefix = rule.Value
				case "suffix":
					t.Bucket.Suffix = rule.Value
				default:
					return nil, bad("a filter rule is called %.40q: it is prefix or suffix", rule.Name)
				}
			}
		}
		if err := n.Triggers.Check(t); err != nil {
			return nil, err
		}
		if err := n.Function(t.Target); err != nil {
			return nil, bad("Unable to validate the following destination configurations: %s", lambent.UserMessage(err))
		}
		all = append(all, t)
	}
	return all, nil
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

// replace has a bucket have these triggers, beside those that came with code. Of an error
// it has those that it had.
func (n *notifications) replace(ctx context.Context, project, bucket string, wanted []lambent.Trigger) error {
	n.changing.Lock()
	defer n.changing.Unlock()
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
	a, b := notificationOf(has), notificationOf(wanted)
	if wanted.Bucket.Label == "" {
		a.ID, b.ID = "", ""
	}
	a.Events, b.Events = slices.Sorted(slices.Values(a.Events)), slices.Sorted(slices.Values(b.Events))
	rules := func(f *functionNotification) []filterRule {
		if f.Filter == nil {
			return nil
		}
		return f.Filter.Rules
	}
	return a.ID == b.ID && a.Function == b.Function && slices.Equal(a.Events, b.Events) && slices.Equal(rules(&a), rules(&b))
}
