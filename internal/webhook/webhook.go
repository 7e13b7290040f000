// Package webhook tells other people's servers what has happened: a message is posted to
// them, signed as Standard Webhooks has it
// (https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md),
// so that they can tell it from anybody else's, and under an id that it has again when it
// is sent again.
//
// It goes to addresses that the owner may reach and to no others, whatever a name leads to
// and whatever a server answers: redirections are not followed.
package webhook

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"syscall"
	"time"

	"lambent"
)

const (
	timeout  = 15 * time.Second // for all of one message, as the specification has it
	maxReply = 64 << 10         // bytes of an answer that are read, for what is said in it does not matter
	shown    = 200              // bytes of one that is no success, which people see
)

// A Message is to be posted.
type Message struct {
	URL    string // http or https
	ID     string
	Secret string // that the receiver has, too, as the specification writes it: whsec_...
	Body   []byte // JSON

	// Reach reports whether it may go to an address, to which the URL's host has led.
	Reach func(host string, to netip.AddrPort) bool
}

// Send posts a message once. It is taken if the answer is a success. Kinds: Unavailable, it
// may be taken later; Forbidden, it may not go there; NotFound, the receiver wants no more of
// it (410).
func Send(ctx context.Context, m Message) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, m.URL, bytes.NewReader(m.Body))
	if err != nil {
		return lambent.Errorf(lambent.Invalid, "webhook", "%w", err)
	}
	secret, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(m.Secret, "whsec_"))
	if err != nil {
		return lambent.Errorf(lambent.Internal, "webhook", "the secret cannot be read: %w", err)
	}
	at := strconv.FormatInt(time.Now().Unix(), 10)
	h := hmac.New(sha256.New, secret)
	fmt.Fprintf(h, "%s.%s.%s", m.ID, at, m.Body)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "lambent")
	req.Header.Set("Webhook-Id", m.ID)
	req.Header.Set("Webhook-Timestamp", at)
	req.Header.Set("Webhook-Signature", "v1,"+base64.StdEncoding.EncodeToString(h.Sum(nil)))

	// A transport of its own: what one owner may reach, another's message must not use.
	dialer := net.Dialer{Control: func(_, address string, _ syscall.RawConn) error {
		to, err := netip.ParseAddrPort(address)
		if err != nil {
			return err
		}
		if !m.Reach(req.URL.Hostname(), to) {
			return lambent.Errorf(lambent.Forbidden, "webhook", "%s is at %s, which the function may not reach", req.URL.Host, to)
		}
		return nil
	}}
	client := http.Client{
		Transport:     &http.Transport{DialContext: dialer.DialContext, DisableKeepAlives: true, ForceAttemptHTTP2: true, MaxResponseHeaderBytes: maxReply},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	resp, err := client.Do(req)
	var forbidden *lambent.Error
	switch {
	case errors.As(err, &forbidden):
		return forbidden
	case err != nil:
		return lambent.Errorf(lambent.Unavailable, "webhook", "%w", err)
	}
	defer resp.Body.Close()
	answer, _ := io.ReadAll(io.LimitReader(resp.Body, maxReply))
	switch {
	case resp.StatusCode >= 200 && resp.StatusCode < 300:
		return nil
	case resp.StatusCode == http.StatusGone:
		return lambent.Errorf(lambent.NotFound, "webhook", "%s says that nobody takes it any more (410 Gone)", req.URL.Host)
	default:
		return lambent.Errorf(lambent.Unavailable, "webhook", "%s answered %s: %.*q", req.URL.Host, resp.Status, shown, answer)
	}
}
