package store

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"math"
	"unique"
)

// A frame is one message of the queue's log: what was written together. Its
// index, in a header, says what it holds and is all that a rebuild reads; its
// body is the contents of the items that it brings, one after another.
//
//	index   version (1 byte), id (16), time (ms), mark, number, lanes {n, {name}}, records
//	add     'a', lane, key (16), delay (ms after the frame's time), attempt, size
//	move    'm', lane, key (16), from {frame, slot}, state, since (ms), attempt, added (ms), number, note, size
//	set     's', at {frame, slot}, state, since (ms), attempt, note
//	done    'd', at {frame, slot}, key (16)
//	content id, meta, and the payload to its end
//
// Numbers are uvarints, names are preceded by their length. The n-th item that a
// frame brings, by add or move, has slot n, and by add the number of the frame
// plus the adds before it.
const (
	frameVersion = 1

	// An index is under the engine's 64 KB for a message's headers, in base64 and
	// with the headers that are not ours. A body is read whole for any item in it.
	maxIndex = 40 << 10
	softBody = 256 << 10                // where a frame takes no further call
	maxBody  = MaxPayloadBytes + 64<<10 // of one call, and so of a frame

	maxCallIndex = maxIndex / 2
	recordBytes  = 72              // of an item's record in an index, at most, without its lane's name and note
	contentBytes = 8               // of the lengths in a content, at most
	maxMS        = 253402300799999 // in the year 9999: what is later is a mistake

	indexHeader = "Lambent-Frame"
)

// A key stands for an item's id in its lane: 16 bytes of a SHA-256, so that ids
// of any length cost the same.
type key [16]byte

func keyOf(lane, id string) (k key) {
	b := make([]byte, 0, 128)
	b = append(append(append(b, lane...), 0), id...)
	sum := sha256.Sum256(b)
	copy(k[:], sum[:])
	return k
}

// A ref is where an item's content lies: in which frame, as the how-manieth.
type ref struct {
	frame uint64
	slot  uint16
}

// A preamble is what an index has once.
type preamble struct {
	id     key    // of this frame alone: how the writer knows it again
	at     int64  // when it was written, ms since 1970; not under the frame's before it, but where a clock was set back by much
	mark   uint64 // frames below it are no more, even if the engine still has them
	number uint64 // of the first item that it adds
	lanes  []string
}

// A record is one entry of an index. Which fields mean something depends on op.
type record struct {
	op      byte
	lane    int // among the preamble's
	key     key
	at      ref // what it is about; where the item was, of a move
	state   state
	since   int64 // ms: when it is due, or died
	attempt uint32
	added   int64 // ms
	number  uint64
	size    uint32
	note    unique.Handle[string]
}

const (
	opAdd  = 'a'
	opMove = 'm'
	opSet  = 's'
	opDone = 'd'
)

func (p *preamble) append(b []byte) []byte {
	b = append(b, frameVersion)
	b = append(b, p.id[:]...)
	b = binary.AppendUvarint(b, uint64(p.at))
	b = binary.AppendUvarint(b, p.mark)
	b = binary.AppendUvarint(b, p.number)
	b = binary.AppendUvarint(b, uint64(len(p.lanes)))
	for _, name := range p.lanes {
		b = appendString(b, name)
	}
	return b
}

// append encodes a record; at is its frame's time.
func (r *record) append(b []byte, at int64) []byte {
	b = append(b, r.op)
	switch r.op {
	case opAdd:
		b = binary.AppendUvarint(b, uint64(r.lane))
		b = append(b, r.key[:]...)
		b = binary.AppendUvarint(b, uint64(r.since-at))
		b = binary.AppendUvarint(b, uint64(r.attempt))
		return binary.AppendUvarint(b, uint64(r.size))
	case opMove:
		b = binary.AppendUvarint(b, uint64(r.lane))
		b = append(b, r.key[:]...)
		b = r.appendChange(b)
		b = binary.AppendUvarint(b, uint64(r.added))
		b = binary.AppendUvarint(b, r.number)
		return binary.AppendUvarint(b, uint64(r.size))
	case opSet:
		return r.appendChange(b)
	default:
		b = r.appendAt(b)
		return append(b, r.key[:]...)
	}
}

func (r *record) appendAt(b []byte) []byte {
	b = binary.AppendUvarint(b, r.at.frame)
	return binary.AppendUvarint(b, uint64(r.at.slot))
}

func (r *record) appendChange(b []byte) []byte {
	b = append(r.appendAt(b), byte(r.state))
	b = binary.AppendUvarint(b, uint64(r.since))
	b = binary.AppendUvarint(b, uint64(r.attempt))
	return appendString(b, r.note.Value())
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// A decoder reads an index. After its first error it yields nothing more.
type decoder struct {
	preamble
	rest []byte
	err  error
}

// decodeFrame reads the beginning of an index, as the header has it.
func decodeFrame(header string) *decoder {
	b, err := base64.StdEncoding.DecodeString(header)
	d := &decoder{rest: b, err: err}
	if v := d.byte(); d.err == nil && v != frameVersion {
		d.err = fmt.Errorf("version %d of a frame; this lambent reads %d", v, frameVersion)
	}
	d.id = d.key()
	d.at, d.mark, d.number = d.time(), d.uvarint(math.MaxInt64), d.uvarint(math.MaxInt64)
	if n := d.uvarint(maxIndex); n > 0 && n <= uint64(len(d.rest)) {
		d.lanes = make([]string, 0, n)
		for range n {
			d.lanes = append(d.lanes, d.string(maxName))
		}
	} else if n > 0 {
		d.fail("lanes")
	}
	return d
}

// next reads a record. False: there is none, or err says why it cannot be read.
func (d *decoder) next() (r record, ok bool) {
	if d.err != nil || len(d.rest) == 0 {
		return r, false
	}
	r.op, r.note = d.byte(), noNote
	switch r.op {
	case opAdd:
		r.lane, r.key = d.lane(), d.key()
		if r.since = d.at + int64(d.uvarint(maxMS)); r.since > maxMS {
			d.fail("delay")
		}
		r.attempt = d.attempt()
		r.added, r.number, r.state = d.at, d.number, waiting
		d.number++
		r.size = uint32(d.uvarint(maxBody))
	case opMove:
		r.lane, r.key = d.lane(), d.key()
		d.change(&r)
		r.added, r.number, r.size = d.time(), d.uvarint(math.MaxInt64), uint32(d.uvarint(maxBody))
	case opSet:
		d.change(&r)
	case opDone:
		r.at, r.key = d.ref(), d.key()
	default:
		d.fail("record")
	}
	return r, d.err == nil
}

func (d *decoder) change(r *record) {
	r.at, r.state, r.since, r.attempt = d.ref(), state(d.byte()), d.time(), d.attempt()
	if r.state != waiting && r.state != dead {
		d.fail("state")
	}
	if note := d.string(MaxNoteBytes); note != "" {
		r.note = unique.Make(note)
	}
}

func (d *decoder) fail(what string) {
	if d.err == nil {
		d.err = fmt.Errorf("a frame's index is damaged: %s, %d bytes before its end", what, len(d.rest))
	}
	d.rest = nil
}

func (d *decoder) bytes(n int, what string) []byte {
	if d.err != nil || len(d.rest) < n {
		d.fail(what)
		return nil
	}
	b := d.rest[:n]
	d.rest = d.rest[n:]
	return b
}

func (d *decoder) byte() byte {
	if b := d.bytes(1, "byte"); b != nil {
		return b[0]
	}
	return 0
}

func (d *decoder) key() (k key) {
	copy(k[:], d.bytes(len(k), "key"))
	return k
}

func (d *decoder) uvarint(most uint64) uint64 {
	v, n := binary.Uvarint(d.rest)
	if d.err != nil || n <= 0 || v > most {
		d.fail("number")
		return 0
	}
	d.rest = d.rest[n:]
	return v
}

func (d *decoder) time() int64     { return int64(d.uvarint(maxMS)) }
func (d *decoder) attempt() uint32 { return uint32(d.uvarint(math.MaxInt32)) }
func (d *decoder) ref() ref {
	return ref{d.uvarint(math.MaxInt64), uint16(d.uvarint(math.MaxUint16))}
}

func (d *decoder) lane() int {
	n := d.uvarint(maxIndex)
	if n >= uint64(len(d.lanes)) {
		d.fail("lane")
		return 0
	}
	return int(n)
}

func (d *decoder) string(most uint64) string {
	return string(d.bytes(int(d.uvarint(most)), "name"))
}

// appendContent encodes what a body has of an item.
func appendContent(b []byte, it *Item) []byte {
	b = appendString(b, it.ID)
	b = binary.AppendUvarint(b, uint64(len(it.Meta)))
	b = append(b, it.Meta...)
	return append(b, it.Payload...)
}

// decodeContent is its inverse. The bytes are b's.
func decodeContent(b []byte) (id string, meta, payload []byte, err error) {
	d := &decoder{rest: b}
	id = d.string(maxName)
	meta = d.bytes(int(d.uvarint(MaxMetaBytes)), "meta")
	return id, meta, d.rest, d.err
}
