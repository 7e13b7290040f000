package aws

import (
	"bytes"
	"encoding/base64"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"lambent"
	"lambent/auth"
)

// maxInvokeBody is what Lambda takes, and answers, as JSON that is waited for.
const maxInvokeBody = 6 << 20

// Functions is Lambda as far as whoever calls functions needs it: Invoke
// (https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html), by whoever runs
// invocations; one that is not waited for has at most maxAsync bytes.
func Functions(invoker lambent.Invoker, maxAsync int) Service {
	return func(w http.ResponseWriter, r *http.Request, who Caller) error {
		name, ok := strings.CutPrefix(r.URL.Path, "/2015-03-31/functions/")
		if name, ok = cutSuffix(name, ok, "/invocations"); !ok || r.Method != http.MethodPost {
			return lambent.Errorf(lambent.Unsupported, "aws.Lambda", "%s %.100s: of Lambda's operations there is Invoke", r.Method, r.URL.Path).WithHint("lambent deploy")
		}
		if err := allow(who, auth.RoleInvoke); err != nil {
			return err
		}
		target, err := targetOf(who.Project, name, r.URL.Query().Get("Qualifier"))
		if err != nil {
			return err
		}
		inv := &lambent.Invocation{
			ID: lambent.NewID(), Target: target, Arrived: time.Now(), Trace: who.Trace, Hops: who.Hops,
			WantLog: r.Header.Get("X-Amz-Log-Type") == "Tail",
		}
		if c := r.Header.Get("X-Amz-Client-Context"); c != "" {
			if inv.ClientContext, err = base64.StdEncoding.DecodeString(c); err != nil || len(inv.ClientContext) > 3583 {
				return lambent.Errorf(lambent.Invalid, "aws.Lambda", "X-Amz-Client-Context is not up to 3583 bytes in base64")
			}
		}
		if inv.Raw, err = io.ReadAll(r.Body); err != nil {
			return err
		}
		w.Header().Set(requestIDHeader, inv.ID)
		switch kind := r.Header.Get("X-Amz-Invocation-Type"); kind {
		case "", "RequestResponse":
			return invoke(w, r, invoker, inv)
		case "Event":
			if len(inv.Raw) > maxAsync {
				return lambent.Errorf(lambent.TooLarge, "aws.Lambda", "the payload is %d bytes, over the limit of %d for invocations that are not waited for", len(inv.Raw), maxAsync)
			}
			inv.Async, inv.WantLog = true, false
			if err := invoker.Invoke(r.Context(), inv, nil); err != nil {
				return err
			}
			w.WriteHeader(http.StatusAccepted)
			return nil
		default:
			return lambent.Errorf(lambent.Invalid, "aws.Lambda", "X-Amz-Invocation-Type is %.40q: RequestResponse or Event", kind)
		}
	}
}

func cutSuffix(s string, ok bool, suffix string) (string, bool) {
	before, found := strings.CutSuffix(s, suffix)
	return before, ok && found
}

// targetOf is a function by its name, ARN or a part of that, and a qualifier apart.
func targetOf(project, name, qualifier string) (lambent.Name, error) {
	n, err := functionOf(project, name)
	switch {
	case err != nil || qualifier == "":
		return n, err
	case n.Qualifier != "" && n.Qualifier != qualifier:
		return n, lambent.Errorf(lambent.Invalid, "aws.Lambda", "the function's name has the qualifier %.64q, and the query %.64q", n.Qualifier, qualifier)
	case qualifier != "$LATEST":
		n.Qualifier = qualifier
	}
	return n, n.Validate()
}

// invoke calls a function and passes its answer on once it is whole, since what is known at
// its end is in the head.
func invoke(w http.ResponseWriter, r *http.Request, invoker lambent.Invoker, inv *lambent.Invocation) error {
	var a answer
	if err := invoker.Invoke(r.Context(), inv, &a); err != nil {
		return err
	}
	if a.over {
		return lambent.Errorf(lambent.TooLarge, "aws.Lambda", "the answer is over the limit of %d bytes", maxInvokeBody).WithHint("lambent invoke, which streams it")
	}
	h, body := w.Header(), a.body.Bytes()
	version := a.result.Version
	if version == lambent.Latest {
		version = "$LATEST"
	}
	h.Set("X-Amz-Executed-Version", version)
	if f := a.result.Fault; f != nil {
		h.Set("X-Amz-Function-Error", "Unhandled")
		body = f.Payload
	}
	if len(a.result.LogTail) > 0 {
		h.Set("X-Amz-Log-Result", base64.StdEncoding.EncodeToString(a.result.LogTail))
	}
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(http.StatusOK)
	_, _ = w.Write(body) // a client that is gone changes nothing
	return nil
}

// An answer is the lambent.Reply that holds a function's.
type answer struct {
	body   bytes.Buffer
	over   bool
	result lambent.Result
}

// Begin implements lambent.Reply.
func (a *answer) Begin(int, map[string][]string) error { return nil }

// Write implements lambent.Reply.
func (a *answer) Write(b []byte) (int, error) {
	if a.over = a.over || a.body.Len()+len(b) > maxInvokeBody; !a.over {
		a.body.Write(b)
	}
	return len(b), nil
}

// End implements lambent.Reply.
func (a *answer) End(r lambent.Result) { a.result = r }
