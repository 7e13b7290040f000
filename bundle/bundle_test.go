package bundle_test

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"lambent"
	"lambent/bundle"
)

// An entry is one line of an archive that a test makes.
type entry struct {
	name, body string
	mode       fs.FileMode
}

// makeZip makes an archive. It panics where a test would fail: TestKill's child has
// no test.
func makeZip(entries ...entry) []byte {
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, e := range entries {
		h := &zip.FileHeader{Name: e.name, Method: zip.Deflate, Modified: time.Now()}
		h.SetMode(e.mode)
		f, err := w.CreateHeader(h)
		if err != nil {
			panic(err)
		}
		io.WriteString(f, e.body)
	}
	if err := w.Close(); err != nil {
		panic(err)
	}
	return b.Bytes()
}

func open(t testing.TB, l lambent.Limits) (*bundle.Store, string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "code")
	s, err := bundle.Open(dir, l)
	if err != nil {
		t.Fatal(err)
	}
	return s, dir
}

func put(t testing.TB, s *bundle.Store, archive []byte) bundle.Tree {
	t.Helper()
	tree, err := s.PutZip(t.Context(), bytes.NewReader(archive))
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

// leftovers fails the test if anything half-done is in the store.
func leftovers(t testing.TB, dir string) {
	t.Helper()
	for _, d := range []string{"tmp", "trash"} {
		if es, err := os.ReadDir(filepath.Join(dir, d)); err != nil || len(es) != 0 {
			t.Errorf("%s has %v left in it (%v)", d, es, err)
		}
	}
}

const link = fs.ModeSymlink | 0o777

func TestPutZip(t *testing.T) {
	s, dir := open(t, lambent.DefaultLimits())
	archive := makeZip(
		entry{"bootstrap", "#!/bin/sh\n", 0o755},
		entry{"lib/a.txt", "hello", 0o600},
		entry{"lib/b", "a.txt", link},
		entry{"empty/", "", fs.ModeDir | 0o700},
		entry{"setuid", "x", fs.ModeSetuid | 0o4777},
	)
	tree := put(t, s, archive)
	if tree.Files != 4 || tree.Size != int64(len("#!/bin/sh\nhellox")) || tree.ZipSize != int64(len(archive)) {
		t.Errorf("tree = %+v", tree)
	}
	path, err := s.Path(tree.Digest)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]fs.FileMode{
		".": fs.ModeDir | 0o755, "bootstrap": 0o555, "lib": fs.ModeDir | 0o755, "lib/a.txt": 0o444,
		"empty": fs.ModeDir | 0o755, "setuid": 0o555,
	} {
		info, err := os.Lstat(filepath.Join(path, name))
		if err != nil || info.Mode() != want {
			t.Errorf("%s: mode %v, want %v (%v)", name, info.Mode(), want, err)
		}
		if name != "." && info.ModTime().Year() != 1980 {
			t.Errorf("%s: time %v is not fixed", name, info.ModTime())
		}
	}
	if b, err := os.ReadFile(filepath.Join(path, "lib/b")); string(b) != "hello" {
		t.Errorf("through the link: %q, %v", b, err)
	}
	zipPath, err := s.Zip(tree.ZipDigest)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(archive)
	if b, _ := os.ReadFile(zipPath); !bytes.Equal(b, archive) || tree.ZipDigest != hex.EncodeToString(sum[:]) {
		t.Error("the archive was not kept as it came")
	}
	leftovers(t, dir)
}

func TestSameContentIsOneTree(t *testing.T) {
	s, _ := open(t, lambent.DefaultLimits())
	a := put(t, s, makeZip(entry{"a.py", "1", 0o644}, entry{"d/b.py", "2", 0o644}))
	b := put(t, s, makeZip(entry{"d/", "", fs.ModeDir | 0o755}, entry{"d/b.py", "2", 0o600}, entry{"./a.py", "1", 0o664}))
	if a.Digest != b.Digest || a.ZipDigest == b.ZipDigest {
		t.Errorf("trees %s and %s, archives %s and %s", a.Digest, b.Digest, a.ZipDigest, b.ZipDigest)
	}
	seen := map[string]string{a.Digest: "the first"}
	for name, es := range map[string][]entry{
		"executable":  {{"a.py", "1", 0o755}, {"d/b.py", "2", 0o644}},
		"other name":  {{"a.py", "1", 0o644}, {"d/c.py", "2", 0o644}},
		"other bytes": {{"a.py", "1", 0o644}, {"d/b.py", "3", 0o644}},
		"moved bytes": {{"a.py", "2", 0o644}, {"d/b.py", "1", 0o644}},
		"link":        {{"a.py", "1", 0o644}, {"d/b.py", "../a.py", link}},
		"directory":   {{"a.py", "1", 0o644}, {"d/b.py", "2", 0o644}, {"e/", "", fs.ModeDir | 0o755}},
	} {
		d := put(t, s, makeZip(es...)).Digest
		if seen[d] != "" {
			t.Errorf("%s has the digest of %s", name, seen[d])
		}
		seen[d] = name
	}
	if items, err := s.List(); err != nil || len(items) != len(seen)+len(seen)+1 {
		t.Errorf("%d items (%v), want %d trees and %d archives", len(items), err, len(seen), len(seen)+1)
	}
}

func TestRefusals(t *testing.T) {
	ok := entry{"ok", "1", 0o644}
	long := strings.Repeat("n", 256)
	small := lambent.DefaultLimits()
	small.MaxZip, small.MaxTree, small.MaxFiles = 4<<20, 1<<20, 50
	many := make([]entry, 51)
	for i := range many {
		many[i] = entry{"f" + strings.Repeat("x", i), "", 0o644}
	}
	for name, c := range map[string]struct {
		archive []byte
		kind    lambent.Kind
		words   string
	}{
		"not a zip":           {[]byte("hello"), lambent.Invalid, "not a zip archive"},
		"nothing":             {nil, lambent.Invalid, "not a zip archive"},
		"cut short":           {makeZip(ok)[:40], lambent.Invalid, "cut short"},
		"no files":            {makeZip(entry{"d/", "", fs.ModeDir | 0o755}), lambent.Invalid, "no files"},
		"slip":                {makeZip(entry{"../evil", "", 0o644}), lambent.Invalid, `entry "../evil" has '..'`},
		"slip inside":         {makeZip(entry{"a/../../evil", "", 0o644}), lambent.Invalid, "'..'"},
		"absolute":            {makeZip(entry{"/etc/passwd", "", 0o644}), lambent.Invalid, "absolute path"},
		"drive":               {makeZip(entry{"C:/x", "", 0o644}), lambent.Invalid, "drive letter"},
		"backslash":           {makeZip(entry{`a\..\b`, "", 0o644}), lambent.Invalid, "backslash"},
		"NUL":                 {makeZip(entry{"a\x00b", "", 0o644}), lambent.Invalid, "NUL"},
		"not UTF-8":           {makeZip(entry{"a\xff", "", 0o644}), lambent.Invalid, "UTF-8"},
		"empty element":       {makeZip(entry{"a//b", "", 0o644}), lambent.Invalid, "empty or '.'"},
		"dot element":         {makeZip(entry{"a/./b", "", 0o644}), lambent.Invalid, "empty or '.'"},
		"long element":        {makeZip(entry{"a/" + long, "", 0o644}), lambent.Invalid, "256 bytes, over the limit of 255"},
		"long path":           {makeZip(entry{strings.Repeat("nnnnnnn/", 513), "", 0o644}), lambent.Invalid, "over the limit of 4096"},
		"deep":                {makeZip(entry{strings.Repeat("d/", 128) + "f", "", 0o644}), lambent.Invalid, "over the limit of 128"},
		"twice":               {makeZip(ok, ok), lambent.Invalid, `entry "ok" is there twice`},
		"twice, other kind":   {makeZip(ok, entry{"ok", "x", link}), lambent.Invalid, "twice"},
		"file then directory": {makeZip(ok, entry{"ok/", "", fs.ModeDir | 0o755}), lambent.Invalid, "both a directory and a file"},
		"below a file":        {makeZip(ok, entry{"ok/x", "", 0o644}), lambent.Invalid, "which is a file"},
		"directory then file": {makeZip(entry{"ok/x", "", 0o644}, ok), lambent.Invalid, "both a directory and a file"},
		"through a link":      {makeZip(entry{"d/x", "", 0o644}, entry{"l", "d", link}, entry{"l/y", "", 0o644}), lambent.Invalid, "which is a link"},
		"link out":            {makeZip(entry{"d/l", "../../x", link}), lambent.Invalid, "leads out"},
		"link absolute":       {makeZip(entry{"l", "/etc", link}), lambent.Invalid, "absolute path"},
		"link chain out":      {makeZip(entry{"a/b/up", "..", link}, entry{"l", "a/b/up/../..", link}), lambent.Invalid, "leads out"},
		"link to a link out":  {makeZip(entry{"x/l", "../m", link}, entry{"m", "../y", link}), lambent.Invalid, "leads out"},
		"link loop":           {makeZip(entry{"a", "b", link}, entry{"b", "a", link}), lambent.Invalid, "back to itself"},
		"link via nothing":    {makeZip(entry{"a", "none/../x", link}), lambent.Invalid, "does not exist"},
		"link to nowhere":     {makeZip(entry{"a", "", link}), lambent.Invalid, "empty"},
		"device":              {makeZip(entry{"dev", "", fs.ModeDevice | 0o644}), lambent.Invalid, "is a device"},
		"char device":         {makeZip(entry{"dev", "", fs.ModeDevice | fs.ModeCharDevice | 0o644}), lambent.Invalid, "is a device"},
		"pipe":                {makeZip(entry{"p", "", fs.ModeNamedPipe | 0o644}), lambent.Invalid, "is a named pipe"},
		"socket":              {makeZip(entry{"s", "", fs.ModeSocket | 0o644}), lambent.Invalid, "is a socket"},
		"encrypted":           {patch(t, makeZip(ok), 6, 8, 1), lambent.Invalid, "encrypted"},
		"method":              {patch(t, makeZip(ok), 8, 10, 12), lambent.Invalid, "method 12"},
		"checksum":            {patchCRC(t, makeZip(ok)), lambent.Invalid, "checksum"},
		"overlap":             {overlap(t), lambent.Invalid, "overlaps"},
		"too many":            {makeZip(many...), lambent.TooLarge, "limit of 50"},
		"a million entries":   {directoryOnly(80_000), lambent.TooLarge, "limit of 50"},
		"implied directories": {makeZip(entry{strings.Repeat("d/", 60) + "f", "", 0o644}), lambent.TooLarge, "limit of 50"},
		"too large":           {makeZip(entry{"big", strings.Repeat("0", 1<<20+1), 0o644}), lambent.TooLarge, "limit of 1 MB"},
		"too large in all":    {makeZip(entry{"a", strings.Repeat("0", 1<<19+1), 0o644}, entry{"b", strings.Repeat("0", 1<<19), 0o644}), lambent.TooLarge, "limit of 1 MB"},
		"liar about size":     {liar(t), lambent.Invalid, "damaged"},
		"too large as sent":   {make([]byte, 4<<20+1), lambent.TooLarge, "archive is over the limit of 4 MB"},
	} {
		t.Run(name, func(t *testing.T) {
			s, dir := open(t, small)
			tree, err := s.PutZip(t.Context(), bytes.NewReader(c.archive))
			if !lambent.Is(err, c.kind) || !strings.Contains(err.Error(), c.words) || strings.Contains(err.Error(), "\n") {
				t.Fatalf("PutZip = %+v, %v; want %v with %q", tree, err, c.kind, c.words)
			}
			if items, err := s.List(); err != nil || len(items) != 0 {
				t.Errorf("kept %v (%v)", items, err)
			}
			leftovers(t, dir)
			if _, err := os.Stat(filepath.Join(dir, "../evil")); err == nil {
				t.Error("a file was written outside the store")
			}
		})
	}
}

// patch sets a 16-bit field of the first local header and of the first directory
// header, by their offsets in those.
func patch(t *testing.T, archive []byte, local, central int, value byte) []byte {
	t.Helper()
	b := bytes.Clone(archive)
	b[local] = value
	b[bytes.Index(b, []byte("PK\x01\x02"))+central] = value
	return b
}

func patchCRC(t *testing.T, archive []byte) []byte {
	t.Helper()
	b := bytes.Clone(archive)
	b[bytes.Index(b, []byte("PK\x01\x02"))+16] ^= 1
	if i := bytes.Index(b, []byte("PK\x07\x08")); i > 0 { // the data descriptor too
		b[i+4] ^= 1
	}
	return b
}

// overlap makes two directory entries point at one local file.
func overlap(t *testing.T) []byte {
	t.Helper()
	b := makeZip(entry{"aa", "same", 0o644}, entry{"bb", "same", 0o644})
	first := bytes.Index(b, []byte("PK\x01\x02"))
	second := first + 1 + bytes.Index(b[first+1:], []byte("PK\x01\x02"))
	copy(b[second+42:second+46], b[first+42:first+46]) // the local header's offset
	return b
}

// liar makes an entry that says it holds 1 byte and holds two megabytes.
func liar(t *testing.T) []byte {
	t.Helper()
	b := makeZip(entry{"bomb", strings.Repeat("0", 2<<20), 0o644})
	d := bytes.Index(b, []byte("PK\x01\x02"))
	copy(b[d+24:d+28], []byte{1, 0, 0, 0})
	return b
}

// directoryOnly makes an archive that is nearly all directory.
func directoryOnly(entries int) []byte {
	le := binary.LittleEndian
	b := append([]byte("PK\x03\x04"), make([]byte, 26)...)
	start := len(b)
	header := append([]byte("PK\x01\x02"), make([]byte, 43)...)
	le.PutUint16(header[28:], 1) // the name's length
	header[46] = 'n'
	b = append(b, bytes.Repeat(header, entries)...)
	end := append([]byte("PK\x05\x06"), make([]byte, 18)...)
	le.PutUint16(end[8:], uint16(entries))
	le.PutUint16(end[10:], uint16(entries))
	le.PutUint32(end[12:], uint32(len(b)-start))
	le.PutUint32(end[16:], uint32(start))
	return append(b, end...)
}

// A directory of many entries is given up before all of it is in memory.
func TestHugeDirectoryTakesLittleMemory(t *testing.T) {
	s, _ := open(t, lambent.DefaultLimits())
	archive := directoryOnly(1_000_000)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := s.PutZip(t.Context(), bytes.NewReader(archive))
	runtime.ReadMemStats(&after)
	if mb := (after.TotalAlloc - before.TotalAlloc) >> 20; !lambent.Is(err, lambent.TooLarge) || mb > 100 {
		t.Errorf("%d MB allocated, %v", mb, err)
	}
}

func TestDanglingLinkIsKept(t *testing.T) {
	s, _ := open(t, lambent.DefaultLimits())
	tree := put(t, s, makeZip(entry{"bin/l", "../lib/gone", link}, entry{"x", "", 0o644}))
	path, _ := s.Path(tree.Digest)
	if target, err := os.Readlink(filepath.Join(path, "bin/l")); target != "../lib/gone" {
		t.Errorf("%q, %v", target, err)
	}
}

func TestSenderFails(t *testing.T) {
	s, dir := open(t, lambent.DefaultLimits())
	half := makeZip(entry{"a", "b", 0o644})[:20]
	_, err := s.PutZip(t.Context(), io.MultiReader(bytes.NewReader(half), iotest.ErrReader(io.ErrUnexpectedEOF)))
	if !lambent.Is(err, lambent.Invalid) || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("broken off: %v", err)
	}
	own := lambent.Errorf(lambent.Forbidden, "test", "no more of it")
	if _, err := s.PutZip(t.Context(), iotest.ErrReader(own)); err != error(own) {
		t.Errorf("the sender's own error became %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.PutZip(ctx, bytes.NewReader(makeZip(entry{"a", "b", 0o644}))); !lambent.Is(err, lambent.Canceled) {
		t.Errorf("canceled: %v", err)
	}
	leftovers(t, dir)
}

func TestRemove(t *testing.T) {
	s, dir := open(t, lambent.DefaultLimits())
	archive := makeZip(entry{"a", "b", 0o644})
	tree := put(t, s, archive)
	before, err := s.List()
	if err != nil || len(before) != 2 {
		t.Fatalf("%v, %v", before, err)
	}
	put(t, s, archive) // someone deploys the same: what List said is out of date
	for _, item := range before {
		if err := s.Remove(item); !lambent.Is(err, lambent.Stale) {
			t.Errorf("Remove(%+v) = %v, want Stale", item, err)
		}
	}
	after, _ := s.List()
	for range 2 { // the second time they are gone already
		for _, item := range after {
			if err := s.Remove(item); err != nil {
				t.Errorf("Remove(%+v) = %v", item, err)
			}
		}
	}
	if _, err := s.Path(tree.Digest); !lambent.Is(err, lambent.NotFound) || s.Has(tree.Digest) {
		t.Errorf("Path = %v", err)
	}
	if _, err := s.Zip(tree.ZipDigest); !lambent.Is(err, lambent.NotFound) {
		t.Errorf("Zip = %v", err)
	}
	leftovers(t, dir)
	for _, bad := range []string{"", "../../etc", strings.Repeat("A", 64)} {
		if _, err := s.Path(bad); !lambent.Is(err, lambent.Invalid) {
			t.Errorf("Path(%q) = %v", bad, err)
		}
		if err := s.Remove(bundle.Item{Digest: bad}); !lambent.Is(err, lambent.Invalid) {
			t.Errorf("Remove(%q) = %v", bad, err)
		}
	}
}

func TestOpenSweeps(t *testing.T) {
	s, dir := open(t, lambent.DefaultLimits())
	tree := put(t, s, makeZip(entry{"a", "b", 0o644}))
	for _, d := range []string{"tmp/x/tree/deep", "trash/y/z"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	again, err := bundle.Open(dir, lambent.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	leftovers(t, dir)
	if !again.Has(tree.Digest) {
		t.Error("the tree is gone")
	}
}
