package pattern_test

import (
	"fmt"
	"strings"
	"testing"

	"lambent"
	"lambent/internal/pattern"
)

// instance is the event of AWS's documentation of patterns, and some more.
const instance = `{
  "version": "0", "id": "6a7e8feb-b491-4cf7-a9f1-bf3703467718", "detail-type": "EC2 Instance State-change Notification",
  "source": "aws.ec2", "account": "111122223333", "time": "2017-12-22T18:43:48Z", "region": "us-west-1",
  "resources": ["arn:aws:ec2:us-west-1:123456789012:instance/i-1234567890abcdef0"],
  "detail": {
    "instance-id": "i-1234567890abcdef0", "state": "terminated", "count": 5, "limit": 301.8, "zero": 0, "ok": true, "nothing": null, "empty": "", "none": [],
    "ip": "10.0.0.123", "file": "dir1/dir2/file.PNG", "many": ["a", "b", 3], "path": "a*b\\c",
    "people": [{"first": "John", "last": "Doe", "tags": ["x"]}, {"first": "Jane", "last": "Smith"}]
  }
}`

func TestMatches(t *testing.T) {
	t.Parallel()
	e, err := pattern.ParseEvent([]byte(instance))
	if err != nil {
		t.Fatal(err)
	}
	detail := func(s string) string { return `{"detail":` + s + `}` }
	for want, patterns := range map[bool][]string{
		true: {
			`{"source":["aws.ec2"]}`,
			`{"source":["aws.ec2"],"detail-type":["EC2 Instance State-change Notification"],"detail":{"state":["terminated","stopped"]}}`,
			`{"resources":[{"prefix":"arn:aws:ec2:"}]}`,
			detail(`{"state":[{"prefix":"term"}]}`), detail(`{"state":[{"suffix":"ated"}]}`), detail(`{"state":["running",{"prefix":""}]}`),
			detail(`{"state":[{"prefix":{"equals-ignore-case":"TERM"}}]}`), detail(`{"file":[{"suffix":{"equals-ignore-case":".png"}}]}`),
			detail(`{"state":[{"equals-ignore-case":"TERMINATED"}]}`),
			detail(`{"file":[{"wildcard":"dir1/*/file.*"}]}`), detail(`{"file":[{"wildcard":"*"}]}`), detail(`{"file":[{"wildcard":"*PNG"}]}`), detail(`{"file":[{"wildcard":"dir1*"}]}`),
			detail(`{"path":[{"wildcard":"a\\*b\\\\*"}]}`),
			detail(`{"state":[{"anything-but":"running"}]}`), detail(`{"state":[{"anything-but":["running","stopped"]}]}`), detail(`{"count":[{"anything-but":[1,2]}]}`),
			detail(`{"state":[{"anything-but":{"prefix":"init"}}]}`), detail(`{"state":[{"anything-but":{"prefix":["init","run"]}}]}`), detail(`{"state":[{"anything-but":{"suffix":"ing"}}]}`),
			detail(`{"state":[{"anything-but":{"equals-ignore-case":["RUNNING","INIT"]}}]}`), detail(`{"file":[{"anything-but":{"wildcard":"*/lib/*"}}]}`),
			detail(`{"count":[5]}`), detail(`{"count":[5.0]}`), detail(`{"count":[5e0]}`), detail(`{"limit":[3.018e2]}`), detail(`{"ok":[true]}`), detail(`{"nothing":[null]}`), detail(`{"empty":[""]}`),
			detail(`{"count":[{"numeric":["=",5]}]}`), detail(`{"count":[{"numeric":[">",0,"<=",5]}]}`), detail(`{"limit":[{"numeric":["<",1e3]}]}`), detail(`{"zero":[{"numeric":["<=",-0.0]}]}`),
			detail(`{"ip":[{"cidr":"10.0.0.0/24"}]}`), detail(`{"ip":[{"cidr":"10.0.0.99/24"}]}`),
			detail(`{"state":[{"exists":true}]}`), detail(`{"missing":[{"exists":false}]}`), detail(`{"missing":["x",{"exists":false}]}`), detail(`{"nothing":[{"exists":true}]}`),
			detail(`{"none":[{"exists":false}]}`), detail(`{"a":{"b":{"c":[{"exists":false}]}}}`), detail(`{"state":{"inner":[{"exists":false}]}}`),
			detail(`{"many":["b"]}`), detail(`{"many":[3]}`), detail(`{"many":[{"anything-but":"a"}]}`),
			detail(`{"people":{"first":["Jane"],"last":["Smith"]}}`), detail(`{"people":{"tags":["x"]}}`),
			detail(`{"$or":[{"state":["running"]},{"count":[{"numeric":[">",4]}]}]}`),
			detail(`{"state":["terminated"],"$or":[{"count":[5]},{"zero":[1]}]}`),
			`{"$or":[{"source":["x"]},{"$or":[{"source":["y"]},{"detail":{"state":["terminated"]}}]}]}`,
		},
		false: {
			`{"source":["aws.s3"]}`, `{"source":["AWS.EC2"]}`, `{"Source":["aws.ec2"]}`,
			detail(`{"state":["running"]}`), detail(`{"state":[{"prefix":"TERM"}]}`), detail(`{"state":[{"suffix":"term"}]}`), detail(`{"count":["5"]}`), detail(`{"count":[{"prefix":"5"}]}`),
			detail(`{"file":[{"wildcard":"dir1/*/*/file.*"}]}`), detail(`{"file":[{"wildcard":"dir1/dir2/file"}]}`), detail(`{"path":[{"wildcard":"a\\*c"}]}`), detail(`{"file":[{"wildcard":"dir1/dir2*2/file.PNG"}]}`),
			detail(`{"state":[{"anything-but":["terminated","x"]}]}`), detail(`{"missing":[{"anything-but":"x"}]}`), detail(`{"state":[{"anything-but":{"prefix":["x","term"]}}]}`),
			detail(`{"count":[{"numeric":[">",5]}]}`), detail(`{"state":[{"numeric":[">",0]}]}`), detail(`{"ok":["true"]}`), detail(`{"nothing":[""]}`), detail(`{"empty":[null]}`),
			detail(`{"ip":[{"cidr":"10.0.1.0/24"}]}`), detail(`{"state":[{"cidr":"10.0.1.0/24"}]}`),
			detail(`{"state":[{"exists":false}]}`), detail(`{"missing":[{"exists":true}]}`), detail(`{"people":[{"exists":true}]}`), detail(`{"none":[{"exists":true}]}`),
			detail(`{"people":{"first":["John"],"last":["Smith"]}}`), detail(`{"many":["c"]}`),
			detail(`{"$or":[{"state":["running"]},{"count":[4]}]}`), detail(`{"state":["running"],"$or":[{"count":[5]},{"zero":[0]}]}`),
		},
	} {
		for _, s := range patterns {
			p, err := pattern.Parse([]byte(s))
			if err != nil {
				t.Errorf("%s: %v", s, err)
			} else if got, err := p.Matches(e); got != want || err != nil {
				t.Errorf("%s: matches is %t, %v", s, got, err)
			}
		}
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]string{
		``:                                       "line 1, column 1: it ends too early",
		`{`:                                      "line 1, column 2: it ends too early",
		`[]`:                                     "line 1, column 1: a pattern is an object",
		`{}`:                                     "line 1, column 2: an object without fields",
		`{"a": ["x"]} {}`:                        "line 1, column 14: something is behind",
		"{\n  \"a\": \"x\"\n}":                   `line 2, column 8: field "a": its values stand in a list`,
		"{\n  \"a\": [\"x\"],\n  \"b\": [}":      "line 3, column 9: invalid character",
		`{"a": []}`:                              "line 1, column 8: a list without values",
		`{"a": [[1]]}`:                           "line 1, column 8: a list of values has no list",
		`{"a": ["x"], "a": ["y"]}`:               `field "a" is there twice`,
		`{"a": [{"prefix": 5}]}`:                 "line 1, column 19: prefix takes a string",
		`{"a": [{"prefixx": "5"}]}`:              `"prefixx" is none of prefix`,
		`{"a": [{"prefix": "5", "b": 1}]}`:       "line 1, column 24: a comparison is one name",
		`{"a": [{}]}`:                            "a comparison has a name",
		`{"a": [{"exists": "yes"}]}`:             "exists is true or false",
		`{"a": [{"wildcard": "a**"}]}`:           "no two *",
		`{"a": [{"wildcard": "a\\b"}]}`:          "stands before",
		`{"a": [{"cidr": "10.0.0.0"}]}`:          "such as 10.0.0.0/24",
		`{"a": [{"numeric": []}]}`:               "one comparison",
		`{"a": [{"numeric": ["~", 1]}]}`:         `"~" is none of`,
		`{"a": [{"numeric": [">", "1"]}]}`:       "numeric takes",
		`{"a": [{"numeric": ["<", 1, ">", 0]}]}`: "a lower bound and then",
		`{"a": [{"numeric": [">", 5, "<", 5]}]}`: "not below",
		`{"a": [{"anything-but": []}]}`:          "without values",
		`{"a": [{"anything-but": [{"prefix": "a"}]}]}`:                  "list of values, or one comparison",
		`{"a": [{"anything-but": {"exists": true}}]}`:                   `"exists" is none of`,
		`{"a": [{"anything-but": null}]}`:                               "strings and numbers",
		`{"$or": {"a": ["x"]}}`:                                         "$or is a list",
		`{"$or": [{"a": ["x"]}]}`:                                       "two patterns, or more",
		`{"$or": ["x", "y"]}`:                                           "which are objects",
		strings.Repeat(`{"a":`, 40) + `["x"]` + strings.Repeat(`}`, 40): "more than 32 deep",
	} {
		_, err := pattern.Parse([]byte(s))
		if err == nil || !lambent.Is(err, lambent.Invalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", s, err, want)
		}
	}
	if _, err := pattern.Parse([]byte(`{"a":["` + strings.Repeat("x", 70_000) + `"]}`)); !lambent.Is(err, lambent.TooLarge) {
		t.Error(err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(`{"a":[{"prefix":"x"},{"numeric":[">",0,"<=",5]}],"$or":[{"b":[{"anything-but":{"suffix":["y"]}}]},{"c":{"d":[{"exists":false}]}}]}`, instance)
	f.Add(`{"a":[{"wildcard":"a*b\\*"},{"cidr":"10.0.0.0/8"},null,true,1.5]}`, `{"a":[["a1b*"]]}`)
	f.Fuzz(func(t *testing.T, p, document string) {
		parsed, err := pattern.Parse([]byte(p))
		if err != nil {
			return
		}
		if e, err := pattern.ParseEvent([]byte(document)); err == nil {
			_, _ = parsed.Matches(e)
		}
	})
}

func BenchmarkMatches(b *testing.B) {
	e, _ := pattern.ParseEvent([]byte(instance))
	p, err := pattern.Parse([]byte(`{"source":["aws.ec2"],"detail":{"state":["stopped",{"prefix":"term"}],"count":[{"numeric":[">",4]}]}}`))
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if ok, err := p.Matches(e); !ok || err != nil {
			b.Fatal(err)
		}
	}
}

// What would take minutes is refused in milliseconds, and a long list of values is none
// of that.
func TestTooMuch(t *testing.T) {
	t.Parallel()
	e, err := pattern.ParseEvent([]byte(`{"a":[` + strings.Repeat(`"x",`, 200_000) + `"y"]}`))
	if err != nil {
		t.Fatal(err)
	}
	for s, tooMuch := range map[string]bool{
		`{"a":[` + strings.Repeat(`"z",`, 1000) + `"y"]}`:                  false,
		`{"a":[` + strings.Repeat(`{"prefix":"z"},`, 400) + `"z"]}`:        true,
		`{"a":[{"anything-but":{"prefix":["z","x","y"]}}]}`:                true,
		`{"$or":[` + strings.Repeat(`{"a":["z"]},`, 400) + `{"a":["z"]}]}`: true,
		`{"a":["z"],"b":["c"]}`:                                            false,
	} {
		p, err := pattern.Parse([]byte(s))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := p.Matches(e); (err != nil) != tooMuch || err != nil && got {
			t.Errorf("%.60s: %t, %v", s, got, err)
		}
	}
}

func ExampleParse() {
	p, err := pattern.Parse([]byte(`{"source": ["shop"], "detail": {"total": [{"numeric": [">", 100]}]}}`))
	if err != nil {
		fmt.Println(err)
		return
	}
	e, err := pattern.ParseEvent([]byte(`{"source": "shop", "detail": {"total": 250}}`))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(p.Matches(e))
	// Output: true <nil>
}
