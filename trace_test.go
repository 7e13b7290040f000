package lambent_test

import (
	"testing"

	"lambent"
)

func TestTraceparent(t *testing.T) {
	t.Parallel()
	const w3c = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	for trace, want := range map[string]string{
		w3c: w3c,
		"01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-of-tomorrow":                              "01" + w3c[2:],
		"Root=1-4bf92f35-77b34da6a3ce929d0e0e4736;Parent=00f067aa0ba902b7;Sampled=1":                       w3c,
		"Self=1-x;Root=1-4bf92f35-77b34da6a3ce929d0e0e4736; Parent=00f067aa0ba902b7;Sampled=0;Lineage=a:1": w3c[:54] + "0",
		"Root=1-4bf92f35-77b34da6a3ce929d0e0e4736":                                                         "00-4bf92f3577b34da6a3ce929d0e0e4736-a3ce929d0e0e4736-00",
		"":                               "",
		"00-1":                           "",
		"Root=1-4bf92f35":                "",
		"Root=1-4bf92f35-77b34da6;Root=": "",
		"Root=1-4bf92f3577b34da6a3ce929d0e0e4736-;Sampled=1":                        "",
		"Root=1-4bf92f35-77b34da6a3ce929d0e0e473\n;Parent=00f067aa0ba902b7":         "",
		"Root=1-4bf92f35-77b34da6a3ce929d0e0e4736;Parent=00f067aa0ba902b7\r\nX: y;": "",
		w3c + "\r\nX: y": "",
		"00-4bf92f3577b34da6a3ce929d0e0e473g-00f067aa0ba902b7-01": "",
		"00-4bf92f3577b34da6a3ce929d0e0e4-36-00f067aa0ba90-b7-01": "",
		"00_4bf92f3577b34da6a3ce929d0e0e4736_00f067aa0ba902b7_01": "",
	} {
		if got := lambent.Traceparent(trace); got != want {
			t.Errorf("%q: %q, want %q", trace, got, want)
		}
	}
	for trace, want := range map[string]string{
		w3c: "Root=1-4bf92f35-77b34da6a3ce929d0e0e4736;Parent=00f067aa0ba902b7;Sampled=1",
		"Root=1-4bf92f35-77b34da6a3ce929d0e0e4736;Lineage=a:1": "Root=1-4bf92f35-77b34da6a3ce929d0e0e4736;Lineage=a:1",
		"": "", "00-1": "",
	} {
		if got := lambent.XRay(trace); got != want {
			t.Errorf("%q: %q, want %q", trace, got, want)
		}
	}
	e := lambent.Event{}
	e.SetTrace("nothing")
	if e.Extensions != nil {
		t.Error(e.Extensions)
	}
	e.SetTrace(w3c)
	e.SetTrace("Root=1-11111111-77b34da6a3ce929d0e0e4736;Parent=00f067aa0ba902b7")
	if e.Extensions[lambent.ExtensionTrace] != w3c {
		t.Error(e.Extensions)
	}
}
