package aws

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"encoding/xml"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"lambent"
)

// What SQS answers, in JSON and in the XML of the query protocol.

type (
	urlResult struct {
		QueueURL string `json:"QueueUrl" xml:"QueueUrl"`
	}
	urlsResult struct {
		QueueURLs []string `json:"QueueUrls,omitempty" xml:"QueueUrl"`
		NextToken string   `json:",omitempty" xml:",omitempty"`
	}
	sourcesResult struct {
		QueueURLs []string `json:"queueUrls" xml:"QueueUrl"`
		NextToken string   `json:",omitempty" xml:",omitempty"`
	}
	tagsResult struct {
		Tags tagMap `json:",omitempty" xml:",omitempty"`
	}
	attributesResult struct {
		Attributes attributeMap `json:",omitempty" xml:",omitempty"`
	}
	sentResult struct {
		ID                           string `json:"Id,omitempty" xml:"Id,omitempty"`
		MessageID                    string `json:"MessageId" xml:"MessageId"`
		MD5OfMessageBody             string
		MD5OfMessageAttributes       string `json:",omitempty" xml:",omitempty"`
		MD5OfMessageSystemAttributes string `json:",omitempty" xml:",omitempty"`
		SequenceNumber               string `json:",omitempty" xml:",omitempty"`
	}
	messageResult struct {
		MessageID              string `json:"MessageId" xml:"MessageId"`
		ReceiptHandle          string
		MD5OfBody              string
		Body                   string
		Attributes             attributeMap      `json:",omitempty" xml:",omitempty"`
		MD5OfMessageAttributes string            `json:",omitempty" xml:",omitempty"`
		MessageAttributes      messageAttributes `json:",omitempty" xml:",omitempty"`
	}
	messagesResult struct {
		Messages []messageResult `json:",omitempty" xml:"Message"`
	}
	idResult struct {
		ID string `json:"Id" xml:"Id"`
	}
	failedResult struct {
		ID          string `json:"Id" xml:"Id"`
		Code        string
		Message     string
		SenderFault bool
	}

	// The batches differ in what the query protocol calls their entries.
	sendBatchResult struct {
		Successful []sentResult   `xml:"SendMessageBatchResultEntry"`
		Failed     []failedResult `xml:"BatchResultErrorEntry"`
	}
	deleteBatchResult struct {
		Successful []idResult     `xml:"DeleteMessageBatchResultEntry"`
		Failed     []failedResult `xml:"BatchResultErrorEntry"`
	}
	visibilityBatchResult struct {
		Successful []idResult     `xml:"ChangeMessageVisibilityBatchResultEntry"`
		Failed     []failedResult `xml:"BatchResultErrorEntry"`
	}
)

// A batchResult has a result for each entry of a batch.
type batchResult[T any] struct {
	Successful []T
	Failed     []failedResult
}

func (b *batchResult[T]) fail(id string, err error) {
	e := refusalOf(jsonProtocol, sqsWords(err))
	b.Failed = append(b.Failed, failedResult{id, e.code, e.message, e.status < 500})
}

// done has lists that are empty be lists.
func (b *batchResult[T]) done() *batchResult[T] {
	if b.Successful == nil {
		b.Successful = []T{}
	}
	if b.Failed == nil {
		b.Failed = []failedResult{}
	}
	return b
}

// Maps are lists of names and values in the query protocol.
type (
	attributeMap      map[string]string
	tagMap            map[string]string
	messageAttributes map[string]sqsAttribute
)

// MarshalXML implements xml.Marshaler.
func (m attributeMap) MarshalXML(e *xml.Encoder, _ xml.StartElement) error {
	for _, name := range slices.Sorted(maps.Keys(m)) {
		if err := e.EncodeElement(struct{ Name, Value string }{name, m[name]}, element("Attribute")); err != nil {
			return err
		}
	}
	return nil
}

// MarshalXML implements xml.Marshaler.
func (m tagMap) MarshalXML(e *xml.Encoder, _ xml.StartElement) error {
	for _, name := range slices.Sorted(maps.Keys(m)) {
		if err := e.EncodeElement(struct{ Key, Value string }{name, m[name]}, element("Tag")); err != nil {
			return err
		}
	}
	return nil
}

// MarshalXML implements xml.Marshaler.
func (m messageAttributes) MarshalXML(e *xml.Encoder, _ xml.StartElement) error {
	type value struct {
		sqsAttribute
		Binary string `xml:"BinaryValue,omitempty"`
	}
	for _, name := range slices.Sorted(maps.Keys(m)) {
		one := struct {
			Name  string
			Value value
		}{name, value{m[name], base64.StdEncoding.EncodeToString(m[name].BinaryValue)}}
		if err := e.EncodeElement(one, element("MessageAttribute")); err != nil {
			return err
		}
	}
	return nil
}

func element(name string) xml.StartElement { return xml.StartElement{Name: xml.Name{Local: name}} }

const sqsNamespace = "http://queue.amazonaws.com/doc/2012-11-05/"

// writeResult answers in the query protocol.
func writeResult(w http.ResponseWriter, operation string, v any) {
	var b bytes.Buffer
	b.WriteString(xml.Header)
	e := xml.NewEncoder(&b)
	outer := element(operation + "Response")
	outer.Attr = []xml.Attr{{Name: xml.Name{Local: "xmlns"}, Value: sqsNamespace}}
	err := e.EncodeToken(outer)
	if err == nil && v != nil {
		err = e.EncodeElement(v, element(operation+"Result"))
	}
	if err == nil {
		err = e.EncodeElement(struct {
			RequestID string `xml:"RequestId"`
		}{w.Header().Get(requestIDHeader)}, element("ResponseMetadata"))
	}
	if err == nil {
		err = e.EncodeToken(outer.End())
	}
	if err == nil {
		err = e.Close()
	}
	if err != nil { // of ours, all can be
		panic(err)
	}
	w.Header().Set("Content-Type", "text/xml")
	_, _ = io.Copy(w, &b) // a client that is gone needs no answer
}

// The query protocol's names of lists, and what they are in JSON.
var (
	formLists = map[string]string{
		"AttributeName": "AttributeNames", "MessageAttributeName": "MessageAttributeNames", "MessageSystemAttributeName": "MessageSystemAttributeNames", "TagKey": "TagKeys",
		"SendMessageBatchRequestEntry": "Entries", "DeleteMessageBatchRequestEntry": "Entries", "ChangeMessageVisibilityBatchRequestEntry": "Entries",
	}
	formMaps = map[string]struct{ as, key string }{
		"Attribute": {"Attributes", "Name"}, "MessageAttribute": {"MessageAttributes", "Name"}, "MessageSystemAttribute": {"MessageSystemAttributes", "Name"}, "Tag": {"Tags", "Key"},
	}
)

// readForm reads a request of the query protocol, and returns its operation.
func readForm(r *http.Request, into any) (operation string, err error) {
	body, err := readBody(r)
	if err != nil {
		return "", err
	}
	malformed := func(err error) error {
		return because("MalformedQueryString", lambent.Errorf(lambent.Invalid, "aws", "the request cannot be read: %w", err))
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return "", malformed(err)
	}
	for k, v := range r.URL.Query() {
		form[k] = append(form[k], v...)
	}
	tree := map[string]any{}
	for k, v := range form {
		if k == "Action" || k == "Version" || strings.HasPrefix(k, "X-Amz-") {
			continue
		}
		put(tree, strings.SplitN(k, ".", 8), v[0])
	}
	b, err := json.Marshal(fromForm(tree))
	if err != nil {
		return "", malformed(err)
	}
	if err := json.Unmarshal(b, into); err != nil {
		return "", malformed(err)
	}
	return form.Get("Action"), nil
}

// put has a value at a path in a tree; where there is one already, neither is read.
func put(tree map[string]any, path []string, value string) {
	for len(path) > 1 {
		next, ok := tree[path[0]].(map[string]any)
		if !ok {
			next = map[string]any{}
			tree[path[0]] = next
		}
		tree, path = next, path[1:]
	}
	tree[path[0]] = value
}

// fromForm makes a tree of a form what the request is in JSON.
func fromForm(tree map[string]any) map[string]any {
	out := map[string]any{}
	for name, value := range tree {
		below, isTree := value.(map[string]any)
		switch m, isMap := formMaps[name]; {
		case isMap && isTree:
			all := map[string]any{}
			for _, one := range list(below) {
				if pair, ok := one.(map[string]any); ok {
					if key, ok := pair[m.key].(string); ok {
						all[key] = pair["Value"]
					}
				}
			}
			out[m.as] = all
		case formLists[name] != "" && isTree:
			all := list(below)
			for i, one := range all {
				if entry, ok := one.(map[string]any); ok {
					all[i] = fromForm(entry)
				}
			}
			out[formLists[name]] = all
		default:
			out[name] = value
		}
	}
	return out
}

// list is what stands under numbers, in their order.
func list(tree map[string]any) (all []any) {
	var numbers []int
	for k := range tree {
		if n, err := strconv.Atoi(k); err == nil && strconv.Itoa(n) == k {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	for _, n := range numbers {
		all = append(all, tree[strconv.Itoa(n)])
	}
	return all
}
