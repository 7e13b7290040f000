// Package redis takes entries of Redis's streams (5 and later), as a member of a consumer
// group whose consumer has the trigger's id.
//
// An entry's id is its name for ever, so that one that comes again counts once. A stream
// has no keys: with one batch under way at a time, as is the default, all of it is in
// order, and with more nothing is. What was handed to the trigger and not acknowledged
// comes first when it goes on. In a group that is shared, what a trigger that is deleted had
// in hand stays with its consumer, for others to claim.
//
// Nothing is lost that Redis has not lost itself: how much a crash of it takes is what its
// appendfsync says. Entries that a stream is trimmed of before they are taken are gone.
package redis

import (
	"context"
	"errors"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gomodule/redigo/redis"

	"lambent"
	"lambent/source/broker"
)

// Driver is for redis:// and rediss://.
type Driver struct{}

var _ broker.Driver = Driver{}

// Batch implements broker.Driver.
func (Driver) Batch() lambent.Batch { return lambent.Batch{Size: 100, Parallel: 1} }

// A client is a connection of a trigger's.
type client struct {
	conn     redis.Conn
	wire     *broker.Guarded
	lists    int // of the answer
	elements int // of these
	b        *lambent.Broker
}

// answerTimeout is how long Redis may take to answer what it need not wait for.
const answerTimeout = 10 * time.Second

func connect(ctx context.Context, b *lambent.Broker) (*client, error) {
	e, err := broker.EndpointOf(b, true)
	if err != nil {
		return nil, err
	}
	db := 0
	if e.Path != "" {
		if db, err = strconv.Atoi(e.Path); err != nil || db < 0 {
			return nil, lambent.Errorf(lambent.Invalid, "redis", "%.32q is no database of Redis: it is a number, as in redis://HOST/0", e.Path)
		}
	}
	c := &client{b: b}
	c.conn, err = redis.DialContext(ctx, "tcp", e.Address, redis.DialDatabase(db), redis.DialUsername(e.User), redis.DialPassword(e.Password),
		redis.DialReadTimeout(answerTimeout), redis.DialWriteTimeout(answerTimeout),
		redis.DialContextFunc(func(ctx context.Context, _, _ string) (net.Conn, error) {
			conn, err := e.Dial(ctx)
			if err != nil {
				return nil, err
			}
			c.wire = broker.Guard(conn, broker.Lines(c.announced))
			return c.wire, nil
		}))
	if err != nil {
		return nil, c.explain(err)
	}
	return c, nil
}

// Bounds of an answer. An entry may have one value of that size.
const (
	maxBulk     = 64 << 20
	maxElements = 2_000_000 // of all lists together, for which the client makes room at once
	maxLists    = 10_000    // the client reads lists in lists by calling itself
)

// announced is what follows a line.
func (c *client) announced(line []byte) (int, error) {
	if len(line) == 0 || line[0] != '$' && line[0] != '*' {
		return 0, nil
	}
	n, _ := strconv.Atoi(string(line[1:])) // too large a number is the largest
	switch {
	case line[0] == '$' && n > maxBulk:
		return 0, broker.TooMuch("a value of bytes", n, maxBulk)
	case line[0] == '$' && n < 0: // nothing
		return 0, nil
	case line[0] == '$':
		return n + 2, nil
	}
	if n > maxElements-c.elements {
		return 0, broker.TooMuch("lists of elements", n, maxElements-c.elements)
	}
	c.elements += max(n, 0)
	if c.lists++; c.lists > maxLists {
		return 0, broker.TooMuch("lists", c.lists, maxLists)
	}
	return 0, nil
}

// do asks for something.
func (c *client) do(ctx context.Context, command string, args ...any) (any, error) {
	c.wire.Taken()
	c.lists, c.elements = 0, 0
	return redis.DoContext(c.conn, ctx, command, args...)
}

func (c *client) close() { _ = c.conn.Close() }

// explain is an error of Redis for people.
func (c *client) explain(err error) error {
	if err == nil {
		return nil
	}
	said, refused := errors.AsType[redis.Error](err)
	is := func(codes ...string) bool {
		return slices.ContainsFunc(codes, func(code string) bool { return strings.HasPrefix(string(said), code) })
	}
	switch {
	case !refused:
		return broker.Fail(c.b, lambent.Unavailable, "does not answer", err)
	case is("WRONGPASS", "NOAUTH", "NOPERM", "ERR AUTH", "ERR invalid DB", "ERR DB index"):
		return broker.Fail(c.b, lambent.Invalid, "refuses it", err)
	case is("WRONGTYPE"):
		return lambent.Errorf(lambent.Invalid, "redis", "%s has something else than a stream at %q", c.b.Masked(), c.b.Topic)
	case is("NOGROUP", "UNBLOCKED"):
		return lambent.Errorf(lambent.Stale, "redis", "the stream %s or its group is gone from %s: what was sent since then is not known. To begin anew, disable the trigger and enable it again", c.b.Topic, c.b.Masked())
	}
	return broker.Fail(c.b, lambent.Unavailable, "fails", err)
}

// Check implements broker.Driver.
func (Driver) Check(ctx context.Context, t *lambent.Trigger) error {
	c, err := connect(ctx, t.Broker)
	if err != nil {
		return err
	}
	defer c.close()
	return c.check(ctx)
}

func (c *client) check(ctx context.Context) error {
	n, err := redis.Int(c.do(ctx, "EXISTS", c.b.Topic))
	if err == nil && n == 0 {
		return lambent.Errorf(lambent.Invalid, "redis", "%s has no stream %s", c.b.Masked(), c.b.Topic).WithHint("redis-cli XGROUP CREATE %s first $ MKSTREAM", c.b.Topic)
	}
	if err == nil {
		_, err = c.do(ctx, "XINFO", "GROUPS", c.b.Topic)
	}
	return c.explain(err)
}

// Prepare implements broker.Driver.
func (Driver) Prepare(ctx context.Context, t *lambent.Trigger) error {
	c, err := connect(ctx, t.Broker)
	if err != nil {
		return err
	}
	defer c.close()
	if err := c.check(ctx); err != nil {
		return err
	}
	group, _ := broker.GroupOf(t)
	start := "$"
	if t.Broker.From == lambent.FromEarliest {
		start = "0"
	}
	_, err = c.do(ctx, "XGROUP", "CREATE", t.Broker.Topic, group, start)
	if err != nil && strings.HasPrefix(err.Error(), "BUSYGROUP") { // it is there
		return nil
	}
	return c.explain(err)
}

// Forget implements broker.Driver.
func (Driver) Forget(ctx context.Context, t *lambent.Trigger) error {
	group, own := broker.GroupOf(t)
	if !own {
		return nil
	}
	c, err := connect(ctx, t.Broker)
	if err != nil {
		return err
	}
	defer c.close()
	_, err = c.do(ctx, "XGROUP", "DESTROY", t.Broker.Topic, group)
	if err != nil && strings.Contains(err.Error(), "requires the key to exist") {
		return nil
	}
	return c.explain(err)
}

// Consume implements broker.Driver.
func (Driver) Consume(ctx context.Context, t *lambent.Trigger) (broker.Stream, error) {
	group, _ := broker.GroupOf(t)
	c, err := connect(ctx, t.Broker)
	if err != nil {
		return nil, err
	}
	gauge, err := connect(ctx, t.Broker)
	if err != nil {
		c.close()
		return nil, err
	}
	return &stream{client: c, gauge: gauge, consumer: t.ID, group: group, last: "0"}, nil
}

// block is how long Redis waits for an entry.
const block = 5 * time.Second

// A stream is one that is read.
type stream struct {
	*client
	gauge    *client // for what is asked meanwhile
	group    string
	consumer string
	last     string // of what was handed to us before, and not acknowledged: behind which there may be more; ">": there is none
	pace     broker.Pace
	ids      []any
}

// Receive implements broker.Stream.
func (s *stream) Receive(ctx context.Context) ([]broker.Message, error) {
	unhook := context.AfterFunc(ctx, s.close) // what waits for Redis ends with it
	defer unhook()
	for ctx.Err() == nil {
		entries, err := s.read(ctx)
		switch {
		case err != nil:
			return nil, s.explain(err)
		case len(entries) > 0:
			return s.messages(entries)
		}
	}
	return nil, ctx.Err()
}

// read returns the next entries, or none after a while.
func (s *stream) read(ctx context.Context) ([]any, error) {
	ctx, cancel := context.WithTimeout(ctx, block+answerTimeout)
	defer cancel()
	found, err := redis.Values(s.do(ctx, "XREADGROUP", "GROUP", s.group, s.consumer, "COUNT", s.pace.Count(), "BLOCK", block.Milliseconds(), "STREAMS", s.b.Topic, s.last))
	if errors.Is(err, redis.ErrNil) {
		return nil, nil
	}
	var entries []any
	if err == nil && len(found) == 1 {
		var of []any
		if of, err = redis.Values(found[0], nil); err == nil && len(of) == 2 {
			entries, err = redis.Values(of[1], nil)
		}
	}
	if err == nil && len(entries) == 0 {
		s.last = ">"
	}
	return entries, err
}

func (s *stream) messages(entries []any) ([]broker.Message, error) {
	var all []broker.Message
	bytes := 0
	s.ids = s.ids[:0]
	for _, entry := range entries {
		of, err := redis.Values(entry, nil)
		if err != nil || len(of) != 2 {
			return nil, lambent.Errorf(lambent.Unavailable, "redis", "%s tells entries in another form than Redis", s.b.Masked())
		}
		id, err := redis.String(of[0], nil)
		if err != nil {
			return nil, s.explain(err)
		}
		if s.ids = append(s.ids, id); s.last != ">" {
			s.last = id
		}
		if of[1] == nil { // it was deleted since it was handed to us
			continue
		}
		fields, err := redis.ByteSlices(of[1], nil)
		if err != nil || len(fields)%2 != 0 {
			return nil, s.explain(err)
		}
		m := broker.Message{Origin: id}
		m.Engine, m.Broker, m.Topic, m.Entry, m.Fields = "redis", s.b.Address(), s.b.Topic, id, map[string]lambent.Bytes{}
		for i := 0; i < len(fields); i += 2 {
			m.Fields[string(fields[i])] = fields[i+1]
			bytes += len(fields[i]) + len(fields[i+1])
		}
		ms, _, _ := strings.Cut(id, "-")
		if n, err := strconv.ParseInt(ms, 10, 64); err == nil {
			m.Time = time.UnixMilli(n) // unless whoever added it said something else
		}
		all = append(all, m)
	}
	s.pace.Took(len(entries), bytes)
	return all, nil
}

// Done implements broker.Stream.
func (s *stream) Done(ctx context.Context) error {
	_, err := s.do(ctx, "XACK", append([]any{s.b.Topic, s.group}, s.ids...)...)
	return s.explain(err)
}

// Waiting implements broker.Stream. Redis 6 does not say, nor a later one of a stream from
// whose middle something was deleted.
func (s *stream) Waiting(ctx context.Context) (int64, error) {
	groups, err := redis.Values(s.gauge.do(ctx, "XINFO", "GROUPS", s.b.Topic))
	if err != nil {
		return 0, s.explain(err)
	}
	for _, g := range groups {
		fields, err := redis.Values(g, nil)
		if err != nil {
			return 0, s.explain(err)
		}
		said := map[string]any{}
		for i := 0; i+1 < len(fields); i += 2 {
			name, _ := redis.String(fields[i], nil)
			said[name] = fields[i+1]
		}
		if name, _ := redis.String(said["name"], nil); name != s.group {
			continue
		}
		lag, err := redis.Int64(said["lag"], nil)
		pending, err2 := redis.Int64(said["pending"], nil)
		if errors.Join(err, err2) == nil {
			return lag + pending, nil
		}
	}
	return -1, nil
}

// Close implements broker.Stream. What was not acknowledged stays with our consumer.
func (s *stream) Close() {
	s.close()
	s.gauge.close()
}
