package nats

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"lambent/source/broker"
)

// maxGreeting is how long a server's first line may be.
const maxGreeting = 64 << 10

// greeted reads what the server says first, has TLS if that or the URL asks for it, and
// returns a connection on which it says so again.
func greeted(conn net.Conn, e broker.Endpoint) (net.Conn, error) {
	line, err := firstLine(conn)
	if err != nil {
		return nil, err
	}
	said, err := parseInfo(string(line))
	if err != nil {
		return nil, err
	}
	cfg := e.TLS
	if cfg != nil && !said.TLSRequired && !said.TLSAvailable {
		return nil, errNoTLS
	}
	if cfg == nil && said.TLSRequired {
		host, _, err := net.SplitHostPort(e.Address)
		if err != nil {
			return nil, err
		}
		cfg = &tls.Config{ServerName: host, MinVersion: tls.VersionTLS12}
	}
	if cfg != nil {
		secure := tls.Client(conn, cfg)
		_ = secure.SetDeadline(time.Now().Add(answerTimeout))
		if err := secure.Handshake(); err != nil {
			return nil, err
		}
		_ = secure.SetDeadline(time.Time{})
		conn = secure
	}
	return &again{Conn: conn, line: bytes.NewReader(line)}, nil
}

// firstLine reads not a byte more: what follows may be TLS's.
func firstLine(conn net.Conn) ([]byte, error) {
	_ = conn.SetReadDeadline(time.Now().Add(answerTimeout))
	defer conn.SetReadDeadline(time.Time{})
	var line []byte
	b := make([]byte, 1)
	for len(line) < maxGreeting {
		if _, err := conn.Read(b); err != nil {
			return nil, err
		}
		if line = append(line, b[0]); b[0] == '\n' {
			return line, nil
		}
	}
	return nil, fmt.Errorf("what answers there is no server of NATS")
}

// An again is a connection whose first line is read once more.
type again struct {
	net.Conn
	line *bytes.Reader
}

// Read implements net.Conn.
func (a *again) Read(p []byte) (int, error) {
	if a.line.Len() > 0 {
		return a.line.Read(p)
	}
	return a.Conn.Read(p)
}

// info is what a server says first.
type info struct {
	TLSRequired  bool `json:"tls_required"`
	TLSAvailable bool `json:"tls_available"`
}

var errNoTLS = errors.New("the server has no TLS, which tls:// insists on")

// parseInfo reads the line INFO {...}.
func parseInfo(line string) (i info, err error) {
	op, doc, _ := strings.Cut(line, " ")
	if !strings.EqualFold(op, "INFO") {
		return i, fmt.Errorf("what answers there is no server of NATS")
	}
	return i, json.Unmarshal([]byte(doc), &i)
}
