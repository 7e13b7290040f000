package main

import (
	"encoding/json"
	"os"
	"reflect"
	"testing"
)

// What the help says that a function gets of a change is what it gets.
func TestRowExample(t *testing.T) {
	golden, err := os.ReadFile("../../guest/lambda/testdata/row-update.json")
	if err != nil {
		t.Fatal(err)
	}
	var said, is any
	if err := json.Unmarshal([]byte(rowExample), &said); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(golden, &is); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(said, is) {
		t.Errorf("it is\n%s", golden)
	}
}
