package queue

// SetRetention has messages of a queue be too old sooner than its owner may say.
func (qs *Queues) SetRetention(project, name string, seconds int) {
	q, err := qs.queue(project, name)
	if err != nil {
		panic(err)
	}
	q.mu.Lock()
	q.rec.RetentionS = seconds
	q.mu.Unlock()
	q.expire()
}

// Forget has what was sent to a FIFO queue be sent longer ago than the window.
func (qs *Queues) Forget(project, name string) {
	q, err := qs.queue(project, name)
	if err != nil {
		panic(err)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, s := range q.dedupe.order {
		s.at = s.at.Add(-dedupeWindow)
	}
}

// Idle reports whether nothing is remembered of any message.
func (qs *Queues) Idle(project, name string) bool {
	q, err := qs.queue(project, name)
	if err != nil {
		panic(err)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.out) == 0 && len(q.waiters) == 0 && (len(q.groups) == 0 || !q.rec.FIFO)
}
