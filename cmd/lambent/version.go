package main

import (
	"cmp"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

const versionHelp = `Print the version of this program.

  lambent version
  lambent version -o json`

// release is the version, set by the linker in releases.
var release string

// A buildVersion says what this program is.
type buildVersion struct {
	Version  string `json:"version"`
	Commit   string `json:"commit,omitempty"`
	Modified bool   `json:"modified,omitempty"` // built from a tree with changes
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

func readBuildVersion() buildVersion {
	v := buildVersion{Version: cmp.Or(release, "dev"), Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			switch s.Key {
			case "vcs.revision":
				v.Commit = s.Value
			case "vcs.modified":
				v.Modified = s.Value == "true"
			}
		}
	}
	return v
}

func versionCommand(p *program) *cobra.Command {
	c := &cobra.Command{Use: "version", Short: "Print the version of this program", Long: versionHelp, Args: args(0)}
	o := outputFlag(c, "text", "json", "yaml")
	c.RunE = func(*cobra.Command, []string) error {
		v := readBuildVersion()
		if o.format != "text" {
			return o.print(p.out, v, nil, nil)
		}
		commit := ""
		if v.Commit != "" {
			commit = " " + short(v.Commit)
			if v.Modified {
				commit += " with changes"
			}
		}
		_, err := fmt.Fprintf(p.out, "lambent %s%s (%s, %s)\n", v.Version, commit, v.Go, v.Platform)
		return err
	}
	return c
}
