package auth

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/base64"
	"errors"
	"io/fs"
	"path/filepath"
	"strings"
	"time"

	"lambent"
	"lambent/internal/atomicfile"
)

// signingKeyFile holds what the secrets of access keys are made of.
const signingKeyFile = "signing-key"

const (
	accessKeyPrefix = "LA" // of ids, as AWS's begin with AK
	sessionPrefix   = "LS" // of ids of sandboxes' keys, as AWS's begin with AS
	accessKeyLen    = 20   // of ids
	accessSecretLen = 30   // bytes: 40 characters, as many as AWS's have
)

// An AccessKey is what a client signs its requests with.
type AccessKey struct {
	ID, Secret string
	Session    string // a token that has to come with the signature; "": none may
	Who        Identity
}

// IsAccessKey reports whether the token is an access key, for signatures, and not one
// for the Authorization header.
func (t Token) IsAccessKey() bool { return strings.HasPrefix(t.ID, accessKeyPrefix) }

// CreateAccessKey makes an access key for a project: its ID is public, and the secret is
// what requests are signed with (see [lambent/internal/sigv4]). It is kept, listed and
// revoked as tokens are. Only Project, Role, Note and Expires of want are read.
func (k *Keys) CreateAccessKey(want Token) (secret string, made Token, err error) {
	b := make([]byte, 5*(accessKeyLen-len(accessKeyPrefix))/8+1)
	rand.Read(b) // does not fail: it ends the program instead
	id := accessKeyPrefix + base32.StdEncoding.EncodeToString(b)[:accessKeyLen-len(accessKeyPrefix)]
	want.ID = id
	if made, err = k.create("auth.CreateAccessKey", id, want); err != nil {
		return "", Token{}, err
	}
	return k.accessSecret(id), made, nil
}

// AccessKey returns the access key of an id. Kind: Unauthenticated.
func (k *Keys) AccessKey(id string) (AccessKey, error) {
	k.mu.RLock()
	t, ok := k.tokens[id]
	k.mu.RUnlock()
	switch {
	case strings.HasPrefix(id, sessionPrefix):
		return AccessKey{}, lambent.Errorf(lambent.Unauthenticated, "auth", "access key %.40q is of an instance of a function: it is known in its sandbox alone, and as long as that is there", id).
			WithHint(`eval "$(lambent env aws)"`)
	case !ok || !t.IsAccessKey():
		return AccessKey{}, lambent.Errorf(lambent.Unauthenticated, "auth", "access key %.40q is not known: it was mistyped, revoked, or is another server's", id).
			WithHint(`eval "$(lambent env aws)"`)
	case t.isExpired(time.Now()):
		return AccessKey{}, t.expired().WithHint(`eval "$(lambent env aws)"`)
	}
	return AccessKey{ID: id, Secret: k.accessSecret(id), Who: t.identity()}, nil
}

// Session returns the access key of a sandbox, by its id: the same for as long as the
// server runs, and another the next time. It is nobody's yet, and AccessKey does not know
// it: only who serves that sandbox can tell that it is meant.
func (k *Keys) Session(sandbox string) AccessKey {
	of := func(what string) []byte {
		h := hmac.New(sha256.New, k.session)
		h.Write([]byte(what + " " + sandbox))
		return h.Sum(nil)
	}
	return AccessKey{
		ID:      sessionPrefix + base32.StdEncoding.EncodeToString(of("id"))[:accessKeyLen-len(sessionPrefix)],
		Secret:  base64.RawURLEncoding.EncodeToString(of("secret")[:accessSecretLen]),
		Session: base64.RawURLEncoding.EncodeToString(of("token")),
	}
}

// accessSecret is the secret of an access key: it is made of the id, and kept nowhere.
func (k *Keys) accessSecret(id string) string {
	h := hmac.New(sha256.New, k.signing)
	h.Write([]byte("access key " + id))
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil)[:accessSecretLen])
}

// WebhookSecret is what the webhooks of a project are signed with, as Standard Webhooks
// writes it. It is kept nowhere, as the secrets of access keys.
func (k *Keys) WebhookSecret(project string) string {
	h := hmac.New(sha256.New, k.signing)
	h.Write([]byte("webhooks of " + project))
	return "whsec_" + base64.StdEncoding.EncodeToString(h.Sum(nil))
}

// openSigningKey reads the signing key, making it if there is none.
func openSigningKey(dir string) ([]byte, error) {
	path := filepath.Join(dir, signingKeyFile)
	b, err := readPrivate(path, 4096)
	if errors.Is(err, fs.ErrNotExist) {
		key := make([]byte, secretBytes)
		rand.Read(key)
		return key, atomicfile.Write(path, []byte(base64.RawURLEncoding.EncodeToString(key)+"\n"), 0o600)
	}
	if err != nil {
		return nil, err
	}
	key, err := base64.RawURLEncoding.DecodeString(strings.TrimSpace(string(b)))
	if err != nil || len(key) != secretBytes {
		return nil, lambent.Errorf(lambent.Invalid, "auth.Open", "%s does not hold %d bytes in base64url: it is damaged, or not lambent's", path, secretBytes).
			WithHint("rm %s   (the next start makes a new one; all access keys have to be made anew)", path)
	}
	return key, nil
}
