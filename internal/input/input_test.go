package input_test

import (
	"strings"
	"testing"

	"lambent"
	"lambent/internal/input"
)

const event = `{"id":"1","detail":{"total":250,"big":12345678901234567890,"who":"Ada \"A\" <a@b>","a b":{"x":[1,{"y":true}]},"none":null},"resources":["r0","r1"]}`

func TestApply(t *testing.T) {
	t.Parallel()
	paths := map[string]string{
		"total": "$.detail.total", "big": "$.detail.big", "who": "$.detail.who", "deep": "$.detail['a b'].x[1].y", "list": "$.detail['a b'].x", "first": "$.resources[0]",
		"gone": "$.detail.gone.x", "over": "$.resources[7]", "none": "$.detail.none", "all": "$",
	}
	for template, want := range map[string]string{
		`{"job": "nightly"}`:                   `{"job": "nightly"}`,
		`"constant"`:                           `"constant"`,
		`<total>`:                              `250`,
		`{"t": <total>, "b": <big>}`:           `{"t": 250, "b": 12345678901234567890}`,
		`{"who": <who>}`:                       `{"who": "Ada \"A\" <a@b>"}`,
		`"<who> pays <total>"`:                 `"Ada \"A\" <a@b> pays 250"`,
		`{"x": "say \"<who>\"", "y": <first>}`: `{"x": "say \"Ada \"A\" <a@b>\"", "y": "r0"}`,
		`[<deep>, <list>]`:                     `[true, [1,{"y":true}]]`,
		`"<list>"`:                             `"[1,{\"y\":true}]"`,
		`{"a": <gone>, "b": "<gone>", "c": <over>, "d": <none>}`: `{"a": null, "b": "", "c": null, "d": null}`,
		`{"e": <aws.events.event.json>}`:                         `{"e": {"detail":`,
		`"a < b, <b and c>"`:                                     `"a < b, <b and c>"`,
	} {
		tpl, err := input.Parse(paths, template)
		if err != nil {
			t.Errorf("%s: %v", template, err)
			continue
		}
		got, err := tpl.Apply([]byte(event))
		if err != nil || !strings.HasPrefix(string(got), want) {
			t.Errorf("%s makes %s, not %s: %v", template, got, want, err)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		paths    map[string]string
		template string
		says     string
	}{
		{nil, `{`, "no JSON"},
		{nil, ``, "no JSON"},
		{nil, `{"a": <b>}`, "no path has that name"},
		{map[string]string{"b": "detail.b"}, `<b>`, "not a path"},
		{map[string]string{"b": "$.detail..b"}, `<b>`, "not a path"},
		{map[string]string{"b": "$.*"}, `<b>`, "not a path"},
		{map[string]string{"aws.b": "$.x"}, `1`, "not the name"},
		{map[string]string{"b": "$.x"}, `{"a": <b> <b>}`, "no JSON"},
		{nil, `"` + strings.Repeat("x", 9000) + `"`, "at most"},
	} {
		if _, err := input.Parse(c.paths, c.template); !lambent.Is(err, lambent.Invalid) || !strings.Contains(lambent.UserMessage(err), c.says) {
			t.Errorf("%v %.50s: %v", c.paths, c.template, err)
		}
	}
}

// Whatever the event, what comes out is JSON, or an error says that it is not.
func FuzzApply(f *testing.F) {
	f.Add(`"x <a>"`, event)
	f.Add(`{"a": <a>}`, `{"detail":"\""}`)
	f.Fuzz(func(t *testing.T, template, event string) {
		tpl, err := input.Parse(map[string]string{"a": "$.detail", "b": "$.detail[0].x"}, template)
		if err != nil {
			return
		}
		if _, err := tpl.Apply([]byte(event)); err != nil && !lambent.Is(err, lambent.Invalid) {
			t.Error(err)
		}
	})
}
