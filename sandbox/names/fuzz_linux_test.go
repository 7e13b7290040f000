package names_test

import (
	"testing"

	"golang.org/x/net/dns/dnsmessage"

	"lambent/sandbox/names"
)

// FuzzMessages reads what a function may ask and a resolver answer: nothing
// panics, and an answer to something else is none.
func FuzzMessages(f *testing.F) {
	q := query(f, 1, "a.example")
	var m dnsmessage.Message
	must(f, m.Unpack(q))
	m.Response = true
	alias := dnsmessage.ResourceHeader{Name: m.Questions[0].Name, Class: dnsmessage.ClassINET}
	m.Answers = []dnsmessage.Resource{
		{Header: alias, Body: &dnsmessage.CNAMEResource{CNAME: dnsmessage.MustNewName("b.example.")}},
		{Header: alias, Body: &dnsmessage.AResource{A: [4]byte{10, 1, 2, 3}}},
	}
	answer, err := m.Pack()
	must(f, err)
	f.Add(q, answer)
	f.Add(q, q)
	f.Fuzz(func(t *testing.T, query, answer []byte) {
		var p dnsmessage.Parser
		h, err := p.Start(query)
		if err != nil {
			return
		}
		asked, err := names.Question(query)
		if err != nil {
			names.Say(h, nil, dnsmessage.RCodeFormatError)
			return
		}
		if said := names.Say(h, &asked, dnsmessage.RCodeRefused); said != nil {
			if back, err := names.Question(said); err != nil || back != asked {
				t.Errorf("refused %v, %v, and was asked for %v", back, err, asked)
			}
		}
		if names.IsAnswer(query, answer) {
			_, _ = names.LeadsTo(answer, asked.Name)
		} else if names.IsAnswer(query, query) && !h.Response {
			t.Error("a question is an answer")
		}
	})
}
