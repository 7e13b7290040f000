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
		{lambent.Database{URL: url, Tables: orders, Shape: "kinesis"}, `"kinesis" is no shape of changes: there is dynamodb`},
		{lambent.Database{URL: url, Tables: orders, Shape: lambent.ShapeDynamoDB, Operations: []string{"truncate"}}, "have no truncate"},
		{lambent.Database{URL: url, Tables: orders, Shape: lambent.ShapeDynamoDB, Operations: []string{"insert"}}, ""},
		{lambent.Database{URL: "postgres://app@db,:5432/shop", Tables: orders}, "lacks its user, its host"},
		{lambent.Database{URL: "postgres://app@db/shop?sslrootcert=/etc/shadow", Tables: orders}, "sslrootcert, which names a file that the server would have to read: leave it out, and give what is in the file, by --ca FILE"},
		{lambent.Database{URL: "postgres://app@db/shop?sslrootcert=system", Tables: orders}, "sslmode=verify-full"},
		{lambent.Database{URL: "mariadb://app@db/shop?ssl-key=key.pem", Tables: orders}, "by --key FILE"},
		{lambent.Database{URL: "postgres://app@db/shop?options=-crole%3Dx", Tables: orders}, `the parameter "options": it may have sslmode, connect_timeout, target_session_attrs`},
		{lambent.Database{URL: "postgres://app@db/shop?sslmode=full", Tables: orders}, `the sslmode "full": there are disable, allow, prefer, require, verify-ca, verify-full`},
		{lambent.Database{URL: "postgres://app@db/shop?sslmode=prefer", Tables: orders, Certificates: lambent.Certificates{CA: "x"}}, "certificates go with TLS, which sslmode=prefer does not insist on"},
		{lambent.Database{URL: "mysql://app@db/shop?ssl-mode=DISABLED", Tables: orders, Certificates: lambent.Certificates{CA: "x"}}, "say required, verify_ca or verify_identity"},
		{lambent.Database{URL: "mysql://app@db/shop", Tables: orders, Certificates: lambent.Certificates{CA: "x"}}, "the database's CA has no certificate"},
		{lambent.Database{URL: "mysql://app@db/shop", Tables: orders, Certificates: lambent.Certificates{Key: "secret"}}, "the database's certificate and key are none"},
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

func TestTLSMode(t *testing.T) {
	t.Parallel()
	ca, key := lambent.Certificates{CA: "x"}, lambent.Certificates{Certificate: "x", Key: "x"}
	for _, c := range []struct {
		url          string
		certificates lambent.Certificates
		want         string
	}{
		{"postgres://app@db/shop", lambent.Certificates{}, "prefer"},
		{"postgres://app@db/shop", ca, "verify-full"},
		{"postgres://app@db/shop", key, "verify-full"},
		{"postgres://app@db/shop?sslmode=require", lambent.Certificates{}, "require"},
		{"postgres://app@db/shop?sslmode=require", ca, "verify-ca"},
		{"postgres://app@db/shop?sslmode=require", key, "require"},
		{"mysql://app@db/shop", lambent.Certificates{}, "preferred"},
		{"mariadb://app@db/shop", ca, "verify_identity"},
		{"mariadb://app@db/shop?ssl-mode=VERIFY_CA", ca, "verify_ca"},
	} {
		if got := (&lambent.Database{URL: c.url, Certificates: c.certificates}).TLSMode(); got != c.want {
			t.Errorf("%s, %+v: %s, want %s", c.url, c.certificates, got, c.want)
		}
	}
}
