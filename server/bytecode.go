package server

import (
	"context"
	"sync"
	"time"

	"lambent"
	"lambent/control/build"
)

// A byteCode knows of code in Python where it lies with the byte code of its modules. To
// compile even a small module takes as long as all else of a cold start. So once code has
// been started it is compiled in the background, for the starts that follow.
type byteCode struct {
	wanted chan build.Request

	mu    sync.Mutex // guards trees
	trees map[compilation]string
}

// compileFor is how long one compilation may keep others waiting.
const compileFor = time.Minute

// A compilation is of some code, for one interpreter. What came of it is the digest of a
// tree: empty where that is not there yet, or cannot be made.
type compilation struct{ digest, runtime, root string }

func newByteCode() *byteCode {
	return &byteCode{wanted: make(chan build.Request, 100), trees: map[compilation]string{}}
}

func compilationOf(digest string, rt lambent.Runtime) compilation {
	return compilation{digest, rt.Name, rt.Root}
}

// tree is where the code of a revision lies, as it is best started on a runtime.
func (s *Server) tree(rev *lambent.Revision, rt lambent.Runtime) (dir string, err error) {
	if rt.Guest == "lambda" && rt.Family == "python3" { // of frameworks it is compared with what was loaded ahead
		if digest := s.python.of(rev, rt); digest != "" {
			if dir, err := s.code.Path(digest); err == nil {
				return dir, nil
			}
		}
	}
	return s.code.Path(rev.Config.Code)
}

// of returns the digest of what came of a revision's code. If nothing was asked for yet
// that is done.
func (c *byteCode) of(rev *lambent.Revision, rt lambent.Runtime) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	src := compilationOf(rev.Config.Code, rt)
	digest, known := c.trees[src]
	if !known {
		select {
		case c.wanted <- build.Request{Source: rev.Config.Code, Runtime: rt, Name: rev.Name}:
			c.trees[src] = ""
		default: // the next start asks again
		}
	}
	return digest
}

// compile compiles what was asked for, one after the other.
func (s *Server) compile(ctx context.Context) {
	for {
		select {
		case r := <-s.python.wanted:
			digest, err := s.compiled(ctx, r)
			if err != nil {
				s.log.Debug("code cannot be compiled ahead", "function", r.Name, "error", err)
			}
			src := compilationOf(r.Source, r.Runtime)
			s.python.mu.Lock()
			if lambent.Is(err, lambent.NoSpace) || lambent.Is(err, lambent.Throttled) {
				delete(s.python.trees, src) // a later start asks again
			} else {
				s.python.trees[src] = digest
			}
			s.python.mu.Unlock()
		case <-ctx.Done():
			return
		}
	}
}

func (s *Server) compiled(ctx context.Context, r build.Request) (digest string, err error) {
	if err := s.store.Spare("server.compile", 0); err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, compileFor)
	defer cancel()
	t, err := s.builder.Compile(ctx, r)
	return t.Digest, err
}

// refer adds what came of code that is used to what is used, and forgets the rest.
func (c *byteCode) refer(used map[string]bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for src, digest := range c.trees {
		if used[src.digest] {
			used[digest] = true
		} else {
			delete(c.trees, src)
		}
	}
}
