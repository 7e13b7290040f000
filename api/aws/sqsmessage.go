package aws

import (
	"crypto/md5"
	"encoding/binary"
	"encoding/hex"
	"hash"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"lambent"
	"lambent/queue"
)

// An sqsAttribute is a value of a message's attribute.
type sqsAttribute struct {
	DataType    string
	StringValue *string `json:",omitempty" xml:",omitempty"`
	BinaryValue []byte  `json:",omitempty" xml:"-"`
}

const maxMessageAttributes = 10

// message is an entry as a message.
func (e *sqsEntry) message(who Caller) (m queue.Message, err error) {
	bad := func(reason, format string, args ...any) (queue.Message, error) {
		return m, because(reason, lambent.Errorf(lambent.Invalid, "aws", format, args...))
	}
	if e.MessageBody == nil {
		return bad("MissingParameter", "The request must contain the parameter MessageBody.")
	}
	if !isXMLText(*e.MessageBody) {
		return bad("InvalidMessageContents", "The message has characters that are not allowed: tab, line feed, carriage return and what follows the space are.")
	}
	if e.DelaySeconds != nil && *e.DelaySeconds < 0 {
		return bad(queue.ReasonValue, "DelaySeconds is %d: 0 to 900", *e.DelaySeconds)
	}
	m = queue.Message{Body: []byte(*e.MessageBody), Delay: e.DelaySeconds.seconds(), Group: e.MessageGroupID, DedupeID: e.MessageDeduplicationID, Sender: who.Token, Hops: who.Hops}
	if trace := e.MessageSystemAttributes["AWSTraceHeader"].StringValue; trace != nil {
		m.Trace = *trace
	} else if lambent.Traceparent(who.Trace) != "" { // as on AWS, what is one
		m.Trace = who.Trace
	}
	if len(e.MessageAttributes) > maxMessageAttributes {
		return bad(queue.ReasonValue, "Number of message attributes [%d] exceeds the allowed maximum [%d].", len(e.MessageAttributes), maxMessageAttributes)
	}
	for name, a := range e.MessageAttributes {
		kind, _, _ := strings.Cut(a.DataType, ".")
		isBinary := kind == "Binary"
		switch {
		case !isAttributeName(name):
			return bad(queue.ReasonValue, "The message attribute name %.80q is none: 1 to 256 letters, digits, '_', '-' and '.'.", name)
		case kind != "String" && kind != "Number" && !isBinary || len(a.DataType) > 256:
			return bad(queue.ReasonValue, "The type of message attribute %q is %.80q: String, Number or Binary, and what its user adds after a dot.", name, a.DataType)
		case isBinary && len(a.BinaryValue) == 0, !isBinary && (a.StringValue == nil || *a.StringValue == ""):
			return bad(queue.ReasonValue, "The message attribute %q must contain a non-empty value of its type, %s.", name, a.DataType)
		case !isBinary && !isXMLText(*a.StringValue):
			return bad("InvalidMessageContents", "The message attribute %q has characters that are not allowed.", name)
		}
		if kind == "Number" {
			if _, err := strconv.ParseFloat(*a.StringValue, 64); err != nil && !strings.Contains(err.Error(), "range") {
				return bad(queue.ReasonValue, "The message attribute %q is %.40q, which is no number.", name, *a.StringValue)
			}
		}
		if m.Attributes == nil {
			m.Attributes = map[string]queue.Attribute{}
		}
		kept := queue.Attribute{Type: a.DataType, Binary: a.BinaryValue}
		if !isBinary {
			kept = queue.Attribute{Type: a.DataType, String: *a.StringValue}
		}
		m.Attributes[name] = kept
	}
	return m, nil
}

// isXMLText reports whether text can be in XML, in which the older protocol has it.
func isXMLText(text string) bool {
	return utf8.ValidString(text) && !strings.ContainsFunc(text, func(r rune) bool {
		return r < ' ' && r != '\t' && r != '\n' && r != '\r' || r == 0xfffe || r == 0xffff
	})
}

func isAttributeName(name string) bool {
	return name != "" && len(name) <= 256 && !strings.ContainsFunc(name, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '_' && r != '-' && r != '.'
	}) && name[0] != '.' && name[len(name)-1] != '.' && !strings.Contains(name, "..")
}

// sent is the answer to who sent an entry.
func (e *sqsEntry) sent(s queue.Sent) sentResult {
	r := sentResult{MessageID: s.ID, SequenceNumber: s.Sequence, MD5OfMessageBody: md5Of(*e.MessageBody)}
	kept := map[string]queue.Attribute{}
	for name, a := range e.MessageAttributes {
		kept[name] = queue.Attribute{Type: a.DataType, Binary: a.BinaryValue}
		if a.StringValue != nil {
			kept[name] = queue.Attribute{Type: a.DataType, Binary: a.BinaryValue, String: *a.StringValue}
		}
	}
	r.MD5OfMessageAttributes = md5OfAttributes(kept)
	if trace := e.MessageSystemAttributes["AWSTraceHeader"]; trace.StringValue != nil {
		r.MD5OfMessageSystemAttributes = md5OfAttributes(map[string]queue.Attribute{"AWSTraceHeader": {Type: trace.DataType, String: *trace.StringValue}})
	}
	return r
}

func md5Of(text string) string {
	sum := md5.Sum([]byte(text))
	return hex.EncodeToString(sum[:])
}

// md5OfAttributes is what clients compare; of none there is none
// (https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-message-metadata.html).
func md5OfAttributes(all map[string]queue.Attribute) string {
	if len(all) == 0 {
		return ""
	}
	h := md5.New()
	for _, name := range slices.Sorted(maps.Keys(all)) {
		a := all[name]
		writePart(h, name)
		writePart(h, a.Type)
		if strings.HasPrefix(a.Type, "Binary") {
			h.Write([]byte{2})
			writePart(h, string(a.Binary))
		} else {
			h.Write([]byte{1})
			writePart(h, a.String)
		}
	}
	return hex.EncodeToString(h.Sum(nil))
}

func writePart(h hash.Hash, part string) {
	h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(part))))
	h.Write([]byte(part))
}

// message is a message that was received, with the attributes that were asked for.
func (c *sqsCall) message(r *queue.Received) messageResult {
	out := messageResult{MessageID: r.ID, ReceiptHandle: r.Receipt, MD5OfBody: md5Of(string(r.Body)), Body: string(r.Body)}
	system := attributeMap{
		"SenderId":                         r.Sender,
		"SentTimestamp":                    strconv.FormatInt(r.SentAt.UnixMilli(), 10),
		"ApproximateReceiveCount":          strconv.Itoa(r.Receives),
		"ApproximateFirstReceiveTimestamp": strconv.FormatInt(r.FirstReceived.UnixMilli(), 10),
		"SequenceNumber":                   r.Sequence,
		"MessageGroupId":                   r.Group,
		"MessageDeduplicationId":           r.DedupeID,
		"AWSTraceHeader":                   r.Trace,
	}
	if r.DeadLetterOf != "" {
		system["DeadLetterQueueSourceArn"] = arnOf(c.who.Project, r.DeadLetterOf)
	}
	asked := append(c.in.MessageSystemAttributeNames, c.in.AttributeNames...)
	for name, value := range system {
		if value != "" && (slices.Contains(asked, "All") || slices.Contains(asked, name)) {
			if out.Attributes == nil {
				out.Attributes = attributeMap{}
			}
			out.Attributes[name] = value
		}
	}
	kept := map[string]queue.Attribute{}
	for name, a := range r.Attributes {
		if !wants(c.in.MessageAttributeNames, name) {
			continue
		}
		kept[name] = a
		if out.MessageAttributes == nil {
			out.MessageAttributes = messageAttributes{}
		}
		shown := sqsAttribute{DataType: a.Type, BinaryValue: a.Binary}
		if a.Binary == nil {
			shown.StringValue = &a.String
		}
		out.MessageAttributes[name] = shown
	}
	out.MD5OfMessageAttributes = md5OfAttributes(kept)
	return out
}

// wants reports whether an attribute is among those that were asked for: by name, by what
// it begins with, or all.
func wants(asked []string, name string) bool {
	return slices.ContainsFunc(asked, func(a string) bool {
		prefix, isPrefix := strings.CutSuffix(a, ".*")
		return a == name || a == "All" || isPrefix && (prefix == "" || strings.HasPrefix(name, prefix))
	})
}
