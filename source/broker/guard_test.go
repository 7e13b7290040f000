package broker

import (
	"io"
	"net"
	"strconv"
	"strings"
	"testing"

	"lambent"
)

// What is read along is the same however it is cut.
func TestGuard(t *testing.T) {
	head := Lines(func(line []byte) (int, error) {
		n, err := strconv.Atoi(strings.TrimPrefix(string(line), "$"))
		if err == nil && n > 100 {
			err = TooMuch("a value", n, 100)
		}
		return n, err
	})
	for _, c := range []struct {
		sends string
		fails string // what ends it; empty: its end
	}{
		{"$5\r\n$999\n$0\n$3\r\nabc", ""}, {"$5\r\nhello$101\n", "a value: 101, over the limit of 100"}, {"$1\nx$y\n", "invalid syntax"}, {strings.Repeat("1", maxHead+1), "a line of bytes"},
	} {
		for _, size := range []int{1, 2, 7, 4096} {
			ours, theirs := net.Pipe()
			go func() {
				for rest := c.sends; rest != ""; {
					n, err := theirs.Write([]byte(rest[:min(size, len(rest))]))
					if err != nil {
						return
					}
					rest = rest[n:]
				}
				theirs.Close()
			}()
			got, err := io.ReadAll(Guard(ours, head))
			ours.Close()
			if c.fails == "" && (err != nil || string(got) != c.sends) || c.fails != "" && (err == nil || !strings.Contains(err.Error(), c.fails)) {
				t.Errorf("%.20q in pieces of %d: %q, %v", c.sends, size, got, err)
			}
		}
	}
}

// A broker that sends without end is hung up on, unless somebody takes what it sends.
func TestBound(t *testing.T) {
	b := Bound(endless{})
	piece := make([]byte, 1<<20)
	for i := range 600 {
		if i%200 == 0 {
			b.Taken()
		}
		if _, err := b.Read(piece); err != nil {
			t.Fatal(i, err)
		}
	}
	b.Taken()
	for i := 0; ; i++ {
		if _, err := b.Read(piece); lambent.Is(err, lambent.TooLarge) {
			return
		} else if err != nil || i > 300 {
			t.Fatal(i, err)
		}
	}
}

type endless struct{ net.Conn }

func (endless) Read(p []byte) (int, error) { return len(p), nil }

func TestPace(t *testing.T) {
	var p Pace
	for _, c := range []struct{ messages, bytes, want int }{
		{1, 10, 2}, {2, 10, 4}, {0, 0, 4}, {4, enough, 4}, {4, 4 * enough, 1}, {1, 10 * enough, 1}, {1, 10, 2}, {2, 10, 4}, {4, 1, 8}, {8, 1, 16}, {16, 1, 32}, {32, 1, 64}, {64, 1, 128}, {128, 1, 256}, {256, 1, maxCount}, {maxCount, 1, maxCount},
	} {
		if p.Took(c.messages, c.bytes); p.Count() != c.want {
			t.Errorf("after %d of %d bytes: %d, want %d", c.messages, c.bytes, p.Count(), c.want)
		}
	}
}
