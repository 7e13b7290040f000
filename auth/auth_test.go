package auth_test

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"lambent"
	"lambent/auth"
)

func open(t testing.TB, dir string) *auth.Keys {
	t.Helper()
	k, err := auth.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func adminToken(t testing.TB, dir string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, auth.TokenFile))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSuffix(string(b), "\n")
}

func TestAdminToken(t *testing.T) {
	dir := t.TempDir()
	k := open(t, dir)
	info, err := os.Stat(filepath.Join(dir, auth.TokenFile))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("the token file has mode %v (%v)", info.Mode(), err)
	}
	token := adminToken(t, dir)
	secret, ok := strings.CutPrefix(token, "lmb_")
	if raw, err := base64.RawURLEncoding.DecodeString(secret); !ok || err != nil || len(raw) != 32 {
		t.Fatalf("%d characters are no token", len(token))
	}
	if id, err := k.Verify(token); err != nil || id != (auth.Identity{Role: auth.RoleAdmin}) {
		t.Errorf("the admin token is %+v, %v", id, err)
	}
	for _, bad := range []string{"", "lmb_", token[:len(token)-1], token + "x", strings.ToUpper(token), adminToken(t, second(t))} {
		if id, err := k.Verify(bad); !lambent.Is(err, lambent.Unauthenticated) || id != (auth.Identity{}) {
			t.Errorf("%d characters that are no token of ours: %+v, %v", len(bad), id, err)
		}
	}
	if _, err := open(t, dir).Verify(token); err != nil {
		t.Errorf("the token does not outlive the server: %v", err)
	}
}

// second returns the directory of another server.
func second(t *testing.T) string {
	dir := t.TempDir()
	open(t, dir)
	return dir
}

// A token file that is not the server's alone is refused, with what mends it, and
// is left as it is.
func TestTokenFileRefused(t *testing.T) {
	good := adminToken(t, second(t))
	write := func(content string, perm os.FileMode) func(string) error {
		return func(path string) error {
			return errors.Join(os.WriteFile(path, []byte(content), 0o600), os.Chmod(path, perm))
		}
	}
	cases := []struct {
		what string
		make func(path string) error
		kind lambent.Kind
		hint string
	}{
		{"readable by all", write(good, 0o644), lambent.Forbidden, "chmod 600"},
		{"readable by the group", write(good, 0o640), lambent.Forbidden, "chmod 600"},
		{"writable by all", write(good, 0o602), lambent.Forbidden, "chmod 600"},
		{"empty", write("", 0o600), lambent.Invalid, "rm"},
		{"short", write("lmb_abcd", 0o600), lambent.Invalid, "rm"},
		{"not a token", write("hello\n", 0o600), lambent.Invalid, "rm"},
		{"long", write(strings.Repeat("x", 5000), 0o600), lambent.Invalid, ""},
		{"a link", func(path string) error {
			return errors.Join(os.WriteFile(path+".to", []byte(good), 0o600), os.Symlink(path+".to", path))
		}, lambent.Forbidden, "rm"},
		{"a directory", func(path string) error { return os.Mkdir(path, 0o700) }, lambent.Forbidden, "rm"},
	}
	if os.Geteuid() == 0 {
		cases = append(cases, struct {
			what string
			make func(path string) error
			kind lambent.Kind
			hint string
		}{"another user's", func(path string) error {
			return errors.Join(os.WriteFile(path, []byte(good), 0o600), os.Chown(path, 12345, -1))
		}, lambent.Forbidden, "rm"})
	}
	for _, c := range cases {
		dir := t.TempDir()
		path := filepath.Join(dir, auth.TokenFile)
		if err := c.make(path); err != nil {
			t.Fatal(err)
		}
		before, _ := os.ReadFile(path)
		_, err := auth.Open(dir)
		e, ok := errors.AsType[*lambent.Error](err)
		if !ok || e.Kind != c.kind || !strings.Contains(e.Message, path) || !strings.Contains(e.Hint, c.hint) || strings.Contains(e.Message, "\n") {
			t.Errorf("%s: %v", c.what, err)
			continue
		}
		if strings.Contains(e.Message+e.Hint, good) {
			t.Errorf("%s: the message has the token", c.what)
		}
		if after, _ := os.ReadFile(path); string(before) != string(after) {
			t.Errorf("%s: the file changed", c.what)
		}
	}
	if _, err := auth.Open(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("a directory that is not there was opened")
	}
}

func TestProjectTokens(t *testing.T) {
	dir := t.TempDir()
	k := open(t, dir)
	token, made, err := k.Create(auth.Token{Project: "shop", Role: auth.RoleInvoke, Note: "the till"})
	if err != nil {
		t.Fatal(err)
	}
	other, otherMade, err := k.Create(auth.Token{Project: "blog", Role: auth.RoleAdmin})
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range []*auth.Keys{k, open(t, dir)} {
		if id, err := k.Verify(token); err != nil || id != (auth.Identity{Project: "shop", Role: auth.RoleInvoke, Token: made.ID}) {
			t.Errorf("the token is %+v, %v", id, err)
		}
		if l := k.List("shop"); len(l) != 1 || l[0] != made {
			t.Errorf("tokens of shop: %+v", l)
		}
		if l := k.List(""); len(l) != 2 {
			t.Errorf("all tokens: %+v", l)
		}
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		b, err := os.ReadFile(filepath.Join(dir, f.Name()))
		if err != nil || strings.Contains(string(b), token[4:]) {
			t.Errorf("%s holds the token (%v)", f.Name(), err)
		}
		if info, err := f.Info(); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", f.Name(), info.Mode())
		}
	}
	if err := k.Revoke("shop", otherMade.ID); !lambent.Is(err, lambent.NotFound) {
		t.Errorf("another project's token was revoked: %v", err)
	}
	if err := k.Revoke("shop", made.ID); err != nil {
		t.Fatal(err)
	}
	for _, k := range []*auth.Keys{k, open(t, dir)} {
		if _, err := k.Verify(token); !lambent.Is(err, lambent.Unauthenticated) {
			t.Errorf("a revoked token: %v", err)
		}
		if _, err := k.Verify(other); err != nil {
			t.Errorf("the other project's token: %v", err)
		}
	}
	for _, bad := range []auth.Token{
		{Project: "", Role: auth.RoleAdmin},
		{Project: "a/b", Role: auth.RoleAdmin},
		{Project: "p", Role: "root"},
		{Project: "p"},
		{Project: "p", Role: auth.RoleInvoke, Note: strings.Repeat("x", 200)},
		{Project: "p", Role: auth.RoleInvoke, Expires: time.Now().Add(-time.Hour)},
	} {
		if _, _, err := k.Create(bad); !lambent.Is(err, lambent.Invalid) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "tokens.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := auth.Open(dir); !lambent.Is(err, lambent.Invalid) {
		t.Errorf("a damaged file: %v", err)
	}
}

func TestExpiry(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		k := open(t, dir)
		token, _, err := k.Create(auth.Token{Project: "p", Role: auth.RoleInvoke, Expires: time.Now().Add(time.Hour)})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour - 1)
		if _, err := k.Verify(token); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Nanosecond)
		if _, err := k.Verify(token); !lambent.Is(err, lambent.Unauthenticated) {
			t.Errorf("an expired token: %v", err)
		}
	})
}

// A token whose making could not be kept does not work.
func TestTokenThatCannotBeKept(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	k := open(t, dir)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if token, _, err := k.Create(auth.Token{Project: "p", Role: auth.RoleAdmin}); err == nil || token != "" || len(k.List("")) != 0 {
		t.Errorf("a token was made: %v", err)
	}
}

func TestAllows(t *testing.T) {
	for _, c := range []struct {
		id      auth.Identity
		project string
		need    auth.Role
		want    bool
	}{
		{auth.Identity{Role: auth.RoleAdmin}, "any", auth.RoleAdmin, true},
		{auth.Identity{Role: auth.RoleAdmin}, "any", auth.RoleInvoke, true},
		{auth.Identity{Project: "p", Role: auth.RoleAdmin}, "p", auth.RoleInvoke, true},
		{auth.Identity{Project: "p", Role: auth.RoleAdmin}, "q", auth.RoleInvoke, false},
		{auth.Identity{Project: "p", Role: auth.RoleAdmin}, "", auth.RoleAdmin, false},
		{auth.Identity{Project: "p", Role: auth.RoleInvoke}, "p", auth.RoleInvoke, true},
		{auth.Identity{Project: "p", Role: auth.RoleInvoke}, "p", auth.RoleAdmin, false},
		{auth.Identity{}, "p", auth.RoleInvoke, false},
		{auth.Identity{}, "p", "", false},
	} {
		if got := c.id.Allows(c.project, c.need); got != c.want {
			t.Errorf("%+v, %q in %q: %v", c.id, c.need, c.project, got)
		}
	}
}

func TestFromRequest(t *testing.T) {
	for _, c := range []struct {
		headers []string
		want    string
		ok      bool
	}{
		{[]string{"Bearer abc"}, "abc", true},
		{[]string{"bearer  abc "}, "abc", true},
		{[]string{"Bearer "}, "", false},
		{[]string{"Bearer"}, "", false},
		{[]string{"Basic abc"}, "", false},
		{[]string{"AWS4-HMAC-SHA256 Credential=x"}, "", false},
		{[]string{"Bearer abc", "Bearer def"}, "", false},
		{nil, "", false},
	} {
		r, err := http.NewRequest("GET", "http://x/?token=abc&access_token=abc", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header["Authorization"] = c.headers
		if got, ok := auth.FromRequest(r); ok != c.ok || ok && got != c.want {
			t.Errorf("%q: %q, %v", c.headers, got, ok)
		}
	}
}

func TestHammer(t *testing.T) {
	dir := t.TempDir()
	k := open(t, dir)
	admin := adminToken(t, dir)
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for range 10 {
				token, made, err := k.Create(auth.Token{Project: fmt.Sprint("p", w), Role: auth.RoleInvoke})
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := k.Verify(token); err != nil {
					t.Error(err)
				}
				if _, err := k.Verify(admin); err != nil {
					t.Error(err)
				}
				k.List("")
				if err := k.Revoke(made.Project, made.ID); err != nil {
					t.Error(err)
				}
				if _, err := k.Verify(token); err == nil {
					t.Error("a revoked token works")
				}
			}
		})
	}
	wg.Wait()
	if l := open(t, dir).List(""); len(l) != 0 {
		t.Errorf("left: %+v", l)
	}
}
