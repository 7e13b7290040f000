package v1

import (
	"encoding/json"
	"strings"
	"testing"

	"lambent"
	"lambent/trigger"
)

// Of what a trigger connects with, nobody is shown what is secret.
func TestSecretsOfTriggers(t *testing.T) {
	certificates := lambent.Certificates{CA: "an authority", Certificate: "a certificate", Key: "secret"}
	for _, tr := range []lambent.Trigger{
		{Database: &lambent.Database{URL: "postgres://app:secret@db/shop", Certificates: certificates}},
		{Broker: &lambent.Broker{URL: "kafkas://app:secret@kafka", Certificates: certificates}},
	} {
		shown, err := json.Marshal(triggerOf(&trigger.Status{Trigger: tr}))
		if s := string(shown); err != nil || strings.Contains(s, "secret") || !strings.Contains(s, "an authority") || !strings.Contains(s, "a certificate") {
			t.Errorf("%s, %v", s, err)
		}
	}
}
