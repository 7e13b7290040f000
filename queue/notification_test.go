package queue_test

import (
	"slices"
	"testing"

	"lambent"
	"lambent/queue"
)

// Notifications are kept with their queue, stay what they were where they are said again,
// and go with it.
func TestNotifications(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b := open(t, dir)
	b.create(t, "q", nil)
	b.create(t, "r", nil)
	of := func(queueName, bucket, suffix string) queue.Notification {
		return queue.Notification{Queue: queueName, Bucket: lambent.Bucket{Name: bucket, Suffix: suffix}}
	}
	notify := func(bucket string, wanted ...queue.Notification) {
		t.Helper()
		if err := b.Notify(t.Context(), project, bucket, wanted); err != nil {
			t.Fatal(err)
		}
	}
	has := func(bucket string) (all []string) {
		for _, n := range b.Notifications(project, bucket) {
			all = append(all, n.Queue+n.Bucket.Suffix)
		}
		slices.Sort(all)
		return all
	}
	want := func(bucket string, names ...string) {
		t.Helper()
		if got := has(bucket); !slices.Equal(got, names) {
			t.Errorf("bucket %s has %q, want %q", bucket, got, names)
		}
	}
	notify("photos", of("q", "photos", ".jpg"), of("q", "photos", ".png"), of("r", "photos", ""))
	notify("texts", of("q", "texts", ""))
	want("photos", "q.jpg", "q.png", "r")
	want("texts", "q")
	before := b.Notifications(project, "texts")[0]
	if err := b.Notify(t.Context(), project, "texts", []queue.Notification{of("nosuch", "texts", "")}); !lambent.Is(err, lambent.NotFound) {
		t.Error(err)
	}
	notify("texts", of("q", "texts", ""), of("r", "texts", ""))
	if i := slices.IndexFunc(b.Notifications(project, "texts"), func(n queue.Notification) bool { return n.ID == before.ID && n.Since.Equal(before.Since) }); i < 0 {
		t.Error("what is said again is another one")
	}
	notify("photos", of("q", "photos", ".png"))
	if err := b.Purge(t.Context(), project, "q"); err != nil {
		t.Fatal(err)
	}
	b.close()
	b = open(t, dir)
	want("photos", "q.png")
	want("texts", "q", "r")
	if err := b.Delete(t.Context(), project, "q"); err != nil {
		t.Fatal(err)
	}
	want("photos")
	want("texts", "r")
	notify("texts")
	want("texts")

	// The same key is the same message, while that is there.
	for _, key := range []string{"a", "a", "b", "", ""} {
		m := text("x")
		m.Key = key
		b.send(t, "r", m)
	}
	if info, err := b.Get(project, "r"); err != nil || info.Visible != 4 {
		t.Errorf("%+v, %v", info, err)
	}
}
