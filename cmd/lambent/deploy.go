package main

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"lambent"
	"lambent/client"
	"lambent/internal/detect"
)

const deployHelp = `Deploy a directory or a zip archive ("-" is one on standard input). What kind of
function it is is found out, and said; lambent.toml beside the code and the flags
below have the last word, flags over the file. What neither says stays as it is.

What package.json or requirements.txt ask for is installed on the server, unless it
lies beside the code already (node_modules, *.dist-info), and source of Go, Rust and
Java is compiled there. What was installed once is there for the next deploy.

The code is started once on trial before the function is touched: a deploy that
fails changes nothing. Standard output is the function's URL, if it has one.

  lambent deploy                         the directory that you are in
  lambent deploy hello --memory 256 --timeout 30s --env LOG_LEVEL=debug
  lambent deploy build.zip --name hello --runtime python3.11 --handler app.handler
  lambent deploy --entry-point hello     one of several functions of Google's
  lambent deploy --command 'node server.js'      any web server that listens on $PORT
  lambent deploy hello --attempts 5 --on-failure queue:failed --on-success https://example.com/hook
  lambent deploy --no-build              dependencies are there already, or not needed
  lambent deploy --dry-run               say what would be, and change nothing`

// deployFlags are what the command line says about a deploy.
type deployFlags struct {
	name, runtime, handler, description, url string
	network, command, signature              string
	onDisconnect                             lambent.OnDisconnect
	onSuccess, onFailure                     lambent.AsyncDestination
	memory, concurrency, max, min, reserved  int
	timeout, keepAlive, backoff, maxAge      time.Duration
	attempts                                 int
	factor                                   float64
	env, secrets                             []string
	stream, publish, check, dryRun           bool
	noBuild, noCache                         bool
	installed                                map[string]bool // by kind of build and runtime
	changed                                  func(flag string) bool
	out                                      *output
}

func deployCommand(p *program) *cobra.Command {
	d := deployFlags{installed: map[string]bool{}}
	c := &cobra.Command{
		Use: "deploy [DIR|FILE.zip|-]", Short: "Make a function, or change it", Long: deployHelp, Args: args(0, "DIR"),
	}
	f := c.Flags()
	f.StringVar(&d.name, "name", "", "the function's name (default: lambent.toml's, or the directory's); of several functions, the one to deploy")
	f.StringVar(&d.runtime, "runtime", "", "such as python3.11, nodejs20.x or provided.al2023; Google's are python311 and nodejs20, and web is of any program (default: detected)")
	f.StringVar(&d.handler, "handler", "", "such as app.handler (default: detected)")
	f.StringVar(&d.handler, "entry-point", "", "what Google calls the handler, such as hello (default: detected)")
	f.StringVar(&d.signature, "signature-type", "", "of a function of Google's that does not say it itself: http, event, cloudevent or typed; one that is event or cloudevent has what a schedule invokes it with as a message of Pub/Sub's")
	f.StringVar(&d.command, "command", "", "what is run, of a web server that listens on $PORT, such as 'node server.js' (default: detected)")
	f.IntVar(&d.memory, "memory", 0, "in MB, 128 to 10240")
	f.DurationVar(&d.timeout, "timeout", 0, "of one invocation, such as 30s; at most 15m, or 1h of a web server, 9m of a function of events of Google's")
	f.StringArrayVar(&d.env, "env", nil, "K=V; may be repeated")
	f.StringArrayVar(&d.secrets, "secret", nil, "not in this release")
	f.IntVar(&d.concurrency, "concurrency", 0, "invocations at a time in one instance, 1 to 1000 (default 1; of a web server 80)")
	f.IntVar(&d.max, "max", 0, "instances at most, of all versions together: after a deploy, too, the new code is called once those that serve the old one are gone; the trial start is beside them (--check). 0: the server's limit")
	f.IntVar(&d.min, "min", 0, "instances that are kept ready, whatever the demand: of latest, and of each version that an alias leads to")
	f.IntVar(&d.reserved, "reserved", 0, "invocations at a time that are set aside on the server, which no other function takes the place of, and the most that there may be; 0 stops the function, -1: none")
	f.DurationVar(&d.keepAlive, "keep-alive", 0, "how long an idle instance is kept; 0s: not at all")
	f.IntVar(&d.attempts, "attempts", 0, "how often an asynchronous invocation is tried in all (default 3)")
	f.DurationVar(&d.backoff, "backoff", 0, "how long after its first failure it is tried again (default 1m)")
	f.Float64Var(&d.factor, "backoff-factor", 0, "of each further wait to the one before (default 2)")
	f.DurationVar(&d.maxAge, "max-age", 0, "how old it may be to be tried at all (default 6h)")
	f.StringVar((*string)(&d.onSuccess), "on-success", "", "who is told that an asynchronous invocation did well: function:NAME, queue:NAME, events (those who have a trigger with a pattern), or the URL of a webhook, which is signed (lambent token webhook); '': nobody")
	f.StringVar((*string)(&d.onFailure), "on-failure", "", "who is told that one is not tried any more, named as for --on-success; then it is no dead letter")
	f.StringVar(&d.url, "url", "", "who may call the function by HTTP: public, token or none (default: for a new function, from a terminal, public in the default project, token in others)")
	f.BoolVar(&d.stream, "stream", false, "the URL passes on what is written as it is written")
	f.StringVar(&d.network, "network", "", "what the code may connect to: none, or internet (and nothing private), CIDR, CIDR:PORT, HOST and HOST:PORT with commas between them; default: what the project says, or else internet")
	f.StringVar((*string)(&d.onDisconnect), "on-disconnect", "", "what becomes of a call whose caller is gone: continue (as on Lambda), or cancel: it is ended, and its instance with it")
	f.StringVar(&d.description, "description", "", "of the version that is published")
	f.BoolVar(&d.noBuild, "no-build", false, "take what is there as it is: neither compile nor install anything")
	f.BoolVar(&d.noCache, "no-cache", false, "install everything again, whatever an earlier deploy has left")
	f.BoolVar(&d.publish, "publish", true, "publish a version, which rollback can go back to")
	f.BoolVar(&d.check, "check", true, "start the code on trial first, beside as many instances as --max allows; false: not at all")
	f.BoolVar(&d.dryRun, "dry-run", false, "say what would be, and change nothing")
	d.out = outputFlag(c, "text", "json", "yaml", "name")
	d.changed = f.Changed
	c.RunE = func(c *cobra.Command, args []string) error {
		arg := "."
		if len(args) == 1 {
			arg = args[0]
		}
		if err := d.validate(c); err != nil {
			return err
		}
		src, err := p.open(arg)
		if err != nil {
			return err
		}
		defer src.close()
		functions, err := p.detect(c, src, &d)
		if err != nil {
			return err
		}
		cl, err := p.connect()
		if err != nil {
			return err
		}
		defer cl.Close()
		return p.deployAll(c.Context(), cl, src, functions, &d)
	}
	return c
}

// validate refuses what can be judged without looking at the code.
func (d *deployFlags) validate(c *cobra.Command) error {
	if d.changed("secret") {
		return notYet("--secret")
	}
	if d.url != "" {
		if err := (lambent.URL{Policy: lambent.URLPolicy(d.url)}).Validate(); err != nil {
			return usagef(c, "--url: %s", lambent.UserMessage(err))
		}
	}
	if _, err := lambent.ParseNetwork(d.network); err != nil {
		return usagef(c, "--network: %s", lambent.UserMessage(err))
	}
	switch d.onDisconnect {
	case "", lambent.DisconnectContinue, lambent.DisconnectCancel:
	default:
		return usagef(c, "--on-disconnect %q: continue or cancel is needed", d.onDisconnect)
	}
	if d.changed("command") && strings.TrimSpace(d.command) == "" {
		return usagef(c, "--command is empty: leave it out to have it detected")
	}
	if d.changed("handler") && d.changed("entry-point") {
		return usagef(c, "--handler and --entry-point are two names of one thing: one is enough")
	}
	switch d.signature {
	case "", "http", "event", "cloudevent", "typed":
	default:
		return usagef(c, "--signature-type %q: http, event, cloudevent or typed is needed", d.signature)
	}
	for _, kv := range d.env {
		k, v, ok := strings.Cut(kv, "=")
		if !ok || k == "" {
			return usagef(c, "--env %q: NAME=VALUE is needed", kv)
		}
		if k == signatureVariable && d.signature != "" && v != d.signature {
			return usagef(c, "--signature-type %s and --env %s contradict each other: one is enough", d.signature, kv)
		}
	}
	for flag, zero := range map[string]bool{
		"memory": d.memory == 0, "timeout": d.timeout == 0, "concurrency": d.concurrency == 0,
		"attempts": d.attempts == 0, "backoff": d.backoff == 0, "backoff-factor": d.factor == 0, "max-age": d.maxAge == 0,
	} {
		if zero && d.changed(flag) {
			return usagef(c, "--%s is 0: leave it out to keep what is", flag)
		}
	}
	return nil
}

// signatureVariable is where the framework reads what --signature-type says.
const signatureVariable = "FUNCTION_SIGNATURE_TYPE"

// environment returns the variables that the flags set.
func (d *deployFlags) environment() map[string]string {
	env := map[string]string{}
	for _, kv := range d.env {
		k, v, _ := strings.Cut(kv, "=")
		env[k] = v
	}
	if d.signature != "" {
		env[signatureVariable] = d.signature
	}
	return env
}

func notYet(what string) error {
	return lambent.Errorf(lambent.Unsupported, "", "%s is not in this release: nothing was deployed", what)
}

// detect finds the functions to deploy, and says how.
func (p *program) detect(c *cobra.Command, src *source, d *deployFlags) ([]detect.Function, error) {
	said := detect.Settings{Name: d.name, Handler: d.handler, Env: d.environment()}
	if d.noBuild {
		said.Builds = new(false)
	}
	if d.command != "" {
		said.Command = detect.ParseCommand(d.command)
	}
	if d.handler != "" || d.command != "" { // alone it is for the server to judge
		said.Runtime = d.runtime
	}
	project, err := detect.Detect(src.files, said)
	given := strings.HasPrefix(d.runtime, "provided")
	if err != nil && given && !src.has(detect.File) {
		// Whoever says all that detection would find is not stopped by it.
		said := detect.Settings{Runtime: said.Runtime, Handler: said.Handler, Command: said.Command}
		project, err = &detect.Project{Functions: []detect.Function{{Settings: said, Why: "runtime and handler as given"}}}, nil
	}
	if err != nil {
		return nil, err
	}
	for _, n := range project.Notes {
		p.note("note: %s", n)
	}
	functions := project.Functions
	if len(functions) == 0 {
		return nil, usagef(c, "--name %q: %s has no [functions.%s]", d.name, detect.File, d.name)
	}
	if len(functions) > 1 {
		for _, flag := range []string{"runtime", "handler", "entry-point", "command"} {
			if d.changed(flag) {
				return nil, usagef(c, "--%s is for one function, and %s has %d: say which with --name", flag, detect.File, len(functions))
			}
		}
	}
	for i := range functions {
		f := &functions[i]
		if len(f.Secrets) > 0 {
			return nil, notYet(detect.File + ": secrets")
		}
		if d.name != "" {
			f.Name = d.name
		}
		if f.Name == "" {
			f.Name = src.name
		}
		if err := (lambent.Name{Project: lambent.DefaultProject, Function: f.Name}).Validate(); err != nil {
			return nil, usagef(c, "the function needs a name: %s; give one with --name", lambent.UserMessage(err))
		}
		if d.runtime != "" {
			f.Runtime = d.runtime
		}
		p.note("%s: %s", f.Name, explain(f))
		for _, r := range f.Routes {
			p.note("note: %s: the URL takes every method and path, not only %s", f.Name, strings.TrimSpace(r.Method+" "+r.Path))
		}
	}
	return functions, nil
}

// builds says what each kind of build does.
var builds = map[string]string{
	"go": "built from Go source", "npm": "with what package.json asks for", "pip": "with what requirements.txt asks for", "cargo": "built from Rust source", "maven": "built by Maven", "gradle": "built by Gradle",
}

// explain says what was detected, and why.
func explain(f *detect.Function) string {
	what := f.Runtime
	if f.Handler != "" {
		what += ", handler " + f.Handler
	}
	if len(f.Command) > 0 {
		what += ", command " + strings.Join(f.Command, " ")
	}
	for _, name := range slices.Sorted(maps.Keys(f.Started)) {
		what += ", " + name + "=" + f.Started[name]
	}
	if how := builds[f.Build]; how != "" {
		what += ", " + how
	}
	return what + " (" + f.Why + ")"
}

// deployAll uploads the code once and deploys each function from it.
func (p *program) deployAll(ctx context.Context, cl *client.Client, src *source, functions []detect.Function, d *deployFlags) error {
	has := make([]*client.Function, len(functions)) // as they are now; nil: new
	for i := range functions {
		f, err := cl.Function(ctx, functions[i].Name)
		switch {
		case err == nil:
			has[i] = f
		case d.dryRun && lambent.Is(err, lambent.Unavailable):
			return p.rehearseAlone(ctx, src, err)
		case !lambent.Is(err, lambent.NotFound):
			return err
		}
	}
	var code *client.Code
	var err error
	if d.dryRun {
		if err := p.rehearseCode(ctx, src); err != nil {
			return err
		}
	} else if code, err = p.upload(ctx, cl, src); err != nil {
		return err
	}
	done := []*client.Function{}
	for i := range functions {
		f, err := p.deployOne(ctx, cl, &functions[i], has[i], code, d)
		if err != nil {
			if len(done) > 0 {
				p.note("deployed before that: %s", strings.Join(functionNames(done), ", "))
			}
			return err
		}
		done = append(done, f)
	}
	for _, f := range done {
		p.checkDestinations(ctx, cl, f)
	}
	return p.printDeployed(done, d)
}

// checkDestinations says so if a function that is told of outcomes is not there, which it may be before the first of them.
func (p *program) checkDestinations(ctx context.Context, cl *client.Client, f *client.Function) {
	for flag, d := range map[string]lambent.AsyncDestination{"on-success": f.Async.OnSuccess, "on-failure": f.Async.OnFailure} {
		n, ok, err := d.Function(lambent.DefaultProject) // of which the name counts
		if !ok || err != nil {
			continue
		}
		if _, err := cl.Function(ctx, n.Function); lambent.Is(err, lambent.NotFound) {
			p.note("warning: %s: --%s %s: there is no function %s, and what it is to be told is a dead letter until there is: lambent deploy --name %s", f.Name, flag, d, n.Function, n.Function)
		}
	}
}

// deployOne deploys one function.
func (p *program) deployOne(ctx context.Context, cl *client.Client, f *detect.Function, has *client.Function, code *client.Code, d *deployFlags) (*client.Function, error) {
	r, err := p.request(f, has, d, cl.Project)
	if err != nil {
		return nil, err
	}
	doing := []string{}
	switch {
	case code == nil:
	case f.Build != "":
		// What was installed for one of several functions is fresh enough for the next.
		r.Source, r.Build, r.Fresh = code.Digest, f.Build, d.noCache && !d.installed[f.Build+f.Runtime]
		doing = append(doing, "building")
	default:
		r.Code, r.Zip = code.Digest, code.Zip
	}
	if d.check {
		doing = append(doing, "starting on trial")
	}
	stop := p.step("%s: %s", f.Name, cmp.Or(strings.Join(doing, ", and "), "deploying"))
	start := time.Now()
	out, err := cl.Deploy(ctx, f.Name, r, func(line string) { p.note("  %s", line) })
	stop()
	if err != nil {
		return nil, err
	}
	d.installed[f.Build+f.Runtime] = true
	verb := "deployed"
	switch {
	case d.dryRun && has == nil:
		verb = "would make"
	case d.dryRun:
		verb = "would change"
	case has != nil && has.Revision == out.Revision:
		verb = "nothing changed in"
	}
	c := &out.Configuration
	if len(c.FixedEnv) > 0 {
		p.note("note: %s: %s boots at each start, for what it reads only then: %s", out.Name, c.Runtime, strings.Join(c.FixedEnv, ", "))
	}
	p.note("%s %s: %s in %d MB, timeout %s%s", verb, out.Name, c.Runtime, c.MemoryMB, ms(c.TimeoutMS), took(start, d.dryRun))
	return out, nil
}

func took(start time.Time, dryRun bool) string {
	if dryRun {
		return "; nothing was changed"
	}
	return fmt.Sprintf(", in %.2f s", time.Since(start).Seconds())
}

func (p *program) printDeployed(done []*client.Function, d *deployFlags) error {
	switch d.out.format {
	case "text":
		for _, f := range done {
			if f.URL.Href != "" {
				if _, err := fmt.Fprintln(p.out, f.URL.Href); err != nil {
					return err
				}
			}
		}
		if !d.dryRun && isTerminal(p.err) {
			p.note("  try: lambent invoke %s -d '{}'", done[0].Name)
		}
		return nil
	case "name":
		return d.out.print(p.out, nil, functionNames(done), nil)
	}
	if len(done) == 1 {
		return d.out.print(p.out, done[0], nil, nil)
	}
	return d.out.print(p.out, done, nil, nil)
}

func functionNames(functions []*client.Function) []string {
	var names []string
	for _, f := range functions {
		names = append(names, f.Name)
	}
	return names
}
