package bundle

import (
	"io"
	"io/fs"
	"strings"
	"unicode/utf8"

	"lambent"
)

// Bounds of names. The first two are the kernel's; the others keep recursion, open
// directories and memory small, and are far above what package managers make.
const (
	maxPath   = 4096 // bytes
	maxName   = 255  // bytes, of one path element
	maxDepth  = 128  // directories above a file
	maxTarget = 1024 // bytes, of a link's target: all of them are in memory at once
)

// A node is a file, a link or a directory of a tree that is being read.
type node struct {
	kind     fs.FileMode // 0, fs.ModeSymlink or fs.ModeDir
	exec     bool
	target   string                        // of a link
	open     func() (io.ReadCloser, error) // the content of a file
	parent   *node                         // nil: the root
	children map[string]*node              // of a directory
	name     string                        // path, for messages

	// A link is followed once; what came of it is kept.
	walked, walking bool
	leadsTo         *node
}

// A tree holds every rule about names, so that an archive and a directory are
// judged alike.
type tree struct {
	root       *node
	files      int // files and links
	nodes, max int // directories count here, implied ones too
	op         string
}

func newTree(op string, maxNodes int) *tree {
	return &tree{root: &node{kind: fs.ModeDir, children: map[string]*node{}}, max: maxNodes, op: op}
}

// refuse makes the error about one entry.
func refuse(op, name, format string, args ...any) error {
	return lambent.Errorf(lambent.Invalid, op, "entry %.200q "+format, append([]any{name}, args...)...)
}

func (t *tree) refuse(name, format string, args ...any) error {
	return refuse(t.op, name, format, args...)
}

// add puts n at the path name. A directory that is named again is the same
// directory; anything else that is named twice is refused.
func (t *tree) add(name string, n *node) error {
	path := strings.TrimPrefix(name, "./") // what `bsdtar -cf x.zip .` writes
	path = strings.TrimSuffix(path, "/")
	if n.kind == fs.ModeDir && (path == "" || path == ".") {
		return nil
	}
	if err := t.checkName(name, path); err != nil {
		return err
	}
	elems := strings.Split(path, "/")
	if len(elems) > maxDepth {
		return t.refuse(name, "is %d directories deep, over the limit of %d", len(elems)-1, maxDepth)
	}
	at := t.root
	for _, e := range elems[:len(elems)-1] {
		next := at.children[e]
		switch {
		case next == nil:
			next = &node{kind: fs.ModeDir, children: map[string]*node{}}
			if err := t.attach(at, e, next); err != nil {
				return err
			}
		case next.kind == fs.ModeSymlink:
			return t.refuse(name, "goes through %q, which is a link: an archive may not write through links", next.name)
		case next.kind != fs.ModeDir:
			return t.refuse(name, "goes through %q, which is a file", next.name)
		}
		at = next
	}
	last := elems[len(elems)-1]
	if old := at.children[last]; old != nil {
		switch {
		case old.kind == fs.ModeDir && n.kind == fs.ModeDir:
			return nil
		case old.kind == fs.ModeDir || n.kind == fs.ModeDir:
			return t.refuse(name, "is both a directory and a file")
		}
		return t.refuse(name, "is there twice")
	}
	if n.kind == fs.ModeDir {
		n.children = map[string]*node{}
	} else {
		t.files++
	}
	return t.attach(at, last, n)
}

func (t *tree) attach(at *node, elem string, n *node) error {
	if t.nodes++; t.nodes > t.max {
		return lambent.Errorf(lambent.TooLarge, t.op, "there are more files and directories than the limit of %d", t.max).
			WithHint("leave out what the function does not need, such as caches and tests")
	}
	n.parent, n.name = at, elem
	if at != t.root {
		n.name = at.name + "/" + elem
	}
	at.children[elem] = n
	return nil
}

// checkName judges a path as text. name is how the entry spells it.
func (t *tree) checkName(name, path string) error {
	switch {
	case path == "":
		return t.refuse(name, "has no name")
	case strings.HasPrefix(path, "/"):
		return t.refuse(name, "has an absolute path: paths are relative to the function's directory")
	case strings.ContainsRune(path, 0):
		return t.refuse(name, "has a NUL byte in its name")
	case !utf8.ValidString(path):
		return t.refuse(name, "has a name that is not UTF-8")
	case strings.ContainsRune(path, '\\'):
		return t.refuse(name, "has a backslash in its name: directories are divided by '/'")
	case len(path) >= 2 && path[1] == ':' && (path[0]|0x20) >= 'a' && (path[0]|0x20) <= 'z':
		return t.refuse(name, "has a drive letter: paths are relative to the function's directory")
	case len(path) > maxPath:
		return t.refuse(name, "has a name of %d bytes, over the limit of %d", len(path), maxPath)
	}
	for e := range strings.SplitSeq(path, "/") {
		switch {
		case e == "..":
			return t.refuse(name, "has '..' in its path: it would be written outside the function's directory")
		case e == "" || e == ".":
			return t.refuse(name, "has an empty or '.' element in its path")
		case len(e) > maxName:
			return t.refuse(name, "has a path element of %d bytes, over the limit of %d", len(e), maxName)
		}
	}
	return nil
}

// checkLinks refuses links that lead, directly or through other links, out of
// the tree. Links to nothing are allowed: trimmed dependencies leave them, and
// they lead nowhere.
func (t *tree) checkLinks() error { return t.checkBelow(t.root) }

func (t *tree) checkBelow(n *node) error {
	for _, c := range n.children {
		switch c.kind {
		case fs.ModeDir:
			if err := t.checkBelow(c); err != nil {
				return err
			}
		case fs.ModeSymlink:
			if _, err := t.follow(c); err != nil {
				return err
			}
		}
	}
	return nil
}

// follow returns what a link leads to in the end, nil if nothing is there.
func (t *tree) follow(link *node) (*node, error) {
	switch {
	case link.walked:
		return link.leadsTo, nil
	case link.walking:
		return nil, t.refuse(link.name, "is a link that leads back to itself")
	case link.target == "" || len(link.target) > maxTarget || strings.ContainsRune(link.target, 0):
		return nil, t.refuse(link.name, "is a link whose target is empty, over %d bytes, or has a NUL byte", maxTarget)
	case strings.HasPrefix(link.target, "/"):
		return nil, t.refuse(link.name, "is a link to the absolute path %.200q: links may lead inside the function's directory only", link.target)
	}
	link.walking = true
	at := link.parent
	for e := range strings.SplitSeq(link.target, "/") {
		switch {
		case e == "" || e == ".":
			continue
		case at == nil && e == "..":
			// Where a missing element would lead is not known before it exists.
			return nil, t.refuse(link.name, "is a link to %.200q, which goes up from a place that does not exist", link.target)
		case at == nil:
			continue
		case e == "..":
			if at = at.parent; at == nil {
				return nil, t.refuse(link.name, "is a link to %.200q, which leads out of the function's directory", link.target)
			}
			continue
		}
		if at = at.children[e]; at != nil && at.kind == fs.ModeSymlink {
			var err error
			if at, err = t.follow(at); err != nil {
				return nil, err
			}
		}
	}
	link.walked, link.walking, link.leadsTo = true, false, at
	return at, nil
}
