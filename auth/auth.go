// Package auth says who a request is from. There is one admin token, in a file
// that only the server's user can read and that the command line reads too; and
// tokens for one project each, of which only hashes are kept. A project may have access
// keys, too, for clients that sign what they ask for, as AWS's do.
//
// What it guarantees: a token is 256 random bits; it is compared in constant
// time or by its hash; a token file that others may read or may have written is
// refused. A token that was returned by Create works after a crash, and one that
// was revoked does not; likewise access keys, whose secrets are kept nowhere, but made
// of their ids and of one key in a file.
//
// What it does not do: it does not decide what an operation needs, which is the
// edge's to ask of the [Identity], and it takes tokens from the Authorization
// header only, never from a URL, where logs and histories would keep them.
package auth

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"lambent"
	"lambent/internal/atomicfile"
)

const (
	// TokenFile is the name of the admin token's file in the data directory.
	TokenFile = "token"

	prefix      = "lmb_" // by which secret scanners know a token
	secretBytes = 32
)

// A Role is what an identity may do in its projects.
type Role string

const (
	RoleAdmin  Role = "admin"  // everything
	RoleInvoke Role = "invoke" // call functions, and publish events, which do
)

// An Identity is who a token stands for.
type Identity struct {
	Project string // "" stands for every project
	Role    Role
	Token   string // the id of a project's token or access key, for logs; "" for the admin token
}

// Allows reports whether the identity may do in a project what needs a role.
func (id Identity) Allows(project string, need Role) bool {
	return (id.Project == "" || id.Project == project) && (id.Role == RoleAdmin || id.Role == need && need != "")
}

// Keys are the tokens of a server. Its methods may be called concurrently.
type Keys struct {
	dir   string
	admin [sha256.Size]byte // of the admin token

	signing []byte // of which the secrets of access keys are made
	session []byte // and all of sandboxes' keys

	mu     sync.RWMutex // guards tokens, and the file that holds them
	tokens map[string]Token
}

// Open reads the tokens in a data directory, which exists, making the admin token
// if there is none.
func Open(dir string) (*Keys, error) {
	k := &Keys{dir: dir, session: make([]byte, secretBytes)}
	rand.Read(k.session) // does not fail: it ends the program instead
	token, err := readToken(filepath.Join(dir, TokenFile))
	if errors.Is(err, fs.ErrNotExist) {
		token = newToken()
		err = atomicfile.Write(filepath.Join(dir, TokenFile), []byte(token+"\n"), 0o600)
	}
	if err != nil {
		return nil, explain("auth.Open", filepath.Join(dir, TokenFile), err)
	}
	k.admin = sha256.Sum256([]byte(token))
	if k.signing, err = openSigningKey(dir); err != nil {
		return nil, explain("auth.Open", filepath.Join(dir, signingKeyFile), err)
	}
	if k.tokens, err = readTokens(filepath.Join(dir, tokensFile)); err != nil {
		return nil, explain("auth.Open", filepath.Join(dir, tokensFile), err)
	}
	return k, nil
}

// Verify returns who a token stands for. Kind: Unauthenticated.
func (k *Keys) Verify(token string) (Identity, error) {
	sum := sha256.Sum256([]byte(token))
	if subtle.ConstantTimeCompare(sum[:], k.admin[:]) == 1 {
		return Identity{Role: RoleAdmin}, nil
	}
	// A look-up by the hash of what came tells of its time nothing that could be
	// turned into a token.
	k.mu.RLock()
	t, ok := k.tokens[tokenHash(sum)]
	k.mu.RUnlock()
	switch {
	case !ok:
		return Identity{}, lambent.Errorf(lambent.Unauthenticated, "auth", "the token is not known: it was mistyped, revoked, or is another server's").
			WithHint("export LAMBENT_TOKEN=$(cat DATA/%s)", TokenFile)
	case t.isExpired(time.Now()):
		return Identity{}, t.expired()
	}
	return t.identity(), nil
}

// FromRequest returns the token that a request carries, in the header
// "Authorization: Bearer TOKEN" and nowhere else.
func FromRequest(r *http.Request) (token string, ok bool) {
	h := r.Header["Authorization"]
	if len(h) != 1 {
		return "", false
	}
	scheme, token, _ := strings.Cut(h[0], " ")
	token = strings.Trim(token, " ")
	return token, strings.EqualFold(scheme, "Bearer") && token != ""
}

func newToken() string {
	b := make([]byte, secretBytes)
	rand.Read(b) // does not fail: it ends the program instead
	return prefix + base64.RawURLEncoding.EncodeToString(b)
}

// readToken reads the admin token, refusing a file that anybody else may read,
// or may have made.
func readToken(path string) (string, error) {
	b, err := readPrivate(path, 4096)
	if err != nil {
		return "", err
	}
	token := strings.TrimSpace(string(b))
	secret, ok := strings.CutPrefix(token, prefix)
	if raw, err := base64.RawURLEncoding.DecodeString(secret); !ok || err != nil || len(raw) < secretBytes {
		return "", lambent.Errorf(lambent.Invalid, "auth.Open", "%s does not hold a token (%s and %d bytes in base64url): it is damaged, or not lambent's", path, prefix, secretBytes).
			WithHint("rm %s   (the next start makes a new one)", path)
	}
	return token, nil
}

// readPrivate reads a file of at most limit bytes that is this user's alone.
func readPrivate(path string, limit int64) ([]byte, error) {
	const op = "auth.Open"
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if errors.Is(err, syscall.ELOOP) {
		return nil, lambent.Errorf(lambent.Forbidden, op, "%s is a symbolic link: it must be a file", path).WithHint("rm %s", path)
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	owner, known := info.Sys().(*syscall.Stat_t)
	switch {
	case !info.Mode().IsRegular():
		return nil, lambent.Errorf(lambent.Forbidden, op, "%s is not a regular file", path).WithHint("rm -r %s", path)
	case known && int(owner.Uid) != os.Geteuid():
		return nil, lambent.Errorf(lambent.Forbidden, op, "%s belongs to uid %d, and this process runs as uid %d: its owner knows the token", path, owner.Uid, os.Geteuid()).
			WithHint("rm %s   (the next start makes a new one)", path)
	case info.Mode().Perm()&0o077 != 0:
		return nil, lambent.Errorf(lambent.Forbidden, op, "%s has mode %04o, with which other users may read it: it must be 0600", path, info.Mode().Perm()).
			WithHint("chmod 600 %s", path)
	case info.Size() > limit:
		return nil, lambent.Errorf(lambent.Invalid, op, "%s is %d bytes, over the limit of %d", path, info.Size(), limit)
	}
	return io.ReadAll(io.LimitReader(f, limit))
}

// explain phrases a failure of the file system as an error of ours; one that is
// ours already passes through.
func explain(op, path string, err error) error {
	if _, ok := errors.AsType[*lambent.Error](err); ok {
		return err
	}
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return lambent.Errorf(lambent.NoSpace, op, "no space is left on the disk of %s: %w", path, err).WithHint("df -h %s", filepath.Dir(path))
	case errors.Is(err, fs.ErrPermission):
		return lambent.Errorf(lambent.Forbidden, op, "%s is not accessible for uid %d: %w", path, os.Geteuid(), err).WithHint("chown %d %s", os.Geteuid(), path)
	}
	return lambent.Errorf(lambent.Internal, op, "%w", err)
}
