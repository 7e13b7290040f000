package names

import (
	"encoding/binary"
	"errors"
	"io"
	"net/netip"
	"strings"

	"golang.org/x/net/dns/dnsmessage"
)

const (
	headerLength = 12
	truncated    = 2    // in a header's third byte
	maxMessage   = 4096 // over UDP
	maxAliases   = 16   // from a name to its addresses
)

// questionOf returns the question of a message, which must have one.
func questionOf(message []byte) (dnsmessage.Question, error) {
	var p dnsmessage.Parser
	if _, err := p.Start(message); err != nil {
		return dnsmessage.Question{}, err
	}
	q, err := p.Question()
	if err != nil {
		return q, err
	}
	if _, err := p.Question(); err != dnsmessage.ErrSectionDone {
		return q, errors.New("several questions")
	}
	return q, nil
}

// say makes an answer without content.
func say(h dnsmessage.Header, q *dnsmessage.Question, code dnsmessage.RCode) []byte {
	m := dnsmessage.Message{Header: dnsmessage.Header{ID: h.ID, Response: true, OpCode: h.OpCode,
		RecursionDesired: h.RecursionDesired, RecursionAvailable: true, RCode: code}}
	if q != nil {
		m.Questions = []dnsmessage.Question{*q}
	}
	b, err := m.Pack()
	if err != nil {
		return nil
	}
	return b
}

// leadsTo returns the addresses that an answer gives for a name, through all the
// other names that it says this one stands for.
func leadsTo(answer []byte, name dnsmessage.Name) ([]netip.Addr, error) {
	var p dnsmessage.Parser
	if _, err := p.Start(answer); err != nil {
		return nil, err
	}
	if err := p.SkipAllQuestions(); err != nil {
		return nil, err
	}
	records, err := p.AllAnswers()
	if err != nil {
		return nil, err
	}
	var out []netip.Addr
	names := map[string]bool{strings.ToLower(name.String()): true}
	// Each round knows the next name of a chain, in whatever order they stand. A
	// chain that goes on is nobody's who wants to be found.
	for range maxAliases {
		before := len(names)
		for _, r := range records {
			if alias, ok := r.Body.(*dnsmessage.CNAMEResource); ok && names[strings.ToLower(r.Header.Name.String())] {
				names[strings.ToLower(alias.CNAME.String())] = true
			}
		}
		if len(names) == before {
			break
		}
	}
	for _, r := range records {
		if a, ok := r.Body.(*dnsmessage.AResource); ok && names[strings.ToLower(r.Header.Name.String())] {
			out = append(out, netip.AddrFrom4(a.A))
		}
	}
	return out, nil
}

// isAnswer says whether a message is the answer to a query, and not somebody's who
// guesses.
func isAnswer(query, answer []byte) bool {
	if len(answer) < headerLength || answer[2]&0x80 == 0 || [2]byte(query) != [2]byte(answer) {
		return false
	}
	asked, err := questionOf(query)
	if err != nil {
		return false
	}
	answered, err := questionOf(answer)
	return err == nil && strings.EqualFold(asked.Name.String(), answered.Name.String()) &&
		asked.Type == answered.Type && asked.Class == answered.Class
}

// writeMessage and readMessage are how messages go over TCP.
func writeMessage(w io.Writer, m []byte) error {
	_, err := w.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(m))), m...))
	return err
}

func readMessage(r io.Reader, limit int) ([]byte, error) {
	var length [2]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		return nil, err
	}
	n := int(binary.BigEndian.Uint16(length[:]))
	if n < headerLength || n > limit {
		return nil, errors.New("not a message")
	}
	m := make([]byte, n)
	_, err := io.ReadFull(r, m)
	return m, err
}
