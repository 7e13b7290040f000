package gateway

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/versity/versitygw/backend"
	"github.com/versity/versitygw/backend/posix"
	"github.com/versity/versitygw/s3err"
	"github.com/versity/versitygw/s3response"

	"lambent"
	"lambent/bucket"
	"lambent/source/object"
)

// A watched backend is versitygw's files, whose changes are told to the server and are on
// disk before they are answered. What it does not name is versitygw's as it is.
type watched struct {
	*posix.Posix
	link *bucket.Link
}

var _ backend.Backend = (*watched)(nil)

// announce has changes happen by do, between telling the server that they will, and that
// they have. do returns those that did, with all that is known of them by then. It may copy
// so many bytes.
func (b *watched) announce(ctx context.Context, changes []object.Change, copies int64, do func([]object.Change) ([]object.Change, error)) error {
	return b.copying(copies, func() error { return b.announced(ctx, changes, do) })
}

func (b *watched) announced(ctx context.Context, changes []object.Change, do func([]object.Change) ([]object.Change, error)) error {
	r, _ := ctx.Value(asker{}).(request)
	for i := range changes {
		c := &changes[i]
		c.Principal, c.RemoteIP, c.RequestID, c.Hops, c.Trace = r.principal, r.remote, r.id, r.hops, r.trace
	}
	begun, err := b.link.Begin(changes)
	if err != nil {
		return refused(err)
	}
	happened, err := do(changes)
	switch {
	case err == nil && len(happened) > 0:
		return refused(b.link.Done(begun.ID, happened))
	case !begun.Watched:
		return err
	case err == nil, isClients(err):
		return errors.Join(err, b.link.Cancel(begun.ID))
	}
	// It may have happened, and failed behind that.
	if settled := b.settleOne(ctx, &object.Intent{ID: begun.ID, Began: begun.Began, Changes: changes}); settled != nil {
		return settled
	}
	return err
}

// isClients reports whether an error is the client's, and so nothing has happened.
func isClients(err error) bool {
	e, ok := errors.AsType[s3err.S3Error](err)
	return ok && e.StatusCode() < http.StatusInternalServerError
}

// refused is the server's error as S3 has it.
func refused(err error) error {
	switch {
	case err == nil:
		return nil
	case lambent.Is(err, lambent.NoSpace):
		return s3err.GetAPIError(s3err.ErrNoSpaceLeftOnDevice)
	case lambent.Is(err, lambent.Throttled), lambent.Is(err, lambent.Unavailable):
		return s3err.APIError{Code: "SlowDown", Description: "The event of this change cannot be kept now.", HTTPStatusCode: http.StatusServiceUnavailable}
	}
	return err
}

// copying does what copies so many bytes, if the disk has room for them.
func (b *watched) copying(bytes int64, do func() error) error {
	if bytes == 0 {
		return do()
	}
	if err := b.link.Promise(bytes); err != nil {
		return refused(err)
	}
	defer func() { _ = b.link.Fulfil(bytes) }() // a server that is gone has forgotten it
	return do()
}

// kept is how much of what is at a key is copied, as an older version, when something else
// comes in its place.
func (b *watched) kept(ctx context.Context, bucket, key *string) int64 {
	info, err := os.Stat(filepath.Join(text(bucket), text(key)))
	if err != nil || info.IsDir() {
		return 0
	}
	if v, err := b.GetBucketVersioning(ctx, text(bucket)); err != nil || v.Status == nil {
		return 0
	}
	return info.Size()
}

// sizeOf is how large the object is that is to be copied, by its name in the request; of one
// that is not there it is 0.
func (b *watched) sizeOf(ctx context.Context, source *string) int64 {
	name, key, version, err := backend.ParseCopySource(text(source))
	if err != nil {
		return 0
	}
	c := one("", &name, &key)
	_ = b.head(ctx, &c[0], version)
	return c[0].Size
}

// sizeOfParts is how large all parts of an upload are.
func (b *watched) sizeOfParts(ctx context.Context, in *s3.CompleteMultipartUploadInput) (size int64) {
	all, err := b.ListParts(ctx, &s3.ListPartsInput{Bucket: in.Bucket, Key: in.Key, UploadId: in.UploadId, MaxParts: new(int32(maxParts))})
	if err != nil { // it will be the same for who wants them put together
		return 0
	}
	for i := range all.Parts {
		size += all.Parts[i].Size
	}
	return size
}

// one is the change of one object.
func one(event string, name, key *string) []object.Change {
	return []object.Change{{ObjectEvent: lambent.ObjectEvent{Event: event, Bucket: text(name), Key: text(key)}}}
}

// PutObject implements backend.Backend.
func (b *watched) PutObject(ctx context.Context, in s3response.PutObjectInput) (out s3response.PutObjectOutput, err error) {
	if err := checkKey(in.Key); err != nil {
		return out, err
	}
	event, length := "s3:ObjectCreated:Put", in.ContentLength
	if r, _ := ctx.Value(asker{}).(request); r.form {
		event, length = "s3:ObjectCreated:Post", nil // the form ends by itself
	}
	err = b.announce(ctx, one(event, in.Bucket, in.Key), b.kept(ctx, in.Bucket, in.Key), func(changes []object.Change) ([]object.Change, error) {
		if out, err = b.PutObjectWithPostFunc(ctx, in, whole(length)); err == nil {
			err = syncAt(in.Bucket, in.Key)
		}
		c := &changes[0]
		c.ETag, c.VersionID, c.ContentType, c.Metadata = bare(out.ETag), out.VersionID, text(in.ContentType), in.Metadata
		if out.Size != nil {
			c.Size = *out.Size
		}
		return changes, full(err)
	})
	return out, err
}

// UploadPart implements backend.Backend.
func (b *watched) UploadPart(ctx context.Context, in *s3.UploadPartInput) (*s3.UploadPartOutput, error) {
	out, err := b.UploadPartWithPostFunc(ctx, in, whole(in.ContentLength))
	return out, full(err)
}

// UploadPartCopy implements backend.Backend.
func (b *watched) UploadPartCopy(ctx context.Context, in *s3.UploadPartCopyInput) (out s3response.CopyPartResult, err error) {
	if isCopyOfOurs(in.CopySource) {
		return out, s3err.GetAPIError(s3err.ErrNoSuchKey)
	}
	_, length, _ := backend.ParseCopySourceRange(b.sizeOf(ctx, in.CopySource), text(in.CopySourceRange)) // what is no range has none
	err = b.copying(length, func() error {
		out, err = b.Posix.UploadPartCopy(ctx, in)
		return full(err)
	})
	return out, err
}

// CreateMultipartUpload implements backend.Backend.
func (b *watched) CreateMultipartUpload(ctx context.Context, in s3response.CreateMultipartUploadInput) (out s3response.InitiateMultipartUploadResult, err error) {
	if err := checkKey(in.Key); err != nil {
		return out, err
	}
	out, err = b.Posix.CreateMultipartUpload(ctx, in)
	return out, full(err)
}

// CompleteMultipartUpload implements backend.Backend.
func (b *watched) CompleteMultipartUpload(ctx context.Context, in *s3.CompleteMultipartUploadInput) (out s3response.CompleteMultipartUploadResult, version string, err error) {
	if err := checkKey(in.Key); err != nil {
		return out, "", err
	}
	copies := b.kept(ctx, in.Bucket, in.Key) + b.sizeOfParts(ctx, in)
	err = b.announce(ctx, one("s3:ObjectCreated:CompleteMultipartUpload", in.Bucket, in.Key), copies, func(changes []object.Change) ([]object.Change, error) {
		if out, version, err = b.Posix.CompleteMultipartUpload(ctx, in); err == nil {
			err = syncAt(in.Bucket, in.Key)
		}
		return b.created(ctx, changes, text(out.ETag), version), full(err)
	})
	return out, version, err
}

// CopyObject implements backend.Backend.
func (b *watched) CopyObject(ctx context.Context, in s3response.CopyObjectInput) (out s3response.CopyObjectOutput, err error) {
	if err := checkKey(in.Key); err != nil {
		return out, err
	}
	if isCopyOfOurs(in.CopySource) {
		return out, s3err.GetAPIError(s3err.ErrNoSuchKey)
	}
	copies := b.kept(ctx, in.Bucket, in.Key) + b.sizeOf(ctx, in.CopySource)
	err = b.announce(ctx, one("s3:ObjectCreated:Copy", in.Bucket, in.Key), copies, func(changes []object.Change) ([]object.Change, error) {
		if out, err = b.Posix.CopyObject(ctx, in); err == nil {
			err = syncAt(in.Bucket, in.Key)
		}
		var tag string
		if out.CopyObjectResult != nil {
			tag = text(out.CopyObjectResult.ETag)
		}
		return b.created(ctx, changes, tag, text(out.VersionId)), full(err)
	})
	return out, err
}

// created says of a change what there is now.
func (b *watched) created(ctx context.Context, changes []object.Change, tag, version string) []object.Change {
	c := &changes[0]
	_ = b.head(ctx, c, version) // its object may be another one already
	if tag != "" {
		c.ETag = bare(tag)
	}
	c.VersionID = version
	return changes
}

// DeleteObject implements backend.Backend.
func (b *watched) DeleteObject(ctx context.Context, in *s3.DeleteObjectInput) (out *s3.DeleteObjectOutput, err error) {
	if isOurs(text(in.Key)) {
		return &s3.DeleteObjectOutput{}, nil // there is none of that name
	}
	remove := func() error {
		if out, err = b.Posix.DeleteObject(ctx, in); err == nil {
			err = syncAt(in.Bucket, in.Key)
		}
		return full(err)
	}
	changes := one(object.EventDelete, in.Bucket, in.Key)
	if b.head(ctx, &changes[0], text(in.VersionId)) != nil { // nothing is there that it could change
		err = remove()
		return out, err
	}
	changes[0].VersionID = text(in.VersionId)
	var copies int64
	if text(in.VersionId) == "" {
		copies = b.kept(ctx, in.Bucket, in.Key)
	}
	err = b.announce(ctx, changes, copies, func(changes []object.Change) ([]object.Change, error) {
		if err := remove(); err != nil {
			return nil, err
		}
		removed(&changes[0], out.DeleteMarker, out.VersionId)
		return changes, nil
	})
	return out, err
}

// removed says of a change how what was there was removed.
func removed(c *object.Change, marker *bool, version *string) {
	if marker != nil && *marker {
		c.Event = object.EventDeleteMarker
	}
	c.VersionID = text(version)
}

// DeleteObjects implements backend.Backend.
func (b *watched) DeleteObjects(ctx context.Context, in *s3.DeleteObjectsInput) (out s3response.DeleteResult, err error) {
	asked, changes := *in.Delete, []object.Change{}
	asked.Objects = nil
	at := map[int]int{} // of a change among those that are asked for
	var copies int64    // of one at a time, since each takes the place of what it is of
	for _, o := range in.Delete.Objects {
		if isOurs(text(o.Key)) { // there is none of that name
			out.Deleted = append(out.Deleted, types.DeletedObject{Key: o.Key})
			continue
		}
		if c := one(object.EventDelete, in.Bucket, o.Key); b.head(ctx, &c[0], text(o.VersionId)) == nil {
			at[len(asked.Objects)] = len(changes)
			c[0].VersionID = text(o.VersionId)
			changes = append(changes, c...)
			if text(o.VersionId) == "" {
				copies = max(copies, b.kept(ctx, in.Bucket, o.Key))
			}
		}
		asked.Objects = append(asked.Objects, o)
	}
	before := out.Deleted
	request := *in
	request.Delete = &asked
	err = b.announce(ctx, changes, copies, func(changes []object.Change) (happened []object.Change, err error) {
		if out, err = b.Posix.DeleteObjects(ctx, &request); err != nil {
			return nil, full(err)
		}
		// What was deleted comes in the order in which it was asked for, without what was not.
		next := 0
		for i, o := range asked.Objects {
			if next == len(out.Deleted) || text(out.Deleted[next].Key) != text(o.Key) || text(out.Deleted[next].VersionId) != text(o.VersionId) {
				continue
			}
			d := &out.Deleted[next]
			next++
			if err := syncAt(in.Bucket, o.Key); err != nil {
				return nil, err
			}
			if i, there := at[i]; there {
				version := d.VersionId
				if d.DeleteMarkerVersionId != nil {
					version = d.DeleteMarkerVersionId
				}
				removed(&changes[i], d.DeleteMarker, version)
				happened = append(happened, changes[i])
			}
		}
		return happened, nil
	})
	out.Deleted = append(before, out.Deleted...)
	return out, err
}

// GetObject implements backend.Backend.
func (b *watched) GetObject(ctx context.Context, in *s3.GetObjectInput) (*s3.GetObjectOutput, error) {
	if isOurs(text(in.Key)) {
		return nil, s3err.GetAPIError(s3err.ErrNoSuchKey)
	}
	return b.Posix.GetObject(ctx, in)
}

// HeadObject implements backend.Backend.
func (b *watched) HeadObject(ctx context.Context, in *s3.HeadObjectInput) (*s3.HeadObjectOutput, error) {
	if isOurs(text(in.Key)) {
		return nil, s3err.GetAPIError(s3err.ErrNoSuchKey)
	}
	return b.Posix.HeadObject(ctx, in)
}

// CreateBucket implements backend.Backend.
func (b *watched) CreateBucket(ctx context.Context, in *s3.CreateBucketInput, acl []byte) error {
	if !lambent.IsBucketName(text(in.Bucket)) {
		return s3err.GetBucketErr(s3err.ErrInvalidBucketName, text(in.Bucket))
	}
	err := b.Posix.CreateBucket(ctx, in, acl)
	if err == nil {
		err = syncAt(in.Bucket, new(""))
	}
	return full(err)
}

// head says of a change what its object is; version is empty for the current one.
func (b *watched) head(ctx context.Context, c *object.Change, version string) error {
	in := &s3.HeadObjectInput{Bucket: &c.Bucket, Key: &c.Key}
	if version != "" {
		in.VersionId = &version
	}
	h, err := b.Posix.HeadObject(ctx, in)
	if err != nil {
		return err
	}
	if h.ContentLength != nil {
		c.Size = *h.ContentLength
	}
	c.ETag, c.VersionID, c.ContentType, c.Metadata = bare(text(h.ETag)), text(h.VersionId), text(h.ContentType), h.Metadata
	return nil
}

func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// bare is an ETag as events have it.
func bare(tag string) string { return strings.Trim(tag, `"`) }
