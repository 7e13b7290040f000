package kafka

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
)

// What cannot be decompressed, and what becomes too much as records of any format, is left out.
func TestInflater(t *testing.T) {
	gzip, _ := kgo.DefaultCompressor(kgo.GzipCompression())
	compress := func(records []byte) []byte {
		out, _ := gzip.Compress(new(bytes.Buffer), records)
		return bytes.Clone(out)
	}
	old := binary.BigEndian.AppendUint32(make([]byte, 8), 14) // offset, and length
	old = append(old, make([]byte, 14)...)                    // of one without a key and a value
	young := []byte{12, 0, 0, 0, 1, 1, 0}                     // the same without headers
	const n = maxBatch/perRecord + 1
	for name, c := range map[string]struct {
		src  []byte
		want error
	}{
		"not compressed": {[]byte("neither gzip nor anything else"), kgo.ErrMaxDecompress},
		"old":            {compress(bytes.Repeat(old, 100)), nil},
		"many old":       {compress(bytes.Repeat(old, n)), kgo.ErrMaxDecompress},
		"young":          {compress(bytes.Repeat(young, 100)), nil},
		"many young":     {compress(bytes.Repeat(young, n)), kgo.ErrMaxDecompress},
	} {
		i, err := newInflater()
		if err != nil {
			t.Fatal(err)
		}
		i.left.Store(maxPoll)
		if _, err := i.Decompress(c.src, kgo.CodecGzip); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}
