package auth

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"time"

	"lambent"
	"lambent/internal/atomicfile"
)

// tokensFile holds projects' tokens by their hashes. It is rewritten whole at
// each change, which is rare.
const tokensFile = "tokens.json"

const (
	maxTokens     = 10_000
	maxTokensFile = 8 << 20 // bytes
	maxNote       = 128     // bytes
	idLen         = 12      // hexadecimal digits of the hash

	keepExpired = 24 * time.Hour // for whoever looks why it does not work any more
)

// A Token is what is known of a project's token, or of its access key: neither the token
// nor the secret.
type Token struct {
	ID      string    `json:"id"` // the beginning of the hash; of an access key its public half
	Project string    `json:"project"`
	Role    Role      `json:"role"`
	Note    string    `json:"note,omitempty"` // what it is for, in the words of who made it
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires,omitzero"` // zero: never
}

func tokenHash(sum [sha256.Size]byte) string { return hex.EncodeToString(sum[:]) }

// Create makes a token for a project. The token itself is returned here and
// never again. Only Project, Role, Note and Expires of want are read.
func (k *Keys) Create(want Token) (token string, made Token, err error) {
	token = newToken()
	hash := tokenHash(sha256.Sum256([]byte(token)))
	want.ID = hash[:idLen]
	if made, err = k.create("auth.Create", hash, want); err != nil {
		return "", Token{}, err
	}
	return token, made, nil
}

// create keeps a token, or an access key, under a name.
func (k *Keys) create(op, name string, want Token) (Token, error) {
	if err := (lambent.Name{Project: want.Project, Function: "x"}).Validate(); err != nil {
		return Token{}, err
	}
	now := time.Now().UTC().Truncate(time.Second)
	switch {
	case want.Role != RoleAdmin && want.Role != RoleInvoke:
		return Token{}, lambent.Errorf(lambent.Invalid, op, "role %.40q: one of %q and %q", want.Role, RoleAdmin, RoleInvoke)
	case len(want.Note) > maxNote:
		return Token{}, lambent.Errorf(lambent.Invalid, op, "note is %d bytes, over the limit of %d", len(want.Note), maxNote)
	case !want.Expires.IsZero() && !want.Expires.After(now):
		return Token{}, lambent.Errorf(lambent.Invalid, op, "expiry %s is in the past", want.Expires.Format(time.RFC3339))
	}
	want.Created = now
	err := k.change(op, func(tokens map[string]Token) error {
		maps.DeleteFunc(tokens, func(_ string, t Token) bool { return t.isExpired(now.Add(-keepExpired)) })
		if len(tokens) >= maxTokens {
			return lambent.Errorf(lambent.TooLarge, op, "there are %d tokens, and the limit is %d: revoke some", len(tokens), maxTokens)
		}
		tokens[name] = want
		return nil
	})
	return want, err
}

func (t Token) isExpired(now time.Time) bool { return !t.Expires.IsZero() && !now.Before(t.Expires) }

// expired is the refusal of a token that is.
func (t Token) expired() *lambent.Error {
	what := "token"
	if t.IsAccessKey() {
		what = "access key"
	}
	return lambent.Errorf(lambent.Unauthenticated, "auth", "%s %s expired at %s", what, t.ID, t.Expires.Format(time.RFC3339))
}

func (t Token) identity() Identity { return Identity{Project: t.Project, Role: t.Role, Token: t.ID} }

// List returns the tokens of a project, or with "" all of them, oldest first.
func (k *Keys) List(project string) []Token {
	k.mu.RLock()
	defer k.mu.RUnlock()
	var list []Token
	for _, t := range k.tokens {
		if project == "" || t.Project == project {
			list = append(list, t)
		}
	}
	slices.SortFunc(list, func(a, b Token) int { return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.ID, b.ID)) })
	return list
}

// Revoke makes the token of a project with that id worthless, at once. Kind:
// NotFound.
func (k *Keys) Revoke(project, id string) error {
	const op = "auth.Revoke"
	return k.change(op, func(tokens map[string]Token) error {
		n := len(tokens)
		maps.DeleteFunc(tokens, func(_ string, t Token) bool { return t.Project == project && t.ID == id })
		if len(tokens) == n {
			return lambent.Errorf(lambent.NotFound, op, "project %s has no token %.40q", project, id).WithHint("lambent token list")
		}
		return nil
	})
}

// change applies f to a copy of the tokens, and makes that the tokens once it is
// on disk.
func (k *Keys) change(op string, f func(map[string]Token) error) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	tokens := maps.Clone(k.tokens)
	if err := f(tokens); err != nil {
		return err
	}
	b, err := json.MarshalIndent(tokens, "", "\t")
	if err != nil {
		return lambent.Errorf(lambent.Internal, op, "%w", err)
	}
	path := filepath.Join(k.dir, tokensFile)
	if err := atomicfile.Write(path, append(b, '\n'), 0o600); err != nil {
		return explain(op, path, err)
	}
	k.tokens = tokens
	return nil
}

func readTokens(path string) (map[string]Token, error) {
	tokens := make(map[string]Token)
	b, err := readPrivate(path, maxTokensFile)
	if errors.Is(err, fs.ErrNotExist) {
		return tokens, nil
	}
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(b, &tokens); err != nil {
		return nil, lambent.Errorf(lambent.Invalid, "auth.Open", "%s cannot be read as JSON: it is damaged: %w", path, err).
			WithHint("rm %s   (every project's tokens are lost with it)", path)
	}
	return tokens, nil
}
