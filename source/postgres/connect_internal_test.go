package postgres

import (
	"os"
	"path/filepath"
	"testing"

	"lambent"
)

// Files of whoever runs the server are not a trigger's.
func TestFiles(t *testing.T) {
	home := t.TempDir()
	if err := os.Mkdir(filepath.Join(home, ".postgresql"), 0o700); err != nil {
		t.Fatal(err)
	}
	root := filepath.Join(home, ".postgresql", "root.crt")
	if err := os.WriteFile(root, []byte("none"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{"HOME": home, "PGSSLROOTCERT": root, "PGSSLCERT": root, "PGSSLKEY": root} {
		t.Setenv(name, value)
	}
	c, err := configuration(&lambent.Database{URL: "postgres://app@db/shop?sslmode=require", Tables: []string{"orders"}})
	if err != nil || c.TLSConfig.RootCAs != nil || c.TLSConfig.Certificates != nil || len(c.Fallbacks) > 0 {
		t.Errorf("%+v, %v", c, err)
	}
}
