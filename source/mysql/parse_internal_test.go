package mysql

import (
	"encoding/binary"
	"runtime"
	"testing"

	"github.com/go-mysql-org/go-mysql/replication"
	"github.com/klauspost/compress/zstd"

	"lambent/internal/rows"
)

// FuzzParse has a server say anything: it is an error, or it is not, and takes no more than
// an event may, and what that is decompressed from.
func FuzzParse(f *testing.F) {
	w, err := zstd.NewWriter(nil)
	if err != nil {
		f.Fatal(err)
	}
	inside := event(replication.QUERY_EVENT, make([]byte, 30))
	for _, checksums := range []bool{false, true} {
		f.Add(byte(replication.TRANSACTION_PAYLOAD_EVENT), checksums, []byte{})
		f.Add(byte(replication.TRANSACTION_PAYLOAD_EVENT), checksums, []byte{2, 1, 255, 0, 1, 2, 3, 4})
		f.Add(byte(replication.TRANSACTION_PAYLOAD_EVENT), checksums, w.EncodeAll(inside, []byte{2, 1, 0, 0}))
		f.Add(byte(replication.MARIADB_QUERY_COMPRESSED_EVENT), checksums, make([]byte, 40))
		f.Add(byte(replication.MARIADB_WRITE_ROWS_COMPRESSED_EVENT_V1), checksums, []byte{1, 0, 0, 0, 0, 0, 1, 0, 1, 255, 0x84})
		f.Add(byte(replication.TABLE_MAP_EVENT), checksums, []byte{1, 0, 0, 0, 0, 0, 1, 0, 1, 'd', 0, 1, 't', 0, 1, 3, 0, 0})
		f.Add(byte(replication.MARIADB_GTID_LIST_EVENT), checksums, []byte{0xff, 0xff, 0xff, 0x0f, 0, 0, 0})
		f.Add(byte(replication.FORMAT_DESCRIPTION_EVENT), checksums, make([]byte, 80))
	}
	f.Fuzz(func(t *testing.T, kind byte, checksums bool, body []byte) {
		p := newParser(kind >= 160, func(rows.Table) bool { return true })
		p.checksums = checksums
		raw := &replication.BinlogEvent{Header: &replication.EventHeader{EventType: replication.EventType(kind), EventSize: uint32(replication.EventHeaderSize + len(body))}, RawData: event(replication.EventType(kind), body)}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_ = p.parse(raw, func(*replication.BinlogEvent) error { return nil })
		runtime.ReadMemStats(&after)
		if took := after.TotalAlloc - before.TotalAlloc; took > 3*maxEvent {
			t.Errorf("it takes %d MB", took>>20)
		}
	})
}

// event is one with a header.
func event(kind replication.EventType, body []byte) []byte {
	b := make([]byte, replication.EventHeaderSize, replication.EventHeaderSize+len(body))
	b[4] = byte(kind)
	binary.LittleEndian.PutUint32(b[9:], uint32(replication.EventHeaderSize+len(body)))
	return append(b, body...)
}
