package lambent_test

import (
	"strings"
	"testing"

	"lambent"
)

func TestDatabase(t *testing.T) {
	t.Parallel()
	const url = "postgres://app:se%40cret@db.internal:5432/shop?sslmode=require"
	orders := []string{"orders"}
	for _, c := range []struct {
		d    lambent.Database
		want string // of the refusal
	}{
		{lambent.Database{URL: url, Tables: orders}, ""},
		{lambent.Database{URL: "mysql://app@db/shop", Tables: orders, Columns: []string{"a", "b"}, Operations: []string{"insert"}, Snapshot: true}, ""},
		{lambent.Database{URL: "postgres://app:se cret%@db/shop", Tables: orders}, "cannot be read"},
		{lambent.Database{URL: "app:cret@db/shop", Tables: orders}, "cannot be read"},
		{lambent.Database{URL: "oracle://app@db/shop", Tables: orders}, "there are postgres://, mysql:// and mariadb://"},
		{lambent.Database{URL: "postgres:///shop", Tables: orders}, "lacks its user, its host"},
		{lambent.Database{URL: "postgres://app@db/", Tables: orders}, "lacks"},
		{lambent.Database{URL: url}, "needs a table"},
		{lambent.Database{URL: url, Tables: []string{"a", "a"}}, "said twice"},
		{lambent.Database{URL: url, Tables: []string{`a"; DROP TABLE b`}}, "not the name of a table"},
		{lambent.Database{URL: url, Tables: orders, Operations: []string{"upsert"}}, "insert, update, delete, truncate"},
		{lambent.Database{URL: url, Tables: orders, Operations: []string{"delete"}, Snapshot: true}, "a snapshot is of inserts"},
	} {
		err := c.d.Validate()
		if c.want == "" {
			if err != nil {
				t.Error(err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "cret") {
			t.Errorf("%+v: %v, want %q", c.d, err, c.want)
		}
	}
	for in, want := range map[string]string{
		url:                                 "postgres://app:xxxxx@db.internal:5432/shop",
		"mysql://app@db/shop?password=cret": "mysql://app@db/shop",
		"mysql://app:c%ret@db/shop":         "mysql://",
	} {
		if got := (&lambent.Database{URL: in}).Masked(); got != want {
			t.Errorf("%s is shown as %s", in, got)
		}
	}
}
