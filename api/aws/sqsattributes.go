package aws

import (
	"encoding/json"
	"strconv"
	"strings"

	"lambent"
	"lambent/queue"
)

// arnOf is the name of a queue among all of AWS's things.
func arnOf(project, name string) string {
	return "arn:aws:sqs:" + lambent.Region + ":" + lambent.AccountID(project) + ":" + name
}

// A redrivePolicy is where messages go that are received too often.
type redrivePolicy struct {
	Target      string `json:"deadLetterTargetArn"`
	MaxReceives number `json:"maxReceiveCount"`
}

// attributeNames are those that can be asked for.
var attributeNames = func() map[string]bool {
	all := map[string]bool{}
	for _, name := range strings.Fields(`ApproximateNumberOfMessages ApproximateNumberOfMessagesDelayed ApproximateNumberOfMessagesNotVisible ContentBasedDeduplication CreatedTimestamp
		DeduplicationScope DelaySeconds FifoQueue FifoThroughputLimit KmsDataKeyReusePeriodSeconds KmsMasterKeyId LastModifiedTimestamp MaximumMessageSize MessageRetentionPeriod
		Policy QueueArn ReceiveMessageWaitTimeSeconds RedriveAllowPolicy RedrivePolicy SqsManagedSseEnabled VisibilityTimeout`) {
		all[name] = true
	}
	return all
}()

// setAttributes changes settings as attributes of SQS's say, all or none.
func setAttributes(s *queue.Settings, project string, attributes map[string]string) error {
	bad := func(name, why string, args ...any) error {
		return because(queue.ReasonAttribute, lambent.Errorf(lambent.Invalid, "aws", "Invalid value for the parameter %s. Reason: "+why, append([]any{name}, args...)...))
	}
	numbers := map[string]*int{
		"DelaySeconds": &s.DelayS, "VisibilityTimeout": &s.VisibilityS, "ReceiveMessageWaitTimeSeconds": &s.WaitS,
		"MessageRetentionPeriod": &s.RetentionS, "MaximumMessageSize": &s.MaxBytes,
	}
	flags := map[string]*bool{"FifoQueue": &s.FIFO, "ContentBasedDeduplication": &s.ContentDedupe}
	for name, value := range attributes {
		switch {
		case numbers[name] != nil:
			n, err := strconv.Atoi(value)
			if err != nil {
				return bad(name, "%.40q is not a number.", value)
			}
			*numbers[name] = n
		case flags[name] != nil:
			b, err := strconv.ParseBool(value)
			if err != nil {
				return bad(name, "%.40q is neither true nor false.", value)
			}
			*flags[name] = b
		case name == "DeduplicationScope":
			if value != "queue" && value != "messageGroup" {
				return bad(name, "%.40q is neither queue nor messageGroup.", value)
			}
			s.DedupePerGroup = value == "messageGroup"
		case name == "RedrivePolicy":
			if s.DeadLetter, s.MaxReceives = "", 0; value == "" {
				continue
			}
			var p redrivePolicy
			if err := json.Unmarshal([]byte(value), &p); err != nil {
				return bad(name, "it is not JSON of the form {\"deadLetterTargetArn\": ..., \"maxReceiveCount\": ...}.")
			}
			target, ok := queueOf(project, p.Target)
			if !ok {
				return bad(name, "%.100q is not the ARN of a queue of this project, such as %s.", p.Target, arnOf(project, "dead"))
			}
			s.DeadLetter, s.MaxReceives = target, int(p.MaxReceives)
		case name == "Policy" || name == "KmsMasterKeyId":
			if value != "" {
				return bad(name, "there is none here: who may what is said by the roles of access keys, and the disk is its owner's to encrypt.")
			}
		case name == "SqsManagedSseEnabled" || name == "KmsDataKeyReusePeriodSeconds" || name == "RedriveAllowPolicy" || name == "FifoThroughputLimit":
			if len(value) > 4096 {
				return bad(name, "it is %d bytes long.", len(value))
			}
			other := map[string]string{name: value}
			for k, v := range s.Other {
				if k != name {
					other[k] = v
				}
			}
			s.Other = other
		default:
			return because("InvalidAttributeName", lambent.Errorf(lambent.Invalid, "aws", "Unknown Attribute %.80s.", name))
		}
	}
	return nil
}

// queueOf is the queue of a project that an ARN is of.
func queueOf(project, arn string) (name string, ok bool) {
	prefix, name, _ := strings.Cut(arn, ":"+lambent.AccountID(project)+":")
	return name, strings.HasPrefix(prefix, "arn:aws:sqs:") && name != ""
}

// attributesOf is a queue's settings and counts as SQS has them.
func attributesOf(i *queue.Info) attributeMap {
	out := attributeMap{
		"QueueArn":                              arnOf(i.Project, i.Name),
		"ApproximateNumberOfMessages":           strconv.Itoa(i.Visible),
		"ApproximateNumberOfMessagesNotVisible": strconv.Itoa(i.Out),
		"ApproximateNumberOfMessagesDelayed":    strconv.Itoa(i.Delayed),
		"CreatedTimestamp":                      strconv.FormatInt(i.Created.Unix(), 10),
		"LastModifiedTimestamp":                 strconv.FormatInt(i.Modified.Unix(), 10),
		"DelaySeconds":                          strconv.Itoa(i.DelayS),
		"VisibilityTimeout":                     strconv.Itoa(i.VisibilityS),
		"ReceiveMessageWaitTimeSeconds":         strconv.Itoa(i.WaitS),
		"MessageRetentionPeriod":                strconv.Itoa(i.RetentionS),
		"MaximumMessageSize":                    strconv.Itoa(i.MaxBytes),
	}
	for k, v := range i.Other {
		out[k] = v
	}
	if i.FIFO {
		out["FifoQueue"], out["ContentBasedDeduplication"], out["DeduplicationScope"] = "true", strconv.FormatBool(i.ContentDedupe), "queue"
		if i.DedupePerGroup {
			out["DeduplicationScope"] = "messageGroup"
		}
		if out["FifoThroughputLimit"] == "" {
			out["FifoThroughputLimit"] = "perQueue"
		}
	}
	if i.DeadLetter != "" {
		b, _ := json.Marshal(struct { // strings and a number always have a JSON form
			Target      string `json:"deadLetterTargetArn"`
			MaxReceives int    `json:"maxReceiveCount"`
		}{arnOf(i.Project, i.DeadLetter), i.MaxReceives})
		out["RedrivePolicy"] = string(b)
	}
	return out
}
