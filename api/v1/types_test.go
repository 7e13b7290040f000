package v1_test

import (
	"reflect"
	"testing"
	"time"

	v1 "lambent/api/v1"
	"lambent/client"
)

// The client's types are the wire's: the same fields, in the same shape.
func TestClientTypes(t *testing.T) {
	for _, pair := range [][2]any{
		{v1.DeployRequest{}, client.DeployRequest{}}, {v1.Code{}, client.Code{}}, {v1.Function{}, client.Function{}},
		{v1.FunctionList{}, client.FunctionList{}}, {v1.Version{}, client.Version{}}, {v1.VersionList{}, client.VersionList{}},
		{v1.Alias{}, client.Alias{}}, {v1.AliasList{}, client.AliasList{}}, {v1.LogLine{}, client.LogLine{}},
		{v1.InvocationList{}, client.InvocationList{}}, {v1.UsageReport{}, client.UsageReport{}},
		{v1.Accepted{}, client.Accepted{}}, {v1.EventList{}, client.EventList{}}, {v1.ReplayRequest{}, client.ReplayRequest{}}, {v1.TriggerList{}, client.TriggerList{}}, {v1.TriggerRequest{}, client.TriggerRequest{}}, {v1.TriggerChange{}, client.TriggerChange{}},
		{v1.DeadLetterList{}, client.DeadLetterList{}}, {v1.DeadLetterCount{}, client.DeadLetterCount{}},
		{v1.Server{}, client.Server{}}, {v1.RuntimeList{}, client.RuntimeList{}}, {v1.RuntimeRequest{}, client.RuntimeRequest{}},
		{v1.TokenRequest{}, client.TokenRequest{}}, {v1.NewToken{}, client.NewToken{}}, {v1.TokenList{}, client.TokenList{}}, {v1.ProjectRequest{}, client.ProjectRequest{}}, {v1.ProjectList{}, client.ProjectList{}},
	} {
		sameShape(t, reflect.TypeOf(pair[0]).String(), reflect.TypeOf(pair[0]), reflect.TypeOf(pair[1]))
	}
}

func sameShape(t *testing.T, where string, server, ours reflect.Type) {
	t.Helper()
	if server.Kind() != ours.Kind() {
		t.Errorf("%s is %v, and the client's %v", where, server, ours)
		return
	}
	switch server.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Array:
		sameShape(t, where, server.Elem(), ours.Elem())
	case reflect.Map:
		sameShape(t, where+" key", server.Key(), ours.Key())
		sameShape(t, where, server.Elem(), ours.Elem())
	case reflect.Struct:
		if server == reflect.TypeFor[time.Time]() {
			return
		}
		theirs := wire(server)
		for name, f := range wire(ours) {
			s, ok := theirs[name]
			if !ok {
				t.Errorf("%s has no %q, which the client's has", where, name)
				continue
			}
			delete(theirs, name)
			sameShape(t, where+"."+f.Name, s.Type, f.Type)
		}
		for name := range theirs {
			t.Errorf("%s.%s is missing in the client's", where, name)
		}
	}
}

// wire returns the fields that go over the wire, by their tags, with those of what is embedded.
func wire(t reflect.Type) map[string]reflect.StructField {
	fields := map[string]reflect.StructField{}
	for _, f := range reflect.VisibleFields(t) {
		if tag := f.Tag.Get("json"); tag != "" && tag != "-" {
			fields[tag] = f
		}
	}
	return fields
}
