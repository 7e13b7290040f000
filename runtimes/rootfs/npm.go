package rootfs

import (
	"context"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"strings"

	"lambent"
)

const (
	npmOp       = "rootfs.npm"
	npmRegistry = "https://registry.npmjs.org"
)

// An npmVersion is one version of a package, as the registry describes it.
type npmVersion struct {
	Dist struct {
		Tarball   string `json:"tarball"`
		Integrity string `json:"integrity"`
	} `json:"dist"`
}

// npmNode fetches Node.js in its newest version of a major one into dir: npm has
// its programs as packages, one for each platform, and a digest for each.
func (s *Store) npmNode(ctx context.Context, major, dir string, p *progress) error {
	arch := map[string]string{"amd64": "x64", "arm64": "arm64"}[runtime.GOARCH]
	pkg := "node-" + runtime.GOOS + "-" + arch
	base := strings.TrimRight(s.o.Registry, "/")
	if base == "" {
		base = npmRegistry
	}
	body, err := s.request(ctx, base+"/"+pkg, "application/vnd.npm.install-v1+json")
	if err != nil {
		return err
	}
	defer body.Close()
	var list struct {
		Versions map[string]npmVersion `json:"versions"`
	}
	if err := json.NewDecoder(io.LimitReader(body, 64<<20)).Decode(&list); err != nil {
		return lambent.Errorf(lambent.Unavailable, npmOp, "what %s says of %s cannot be read: %w", base, pkg, err)
	}
	version := newest(list.Versions, major)
	if version == "" {
		return lambent.Errorf(lambent.NotFound, npmOp, "npm has no Node.js %s for this machine (package %s)", major, pkg).
			WithHint("lambent runtime add nodejs%s.x --from docker.io/library/node:%s-slim", major, major)
	}
	p.say("%s %s of npm", pkg, version)
	dist := list.Versions[version].Dist
	want, ok := strings.CutPrefix(dist.Integrity, "sha512-")
	if !ok {
		return lambent.Errorf(lambent.Invalid, npmOp, "%s %s has no sha512 digest", pkg, version)
	}
	tarball, err := s.request(ctx, dist.Tarball, "")
	if err != nil {
		return err
	}
	defer tarball.Close()
	return s.unpackPackage(ctx, p.watch(tarball, "Node.js "+version, 0), want, pkg+" "+version, dir)
}

// unpackPackage unpacks what is below package/ in a package of npm, which has the
// digest.
func (s *Store) unpackPackage(ctx context.Context, r io.Reader, digest, what, dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	u := s.newUnpacker(ctx, root)
	u.strip = "package"
	sum := sha512.New()
	raw := io.TeeReader(r, sum)
	in, err := decompress(raw)
	if err != nil {
		return damaged(err)
	}
	defer in.Close()
	if err := u.unpack(in); err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, raw); err != nil { // what gzip did not need
		return damaged(err)
	}
	if got := base64.StdEncoding.EncodeToString(sum.Sum(nil)); subtle.ConstantTimeCompare([]byte(got), []byte(digest)) != 1 {
		return lambent.Errorf(lambent.Invalid, npmOp, "%s is not what its digest says", what)
	}
	// Headers for who compiles against it, and a manual, are of no use to functions.
	for _, name := range []string{"include", "share"} {
		if err := root.RemoveAll(name); err != nil {
			return err
		}
	}
	return nil
}

// request asks a registry of npm.
func (s *Store) request(ctx context.Context, url, accept string) (io.ReadCloser, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, lambent.Errorf(lambent.Invalid, npmOp, "%.200q is not the address of a registry: %w", url, err)
	}
	if accept != "" {
		r.Header.Set("Accept", accept)
	}
	client := &http.Client{Transport: s.o.Transport}
	resp, err := client.Do(r)
	if ctx.Err() != nil {
		if err == nil {
			resp.Body.Close()
		}
		return nil, canceled(ctx)
	}
	if err != nil {
		return nil, lambent.Errorf(lambent.Unavailable, npmOp, "npm's registry cannot be reached: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		resp.Body.Close()
		kind := lambent.Unavailable
		if resp.StatusCode == http.StatusNotFound {
			kind = lambent.NotFound
		}
		return nil, lambent.Errorf(kind, npmOp, "npm's registry answers %s for %s", resp.Status, url)
	}
	return resp.Body, nil
}

// newest returns the newest release of a major version.
func newest[V any](versions map[string]V, major string) string {
	var best [2]int
	found := ""
	for v := range versions {
		n, err := release(v)
		if err != nil || strconv.Itoa(n[0]) != major {
			continue
		}
		if found == "" || n[1] > best[0] || n[1] == best[0] && n[2] > best[1] {
			found, best = v, [2]int{n[1], n[2]}
		}
	}
	return found
}

// release reads the three numbers of a version that is not a pre-release.
func release(v string) (n [3]int, err error) {
	parts := strings.Split(v, ".")
	if len(parts) != len(n) {
		return n, errors.New("not a release")
	}
	for i, p := range parts {
		if n[i], err = strconv.Atoi(p); err != nil {
			return n, fmt.Errorf("not a release: %w", err)
		}
	}
	return n, nil
}
