// Package kafka takes records of Kafka's topics (2.4 and later), as a member of a consumer
// group.
//
// A record is known by its place in its partition, so that one which comes again counts once.
// Those of a key are in order, and those without one as their partition has them; what a
// transaction has not committed is not taken. A batch that cannot be decompressed, or only to
// more than there is room for, is left out, which leaves a dead letter that says where it is.
// A member is static, so that neither a restart nor a crash of ours has the group wait for it.
//
// A group whose offsets Kafka has forgotten, as it does a week after its last member has
// gone, begins with what there is; so does one that comes back to records which are not kept
// any more.
package kafka

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"lambent"
	"lambent/source/broker"
)

// Driver is for kafka://, and kafkas:// with TLS. A user's password goes as PLAIN unless
// sasl=scram-sha-256 or sasl=scram-sha-512 is behind it.
type Driver struct{}

var _ broker.Driver = Driver{}

// Batch implements broker.Driver: as many at a time as AWS's mappings have.
func (Driver) Batch() lambent.Batch { return lambent.Batch{Size: 100, Parallel: 8} }

// A client is one of a trigger's.
type client struct {
	*kgo.Client
	adm *kadm.Client
	b   *lambent.Broker
}

const (
	dialTimeout  = 5 * time.Second
	retryTimeout = 5 * time.Second
)

func connect(b *lambent.Broker, more ...kgo.Opt) (*client, error) {
	e, err := broker.EndpointOf(b, false, "sasl")
	if err != nil {
		return nil, err
	}
	options := append([]kgo.Opt{
		kgo.SeedBrokers(e.Address), kgo.ClientID("lambent"), kgo.DialTimeout(dialTimeout), kgo.RetryTimeout(retryTimeout), kgo.RequestRetries(5),
		kgo.BrokerMaxReadBytes(maxAnswer),
	}, more...)
	if e.TLS != nil {
		options = append(options, kgo.DialTLSConfig(e.TLS))
	}
	if e.User != "" {
		switch auth := (scram.Auth{User: e.User, Pass: e.Password}); strings.ToLower(cmp.Or(e.Query.Get("sasl"), "plain")) {
		case "plain":
			options = append(options, kgo.SASL(plain.Auth{User: e.User, Pass: e.Password}.AsMechanism()))
		case "scram-sha-256":
			options = append(options, kgo.SASL(auth.AsSha256Mechanism()))
		case "scram-sha-512":
			options = append(options, kgo.SASL(auth.AsSha512Mechanism()))
		default:
			return nil, lambent.Errorf(lambent.Invalid, "kafka", "sasl=%.32s is none of plain, scram-sha-256 and scram-sha-512", e.Query.Get("sasl"))
		}
	}
	c := &client{b: b}
	if c.Client, err = kgo.NewClient(options...); err != nil {
		return nil, broker.Fail(b, lambent.Invalid, "cannot be used", err)
	}
	c.adm = kadm.NewClient(c.Client)
	return c, nil
}

// explain is an error of Kafka for people.
func (c *client) explain(err error) error {
	if err == nil {
		return nil
	}
	is := func(errs ...*kerr.Error) bool {
		return slices.ContainsFunc(errs, func(e *kerr.Error) bool { return errors.Is(err, e) })
	}
	switch {
	case is(kerr.SaslAuthenticationFailed, kerr.UnsupportedSaslMechanism, kerr.IllegalSaslState):
		return broker.Fail(c.b, lambent.Invalid, "refuses it", err)
	case is(kerr.TopicAuthorizationFailed, kerr.GroupAuthorizationFailed, kerr.ClusterAuthorizationFailed):
		return broker.Fail(c.b, lambent.Invalid, "does not allow it", err)
	case is(kerr.UnknownTopicOrPartition, kerr.UnknownTopicID, kerr.InvalidTopicException):
		return lambent.Errorf(lambent.Invalid, "kafka", "%s has no topic %s", c.b.Masked(), c.b.Topic).
			WithHint("kafka-topics.sh --bootstrap-server %s --create --topic %s", c.b.Address(), c.b.Topic)
	}
	if _, ok := errors.AsType[*kerr.Error](err); ok {
		return broker.Fail(c.b, lambent.Unavailable, "fails", err)
	}
	return broker.Fail(c.b, lambent.Unavailable, "does not answer", err)
}

// Check implements broker.Driver.
func (Driver) Check(ctx context.Context, t *lambent.Trigger) error {
	c, err := connect(t.Broker)
	if err != nil {
		return err
	}
	defer c.Close()
	group, own := broker.GroupOf(t)
	if own {
		group = "lambent-" // what may be done with those of ours is known by any
	}
	return c.check(ctx, group)
}

func (c *client) check(ctx context.Context, group string) error {
	topics, err := c.adm.ListTopics(ctx, c.b.Topic)
	if err == nil {
		err = topics.Error()
	}
	if errors.Is(err, kerr.UnknownTopicOrPartition) {
		return c.noTopic(ctx)
	}
	if err == nil {
		_, err = c.adm.FetchOffsetsForTopics(ctx, group, c.b.Topic)
	}
	return c.explain(err)
}

// noTopic refuses a topic that is not there, and names some that are.
func (c *client) noTopic(ctx context.Context) error {
	topics, err := c.adm.ListTopics(ctx)
	names := topics.Names()
	if err != nil || len(names) == 0 {
		return c.explain(kerr.UnknownTopicOrPartition)
	}
	slices.Sort(names)
	return lambent.Errorf(lambent.Invalid, "kafka", "%s has no topic %s. There are: %s", c.b.Masked(), c.b.Topic, strings.Join(names[:min(len(names), 10)], ", ")).
		WithHint("kafka-topics.sh --bootstrap-server %s --create --topic %s", c.b.Address(), c.b.Topic)
}

// Prepare implements broker.Driver: the group's offsets are where it begins, for a group
// that has none there.
func (Driver) Prepare(ctx context.Context, t *lambent.Trigger) error {
	c, err := connect(t.Broker)
	if err != nil {
		return err
	}
	defer c.Close()
	group, _ := broker.GroupOf(t)
	if err := c.check(ctx, group); err != nil {
		return err
	}
	had, err := c.adm.FetchOffsets(ctx, group)
	if err != nil {
		return c.explain(err)
	}
	if len(had[c.b.Topic]) > 0 {
		return nil
	}
	list := c.adm.ListEndOffsets
	if t.Broker.From == lambent.FromEarliest {
		list = c.adm.ListStartOffsets
	}
	at, err := list(ctx, c.b.Topic)
	if err == nil {
		err = at.Error()
	}
	if err == nil {
		err = c.adm.CommitAllOffsets(ctx, group, at.Offsets())
	}
	return c.explain(err)
}

// Forget implements broker.Driver.
func (Driver) Forget(ctx context.Context, t *lambent.Trigger) error {
	c, err := connect(t.Broker)
	if err != nil {
		return err
	}
	defer c.Close()
	group, own := broker.GroupOf(t)
	if _, err := c.adm.LeaveGroup(ctx, kadm.LeaveGroup(group).InstanceIDs(t.ID)); err != nil && !gone(err) {
		return c.explain(err)
	}
	if !own {
		return nil
	}
	if _, err := c.adm.DeleteGroup(ctx, group); err != nil && !gone(err) {
		return c.explain(err)
	}
	return nil
}

// gone reports whether an error says that there is no such group, or no such member.
func gone(err error) bool {
	return errors.Is(err, kerr.GroupIDNotFound) || errors.Is(err, kerr.UnknownMemberID)
}

const (
	// maxFetch is what a broker is to send at a time, and maxAnswer what it may: a batch of
	// records comes whole.
	maxFetch  = 2 << 20
	maxAnswer = 64 << 20

	// maxRecords is how many are received at a time, and enough of how many bytes.
	maxRecords = 500
	enough     = 1 << 20

	// idle is after how long without a record Kafka is asked whether it is there.
	idle = 2 * time.Second
)

// Consume implements broker.Driver.
func (Driver) Consume(ctx context.Context, t *lambent.Trigger) (broker.Stream, error) {
	group, _ := broker.GroupOf(t)
	inflater, err := newInflater()
	if err != nil {
		return nil, broker.Fail(t.Broker, lambent.Internal, "cannot be used", err)
	}
	c, err := connect(t.Broker, kgo.WithDecompressor(inflater), kgo.WithHooks(inflater),
		kgo.ConsumerGroup(group), kgo.InstanceID(t.ID), kgo.ConsumeTopics(t.Broker.Topic), kgo.DisableAutoCommit(), kgo.BlockRebalanceOnPoll(),
		kgo.ConsumeStartOffset(kgo.NewOffset().AtStart()), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.FetchMaxBytes(maxFetch), kgo.FetchMaxPartitionBytes(maxFetch), kgo.MaxConcurrentFetches(1), kgo.FetchMaxWait(time.Second))
	if err != nil {
		return nil, err
	}
	s := &stream{client: c, group: group}
	meta, err := c.adm.BrokerMetadata(ctx)
	if err != nil {
		s.Close()
		return nil, c.explain(err)
	}
	s.cluster = meta.Cluster
	return s, nil
}

// A stream is one that is read.
type stream struct {
	*client
	cluster, group string

	polled []*kgo.Record                        // and not received
	over   []*kgo.ErrDecompressTooLarge         // batches that are to be left out, and were not received
	taken  []*kgo.Record                        // received last; of a batch that is left out, its last one
	behind map[string]map[int32]kgo.EpochOffset // where to go on behind such batches once that is done
}

// Receive implements broker.Stream.
func (s *stream) Receive(ctx context.Context) ([]broker.Message, error) {
	for len(s.polled)+len(s.over) == 0 {
		if err := s.poll(ctx); err != nil {
			return nil, err
		}
	}
	if len(s.polled) == 0 {
		return s.leaveOut(), nil
	}
	n, bytes := 0, 0
	for n < len(s.polled) && bytes < enough {
		bytes += size(s.polled[n])
		n++
	}
	s.taken, s.polled = s.polled[:n], s.polled[n:]
	return s.messages(), nil
}

// size is about how long a record is as a message.
func size(r *kgo.Record) int {
	n := len(r.Key) + len(r.Value)
	for _, h := range r.Headers {
		n += len(h.Key) + len(h.Value) + perHeader
	}
	return n
}

// poll waits for records, or for a batch that is to be left out, and returns without any
// when it is time to ask whether Kafka is there.
func (s *stream) poll(ctx context.Context) error {
	s.AllowRebalance()
	waiting, cancel := context.WithTimeout(ctx, idle)
	fetches := s.PollRecords(waiting, maxRecords)
	cancel()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	for _, f := range fetches.Errors() {
		over, ok := errors.AsType[*kgo.ErrDecompressTooLarge](f.Err)
		switch {
		case ok:
			s.over = append(s.over, over)
		case errors.Is(f.Err, errLater), errors.Is(f.Err, context.DeadlineExceeded), errors.Is(f.Err, context.Canceled):
		default:
			return s.explain(f.Err)
		}
	}
	if s.polled = fetches.Records(); len(s.polled)+len(s.over) > 0 {
		return nil
	}
	asking, cancel := context.WithTimeout(ctx, retryTimeout)
	defer cancel()
	return s.explain(s.Ping(asking))
}

// leaveOut has batches that there is no room for be told in place of their records.
func (s *stream) leaveOut() []broker.Message {
	all := make([]broker.Message, len(s.over))
	s.taken, s.behind = nil, map[string]map[int32]kgo.EpochOffset{}
	for i, o := range s.over {
		last := &kgo.Record{Topic: o.Topic, Partition: o.Partition, Offset: o.NextOffset - 1, LeaderEpoch: o.Epoch}
		s.taken = append(s.taken, last)
		if s.behind[o.Topic] == nil {
			s.behind[o.Topic] = map[int32]kgo.EpochOffset{}
		}
		s.behind[o.Topic][o.Partition] = kgo.EpochOffset{Epoch: o.Epoch, Offset: o.NextOffset}
		m := s.message(&kgo.Record{Topic: o.Topic, Partition: o.Partition, Offset: o.Offset})
		m.Refused = fmt.Sprintf("the batch of the records %d to %d of partition %d of topic %s becomes over %d bytes when it is decompressed, or cannot be, and was left out. "+
			"To look at it: kafka-console-consumer.sh --bootstrap-server %s --topic %s --partition %d --offset %d --max-messages %d",
			o.Offset, last.Offset, o.Partition, o.Topic, maxBatch, s.b.Address(), o.Topic, o.Partition, o.Offset, o.NextOffset-o.Offset)
		all[i] = m
	}
	s.over = nil
	return all
}

func (s *stream) messages() []broker.Message {
	all := make([]broker.Message, len(s.taken))
	for i, r := range s.taken {
		all[i] = s.message(r)
		m := &all[i]
		m.Time, m.TimestampType = r.Timestamp, "CREATE_TIME"
		if r.Attrs.TimestampType() == 1 {
			m.TimestampType = "LOG_APPEND_TIME"
		}
		if r.Key != nil {
			m.Key, m.Order = broker.Text(r.Key), "key "+string(r.Key)
		}
		if r.Value != nil {
			m.Body = broker.Text(r.Value)
		}
		for _, h := range r.Headers {
			m.Headers = append(m.Headers, lambent.Header{Name: h.Key, Value: h.Value})
		}
	}
	return all
}

// message says where a record is.
func (s *stream) message(r *kgo.Record) (m broker.Message) {
	m.Origin, m.Order = fmt.Sprintf("%s %s %d %d", s.cluster, r.Topic, r.Partition, r.Offset), fmt.Sprintf("%s-%d", r.Topic, r.Partition)
	m.Engine, m.Broker, m.Topic, m.Partition, m.Offset = "kafka", s.b.Address(), r.Topic, &r.Partition, &r.Offset
	return m
}

// Done implements broker.Stream.
func (s *stream) Done(ctx context.Context) error {
	err := s.CommitRecords(ctx, s.taken...)
	if err == nil {
		s.SetOffsets(s.behind)
	}
	s.taken, s.behind = nil, nil
	return s.explain(err)
}

// Waiting implements broker.Stream: what is behind the group's offsets.
func (s *stream) Waiting(ctx context.Context) (int64, error) {
	ends, err := s.adm.ListEndOffsets(ctx, s.b.Topic)
	if err != nil {
		return 0, s.explain(err)
	}
	at, err := s.adm.FetchOffsetsForTopics(ctx, s.group, s.b.Topic)
	if err != nil {
		return 0, s.explain(err)
	}
	var n int64
	ends.Each(func(end kadm.ListedOffset) {
		if o, ok := at.Lookup(end.Topic, end.Partition); ok && o.At >= 0 {
			n += max(0, end.Offset-o.At)
		} else {
			n += end.Offset
		}
	})
	return n, nil
}

// Close implements broker.Stream. The member stays in the group, for when it is back.
func (s *stream) Close() { s.CloseAllowingRebalance() }
