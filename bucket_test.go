package lambent_test

import (
	"slices"
	"strings"
	"testing"

	"lambent"
)

func TestBucket(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		b    lambent.Bucket
		want string // of the refusal
	}{
		{lambent.Bucket{Name: "uploads"}, ""},
		{lambent.Bucket{Name: "a.b-1", Prefix: "photos/", Suffix: ".jpg", Events: []string{"s3:ObjectCreated:*", "s3:ObjectRemoved:Delete"}}, ""},
		{lambent.Bucket{}, "is not the name of a bucket"},
		{lambent.Bucket{Name: "Uploads"}, "is not the name of a bucket"},
		{lambent.Bucket{Name: "10.0.0.1"}, "is not the name of a bucket"},
		{lambent.Bucket{Name: "a..b"}, "is not the name of a bucket"},
		{lambent.Bucket{Name: "ab-"}, "is not the name of a bucket"},
		{lambent.Bucket{Name: strings.Repeat("a", 64)}, "is not the name of a bucket"},
		{lambent.Bucket{Name: "uploads", Prefix: strings.Repeat("a", 1025)}, "at most 1024 bytes"},
		{lambent.Bucket{Name: "uploads", Suffix: "\xff"}, "are UTF-8"},
		{lambent.Bucket{Name: "uploads", Events: []string{"s3:*"}}, `"s3:*" is no event of buckets`},
		{lambent.Bucket{Name: "uploads", Events: []string{"s3:ObjectRemoved:*", "s3:ObjectRemoved:*"}}, "said twice"},
	} {
		err := c.b.Validate()
		if c.want == "" && err != nil || c.want != "" && (!lambent.Is(err, lambent.Invalid) || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%+v: %v, want %q", c.b, err, c.want)
		}
	}
	for _, c := range []struct {
		b    lambent.Bucket
		want []string // of the changes below
	}{
		{lambent.Bucket{}, []string{"s3:ObjectCreated:Put a.jpg", "s3:ObjectCreated:Copy b/a.png"}},
		{lambent.Bucket{Suffix: ".jpg"}, []string{"s3:ObjectCreated:Put a.jpg"}},
		{lambent.Bucket{Prefix: "b/", Events: []string{"s3:ObjectCreated:Put", "s3:ObjectRemoved:*"}}, []string{"s3:ObjectRemoved:DeleteMarkerCreated b/a.jpg"}},
		{lambent.Bucket{Events: []string{"s3:ObjectCreated:Copy"}}, []string{"s3:ObjectCreated:Copy b/a.png"}},
	} {
		var got []string
		for _, change := range []string{"s3:ObjectCreated:Put a.jpg", "s3:ObjectCreated:Copy b/a.png", "s3:ObjectRemoved:DeleteMarkerCreated b/a.jpg"} {
			if event, key, _ := strings.Cut(change, " "); c.b.Wants(event, key) {
				got = append(got, change)
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%+v wants %q, not %q", c.b, got, c.want)
		}
	}
}
