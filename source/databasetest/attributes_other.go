//go:build !linux

package databasetest

import "syscall"

func attributes() *syscall.SysProcAttr { return nil }
