package sigv4

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"hash"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"lambent"
)

// What chunks' signatures are of.
const (
	ofChunk    = algorithm + "-PAYLOAD\n"
	ofTrailers = algorithm + "-TRAILER\n"
)

const (
	maxChunkLine    = 4 << 10 // bytes
	maxTrailers     = 32
	maxTrailerBytes = 16 << 10
)

// chunked is a body that comes in chunks, as AWS has them: each begins with its length and,
// where chunks are signed, a signature that stands on that of the one before, the first on
// the request's
// (https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming.html).
type chunked struct {
	body io.ReadCloser
	in   *bufio.Reader
	r    *http.Request // for its trailers

	signed   bool // chunks are
	trailing bool // trailers follow
	expected []string
	scope    string // of signatures, with their time
	key      []byte
	previous string // signature

	left      int64 // of the content
	chunk     int64 // bytes of this chunk that are to come
	signature string
	hash      hash.Hash
	begun     bool
	err       error // what it has come to
}

func newChunked(body io.ReadCloser, s *Signature, key []byte, length int64, r *http.Request) *chunked {
	c := &chunked{
		body: body, in: bufio.NewReaderSize(body, maxChunkLine), r: r,
		signed: s.Payload != streamedUnsignedTrailer, trailing: s.Payload != streamed,
		scope: s.Time.Format(timeFormat) + "\n" + s.scope() + "\n", key: key, previous: s.signature,
		left: length, hash: sha256.New(),
	}
	for _, v := range r.Header["X-Amz-Trailer"] {
		for name := range strings.SplitSeq(v, ",") {
			if name = strings.ToLower(strings.TrimSpace(name)); name != "" {
				c.expected = append(c.expected, name)
			}
		}
	}
	return c
}

// Read implements io.Reader.
func (c *chunked) Read(p []byte) (n int, err error) {
	for c.err == nil && c.chunk == 0 {
		c.err = c.next()
	}
	if c.err != nil {
		return 0, c.err
	}
	if n, err = c.in.Read(p[:min(int64(len(p)), c.chunk)]); n > 0 {
		c.chunk -= int64(n)
		if c.signed {
			c.hash.Write(p[:n])
		}
		return n, nil
	}
	if err != nil {
		c.err = cut(err)
	}
	return n, c.err
}

// Close implements io.Closer.
func (c *chunked) Close() error { return c.body.Close() }

// cut is the error of a body that ends where it may not, or cannot be read.
func cut(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return fail(lambent.Invalid, ReasonIncompleteEnd, "the body ends within a chunk, or before the last one")
	}
	return err
}

func badChunk(format string, args ...any) error {
	return fail(lambent.Invalid, ReasonIncompleteEnd, "the body is not in chunks: "+format, args...)
}

// next ends a chunk and begins the one that follows. io.EOF: there is none, and all is well.
func (c *chunked) next() error {
	if c.begun {
		if err := c.end(); err != nil {
			return err
		}
	}
	c.begun = true
	line, err := c.line()
	if err != nil {
		return err
	}
	size, extension, _ := strings.Cut(line, ";")
	if c.chunk, err = strconv.ParseInt(size, 16, 64); err != nil || c.chunk < 0 || size[0] == '+' {
		c.chunk = 0
		return badChunk("%.40q is no length", size)
	}
	c.signature = ""
	if name, value, _ := strings.Cut(extension, "="); name == "chunk-signature" {
		c.signature = strings.TrimSpace(value)
	}
	if c.left -= c.chunk; c.left < 0 {
		return badChunk("they are longer than x-amz-decoded-content-length says")
	}
	if c.chunk > 0 {
		return nil
	}
	if c.left > 0 {
		return fail(lambent.Invalid, ReasonIncompleteEnd, "the chunks are %d bytes shorter than x-amz-decoded-content-length says", c.left)
	}
	if err := c.check(ofChunk, emptyHash+"\n"+emptyHash, c.signature); err != nil {
		return err
	}
	if c.trailing {
		return c.trailers()
	}
	// The line that ends the last chunk; nothing may follow.
	if line, err := c.line(); err != nil || line != "" {
		return badChunk("the last one does not end with an empty line")
	}
	return c.over()
}

// end is the end of a chunk: its signature is known to be right after it.
func (c *chunked) end() error {
	sum := c.hash.Sum(nil)
	c.hash.Reset()
	if err := c.check(ofChunk, emptyHash+"\n"+hex.EncodeToString(sum), c.signature); err != nil {
		return err
	}
	var crlf [2]byte
	if _, err := io.ReadFull(c.in, crlf[:]); err != nil {
		return cut(err)
	}
	if string(crlf[:]) != "\r\n" {
		return badChunk("one is not as long as it says")
	}
	return nil
}

// check compares a signature, which the next one stands on.
func (c *chunked) check(what, hashes, got string) error {
	if !c.signed {
		return nil
	}
	want := hex.EncodeToString(mac(c.key, what+c.scope+c.previous+"\n"+hashes))
	if subtle.ConstantTimeCompare([]byte(want), []byte(got)) != 1 {
		return fail(lambent.Forbidden, ReasonMismatch, "the signature of a chunk is not that of its content")
	}
	c.previous = want
	return nil
}

// trailers reads what follows the last chunk.
func (c *chunked) trailers() error {
	var canonical bytes.Buffer
	trailers := http.Header{}
	signature := ""
	for {
		line, err := c.line()
		if err != nil {
			return err
		}
		if line == "" {
			break
		}
		name, value, ok := strings.Cut(line, ":")
		name, value = strings.ToLower(strings.TrimSpace(name)), strings.TrimSpace(value)
		switch {
		case !ok:
			return badChunk("%.60q is no trailer", line)
		case name == "x-amz-trailer-signature":
			signature = value
			continue
		case signature != "" || !slices.Contains(c.expected, name):
			return badChunk("x-amz-trailer does not name the trailer %.60q", name)
		case trailers[http.CanonicalHeaderKey(name)] != nil || len(trailers) == maxTrailers || canonical.Len()+len(line) > maxTrailerBytes:
			return badChunk("the trailer %.60q is there twice, or there are too many", name)
		}
		trailers.Set(name, value)
		canonical.WriteString(name + ":" + value + "\n")
	}
	if err := c.check(ofTrailers, hexHash(canonical.Bytes()), signature); err != nil {
		return err
	}
	for _, name := range c.expected {
		if trailers[http.CanonicalHeaderKey(name)] == nil {
			return badChunk("the trailer %.60q is missing", name)
		}
	}
	c.r.Trailer = trailers
	return c.over()
}

// over is the end: nothing may follow.
func (c *chunked) over() error {
	if _, err := c.in.ReadByte(); err != io.EOF {
		if err == nil {
			err = badChunk("something follows the last one")
		}
		return err
	}
	return io.EOF
}

// line reads one that ends with CR LF, or LF alone.
func (c *chunked) line() (string, error) {
	line, err := c.in.ReadSlice('\n')
	switch {
	case err == bufio.ErrBufferFull:
		return "", badChunk("a line is longer than %d bytes", maxChunkLine)
	case err != nil:
		return "", cut(err)
	}
	return string(bytes.TrimSuffix(bytes.TrimSuffix(line, []byte("\n")), []byte("\r"))), nil
}
