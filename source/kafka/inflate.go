package kafka

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kbin"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	// maxBatch is how many bytes the records of a compressed batch may take, and maxPoll how
	// many those of an answer have taken together when no other batch of it is begun.
	maxBatch = 64 << 20
	maxPoll  = 16 << 20

	// perRecord and perHeader are what these take beside what they hold.
	perRecord, perHeader = 256, 96

	keyFetch = 1 // of Kafka's protocol
)

// errLater is of a batch for which there is no room now. The client keeps what it has of the
// partition, and asks for the rest again.
var errLater = errors.New("there is no room for another batch now")

// An inflater decompresses batches, with an end to what becomes of one answer: whoever may
// produce to a topic can send a few bytes that become many, also as records that are empty,
// and the client bounds a batch alone.
type inflater struct {
	kgo.Decompressor
	left atomic.Int64 // bytes of this answer's
}

var (
	_ kgo.Decompressor   = (*inflater)(nil)
	_ kgo.HookBrokerRead = (*inflater)(nil)
)

func newInflater() (*inflater, error) {
	c, err := kgo.NewClient(kgo.MaxDecompressBatchBytes(maxBatch)) // the library's has a bound in a client only
	if err != nil {
		return nil, err
	}
	defer c.Close()
	return &inflater{Decompressor: c.OptValue(kgo.WithDecompressor).(kgo.Decompressor)}, nil
}

// OnBrokerRead implements kgo.HookBrokerRead: there is one answer at a time, and the one
// before it has been polled.
func (i *inflater) OnBrokerRead(_ kgo.BrokerMetadata, key int16, _ int, _, _ time.Duration, _ error) {
	if key == keyFetch {
		i.left.Store(maxPoll)
	}
}

// Decompress implements kgo.Decompressor.
func (i *inflater) Decompress(src []byte, codec kgo.CompressionCodecType) ([]byte, error) {
	if i.left.Load() <= 0 {
		return nil, errLater
	}
	records, err := i.Decompressor.Decompress(src, codec)
	if err != nil { // a batch that cannot be decompressed is left out as one that is too large
		i.left.Store(0)
		return nil, kgo.ErrMaxDecompress
	}
	n := int64(len(records)) + max(records2(records), records1(records))
	i.left.Add(-n)
	if n > maxBatch {
		return nil, kgo.ErrMaxDecompress
	}
	return records, nil
}

// records2 is about how many bytes the records of a batch take beside their own when they are
// read as those of Kafka 0.11 and later.
func records2(batch []byte) (n int64) {
	for b := (kbin.Reader{Src: batch}); len(b.Src) > 0; {
		r := kbin.Reader{Src: b.Span(int(b.Varint()))}
		r.Int8()        // attributes
		r.Varlong()     // timestamp
		r.Varint()      // offset
		r.VarintBytes() // key
		r.VarintBytes() // value
		headers := r.VarintArrayLen()
		if !b.Ok() || !r.Ok() { // which the client says, too
			break
		}
		n += perRecord + perHeader*int64(headers)
	}
	return n
}

// records1 is the same of those before 0.11, each of which begins with its offset and how long
// it is.
func records1(batch []byte) (n int64) {
	for b := (kbin.Reader{Src: batch}); ; n += perRecord {
		b.Int64()
		b.Span(int(b.Int32()))
		if !b.Ok() {
			return n
		}
	}
}
