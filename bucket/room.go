package bucket

import (
	"net/http"
	"sync"
)

// A part of the disk stays free: a bucket is not to take from the queues and the ledger the
// room without which nothing is acknowledged or answered. What is sent is held against that
// as it comes, and what is there at once, as a copy is, before.

// adds reports whether a request may be for more to be on the disk than there was. Who
// removes is let in, so that there is room again.
func adds(r *http.Request) bool {
	return r.Method == http.MethodPut || r.Method == http.MethodPost && (IsForm(r) || !r.URL.Query().Has("delete"))
}

// promise keeps room for so many bytes from whoever else wants some, and counts them, until
// they are given back, since they are there. What a gateway was promised is void when that
// has ended. Kind: NoSpace.
func (b *Buckets) promise(count *int64, bytes int64) error {
	err := b.opts.Spare(b.count(count, bytes))
	if err != nil {
		b.count(count, -bytes)
	}
	return err
}

// count counts more promises, and returns the sum of all.
func (b *Buckets) count(count *int64, bytes int64) (promised int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	*count += bytes
	promised = b.uploads
	for _, g := range b.gateways {
		promised += g.copies
	}
	return promised
}

// allocated is after how much of its body an upload has its file's space for sure: gateways
// take as much as was said before they read.
const allocated = 1 << 20

// admit promises an upload room, and has its body hold to what there is.
func (b *Buckets) admit(r *http.Request, body *body) (leave func(), err error) {
	if !adds(r) {
		return func() {}, nil
	}
	said := min(max(r.ContentLength, 0), 1<<50) // sums of these always have a form
	if err := b.promise(&b.uploads, said); err != nil {
		return nil, err
	}
	leave = sync.OnceFunc(func() { b.count(&b.uploads, -said) })
	body.room = func(read int64) error {
		if read < min(said, allocated) { // it has what it was promised, and others not yet
			return nil
		}
		leave()
		return b.promise(&b.uploads, 0)
	}
	return leave, nil
}
