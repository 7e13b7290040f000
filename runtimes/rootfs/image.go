package rootfs

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"runtime"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"lambent"
)

const imageOp = "rootfs.image"

// An image is what an image says of itself, wherever it is: the rest is layers.
type image struct {
	digest string // of its manifest; empty where it has none
	config *v1.ConfigFile
	layers []layer
}

// A layer is a tar file, compressed or not, as it is transported.
type layer struct {
	size int64 // as it is transported; for progress
	open func() (io.ReadCloser, error)
}

// parse reads an image's configuration, which is what its digest says.
func (i *image) parse(config []byte, want v1.Hash) (err error) {
	if want != (v1.Hash{}) {
		if err := verify("the image's configuration", config, want); err != nil {
			return err
		}
	}
	if i.config, err = v1.ParseConfigFile(bytes.NewReader(config)); err != nil {
		return notAnImage(err)
	}
	return nil
}

// check refuses what cannot run here before it is fetched.
func (i *image) check(maxBytes int64) error {
	if c := i.config; c.OS != "" && c.OS != "linux" || c.Architecture != "" && c.Architecture != runtime.GOARCH {
		return lambent.Errorf(lambent.Invalid, imageOp, "the image is for %s/%s, this machine is linux/%s", c.OS, c.Architecture, runtime.GOARCH)
	}
	if len(i.layers) != len(i.config.RootFS.DiffIDs) {
		return notAnImage(fmt.Errorf("%d layers, and %d digests for them", len(i.layers), len(i.config.RootFS.DiffIDs)))
	}
	var size int64
	for _, l := range i.layers {
		if size += l.size; l.size < 0 || size > maxBytes {
			return lambent.Errorf(lambent.TooLarge, imageOp, "the image's layers are over the limit of %d MB, compressed even", maxBytes>>20).
				WithHint("lambent serve --help   (--max-root)")
		}
	}
	return nil
}

// env returns a variable that the image sets.
func (i *image) env(name string) string {
	for _, kv := range i.config.Config.Env {
		if k, v, _ := strings.Cut(kv, "="); k == name {
			return v
		}
	}
	return ""
}

// unpackInto writes the layers. Each must be what the configuration says, whose own
// digest the manifest says.
func (i *image) unpackInto(u *unpacker, p *progress) error {
	u.layered = true
	for n, l := range i.layers {
		if err := i.unpackLayer(u, p, n, l); err != nil {
			return err
		}
	}
	return nil
}

func (i *image) unpackLayer(u *unpacker, p *progress, n int, l layer) error {
	blob, err := l.open()
	if err != nil {
		return damaged(err)
	}
	defer blob.Close()
	in, err := decompress(p.watch(blob, fmt.Sprintf("layer %d of %d", n+1, len(i.layers)), l.size))
	if err != nil {
		return damaged(err)
	}
	defer in.Close()
	sum := sha256.New()
	if err := u.unpack(io.TeeReader(in, sum)); err != nil {
		return err
	}
	if want := i.config.RootFS.DiffIDs[n]; want.Algorithm != "sha256" || hex.EncodeToString(sum.Sum(nil)) != want.Hex {
		return lambent.Errorf(lambent.Invalid, imageOp, "layer %d of the image is not what its digest %s says", n+1, want)
	}
	return nil
}

// verify compares content that has a digest with it.
func verify(what string, b []byte, want v1.Hash) error {
	sum := sha256.Sum256(b)
	if want.Algorithm != "sha256" || hex.EncodeToString(sum[:]) != want.Hex {
		return lambent.Errorf(lambent.Invalid, imageOp, "%s is not what its digest %s says", what, want)
	}
	return nil
}

func notAnImage(err error) error {
	return lambent.Errorf(lambent.Invalid, imageOp, "this is not an image that can be read: %w", err)
}

// pull finds an image in a registry; its layers are fetched when they are opened.
// Nobody is asked for credentials: images that need them come as files.
func (s *Store) pull(ctx context.Context, reference string) (*image, error) {
	ref, err := name.ParseReference(reference)
	if err != nil {
		return nil, lambent.Errorf(lambent.Invalid, imageOp, "--from %.200q is neither host, npm nor an image such as docker.io/library/python:3.12-slim", reference).
			WithHint("lambent runtime add --help")
	}
	options := []remote.Option{
		remote.WithContext(ctx), remote.WithPlatform(v1.Platform{OS: "linux", Architecture: runtime.GOARCH}), remote.WithUserAgent("lambent"),
	}
	if s.o.Transport != nil {
		options = append(options, remote.WithTransport(s.o.Transport))
	}
	remoteImage, err := remote.Image(ref, options...)
	if err != nil {
		return nil, pullError(ctx, ref, err)
	}
	digest, err1 := remoteImage.Digest()
	config, err2 := remoteImage.RawConfigFile()
	layers, err3 := remoteImage.Layers()
	if err := errors.Join(err1, err2, err3); err != nil {
		return nil, pullError(ctx, ref, err)
	}
	i := &image{digest: digest.String()}
	if err := i.parse(config, v1.Hash{}); err != nil { // remote has compared it with the manifest
		return nil, err
	}
	for _, l := range layers {
		size, err := l.Size()
		if err != nil {
			return nil, pullError(ctx, ref, err)
		}
		i.layers = append(i.layers, layer{size, func() (io.ReadCloser, error) {
			blob, err := l.Compressed()
			if err != nil {
				return nil, pullError(ctx, ref, err)
			}
			return blob, nil
		}})
	}
	return i, nil
}

// pullError phrases what a registry answered, or that it did not.
func pullError(ctx context.Context, ref name.Reference, err error) error {
	if ctx.Err() != nil {
		return canceled(ctx)
	}
	if e, ok := errors.AsType[*transport.Error](err); ok {
		switch e.StatusCode {
		case http.StatusNotFound, http.StatusUnauthorized, http.StatusForbidden: // registries do not tell strangers which
			return lambent.Errorf(lambent.NotFound, imageOp, "the registry has no image %s, or not for everybody: one that needs a login can be added from a file (docker save)", ref).
				WithHint("lambent runtime add --help")
		case http.StatusTooManyRequests:
			return lambent.Errorf(lambent.Unavailable, imageOp, "the registry refuses %s for now, for too many requests: %w", ref, err)
		}
	}
	if strings.Contains(err.Error(), "no child with platform") {
		return lambent.Errorf(lambent.Invalid, imageOp, "%s has no image for this machine, linux/%s", ref, runtime.GOARCH)
	}
	return lambent.Errorf(lambent.Unavailable, imageOp, "%s cannot be fetched: %w", ref, err)
}

// maxBlob bounds what is read of JSON.
const maxBlob = 4 << 20

// An imageArchive reads an image out of a tar file that `docker save` or an OCI
// tool made, or that an OCI layout directory was packed into.
type imageArchive struct{ *archive }

// image returns the one image in the archive for this machine, nil if the archive
// is not of images.
func (a imageArchive) image() (*image, error) {
	if a.has("oci-layout") && a.has("index.json") { // newer versions of docker save write both
		b, err := a.read("index.json")
		if err != nil {
			return nil, err
		}
		return a.fromIndex(b, 0)
	}
	if a.has("manifest.json") {
		return a.fromDocker()
	}
	return nil, nil
}

// fromIndex follows an index to the manifest for this machine.
func (a imageArchive) fromIndex(b []byte, depth int) (*image, error) {
	index, err := v1.ParseIndexManifest(bytes.NewReader(b))
	if err != nil || depth > 3 {
		return nil, notAnImage(errors.Join(err, errors.New("an index that leads to no image")))
	}
	var fits []v1.Descriptor
	var others []string
	for _, d := range index.Manifests {
		switch p := d.Platform; {
		case !d.MediaType.IsImage() && !d.MediaType.IsIndex():
		case p == nil || p.OS == "linux" && p.Architecture == runtime.GOARCH:
			fits = append(fits, d)
		default:
			others = append(others, p.String())
		}
	}
	switch {
	case len(fits) == 0:
		return nil, lambent.Errorf(lambent.Invalid, imageOp, "the archive has no image for this machine, linux/%s, but for: %s", runtime.GOARCH, strings.Join(others, ", "))
	case len(fits) > 1:
		return nil, lambent.Errorf(lambent.Invalid, imageOp, "the archive has %d images for this machine: give one that has one", len(fits))
	}
	d := fits[0]
	blob, err := a.blob(d.Digest)
	if err != nil {
		return nil, err
	}
	if d.MediaType.IsIndex() {
		return a.fromIndex(blob, depth+1)
	}
	manifest, err := v1.ParseManifest(bytes.NewReader(blob))
	if err != nil {
		return nil, notAnImage(err)
	}
	config, err := a.blob(manifest.Config.Digest)
	if err != nil {
		return nil, err
	}
	i := &image{digest: d.Digest.String()}
	if err := i.parse(config, manifest.Config.Digest); err != nil {
		return nil, err
	}
	for _, l := range manifest.Layers {
		i.layers = append(i.layers, layer{l.Size, func() (io.ReadCloser, error) { return a.open(blobPath(l.Digest)) }})
	}
	return i, nil
}

// fromDocker reads what docker save wrote before it wrote OCI.
func (a imageArchive) fromDocker() (*image, error) {
	b, err := a.read("manifest.json")
	if err != nil {
		return nil, err
	}
	var images []struct {
		Config string
		Layers []string
	}
	if err := json.Unmarshal(b, &images); err != nil || len(images) == 0 {
		return nil, notAnImage(errors.Join(err, errors.New("manifest.json")))
	}
	if len(images) > 1 {
		return nil, lambent.Errorf(lambent.Invalid, imageOp, "the archive has %d images: give one that has one", len(images))
	}
	config, err := a.read(images[0].Config)
	if err != nil {
		return nil, err
	}
	i := &image{}
	if err := i.parse(config, v1.Hash{}); err != nil { // it is named by its digest, but nobody vouches for the name
		return nil, err
	}
	for _, l := range images[0].Layers {
		i.layers = append(i.layers, layer{a.size(l), func() (io.ReadCloser, error) { return a.open(l) }})
	}
	return i, nil
}

func blobPath(d v1.Hash) string { return "blobs/" + d.Algorithm + "/" + d.Hex }

// blob reads a small blob, which is what its digest says.
func (a imageArchive) blob(d v1.Hash) ([]byte, error) {
	b, err := a.read(blobPath(d))
	if err != nil {
		return nil, err
	}
	return b, verify("a part of the image", b, d)
}

func (a imageArchive) read(name string) ([]byte, error) {
	r, err := a.open(name)
	if err != nil {
		return nil, notAnImage(err)
	}
	b, err := io.ReadAll(io.LimitReader(r, maxBlob+1))
	if err == nil && len(b) > maxBlob {
		err = os.ErrInvalid
	}
	if err != nil {
		return nil, notAnImage(fmt.Errorf("%s: %w", name, err))
	}
	return b, nil
}
