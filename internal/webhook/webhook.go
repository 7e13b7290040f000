// Package webhook tells other people's servers what has happened: a message is posted to
// them, signed as Standard Webhooks has it
// (https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md),
// so that they can tell it from anybody else's, and under an id that it has again when it
// is sent again. It checks what is posted to us, too.
//
// A message goes to addresses that the owner may reach and to no others, whatever a name leads to
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

const (
	idHeader        = "Webhook-Id"
	timeHeader      = "Webhook-Timestamp"
	signatureHeader = "Webhook-Signature"
)

// sign is the signature of a message, with its scheme.
func sign(secret, id, at string, body []byte) (string, error) {
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
	if err != nil {
		return "", lambent.Errorf(lambent.Internal, "webhook", "the secret cannot be read: %w", err)
	}
	h := hmac.New(sha256.New, key)
	fmt.Fprintf(h, "%s.%s.%s", id, at, body)
	return "v1," + base64.StdEncoding.EncodeToString(h.Sum(nil)), nil
}

// tolerance is how far the clocks of a sender and of ours may be apart.
const tolerance = 5 * time.Minute

// IsSigned reports whether a request says that it has such a signature.
func IsSigned(h http.Header) bool { return h.Get(signatureHeader) != "" }

// Verify checks the signature of a message that was posted to us, and returns its id, and
// when it was sent. Kind: Unauthenticated.
func Verify(h http.Header, body []byte, secret string, now time.Time) (id string, at time.Time, err error) {
	refuse := func(format string, args ...any) (string, time.Time, error) {
		return "", time.Time{}, lambent.Errorf(lambent.Unauthenticated, "webhook", format, args...).WithHint("lambent token webhook")
	}
	id = h.Get(idHeader)
	seconds, err := strconv.ParseInt(h.Get(timeHeader), 10, 64)
	if id == "" || len(id) > 255 || err != nil {
		return refuse("the message has a signature, and not both of %s and %s", idHeader, timeHeader)
	}
	if at = time.Unix(seconds, 0).UTC(); at.Before(now.Add(-tolerance)) || at.After(now.Add(tolerance)) {
		return refuse("the message was sent at %s, more than %v from now", at.Format(time.RFC3339), tolerance)
	}
	want, err := sign(secret, id, h.Get(timeHeader), body)
	if err != nil {
		return "", time.Time{}, err
	}
	for _, one := range strings.Fields(h.Get(signatureHeader)) { // several while a secret is changed
		if hmac.Equal([]byte(one), []byte(want)) {
			return id, at, nil
		}
	}
	return refuse("the signature of message %.64q is not made with the project's secret", id)
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
	at := strconv.FormatInt(time.Now().Unix(), 10)
	signature, err := sign(m.Secret, m.ID, at, m.Body)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "lambent")
	req.Header.Set(idHeader, m.ID)
	req.Header.Set(timeHeader, at)
	req.Header.Set(signatureHeader, signature)

	// A transport of its own: what one owner may reach, another's message must not use.
	dialer := net.Dialer{Control: func(_, address string, _ syscall.RawConn) error {
		to, err := netip.ParseAddrPort(address)
		if err != nil {
			return err
		}
		if !m.Reach(req.URL.Hostname(), to) {
			return lambent.Errorf(lambent.Forbidden, "webhook", "%s is at %s, which the function may not reach: deploy --network opens what is private, but no loopback", req.URL.Hostname(), to)
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
