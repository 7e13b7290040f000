package broker

const (
	maxCount = 500
	enough   = 1 << 20 // bytes of messages together
)

// A Pace is how many messages are asked for at a time of a broker that counts no bytes: few
// at first, and more while they are small. The zero value is ready.
type Pace struct{ more int }

// Count is how many there are to be next.
func (p *Pace) Count() int { return p.more + 1 }

// Took says what has come.
func (p *Pace) Took(messages, bytes int) {
	switch {
	case messages == 0:
	case bytes > enough:
		p.more = max(1, messages*enough/bytes) - 1
	case bytes < enough/2:
		p.more = min(2*p.Count(), maxCount) - 1
	}
}
