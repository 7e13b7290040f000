package auth_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"lambent"
	"lambent/auth"
)

func TestAccessKeys(t *testing.T) {
	dir := t.TempDir()
	k := open(t, dir)
	secret, made, err := k.CreateAccessKey(auth.Token{Project: "shop", Role: auth.RoleInvoke, Note: "the till"})
	if err != nil || !made.IsAccessKey() || len(made.ID) != 20 || len(secret) != 40 {
		t.Fatalf("got %+v, a secret of %d characters, %v", made, len(secret), err)
	}
	other, otherMade, err := k.CreateAccessKey(auth.Token{Project: "shop", Role: auth.RoleAdmin})
	if err != nil || other == secret || otherMade.ID == made.ID {
		t.Fatalf("the next one: %+v, %v", otherMade, err)
	}
	token, tokenMade, err := k.Create(auth.Token{Project: "shop", Role: auth.RoleAdmin})
	if err != nil || tokenMade.IsAccessKey() {
		t.Fatalf("a token: %+v, %v", tokenMade, err)
	}
	for _, k := range []*auth.Keys{k, open(t, dir)} {
		got, err := k.AccessKey(made.ID)
		if want := (auth.AccessKey{ID: made.ID, Secret: secret, Who: auth.Identity{Project: "shop", Role: auth.RoleInvoke, Token: made.ID}}); err != nil || got != want {
			t.Errorf("the key is %+v, %v", got.Who, err)
		}
		if l := k.List("shop"); len(l) != 3 {
			t.Errorf("tokens of shop: %+v", l)
		}
		for _, bad := range []string{"", "LA", made.ID + "A", tokenMade.ID, token} {
			if _, err := k.AccessKey(bad); !lambent.Is(err, lambent.Unauthenticated) {
				t.Errorf("%.20q is taken for an access key: %v", bad, err)
			}
		}
		for _, bad := range []string{made.ID, secret} {
			if _, err := k.Verify(bad); !lambent.Is(err, lambent.Unauthenticated) {
				t.Errorf("half of an access key is taken for a token: %v", err)
			}
		}
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if b, err := os.ReadFile(filepath.Join(dir, f.Name())); err != nil || strings.Contains(string(b), secret) {
			t.Errorf("%s holds the secret (%v)", f.Name(), err)
		}
		if info, err := f.Info(); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", f.Name(), info.Mode())
		}
	}
	if err := k.Revoke("shop", made.ID); err != nil {
		t.Fatal(err)
	}
	for _, k := range []*auth.Keys{k, open(t, dir)} {
		if _, err := k.AccessKey(made.ID); !lambent.Is(err, lambent.Unauthenticated) {
			t.Errorf("a revoked access key: %v", err)
		}
	}

	path := filepath.Join(dir, "signing-key")
	if err := os.WriteFile(path, []byte("short\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := auth.Open(dir); !lambent.Is(err, lambent.Invalid) {
		t.Errorf("a damaged signing key: %v", err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := auth.Open(dir); !lambent.Is(err, lambent.Forbidden) {
		t.Errorf("a signing key that others may read: %v", err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if got, err := open(t, dir).AccessKey(otherMade.ID); err != nil || got.Secret == other {
		t.Errorf("without the signing key there is a new one: %v", err)
	}
}

// What has expired is said so for a day, and forgotten when another is made.
func TestExpiredIsForgotten(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		k := open(t, dir)
		_, made, err := k.CreateAccessKey(auth.Token{Project: "p", Role: auth.RoleInvoke, Expires: time.Now().Add(time.Hour)})
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct {
			after time.Duration
			left  int
		}{{time.Hour, 2}, {23 * time.Hour, 3}, {2 * time.Hour, 3}} {
			time.Sleep(c.after)
			if _, err := k.AccessKey(made.ID); !lambent.Is(err, lambent.Unauthenticated) {
				t.Errorf("an expired access key: %v", err)
			}
			if _, _, err := k.Create(auth.Token{Project: "p", Role: auth.RoleInvoke}); err != nil || len(k.List("p")) != c.left {
				t.Errorf("there are %d, %v; want %d", len(k.List("p")), err, c.left)
			}
		}
	})
}

// The key of a sandbox is its own, for as long as the server runs, and known to nobody who
// looks it up.
func TestSessions(t *testing.T) {
	dir := t.TempDir()
	k := open(t, dir)
	a := k.Session("a")
	if a != k.Session("a") || len(a.ID) != 20 || len(a.Secret) != 40 || a.Session == "" || a.Who != (auth.Identity{}) {
		t.Errorf("the key of a sandbox: %d, %d and %d characters, of %+v", len(a.ID), len(a.Secret), len(a.Session), a.Who)
	}
	for _, other := range []auth.AccessKey{k.Session("b"), open(t, dir).Session("a")} {
		if a.ID == other.ID || a.Secret == other.Secret || a.Session == other.Session {
			t.Error("two sandboxes have something in common")
		}
	}
	if _, err := k.AccessKey(a.ID); !lambent.Is(err, lambent.Unauthenticated) || !strings.Contains(err.Error(), "in its sandbox alone") {
		t.Errorf("it is looked up: %v", err)
	}
}
