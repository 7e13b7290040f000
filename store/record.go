package store

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"lambent"
)

// MaxValueBytes is the size limit of a record. The engine's own is 1 MiB for
// value and headers together.
const MaxValueBytes = 1_000_000

// The stream of records has the layout of the engine's key-value buckets, so
// that its client library and its tools can read it. It keeps one message for
// each key, the newest.
const (
	recordBucket  = "state"
	subjectPrefix = "$KV." + recordBucket + "."
)

var recordStream = jetstream.StreamConfig{
	Name:              "KV_" + recordBucket,
	Subjects:          []string{subjectPrefix + ">"},
	MaxMsgsPerSubject: 1,
	Discard:           jetstream.DiscardNew,
	Storage:           jetstream.FileStorage,
	Replicas:          1,
	AllowDirect:       true,
	AllowRollup:       true,
	AllowMsgTTL:       true,                 // of the marks that deletes leave
	Duplicates:        retryWindow,          // how long message ids are remembered
	MaxMsgSize:        MaxValueBytes + 4096, // and headers
}

// deletedFor is how long a deleted key leaves a mark. A watch that was cut off
// learns of the delete from it; after that time nothing is left of the key.
const deletedFor = 24 * time.Hour

var markFor = deletedFor // tests do not wait

// Headers by which the engine's client library knows a delete, and by which the
// engine forgets it.
const (
	headerOperation = "KV-Operation"
	opDelete        = "PURGE"
	headerRollup    = "Nats-Rollup"
	rollupSubject   = "sub"
)

// An Entry is a key with its value as of a revision. Revisions grow over the
// whole store, also over a key's delete and return, so that one never stands
// for two contents.
type Entry struct {
	Key      string
	Value    []byte // the caller's to keep
	Revision uint64
	Modified time.Time
	Deleted  bool // only in a watch; Value is nil then
}

// Get returns the entry of a key. Kind: NotFound.
func (s *Store) Get(ctx context.Context, key string) (Entry, error) {
	const op = "store.Get"
	if err := checkKey(op, key); err != nil {
		return Entry{}, err
	}
	e, err := s.last(ctx, key)
	switch {
	case err != nil:
		return Entry{}, s.explain(op, key, err)
	case e.Deleted:
		return Entry{}, notFound(op, key)
	}
	return e, nil
}

// last returns the newest message of a key, which may be a delete's mark.
func (s *Store) last(ctx context.Context, key string) (Entry, error) {
	m, err := s.stream.GetLastMsgForSubject(ctx, subjectPrefix+key)
	if err != nil {
		return Entry{}, err
	}
	return Entry{
		Key: key, Value: m.Data, Revision: m.Sequence, Modified: m.Time,
		Deleted: m.Header.Get(headerOperation) != "",
	}, nil
}

// Create writes a key that must not be there, and returns its revision. Kinds:
// Exists, TooLarge, NoSpace.
func (s *Store) Create(ctx context.Context, key string, value []byte) (uint64, error) {
	const op = "store.Create"
	if err := s.checkWrite(op, key, value); err != nil {
		return 0, err
	}
	// The revision of a key that is not there is 0, or that of the mark which its
	// delete left; the mark may come or go in between.
	var at uint64
	for {
		revision, err := s.write(ctx, nats.NewMsg(subjectPrefix+key), value, at)
		if !isStale(err) {
			return revision, s.explain(op, key, err)
		}
		e, err := s.last(ctx, key)
		switch {
		case errors.Is(err, jetstream.ErrMsgNotFound):
			at = 0
		case err != nil:
			return 0, s.explain(op, key, err)
		case !e.Deleted:
			return 0, lambent.Errorf(lambent.Exists, op, "%s exists already", key)
		default:
			at = e.Revision
		}
	}
}

// Update replaces the value that has the given revision, and returns the new
// revision. Kinds: Stale (also where the key is gone), TooLarge, NoSpace.
func (s *Store) Update(ctx context.Context, key string, value []byte, revision uint64) (uint64, error) {
	const op = "store.Update"
	if err := s.checkWrite(op, key, value); err != nil {
		return 0, err
	}
	if revision == 0 {
		return 0, lambent.Errorf(lambent.Invalid, op, "revision 0 of %s: an update needs the revision it replaces", key)
	}
	next, err := s.write(ctx, nats.NewMsg(subjectPrefix+key), value, revision)
	return next, s.explain(op, key, err)
}

// Delete removes the key that has the given revision, and returns the revision of
// the delete, which a watch shows. It works on a full disk as long as the disk
// takes one more small record. Kind: Stale (also where the key is gone).
func (s *Store) Delete(ctx context.Context, key string, revision uint64) (uint64, error) {
	const op = "store.Delete"
	if err := checkKey(op, key); err != nil {
		return 0, err
	}
	if revision == 0 {
		return 0, lambent.Errorf(lambent.Invalid, op, "revision 0 of %s: a delete needs the revision it removes", key)
	}
	m := nats.NewMsg(subjectPrefix + key)
	m.Header.Set(headerOperation, opDelete)
	m.Header.Set(headerRollup, rollupSubject)
	next, err := s.write(ctx, m, nil, revision, jetstream.WithMsgTTL(markFor))
	return next, s.explain(op, key, err)
}

// checkWrite refuses what a record cannot be.
func (s *Store) checkWrite(op, key string, value []byte) error {
	if err := checkKey(op, key); err != nil {
		return err
	}
	if len(value) > MaxValueBytes {
		return lambent.Errorf(lambent.TooLarge, op, "record %s is %d bytes, over the limit of %d", key, len(value), MaxValueBytes)
	}
	return s.dir.checkSpace(op)
}

// checkKey holds keys to dot-separated words of letters, digits, '-', '_', '='
// and '/': what the names of functions, projects and secrets are made of, so
// that keys need no escaping.
func checkKey(op, key string) error {
	bad := len(key) > 1024
	for word := range strings.SplitSeq(key, ".") {
		bad = bad || word == "" || strings.ContainsFunc(word, func(r rune) bool {
			return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("-_=/", r)
		})
	}
	if bad {
		return lambent.Errorf(lambent.Invalid, op, "key %.80q: words of letters, digits and -_=/ with dots between them, 1024 bytes at most", key)
	}
	return nil
}

func notFound(op, key string) error {
	return lambent.Errorf(lambent.NotFound, op, "%s does not exist", key)
}

// explain turns the engine's error about a key into ours.
func (s *Store) explain(op, key string, err error) error {
	switch {
	case err == nil:
		return nil
	case isStale(err):
		return lambent.Errorf(lambent.Stale, op, "%s changed since it was read", key)
	case errors.Is(err, jetstream.ErrMsgNotFound):
		return notFound(op, key)
	case s.ending.Err() != nil:
		return lambent.Errorf(lambent.Unavailable, op, "the store is closed")
	}
	return explain(op, s.dir.path, err)
}
