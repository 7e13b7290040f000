//go:build !linux

package rootfs

import (
	"errors"
	"os/exec"
)

// do runs a command in the cell, to its end.
func (c *cell) do(cmd *exec.Cmd) error {
	if c.root != "" {
		return errors.New("root file systems need Linux")
	}
	cmd.Dir = c.tmp
	return cmd.Run()
}
