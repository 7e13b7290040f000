package mysql

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/go-mysql-org/go-mysql/mysql"
	"github.com/go-mysql-org/go-mysql/replication"
	"github.com/klauspost/compress/zstd"

	"lambent/internal/rows"
)

const (
	// maxEvent is how many bytes an event may have that comes compressed: those of a row of
	// 64 MB, which is what MySQL takes unless it is told otherwise, before and after.
	maxEvent = 2*64<<20 + 1<<20

	// maxWindow is how far back what is compressed may refer, which is the most that MySQL does.
	maxWindow = 128 << 20

	idSize = 6 // bytes at the beginning of an event of rows, which number its table
)

// A tooLarge is the error of an event that is not decompressed.
type tooLarge struct{ bytes uint64 }

func (e *tooLarge) Error() string {
	return fmt.Sprintf("an event that is decompressed to %d MB, over the limit of %d", e.bytes>>20, maxEvent>>20)
}

// A parser makes events of what a log has. What comes compressed is read an event at a time:
// a transaction may be larger than memory, and whoever may write rows can have one that comes
// as a few bytes.
type parser struct {
	*replication.BinlogParser
	wanted     func(rows.Table) bool
	tables     map[uint64]bool // whether they are, by their numbers
	checksums  bool            // behind each event of the log, but none that is in another
	compressed bool            // the rows that are parsed now
	refused    error           // of those
}

// newParser is for rows of some tables alone.
func newParser(mariadb bool, wanted func(rows.Table) bool) *parser {
	p := &parser{BinlogParser: replication.NewBinlogParser(), wanted: wanted, tables: map[uint64]bool{}}
	p.SetFlavor(flavour(mariadb))
	p.SetTimestampStringLocation(time.UTC)
	p.SetRowsEventDecodeFunc(func(e *replication.RowsEvent, data []byte) error {
		from, err := e.DecodeHeader(data)
		if err != nil || !p.wants(e.Table) {
			return err
		}
		if p.compressed {
			if p.refused = bounded(data[from:]); p.refused != nil {
				return nil
			}
		}
		return e.DecodeData(from, data)
	})
	return p
}

func (p *parser) wants(t *replication.TableMapEvent) bool {
	return p.wanted(rows.Table{Schema: string(t.Schema), Name: string(t.Table)})
}

// parse has each event be taken that one of the log stands for.
func (p *parser) parse(raw *replication.BinlogEvent, take func(*replication.BinlogEvent) error) error {
	if raw.Header.EventType == replication.TRANSACTION_PAYLOAD_EVENT {
		body := raw.RawData[replication.EventHeaderSize:]
		if p.checksums {
			body = body[:max(0, len(body)-replication.BinlogChecksumLength)]
		}
		return p.unpack(body, func(e *replication.BinlogEvent) error {
			e.Header.LogPos = raw.Header.LogPos
			return take(e)
		})
	}
	e, err := p.one(raw.Header.EventType, raw.RawData)
	if err != nil {
		return err
	}
	e.Header = raw.Header // which has been completed
	return take(e)
}

// one parses an event.
func (p *parser) one(kind replication.EventType, data []byte) (e *replication.BinlogEvent, err error) {
	p.compressed, p.refused = false, nil
	switch kind {
	case replication.MARIADB_GTID_LIST_EVENT, replication.PREVIOUS_GTIDS_EVENT: // nobody asks for them, and there is room made for as many as they say
		h := &replication.EventHeader{}
		return &replication.BinlogEvent{Header: h, Event: &replication.GenericEvent{}}, h.Decode(data)
	case replication.MARIADB_WRITE_ROWS_COMPRESSED_EVENT_V1, replication.MARIADB_UPDATE_ROWS_COMPRESSED_EVENT_V1, replication.MARIADB_DELETE_ROWS_COMPRESSED_EVENT_V1:
		p.compressed = true
	case replication.MARIADB_QUERY_COMPRESSED_EVENT:
		if err := boundedQuery(data[replication.EventHeaderSize:]); err != nil {
			return nil, err
		}
	}
	err = safely(func() (err error) {
		e, err = p.Parse(data)
		return err
	})
	if err != nil {
		return nil, err
	}
	switch m := e.Event.(type) {
	case *replication.FormatDescriptionEvent:
		p.checksums = m.ChecksumAlgorithm == replication.BINLOG_CHECKSUM_ALG_CRC32
		clear(p.tables)
	case *replication.TableMapEvent:
		p.tables[m.TableID] = p.wants(m)
	}
	return e, p.refused
}

// bounded refuses what MariaDB has compressed, which begins with how long it is without that:
// three bits that say of how many bytes, and those.
func bounded(data []byte) error {
	if len(data) == 0 || len(data) < 1+int(data[0]&7) {
		return errors.New("what is compressed in the log is cut off")
	}
	if n := mysql.BFixedLengthInt(data[1 : 1+data[0]&7]); n > maxEvent {
		return &tooLarge{n}
	}
	return nil
}

// boundedQuery is bounded of a statement, which stands behind variables and a schema whose
// lengths are at these places.
func boundedQuery(body []byte) error {
	const schema, variables, fixed = 8, 11, 13
	if len(body) < fixed {
		return bounded(nil)
	}
	from := fixed + int(binary.LittleEndian.Uint16(body[variables:])) + int(body[schema]) + 1
	return bounded(body[min(from, len(body)):])
}

// unpack has each event of a transaction that MySQL has compressed be taken.
func (p *parser) unpack(body []byte, take func(*replication.BinlogEvent) error) error {
	var r io.ReadCloser
	err := safely(func() (err error) {
		r, err = payload(body)
		return err
	})
	if err != nil {
		return err
	}
	defer r.Close()
	for head := make([]byte, replication.EventHeaderSize); ; {
		if _, err := io.ReadFull(r, head); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		var h replication.EventHeader
		if err := h.Decode(head); err != nil {
			return err
		}
		length := int64(h.EventSize) - replication.EventHeaderSize
		if h.EventSize > maxEvent {
			id := make([]byte, idSize)
			if _, err := io.ReadFull(r, id); err != nil {
				return err
			}
			if wanted, ok := p.tables[mysql.FixedLengthInt(id)]; !ok || wanted {
				return &tooLarge{uint64(h.EventSize)}
			}
			if _, err := io.CopyN(io.Discard, r, length-idSize); err != nil {
				return err
			}
			continue
		}
		var event bytes.Buffer
		event.Grow(int(h.EventSize) + replication.BinlogChecksumLength)
		event.Write(head)
		if _, err := io.CopyN(&event, r, length); err != nil {
			return err
		}
		if p.checksums { // which the parser takes off
			event.Write(make([]byte, replication.BinlogChecksumLength))
			binary.LittleEndian.PutUint32(event.Bytes()[9:], h.EventSize+replication.BinlogChecksumLength)
		}
		e, err := p.one(h.EventType, event.Bytes())
		if err != nil {
			return err
		}
		if err := take(e); err != nil {
			return err
		}
	}
}

// payload is what is compressed in an event: it stands behind fields, each of which is three
// numbers, up to a number that is their end.
func payload(body []byte) (io.ReadCloser, error) {
	const end, algorithm = 0, 2
	const none, zstandard = 255, 0
	with := uint64(none)
	number := func() (v uint64) {
		if len(body) == 0 {
			panic("cut off")
		}
		v, _, n := mysql.LengthEncodedInt(body)
		body = body[n:]
		return v
	}
	for kind := number(); kind != end; kind = number() {
		number() // how long the next is
		if v := number(); kind == algorithm {
			with = v
		}
	}
	switch with {
	case none:
		return io.NopCloser(bytes.NewReader(body)), nil
	case zstandard:
		d, err := zstd.NewReader(bytes.NewReader(body), zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, err
		}
		return d.IOReadCloser(), nil
	}
	return nil, fmt.Errorf("a transaction of the log is compressed with algorithm %d", with)
}
