package aws

import (
	"context"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"lambent"
	"lambent/auth"
	"lambent/queue"
)

// SQS is the service of messages, over users' queues, in both protocols that it has had:
// JSON, and the older query protocol, which is a form that is answered in XML. Who may call
// functions may send and receive; queues are an administrator's to make.
func SQS(queues *queue.Queues) Service {
	s := &sqs{queues}
	return func(w http.ResponseWriter, r *http.Request, who Caller) error {
		c := &sqsCall{ctx: r.Context(), who: who, url: queueURL(r, who.Project)}
		isQuery := protocolOf(r, "sqs") == queryProtocol
		name := operationOf(r)
		if isQuery {
			var err error
			if name, err = readForm(r, &c.in); err != nil {
				return err
			}
		} else if err := readJSON(r, &c.in); err != nil {
			return err
		}
		op, ok := sqsOperations[name]
		if !ok {
			reason := "UnknownOperationException"
			if isQuery {
				reason = "InvalidAction"
			}
			return because(reason, lambent.Errorf(lambent.Unsupported, "aws", "SQS has no operation %.60q here", name))
		}
		if err := allow(who, op.role); err != nil {
			return err
		}
		if err := op.check(c, r.URL.Path); err != nil {
			return err
		}
		out, err := op.run(s, c)
		if err != nil {
			return sqsWords(err)
		}
		if isQuery {
			writeResult(w, name, out)
			return nil
		}
		if out == nil {
			out = struct{}{}
		}
		return answerJSON(w, r, out)
	}
}

// sqsWords gives errors of queues the words that SQS has for them.
func sqsWords(err error) error {
	e, ok := err.(*lambent.Error)
	if !ok || e.Reason != "" {
		return err
	}
	named := *e
	switch e.Kind {
	case lambent.NotFound:
		named.Reason = "QueueDoesNotExist"
	case lambent.Exists:
		named.Reason = "QueueNameExists"
	case lambent.Invalid:
		named.Reason = queue.ReasonValue
	case lambent.Throttled:
		named.Reason = "RequestThrottled"
	}
	return &named
}

type sqs struct{ queues *queue.Queues }

// An sqsCall is a request that is being served.
type sqsCall struct {
	ctx  context.Context
	who  Caller
	url  func(name string) string
	name string // of the queue
	in   sqsRequest
}

// An sqsRequest has the fields of all operations: none has two meanings.
type sqsRequest struct {
	sqsEntry
	QueueURL        string `json:"QueueUrl"`
	QueueName       string
	QueueNamePrefix string
	NextToken       string
	MaxResults      *number

	MaxNumberOfMessages *number
	WaitTimeSeconds     *number

	Attributes                  map[string]string
	Tags                        map[string]string
	TagKeys                     []string
	AttributeNames              []string
	MessageSystemAttributeNames []string
	MessageAttributeNames       []string
	Entries                     []sqsEntry
}

// An sqsEntry is what operations take one of, or a batch.
type sqsEntry struct {
	ID                      string `json:"Id"`
	MessageBody             *string
	DelaySeconds            *number
	MessageAttributes       map[string]sqsAttribute
	MessageSystemAttributes map[string]sqsAttribute
	MessageGroupID          string `json:"MessageGroupId"`
	MessageDeduplicationID  string `json:"MessageDeduplicationId"`
	ReceiptHandle           string
	VisibilityTimeout       *number
}

// A number is one that may have come as a string.
type number int

// UnmarshalJSON implements json.Unmarshaler.
func (n *number) UnmarshalJSON(b []byte) error {
	v, err := strconv.Atoi(strings.Trim(string(b), `"`))
	*n = number(v)
	return err
}

// seconds is a duration; negative: it is not said.
func (n *number) seconds() time.Duration {
	if n == nil {
		return -1
	}
	return time.Duration(*n) * time.Second
}

// An sqsOperation is one of SQS's.
type sqsOperation struct {
	role    auth.Role
	onQueue bool // it is about one
	run     func(*sqs, *sqsCall) (any, error)
}

var sqsOperations = map[string]sqsOperation{
	"CreateQueue":                  {auth.RoleAdmin, false, (*sqs).createQueue},
	"DeleteQueue":                  {auth.RoleAdmin, true, (*sqs).deleteQueue},
	"PurgeQueue":                   {auth.RoleAdmin, true, (*sqs).purgeQueue},
	"SetQueueAttributes":           {auth.RoleAdmin, true, (*sqs).setQueueAttributes},
	"TagQueue":                     {auth.RoleAdmin, true, (*sqs).tagQueue},
	"UntagQueue":                   {auth.RoleAdmin, true, (*sqs).untagQueue},
	"ListQueueTags":                {auth.RoleInvoke, true, (*sqs).listQueueTags},
	"GetQueueUrl":                  {auth.RoleInvoke, false, (*sqs).getQueueURL},
	"ListQueues":                   {auth.RoleInvoke, false, (*sqs).listQueues},
	"ListDeadLetterSourceQueues":   {auth.RoleInvoke, true, (*sqs).listSources},
	"GetQueueAttributes":           {auth.RoleInvoke, true, (*sqs).getQueueAttributes},
	"SendMessage":                  {auth.RoleInvoke, true, (*sqs).sendMessage},
	"SendMessageBatch":             {auth.RoleInvoke, true, (*sqs).sendMessageBatch},
	"ReceiveMessage":               {auth.RoleInvoke, true, (*sqs).receiveMessage},
	"DeleteMessage":                {auth.RoleInvoke, true, (*sqs).deleteMessage},
	"DeleteMessageBatch":           {auth.RoleInvoke, true, (*sqs).deleteMessageBatch},
	"ChangeMessageVisibility":      {auth.RoleInvoke, true, (*sqs).changeVisibility},
	"ChangeMessageVisibilityBatch": {auth.RoleInvoke, true, (*sqs).changeVisibilityBatch},
}

// check finds out which queue is meant. The address of a queue is ours, whatever name of
// this server is in it: the last of its path counts.
func (op *sqsOperation) check(c *sqsCall, path string) error {
	if !op.onQueue {
		return nil
	}
	url := c.in.QueueURL
	if url == "" {
		url = path // of the query protocol
	}
	c.name = url[strings.LastIndexByte(url, '/')+1:]
	if c.name == "" {
		return because("MissingParameter", lambent.Errorf(lambent.Invalid, "aws", "the request needs a QueueUrl"))
	}
	return nil
}

// queueURL returns the addresses of queues, as the client calls this server.
func queueURL(r *http.Request, project string) func(string) string {
	scheme := "http"
	if r.TLS != nil {
		scheme = "https"
	}
	return func(name string) string {
		return scheme + "://" + r.Host + "/" + lambent.AccountID(project) + "/" + name
	}
}

func (s *sqs) createQueue(c *sqsCall) (any, error) {
	settings := queue.DefaultSettings()
	if err := setAttributes(&settings, c.who.Project, c.in.Attributes); err != nil {
		return nil, err
	}
	// What is not said of a queue that exists is as it is.
	if info, err := s.queues.Get(c.who.Project, c.in.QueueName); err == nil {
		settings = info.Settings
		if err := setAttributes(&settings, c.who.Project, c.in.Attributes); err != nil {
			return nil, err
		}
	}
	_, err := s.queues.Create(c.ctx, c.who.Project, c.in.QueueName, settings, c.in.Tags)
	return urlResult{QueueURL: c.url(c.in.QueueName)}, err
}

func (s *sqs) deleteQueue(c *sqsCall) (any, error) {
	return nil, s.queues.Delete(c.ctx, c.who.Project, c.name)
}

func (s *sqs) purgeQueue(c *sqsCall) (any, error) {
	return nil, s.queues.Purge(c.ctx, c.who.Project, c.name)
}

func (s *sqs) getQueueURL(c *sqsCall) (any, error) {
	_, err := s.queues.Get(c.who.Project, c.in.QueueName)
	return urlResult{QueueURL: c.url(c.in.QueueName)}, err
}

func (s *sqs) listQueues(c *sqsCall) (any, error) {
	names := slices.DeleteFunc(s.queues.List(c.who.Project), func(name string) bool { return !strings.HasPrefix(name, c.in.QueueNamePrefix) })
	return c.page(names), nil
}

// page is the part of a list of queues that was asked for.
func (c *sqsCall) page(names []string) urlsResult {
	most := 1000
	if n := c.in.MaxResults; n != nil {
		most = min(max(int(*n), 1), most)
	}
	out := urlsResult{}
	for _, name := range names {
		if name <= c.in.NextToken {
			continue
		}
		if len(out.QueueURLs) == most {
			if c.in.MaxResults != nil { // who says nothing of pages knows none
				out.NextToken = names[slices.Index(names, name)-1]
			}
			break
		}
		out.QueueURLs = append(out.QueueURLs, c.url(name))
	}
	return out
}

func (s *sqs) listSources(c *sqsCall) (any, error) {
	if _, err := s.queues.Get(c.who.Project, c.name); err != nil {
		return nil, err
	}
	var names []string
	for _, name := range s.queues.List(c.who.Project) {
		if info, err := s.queues.Get(c.who.Project, name); err == nil && info.DeadLetter == c.name {
			names = append(names, name)
		}
	}
	out := c.page(names)
	return sourcesResult(out), nil
}

func (s *sqs) tagQueue(c *sqsCall) (any, error) {
	return nil, s.queues.Change(c.ctx, c.who.Project, c.name, func(_ *queue.Settings, tags map[string]string) error {
		for k, v := range c.in.Tags {
			tags[k] = v
		}
		return nil
	})
}

func (s *sqs) untagQueue(c *sqsCall) (any, error) {
	return nil, s.queues.Change(c.ctx, c.who.Project, c.name, func(_ *queue.Settings, tags map[string]string) error {
		for _, k := range c.in.TagKeys {
			delete(tags, k)
		}
		return nil
	})
}

func (s *sqs) listQueueTags(c *sqsCall) (any, error) {
	info, err := s.queues.Get(c.who.Project, c.name)
	if err != nil {
		return nil, err
	}
	return tagsResult{info.Tags}, nil
}

func (s *sqs) setQueueAttributes(c *sqsCall) (any, error) {
	return nil, s.queues.Change(c.ctx, c.who.Project, c.name, func(settings *queue.Settings, _ map[string]string) error {
		return setAttributes(settings, c.who.Project, c.in.Attributes)
	})
}

func (s *sqs) getQueueAttributes(c *sqsCall) (any, error) {
	info, err := s.queues.Get(c.who.Project, c.name)
	if err != nil {
		return nil, err
	}
	all := attributesOf(info)
	out := attributeMap{}
	for _, name := range c.in.AttributeNames {
		if name == "All" {
			return attributesResult{all}, nil
		}
		if v, ok := all[name]; ok {
			out[name] = v
		} else if !attributeNames[name] {
			return nil, because("InvalidAttributeName", lambent.Errorf(lambent.Invalid, "aws", "Unknown Attribute %.80s.", name))
		}
	}
	return attributesResult{out}, nil
}

func (s *sqs) sendMessage(c *sqsCall) (any, error) {
	m, err := c.in.message(c.who)
	if err != nil {
		return nil, err
	}
	sent, errs, err := s.queues.Send(c.ctx, c.who.Project, c.name, m)
	if err == nil {
		err = errs[0]
	}
	if err != nil {
		return nil, err
	}
	return c.in.sent(sent[0]), nil
}

func (s *sqs) sendMessageBatch(c *sqsCall) (any, error) {
	if err := c.checkBatch(); err != nil {
		return nil, err
	}
	var out batchResult[sentResult]
	var messages []queue.Message
	var of []*sqsEntry
	size := 0
	for i := range c.in.Entries {
		e := &c.in.Entries[i]
		m, err := e.message(c.who)
		if err != nil {
			out.fail(e.ID, err)
			continue
		}
		size += m.Size()
		messages, of = append(messages, m), append(of, e)
	}
	if size > queue.MaxMessageBytes {
		return nil, because("BatchRequestTooLong", lambent.Errorf(lambent.Invalid, "aws", "Batch requests cannot be longer than %d bytes. You have sent %d bytes.", queue.MaxMessageBytes, size))
	}
	sent, errs, err := s.queues.Send(c.ctx, c.who.Project, c.name, messages...)
	if err != nil {
		return nil, err
	}
	for i, e := range of {
		if errs[i] != nil {
			out.fail(e.ID, errs[i])
			continue
		}
		r := e.sent(sent[i])
		r.ID = e.ID
		out.Successful = append(out.Successful, r)
	}
	return (*sendBatchResult)(out.done()), nil
}

var batchID = regexp.MustCompile(`^[A-Za-z0-9_-]{1,80}$`)

// checkBatch refuses what a batch cannot be.
func (c *sqsCall) checkBatch() error {
	bad := func(reason, format string, args ...any) error {
		return because(reason, lambent.Errorf(lambent.Invalid, "aws", format, args...))
	}
	switch n := len(c.in.Entries); {
	case n == 0:
		return bad("EmptyBatchRequest", "There should be at least one entry in the request.")
	case n > 10:
		return bad("TooManyEntriesInBatchRequest", "Maximum number of entries per request are 10. You have sent %d.", n)
	}
	ids := map[string]bool{}
	for _, e := range c.in.Entries {
		if !batchID.MatchString(e.ID) {
			return bad("InvalidBatchEntryId", "Id %.100q: 1 to 80 letters, digits, '-' or '_'.", e.ID)
		}
		if ids[e.ID] {
			return bad("BatchEntryIdsNotDistinct", "Id %s repeated.", e.ID)
		}
		ids[e.ID] = true
	}
	return nil
}

func (s *sqs) receiveMessage(c *sqsCall) (any, error) {
	n := 1
	if c.in.MaxNumberOfMessages != nil {
		n = int(*c.in.MaxNumberOfMessages)
	}
	if w := c.in.WaitTimeSeconds; w != nil && *w < 0 || c.in.VisibilityTimeout != nil && *c.in.VisibilityTimeout < 0 {
		return nil, because(queue.ReasonValue, lambent.Errorf(lambent.Invalid, "aws", "WaitTimeSeconds and VisibilityTimeout are not negative"))
	}
	all, err := s.queues.Receive(c.ctx, c.who.Project, c.name, n, c.in.WaitTimeSeconds.seconds(), c.in.VisibilityTimeout.seconds())
	if err != nil {
		return nil, err
	}
	out := messagesResult{}
	for i := range all {
		out.Messages = append(out.Messages, c.message(&all[i]))
	}
	return out, nil
}

func (s *sqs) deleteMessage(c *sqsCall) (any, error) {
	errs, err := s.queues.DeleteMessages(c.ctx, c.who.Project, c.name, c.in.ReceiptHandle)
	if err == nil {
		err = errs[0]
	}
	return nil, err
}

func (s *sqs) deleteMessageBatch(c *sqsCall) (any, error) {
	if err := c.checkBatch(); err != nil {
		return nil, err
	}
	var receipts []string
	for _, e := range c.in.Entries {
		receipts = append(receipts, e.ReceiptHandle)
	}
	errs, err := s.queues.DeleteMessages(c.ctx, c.who.Project, c.name, receipts...)
	if err != nil {
		return nil, err
	}
	return (*deleteBatchResult)(c.results(errs)), nil
}

func (s *sqs) changeVisibility(c *sqsCall) (any, error) {
	v, err := c.in.visibility()
	if err != nil {
		return nil, err
	}
	errs, err := s.queues.ChangeVisibility(c.who.Project, c.name, v)
	if err == nil {
		err = errs[0]
	}
	return nil, err
}

func (s *sqs) changeVisibilityBatch(c *sqsCall) (any, error) {
	if err := c.checkBatch(); err != nil {
		return nil, err
	}
	var changes []queue.VisibilityChange
	for i := range c.in.Entries {
		v, err := c.in.Entries[i].visibility()
		if err != nil {
			return nil, err
		}
		changes = append(changes, v)
	}
	errs, err := s.queues.ChangeVisibility(c.who.Project, c.name, changes...)
	if err != nil {
		return nil, err
	}
	return (*visibilityBatchResult)(c.results(errs)), nil
}

func (e *sqsEntry) visibility() (queue.VisibilityChange, error) {
	if e.VisibilityTimeout == nil {
		return queue.VisibilityChange{}, because("MissingParameter", lambent.Errorf(lambent.Invalid, "aws", "the request needs a VisibilityTimeout"))
	}
	return queue.VisibilityChange{Receipt: e.ReceiptHandle, Visibility: e.VisibilityTimeout.seconds()}, nil
}

// results are those of a batch whose entries have nothing but an id.
func (c *sqsCall) results(errs []error) *batchResult[idResult] {
	var out batchResult[idResult]
	for i, e := range c.in.Entries {
		if errs[i] != nil {
			out.fail(e.ID, errs[i])
			continue
		}
		out.Successful = append(out.Successful, idResult{e.ID})
	}
	return out.done()
}
