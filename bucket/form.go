package bucket

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"strings"

	"lambent"
)

// maxForm bounds what comes before the file of a form.
const maxForm = 64 << 10

// IsForm reports whether a request is a browser's form that uploads a file, which is
// signed in its fields
// (https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-post-example.html).
func IsForm(r *http.Request) bool {
	return r.Method == http.MethodPost && strings.HasPrefix(r.Header.Get("Content-Type"), "multipart/form-data") &&
		lambent.IsBucketName(strings.Trim(r.URL.Path, "/"))
}

// ServeForm answers a form. project says whose the access key is that it names; the
// gateway asks for the secret, and checks the signature. Of an error nothing was answered.
func (b *Buckets) ServeForm(w http.ResponseWriter, r *http.Request, project func(accessKey string) (string, error)) error {
	in := bufio.NewReaderSize(r.Body, maxForm)
	key, err := credential(r, in)
	var name string
	if err == nil {
		name, err = project(key)
	}
	if err != nil {
		return err
	}
	body := &body{in: io.NopCloser(in), from: r}
	return b.pass(w, r, b.outgoing(r, key, 0, body), name, body, func(*gateway) error { return nil })
}

// credential returns the access key that a form names before its file.
func credential(r *http.Request, in *bufio.Reader) (string, error) {
	bad := func(format string, args ...any) (string, error) {
		e := lambent.Errorf(lambent.Invalid, "bucket", format, args...)
		e.Reason = "MalformedPOSTRequest"
		return "", e
	}
	_, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || params["boundary"] == "" {
		return bad("the form's Content-Type names no boundary")
	}
	// The fields, as far as they have come: a file is not waited for.
	for size := 1; ; size = in.Buffered() + 1 {
		_, err := in.Peek(min(size, maxForm))
		head, _ := in.Peek(in.Buffered())
		fields := multipart.NewReader(bytes.NewReader(head), params["boundary"])
		for {
			part, partErr := fields.NextPart()
			if partErr != nil {
				break
			}
			if strings.EqualFold(part.FormName(), "AWSAccessKeyId") {
				return bad("the form is signed by version 2: sign it by version 4, as boto3 does with Config(signature_version=%q)", "s3v4")
			}
			if strings.EqualFold(part.FormName(), "file") {
				return bad("the form has no field x-amz-credential before its file")
			}
			if strings.EqualFold(part.FormName(), "x-amz-credential") {
				value, readErr := io.ReadAll(part)
				key, _, found := strings.Cut(string(value), "/")
				if readErr == nil && found {
					return key, nil
				}
				if readErr == nil {
					return bad("x-amz-credential of the form is %.100q: it is KEY/DATE/REGION/s3/aws4_request", value)
				}
				break
			}
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull), len(head) >= maxForm:
			return bad("the fields before the file are over the limit of %d bytes", maxForm)
		case err != nil:
			return bad("the form ends early, or has no field x-amz-credential")
		}
	}
}
