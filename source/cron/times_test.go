package cron_test

import (
	"strings"
	"testing"
	"time"

	"lambent"
	"lambent/source/cron"
)

func parse(t testing.TB, s lambent.Schedule, anchor time.Time) *cron.Times {
	t.Helper()
	times, err := cron.Parse(s, anchor)
	if err != nil {
		t.Fatal(err)
	}
	return times
}

func instant(t testing.TB, s string) time.Time {
	t.Helper()
	at, err := time.Parse("2006-01-02 15:04:05", s)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

func TestNext(t *testing.T) {
	t.Parallel()
	const created = "2026-01-01 00:00:30"
	for _, c := range []struct {
		expression, zone, after string
		want                    []string
	}{
		{"rate(5 minutes)", "", "2026-01-01 00:00:30", []string{"2026-01-01 00:05:30", "2026-01-01 00:10:30"}},
		{"rate(5 minutes)", "", "2026-03-01 12:34:56", []string{"2026-03-01 12:35:30"}},
		{"rate(1 day)", "", "2025-01-01 00:00:00", []string{"2026-01-02 00:00:30"}},
		{"rate(10 seconds)", "", "2026-01-01 00:00:40", []string{"2026-01-01 00:00:50"}},

		// The examples of AWS's documentation.
		{"cron(0 10 * * ? *)", "", "2026-01-01 10:00:00", []string{"2026-01-02 10:00:00"}},
		{"cron(15 12 * * ? *)", "", created, []string{"2026-01-01 12:15:00"}},
		{"cron(0 18 ? * MON-FRI *)", "", "2026-11-27 18:00:00", []string{"2026-11-30 18:00:00"}}, // a Friday
		{"cron(0 8 1 * ? *)", "", created, []string{"2026-01-01 08:00:00", "2026-02-01 08:00:00"}},
		{"cron(0/15 * * * ? *)", "", created, []string{"2026-01-01 00:15:00", "2026-01-01 00:30:00"}},
		{"cron(0/10 * ? * MON-FRI *)", "", "2026-11-27 23:55:00", []string{"2026-11-30 00:00:00"}},
		{"cron(0/5 8-17 ? * MON-FRI *)", "", "2026-11-27 17:55:00", []string{"2026-11-30 08:00:00"}},
		{"cron(0/30 20-2 ? * MON-FRI *)", "", "2026-11-27 20:00:00", []string{"2026-11-27 20:30:00", "2026-11-27 21:00:00"}},
		{"cron(0/30 20-2 ? * MON-FRI *)", "", "2026-11-27 23:00:00", []string{"2026-11-27 23:30:00", "2026-11-30 00:00:00", "2026-11-30 00:30:00"}}, // on Monday morning, and not on Saturday's
		{"cron(0/30 20-2 ? * MON-FRI *)", "", "2026-11-30 02:00:00", []string{"2026-11-30 02:30:00", "2026-11-30 20:00:00"}},
		{"cron(0 20-3/3 * * ? *)", "", created, []string{"2026-01-01 02:00:00", "2026-01-01 20:00:00", "2026-01-01 23:00:00", "2026-01-02 02:00:00"}},
		{"cron(15 10 ? * 6L 2019-2030)", "", "2026-11-27 10:14:59", []string{"2026-11-27 10:15:00", "2026-12-25 10:15:00"}},
		{"cron(0 0 ? * 3#2 *)", "", "2026-11-01 00:00:00", []string{"2026-11-10 00:00:00"}}, // the second Tuesday
		{"cron(0 0 ? * TUE#5 *)", "", "2026-11-01 00:00:00", []string{"2026-12-29 00:00:00"}},
		{"cron(0 0 L * ? *)", "", "2028-02-01 00:00:00", []string{"2028-02-29 00:00:00"}},
		{"cron(0 0 LW * ? *)", "", "2026-10-01 00:00:00", []string{"2026-10-30 00:00:00"}},                                                // the 31st is a Saturday
		{"cron(0 0 1W * ? *)", "", "2026-07-31 12:00:00", []string{"2026-08-03 00:00:00"}},                                                // the 1st is a Saturday: not in July
		{"cron(0 0 15W * ? *)", "", "2026-11-01 00:00:00", []string{"2026-11-16 00:00:00"}},                                               // the 15th is a Sunday
		{"cron(0 0 ? * 1 *)", "", "2026-11-27 00:00:00", []string{"2026-11-29 00:00:00"}},                                                 // 1 is Sunday
		{"cron(0 0 ? * L *)", "", "2026-11-27 00:00:00", []string{"2026-11-28 00:00:00"}},                                                 // and L is Saturday
		{"cron(0 0 ? * */2 *)", "", "2026-11-27 00:00:00", []string{"2026-11-28 00:00:00", "2026-11-29 00:00:00", "2026-12-01 00:00:00"}}, // Sunday, Tuesday, Thursday, Saturday
		{"cron(0 0 ? * SAT-SUN *)", "", "2026-11-27 00:00:00", []string{"2026-11-28 00:00:00", "2026-11-29 00:00:00", "2026-12-05 00:00:00"}},
		{"cron(0 0 29 2 ? *)", "", created, []string{"2028-02-29 00:00:00"}},
		{"cron(0 0 1 1 ? 2025)", "", created, []string{""}},

		{"30 4 1,15 * 5", "", "2026-11-27 04:30:00", []string{"2026-12-01 04:30:00", "2026-12-04 04:30:00"}}, // either
		{"0 22 * * 1-5", "", "2026-11-27 22:00:00", []string{"2026-11-30 22:00:00"}},
		{"0 0 * * 7", "", "2026-11-27 22:00:00", []string{"2026-11-29 00:00:00"}},
		{"0 0 * * 5-7", "", "2026-11-28 22:00:00", []string{"2026-11-29 00:00:00"}},
		{"*/20 * * * *", "", created, []string{"2026-01-01 00:20:00"}},
		{"@daily", "", created, []string{"2026-01-02 00:00:00"}},

		{"at(2026-12-24T18:00:00)", "Europe/Berlin", created, []string{"2026-12-24 17:00:00", ""}},
		{"cron(0 10 * * ? *)", "America/New_York", created, []string{"2026-01-01 15:00:00"}},

		// On 2026-03-29 clocks in Berlin go from 2:00 to 3:00, on 2026-10-25 from 3:00 back to 2:00.
		{"cron(30 2 * * ? *)", "Europe/Berlin", "2026-03-28 12:00:00", []string{"2026-03-30 00:30:00"}},
		{"cron(0 3 * * ? *)", "Europe/Berlin", "2026-03-28 12:00:00", []string{"2026-03-29 01:00:00"}},
		{"cron(30 * * * ? *)", "Europe/Berlin", "2026-03-29 00:29:00", []string{"2026-03-29 00:30:00", "2026-03-29 01:30:00"}},
		{"cron(30 2 * * ? *)", "Europe/Berlin", "2026-10-24 12:00:00", []string{"2026-10-25 00:30:00", "2026-10-26 01:30:00"}},
		{"*/30 2,3 * * *", "Europe/Berlin", "2026-10-25 00:00:00", []string{"2026-10-25 00:30:00", "2026-10-25 02:00:00"}},
		{"30 * * * *", "Europe/Berlin", "2026-10-25 00:00:00", []string{"2026-10-25 00:30:00", "2026-10-25 01:30:00", "2026-10-25 02:30:00"}},
		{"0 0 1 * *", "America/Sao_Paulo", "2018-10-20 00:00:00", []string{"2018-11-01 03:00:00"}},
		{"0 0 * * *", "America/Sao_Paulo", "2018-11-03 12:00:00", []string{"2018-11-05 02:00:00"}}, // the 4th began at 1:00
	} {
		times := parse(t, lambent.Schedule{Expression: c.expression, Zone: c.zone}, instant(t, created))
		at := instant(t, c.after)
		for i, want := range c.want {
			at = times.Next(at)
			got := ""
			if !at.IsZero() {
				got = at.Format("2006-01-02 15:04:05")
			}
			if got != want {
				t.Errorf("%s in %q after %s, number %d: %s, want %s", c.expression, c.zone, c.after, i+1, got, want)
				break
			}
		}
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	for expression, want := range map[string]string{
		"":                                      "0 fields",
		"rate(0 minutes)":                       `"0" is no number`,
		"rate(1 minutes)":                       "rate(1 minute)",
		"rate(2 minute)":                        "rate(2 minutes)",
		"rate(1000000 days)":                    "over the limit of 10 years",
		"rate(106752 days)":                     "over the limit of 10 years",
		strings.Repeat("0,", 130) + "0 * * * *": "over the limit of 256",
		"rate(5 fortnights)":                    `"fortnights" is none of`,
		"rate(5 minutes":                        "')' is missing",
		"rat(5 minutes)":                        "is none of rate(5 minutes)",
		"cron(0 10 * * *)":                      "5 fields, where there are 6",
		"cron(0 10 * * * *)":                    "'?'",
		"cron(0 10 ? * ? *)":                    "'?'",
		"cron(60 10 * * ? *)":                   `minutes "60": "60" is none of 0 to 59`,
		"cron(0 10 0 * ? *)":                    `"0" is none of 1 to 31`,
		"cron(0 10 ? * 0 *)":                    `"0" is none of 1 to 7 or SUN to SAT`,
		"cron(0 10 ? * MOND *)":                 `"MOND" is none of`,
		"cron(0 10 ? * XXX#2 *)":                `"XXX" is none of`,
		"cron(0 10 ? * 3#6 *)":                  `"3#6" is none of`,
		"cron(0 10 ? * 3#1,6#3 *)":              "stand alone",
		"cron(0 10 ?,1 * MON *)":                "stand alone",
		"cron(0 10 * JAN-FOO ? *)":              `"FOO" is none of 1 to 12 or JAN to DEC`,
		"cron(30-10 8 * * ? *)":                 "30 is behind 10",
		"cron(0 8 20-10 * ? *)":                 "20 is behind 10",
		"cron(0 8 1 NOV-FEB ? *)":               "NOV is behind FEB",
		"0 20-2 * * *":                          "20 is behind 2",
		"cron(*/0 * * * ? *)":                   `step "0"`,
		"cron(*/99 * * * ? *)":                  `step "99"`,
		"cron(0,, * * * ? *)":                   `"" is none of`,
		"cron(0 10 * * ? 2200)":                 `"2200" is none of 1970 to 2099`,
		"at(tomorrow)":                          "2026-12-24T18:00:00",
		"* * * * * *":                           "6 fields, where there are 5",
		"@fortnightly":                          "is none of @yearly",
		"CRON_TZ=UTC 0 0 * * *":                 "6 fields",
		"0 0 L * *":                             `"L" is none of`,
	} {
		_, err := cron.Parse(lambent.Schedule{Expression: expression}, time.Now())
		if err == nil || !lambent.Is(err, lambent.Invalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", expression, err, want)
		}
	}
	for _, s := range []lambent.Schedule{{Expression: "@daily", Zone: "Mars/Olympus"}, {Expression: "@daily", Zone: "Local"}, {Expression: "@daily", Jitter: -1}} {
		if _, err := cron.Parse(s, time.Now()); !lambent.Is(err, lambent.Invalid) {
			t.Errorf("%+v: %v", s, err)
		}
	}
	for _, expression := range []string{"cron(0 0 30 2 ? *)", "0 0 31 4 *", "at(2001-01-01T00:00:00)", "cron(0 0 1 1 ? 1999)"} {
		trigger := lambent.Trigger{Schedule: &lambent.Schedule{Expression: expression}}
		if err := (cron.Source{}).Check(trigger); err == nil || !strings.Contains(err.Error(), "never due") {
			t.Errorf("%s: %v", expression, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"rate(5 minutes)", "cron(0 10 ? * 3#2 *)", "cron(0/15 1-5 LW JAN-MAR ? 2026-2030)", "at(2026-12-24T18:00:00)", "*/5 0 1,15 * 5-7", "@daily", "cron(0 0 ? * 6L *)"} {
		f.Add(s, int64(1_800_000_000))
	}
	f.Fuzz(func(t *testing.T, expression string, unix int64) {
		times, err := cron.Parse(lambent.Schedule{Expression: expression, Zone: "Europe/Berlin"}, time.Unix(1_700_000_000, 0))
		if err != nil {
			return
		}
		after := time.Unix(unix%(1<<32), 0)
		for range 3 {
			next := times.Next(after)
			if next.IsZero() {
				return
			}
			if !next.After(after) {
				t.Fatalf("%q: %v is not after %v", expression, next, after)
			}
			after = next
		}
	})
}
