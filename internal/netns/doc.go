// Package netns makes the networks of sandboxes: a network namespace with one
// way out, a fence on the host's side of it, and what the platform serves inside.
//
// A [Net] outlives its sandbox and serves the next, because making one is slow
// and ending one slower, but only if its function reached nothing outside: what
// a function did with the world can be seen in its namespace for minutes.
//
// Everything that decides what a function may reach is on the host's side, where
// no function has rights. What it promises is in DESIGN.md beside this file.
//
// Linux only: on other systems the package is empty.
package netns
