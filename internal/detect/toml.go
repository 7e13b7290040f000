package detect

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/BurntSushi/toml"

	"lambent"
	"lambent/internal/input"
	"lambent/internal/pattern"
)

// File is the name of the file of settings.
const File = "lambent.toml"

// Settings are what lambent.toml says about one function. The zero value of a
// field means that it says nothing.
type Settings struct {
	Name         string                   `toml:"name"`
	Runtime      string                   `toml:"runtime"`
	Handler      string                   `toml:"handler"`
	Command      Command                  `toml:"command"` // of a web server
	MemoryMB     int                      `toml:"memory"`
	Timeout      time.Duration            `toml:"timeout"`
	Env          map[string]string        `toml:"env"`
	Secrets      []string                 `toml:"secrets"`
	Concurrency  int                      `toml:"concurrency"` // invocations at a time in one instance
	Min          int                      `toml:"min"`         // instances
	Max          int                      `toml:"max"`         // instances
	Reserved     *int                     `toml:"reserved"`    // invocations at a time
	KeepAlive    *time.Duration           `toml:"keep_alive"`
	Attempts     int                      `toml:"attempts"`       // of asynchronous invocations
	Backoff      time.Duration            `toml:"backoff"`        // before the second one
	Factor       float64                  `toml:"backoff_factor"` // of each further wait
	MaxAge       time.Duration            `toml:"max_age"`
	OnSuccess    lambent.AsyncDestination `toml:"on_success"`
	OnFailure    lambent.AsyncDestination `toml:"on_failure"`
	URL          lambent.URLPolicy        `toml:"url"`
	Stream       bool                     `toml:"stream"` // the URL passes on what is written as it is written
	Network      []string                 `toml:"network"`
	OnDisconnect lambent.OnDisconnect     `toml:"on_disconnect"`
	Builds       *bool                    `toml:"build"` // false: neither compiles nor installs anything
	On           []On                     `toml:"on"`    // but for those with http; nil: there is no file
	Routes       []Route                  `toml:"-"`     // from the [[on]] tables with http
}

// An On is an [[on]] table. One of its kinds is set, and what goes with that.
type On struct {
	HTTP     string `toml:"http"`
	Schedule string `toml:"schedule"`
	Pattern  string `toml:"pattern"`
	Bucket   string `toml:"bucket"`
	Queue    string `toml:"queue"`
	Database string `toml:"database"` // the URL, or $NAME of a variable that has it
	Broker   string `toml:"broker"`   // the same

	Filter      string            `toml:"filter"`
	Input       string            `toml:"input"`
	InputPaths  map[string]string `toml:"input_paths"`
	Zone        string            `toml:"zone"`
	Jitter      time.Duration     `toml:"jitter"`
	SkipMissed  bool              `toml:"skip_missed"`
	Prefix      string            `toml:"prefix"`
	Suffix      string            `toml:"suffix"`
	Events      []string          `toml:"events"`
	Table       Names             `toml:"table"`
	Columns     []string          `toml:"columns"`
	Operations  []string          `toml:"operations"`
	Snapshot    bool              `toml:"snapshot"`
	Shape       string            `toml:"shape"`
	Topic       string            `toml:"topic"`
	Group       string            `toml:"group"`
	From        string            `toml:"from"`
	CA          string            `toml:"ca"`          // PEM, or $NAME of a variable that has it
	Certificate string            `toml:"certificate"` // the same
	Key         string            `toml:"key"`         // the same
	BatchSize   int               `toml:"batch_size"`
	BatchWindow time.Duration     `toml:"batch_window"`
	Parallel    int               `toml:"parallel"`
}

// A Command is what is run: words, or one line that is read as [ParseCommand] does.
type Command []string

// UnmarshalTOML implements toml.Unmarshaler, of a value that its rule holds for.
func (c *Command) UnmarshalTOML(v any) error {
	*c = nil
	switch v := v.(type) {
	case string:
		*c = ParseCommand(v)
	case []any:
		for _, word := range v {
			*c = append(*c, word.(string))
		}
	}
	return nil
}

// Names are a list, or one that stands alone.
type Names []string

// UnmarshalTOML implements toml.Unmarshaler, of a value that its rule holds for.
func (n *Names) UnmarshalTOML(v any) error {
	switch v := v.(type) {
	case string:
		*n = Names{v}
	case []any:
		for _, word := range v {
			*n = append(*n, word.(string))
		}
	}
	return nil
}

// A Route is the pattern of an HTTP trigger.
type Route struct {
	Method string // empty: any
	Path   string // such as "/thumbs/{id}"
}

// An onRule is what a key of an [[on]] table is for: the kinds that it goes with, or none
// if it names a kind itself.
type onRule struct {
	rule
	with []string
}

// A rule is what a key's value must be.
type rule struct {
	holds func(any) bool
	words string
}

var (
	functionKeys = map[string]rule{
		"name":           {isA[string], `a name in quotes`},
		"runtime":        {isA[string], `a runtime in quotes, such as "python3.11"`},
		"handler":        {isA[string], `a handler in quotes, such as "app.handler"`},
		"command":        {isCommand, `a command line in quotes, such as "node server.js", or a list of its words`},
		"memory":         {isA[int64], `a number of megabytes, such as 128`},
		"timeout":        {isDuration, `a duration in quotes, such as "30s"`},
		"env":            {isTable, `a table of strings, such as { LOG_LEVEL = "info" }`},
		"secrets":        {isList, `a list of names, such as ["API_KEY"]`},
		"concurrency":    {isA[int64], `a number of invocations, such as 10`},
		"min":            {isA[int64], `a number of instances, such as 1`},
		"max":            {isA[int64], `a number of instances, such as 10`},
		"reserved":       {isA[int64], `a number of invocations, such as 10; 0 stops the function`},
		"keep_alive":     {isDuration, `a duration in quotes, such as "10m"`},
		"attempts":       {isA[int64], `a number of attempts of an asynchronous invocation, such as 3`},
		"backoff":        {isDuration, `a duration in quotes, such as "1m"`},
		"backoff_factor": {isNumber, `a number from 1, such as 2`},
		"on_success":     {isDestination, `"function:NAME", "queue:NAME", "events" or the URL of a webhook`},
		"on_failure":     {isDestination, `"function:NAME", "queue:NAME", "events" or the URL of a webhook`},
		"max_age":        {isDuration, `a duration in quotes, such as "6h"`},
		"url":            {isA[string], `one of "public", "token" and "none"`},
		"stream":         {isA[bool], `true or false`},
		"network":        {isList, `a list of addresses, such as ["db.internal:5432"] or ["internet", "10.1.2.0/24"], or ["none"]`},
		"build":          {isA[bool], `false: take what is there as it is`},
		"on_disconnect":  {isDisconnect, `"continue" or "cancel"`},
		"on":             {isA[[]map[string]any], `a table that starts with [[on]]`},
	}
	onKeys = map[string]onRule{
		"http":         {rule: rule{isText, `a method and a path in quotes, such as "GET /thumbs/{id}"`}},
		"schedule":     {rule: rule{isText, `a schedule in quotes, such as "rate(5 minutes)"`}},
		"pattern":      {rule: rule{isText, `an event pattern in quotes, such as '{"source": ["shop"]}'`}},
		"bucket":       {rule: rule{isText, `the name of a bucket in quotes`}},
		"database":     {rule: rule{isText, `a URL in quotes, or "$NAME" of a variable that has it where the function is deployed from`}},
		"queue":        {rule: rule{isText, `the name of a queue in quotes`}},
		"broker":       {rule: rule{isText, `a URL in quotes, or "$NAME" of a variable that has it where the function is deployed from`}},
		"zone":         {rule{isText, `a time zone in quotes, such as "Europe/Berlin"`}, []string{"schedule"}},
		"jitter":       {rule{isDuration, `a duration in quotes, such as "30s"`}, []string{"schedule"}},
		"skip_missed":  {rule{isA[bool], `true or false`}, []string{"schedule"}},
		"prefix":       {rule{isText, `a prefix of keys in quotes`}, []string{"bucket"}},
		"suffix":       {rule{isText, `a suffix of keys in quotes, such as ".jpg"`}, []string{"bucket"}},
		"events":       {rule{isList, `a list of events as S3 names them, such as ["s3:ObjectCreated:*"]`}, []string{"bucket"}},
		"table":        {rule{isNames, `a table in quotes, such as "orders" or "shop.orders", or a list of them`}, []string{"database"}},
		"columns":      {rule{isList, `a list of columns, such as ["id", "total"]`}, []string{"database"}},
		"operations":   {rule{isList, `a list of some of "insert", "update", "delete" and "truncate"`}, []string{"database"}},
		"snapshot":     {rule{isA[bool], `true or false`}, []string{"database"}},
		"shape":        {rule{isText, `"dynamodb"`}, []string{"database"}},
		"topic":        {rule{isText, `a topic, subject, queue or stream in quotes`}, []string{"broker"}},
		"group":        {rule{isText, `the name of a group in quotes`}, []string{"broker"}},
		"from":         {rule{isText, `"new" or "earliest"`}, []string{"broker"}},
		"ca":           {rule{isText, `certificates, as PEM, or the variable that has them: "$APP_CA"`}, []string{"database", "broker"}},
		"certificate":  {rule{isText, `a certificate, as PEM, or the variable that has it: "$APP_CERTIFICATE"`}, []string{"database", "broker"}},
		"key":          {rule{isText, `the variable that has a key, as PEM: "$APP_KEY"`}, []string{"database", "broker"}},
		"input":        {rule{isText, `JSON in quotes, such as '{"job": "nightly"}'`}, []string{"schedule", "pattern"}},
		"input_paths":  {rule{isTable, `a table of paths, such as { total = "$.detail.total" }`}, []string{"schedule", "pattern"}},
		"filter":       {rule{isText, `a pattern in quotes, such as '{"body": {"item": ["tea"]}}'`}, []string{"bucket", "database", "queue", "broker"}},
		"batch_size":   {rule{isA[int64], `a number of events, such as 100`}, []string{"database", "queue", "broker"}},
		"batch_window": {rule{isDuration, `a duration in quotes, such as "500ms"`}, []string{"database", "queue", "broker"}},
		"parallel":     {rule{isA[int64], `a number of invocations, such as 4`}, []string{"database", "queue", "broker"}},
	}
)

func isA[T any](v any) bool { _, ok := v.(T); return ok }

func isText(v any) bool { s, ok := v.(string); return ok && s != "" }

func isNames(v any) bool { return isText(v) || isList(v) }

func isDestination(v any) bool {
	s, ok := v.(string)
	return ok && s != "" && lambent.AsyncDestination(s).Validate() == nil
}

func isNumber(v any) bool { return isA[int64](v) || isA[float64](v) }

func isDisconnect(v any) bool {
	return v == string(lambent.DisconnectContinue) || v == string(lambent.DisconnectCancel)
}

func isCommand(v any) bool {
	if line, ok := v.(string); ok {
		return strings.TrimSpace(line) != ""
	}
	list, ok := v.([]any)
	return ok && isList(v) && len(list) > 0 && list[0] != ""
}

func isDuration(v any) bool {
	s, ok := v.(string)
	_, err := time.ParseDuration(s)
	return ok && err == nil
}

func isList(v any) bool {
	list, ok := v.([]any)
	return ok && !slices.ContainsFunc(list, func(e any) bool { return !isA[string](e) })
}

func isTable(v any) bool {
	table, ok := v.(map[string]any)
	for _, e := range table {
		ok = ok && isA[string](e)
	}
	return ok
}

// ParseFile reads lambent.toml: one function, or one for each [functions.NAME]
// table, which starts from the settings above it. They come sorted by name.
func ParseFile(b []byte) ([]Settings, error) {
	text := string(b)
	var raw map[string]any
	if _, err := toml.Decode(text, &raw); err != nil {
		return nil, syntaxError(err)
	}
	functions, several := raw["functions"]
	delete(raw, "functions")
	if err := checkTable(text, nil, raw, "functions"); err != nil {
		return nil, err
	}
	if several {
		if err := checkFunctions(text, raw, functions); err != nil {
			return nil, err
		}
	}

	// What is left that the reader could refuse is a number out of range.
	var all struct {
		Settings
		Functions map[string]toml.Primitive `toml:"functions"`
	}
	md, err := toml.Decode(text, &all)
	if err != nil {
		return nil, syntaxError(err)
	}
	if !several {
		err := all.finish(text, nil)
		return []Settings{all.Settings}, err
	}
	var out []Settings
	for _, name := range slices.Sorted(maps.Keys(all.Functions)) {
		s := all.Settings.clone()
		if err := md.PrimitiveDecode(all.Functions[name], &s); err != nil {
			return nil, syntaxError(err)
		}
		s.Name = cmp.Or(s.Name, name)
		if err := s.finish(text, []string{"functions", name}); err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, nil
}

// clone returns settings that can be decoded into without changing these.
func (s Settings) clone() Settings {
	s.Env, s.Secrets, s.Network, s.Command = maps.Clone(s.Env), slices.Clone(s.Secrets), slices.Clone(s.Network), slices.Clone(s.Command)
	if s.KeepAlive != nil {
		d := *s.KeepAlive
		s.KeepAlive = &d
	}
	return s
}

// checkTable refuses keys that do not exist and values of the wrong type. at is
// where the table stands; also are further keys, for suggestions.
func checkTable(text string, at []string, table map[string]any, also ...string) error {
	for _, key := range slices.Sorted(maps.Keys(table)) {
		where := append(slices.Clone(at), key)
		rule, known := functionKeys[key]
		if !known {
			names := append(slices.Sorted(maps.Keys(functionKeys)), also...)
			return fail(text, where, 0, "is not a key of %s%s", File, didYouMean(key, names))
		}
		if !rule.holds(table[key]) {
			return fail(text, where, 0, "must be %s", rule.words)
		}
	}
	tables, _ := table["on"].([]map[string]any)
	for i, on := range tables {
		if err := checkOn(text, append(slices.Clone(at), "on"), i, on); err != nil {
			return err
		}
	}
	return nil
}

// checkOn refuses the i-th [[on]] table if its keys do not make one trigger.
func checkOn(text string, table []string, i int, on map[string]any) error {
	keys := slices.Sorted(maps.Keys(on))
	kind := ""
	for _, key := range keys {
		at := append(slices.Clone(table), key)
		rule, known := onKeys[key]
		switch {
		case !known:
			return fail(text, at, i, "is not a key of an [[on]] table%s", didYouMean(key, slices.Sorted(maps.Keys(onKeys))))
		case !rule.holds(on[key]):
			return fail(text, at, i, "must be %s", rule.words)
		case len(rule.with) > 0:
		case kind != "":
			return fail(text, at, i, "is one trigger of several in this [[on]] table: give each a table of its own")
		default:
			kind = key
		}
	}
	if kind == "" {
		return fail(text, table, i, `names no trigger: it needs one of http, bucket, schedule, database, queue, broker and pattern`)
	}
	for _, key := range keys {
		if with := onKeys[key].with; len(with) > 0 && !slices.Contains(with, kind) {
			return fail(text, append(table, key), i, "does not go with %s: it is for %s", kind, strings.Join(with, " and "))
		}
	}
	return nil
}

// checkFunctions checks the [functions.NAME] tables. top is what stands above.
func checkFunctions(text string, top map[string]any, functions any) error {
	for _, key := range []string{"name", "on"} {
		if top[key] != nil {
			return fail(text, []string{key}, 0, "stands above [functions.NAME] tables: it belongs into one of them")
		}
	}
	tables, ok := functions.(map[string]any)
	if !ok || len(tables) == 0 {
		return fail(text, []string{"functions"}, 0, "must be tables: [functions.NAME]")
	}
	for _, name := range slices.Sorted(maps.Keys(tables)) {
		at := []string{"functions", name}
		table, ok := tables[name].(map[string]any)
		if !ok {
			return fail(text, at, 0, "must be a table: [functions.%s]", name)
		}
		if err := checkTable(text, at, table); err != nil {
			return err
		}
	}
	return nil
}

// finish checks what types cannot say. table is where the settings stand.
func (s *Settings) finish(text string, table []string) error {
	at := func(key string) []string { return append(slices.Clone(table), key) }
	if s.Name != "" {
		if err := (lambent.Name{Project: lambent.DefaultProject, Function: s.Name}).Validate(); err != nil {
			return fail(text, at("name"), 0, "is %q: 1 to 64 letters, digits, '-' or '_'", s.Name)
		}
	}
	if s.URL != "" {
		if err := (lambent.URL{Policy: s.URL}).Validate(); err != nil {
			e := fail(text, at("url"), 0, "is %q: %s", s.URL, lambent.UserMessage(err))
			e.Kind = lambent.KindOf(err)
			return e
		}
	}
	if _, err := lambent.ParseNetwork(strings.Join(s.Network, ",")); err != nil {
		e := fail(text, at("network"), 0, "is refused: %s", lambent.UserMessage(err))
		e.Kind = lambent.KindOf(err)
		return e
	}
	tables := s.On
	s.On = []On{} // it says that there are none
	for i, on := range tables {
		if on.Input != "" || on.InputPaths != nil {
			if _, err := input.Parse(on.InputPaths, on.Input); err != nil {
				return fail(text, append(at("on"), "input"), i, "is refused: %s", lambent.UserMessage(err))
			}
		}
		if on.Filter != "" {
			if _, err := pattern.Parse([]byte(on.Filter)); err != nil {
				return fail(text, append(at("on"), "filter"), i, "is refused: %s", lambent.UserMessage(err))
			}
		}
		if err := (&lambent.Batch{Size: on.BatchSize, Window: on.BatchWindow, Parallel: on.Parallel}).Validate(); err != nil {
			return fail(text, at("on"), i, "is refused: %s", lambent.UserMessage(err))
		}
		switch {
		case on.HTTP != "":
			if err := s.addRoute(text, at("on"), i, on.HTTP); err != nil {
				return err
			}
			continue
		case on.Pattern != "":
			if _, err := pattern.Parse([]byte(on.Pattern)); err != nil {
				return fail(text, append(at("on"), "pattern"), i, "is refused: %s", lambent.UserMessage(err))
			}
		case on.Database != "":
			if len(on.Table) == 0 {
				return fail(text, append(at("on"), "database"), i, `needs a table to watch: table = "orders"`)
			}
			d := lambent.Database{URL: on.Database, Tables: on.Table, Columns: on.Columns, Operations: on.Operations, Snapshot: on.Snapshot, Shape: on.Shape}
			if strings.HasPrefix(d.URL, "$") { // it is known where it is deployed from
				d.URL = "postgres://user@host/database"
			}
			if err := d.Validate(); err != nil {
				e := fail(text, append(at("on"), "database"), i, "is refused: %s", lambent.UserMessage(err))
				e.Kind = lambent.KindOf(err)
				return e
			}
		case on.Broker != "":
			if on.Topic == "" {
				return fail(text, append(at("on"), "broker"), i, `needs a topic: topic = "orders"`)
			}
			b := lambent.Broker{URL: on.Broker, Topic: on.Topic, Group: on.Group, From: on.From}
			if strings.HasPrefix(b.URL, "$") {
				b.URL = "kafka://host"
			}
			if err := b.Validate(); err != nil {
				e := fail(text, append(at("on"), "broker"), i, "is refused: %s", lambent.UserMessage(err))
				e.Kind = lambent.KindOf(err)
				return e
			}
		case on.Bucket != "":
			if err := (&lambent.Bucket{Name: on.Bucket, Prefix: on.Prefix, Suffix: on.Suffix, Events: on.Events}).Validate(); err != nil {
				return fail(text, append(at("on"), "bucket"), i, "is refused: %s", lambent.UserMessage(err))
			}
		}
		s.On = append(s.On, on)
	}
	return nil
}

var methodRule = regexp.MustCompile(`^[A-Z]{1,16}$`)

// addRoute reads the route of the i-th [[on]] table.
func (s *Settings) addRoute(text string, table []string, i int, route string) error {
	at := append(slices.Clone(table), "http")
	method, path, two := strings.Cut(route, " ")
	if !two {
		method, path = "", route
	}
	if two && !methodRule.MatchString(method) || !strings.HasPrefix(path, "/") || strings.ContainsAny(path, " \t\r\n?#") {
		return fail(text, at, i, `is %q: a method and a path, such as "GET /thumbs/{id}"`, route)
	}
	s.Routes = append(s.Routes, Route{method, path})
	return nil
}

// fail makes the error about a key. i is which [[on]] table of several it is in.
func fail(text string, key []string, i int, format string, args ...any) *lambent.Error {
	where := File
	if n := lineOf(text, key, i); n > 0 {
		where = fmt.Sprintf("%s line %d", File, n)
	}
	return lambent.Errorf(lambent.Invalid, op, "%s: %s %s", where, strings.Join(key, "."), fmt.Sprintf(format, args...))
}

// syntaxError phrases what the TOML reader says.
func syntaxError(err error) error {
	if pe, ok := errors.AsType[toml.ParseError](err); ok {
		message := pe.Message
		if message == "" {
			message = pe.Error()
		}
		return lambent.Errorf(lambent.Invalid, op, "%s line %d: %s", File, pe.Position.Line, message)
	}
	return lambent.Errorf(lambent.Invalid, op, "%s: %s", File, strings.TrimPrefix(err.Error(), "toml: "))
}
