package queue_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"lambent"
	"lambent/queue"
	"lambent/store"
)

// crashVariable has the test binary be a process of TestCrash, on that directory.
const crashVariable = "LAMBENT_TEST_QUEUES_CRASH"

func TestMain(m *testing.M) {
	if dir := os.Getenv(crashVariable); dir != "" {
		if err := crash(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// crash sends, receives and deletes until it is killed, and says in lines what it does:
// sent, got (is received), gone (is deleted), each with a body.
func crash(dir string) error {
	ctx := context.Background()
	s, err := store.Open(ctx, store.Options{Dir: dir})
	if err != nil {
		return err
	}
	log, err := s.OpenQueue(ctx, store.QueueOptions{Name: "messages"})
	if err != nil {
		return err
	}
	qs, err := queue.Open(ctx, queue.Config{Store: s, Log: log, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	var mu sync.Mutex
	say := func(what, body string) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Fprintln(os.Stdout, what, body)
	}
	fail := make(chan error)
	run := rand.Uint32()
	for _, name := range []string{"q", "q.fifo"} {
		change := func(s *queue.Settings) {
			if name != "q" {
				fifo(s)
			}
		}
		if _, err := qs.Create(ctx, project, name, as(change), nil); err != nil {
			return err
		}
		for sender := range 4 {
			go func() {
				for i := 0; ; i++ {
					body := fmt.Sprintf("%s-%d-%d-%d", name, run, sender, i)
					m := text(body)
					m.Group = fmt.Sprint("g", sender)
					_, errs, err := qs.Send(ctx, project, name, m)
					if err := errors.Join(append(errs, err)...); err != nil {
						fail <- err
						return
					}
					say("sent", body)
				}
			}()
		}
		for range 4 {
			go func() {
				for {
					all, err := qs.Receive(ctx, project, name, 5, time.Second, time.Minute)
					if err != nil {
						fail <- err
						return
					}
					for _, r := range all {
						say("got", string(r.Body))
						if rand.IntN(4) == 0 && name == "q" {
							continue // it is not deleted
						}
						say("going", string(r.Body))
						errs, err := qs.DeleteMessages(ctx, project, name, r.Receipt)
						if err := errors.Join(append(errs, err)...); err != nil {
							fail <- err
							return
						}
						say("gone", string(r.Body))
					}
				}
			}()
		}
	}
	return <-fail
}

// Through any number of kill -9, no message is lost that was sent, none comes that was
// deleted, and those of a group come in their order.
func TestCrash(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	sent, going, gone := map[string]bool{}, map[string]bool{}, map[string]bool{}
	for range 4 {
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), crashVariable+"="+dir)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		kill := time.AfterFunc(time.Hour, func() { _ = cmd.Process.Kill() })
		lines := 0
		order := map[string]int{}
		for in := bufio.NewScanner(out); in.Scan(); lines++ {
			if lines == 0 {
				kill.Reset(time.Duration(200+rand.IntN(300)) * time.Millisecond)
			}
			what, body, ok := strings.Cut(in.Text(), " ")
			if !ok || strings.Count(body, "-") != 3 {
				continue // cut off
			}
			switch what {
			case "sent":
				sent[body] = true
			case "going":
				going[body] = true
			case "gone":
				gone[body] = true
			case "got":
				if gone[body] {
					t.Errorf("%s comes again, and was deleted", body)
				}
				if group, n, _ := cutLast(body); strings.HasPrefix(body, "q.fifo") {
					if last, ok := order[group]; ok && n != last+1 {
						t.Errorf("%s comes after number %d", body, last)
					}
					order[group] = n
				}
			}
		}
		_ = cmd.Wait() // it was killed
		kill.Stop()
		if lines < 10 {
			t.Fatalf("the process said %d lines", lines)
		}
	}
	b := open(t, dir)
	left := map[string]bool{}
	for _, name := range []string{"q", "q.fifo"} {
		for {
			all := b.receive(t, name, 10, 0, long)
			if len(all) == 0 {
				all = b.receive(t, name, 10, 300*time.Millisecond, long)
			}
			if len(all) == 0 {
				break
			}
			for _, r := range all {
				if left[string(r.Body)] || gone[string(r.Body)] {
					t.Errorf("%s is there twice, or was deleted", r.Body)
				}
				left[string(r.Body)] = true
			}
			if name != "q" {
				for _, r := range all {
					if errs, err := b.DeleteMessages(t.Context(), project, name, r.Receipt); err != nil || errs[0] != nil {
						t.Fatal(err, errs)
					}
				}
			}
		}
	}
	deleting := 0
	for body := range sent {
		switch {
		case gone[body] || left[body]:
		case going[body]: // it was being deleted when the process was killed, and nobody has said that it was
			deleting++
		default:
			t.Errorf("%s is lost", body)
		}
	}
	t.Logf("%d sent, %d deleted, %d left, %d being deleted", len(sent), len(gone), len(left), deleting)
}

func cutLast(body string) (group string, n int, err error) {
	i := strings.LastIndexByte(body, '-')
	n, err = strconv.Atoi(body[i+1:])
	return body[:i], n, err
}

// Many send, receive, give back and delete at once: all messages are deleted, and those of a
// group in their order.
func TestHammer(t *testing.T) {
	t.Parallel()
	b := open(t, t.TempDir())
	const senders, each, groups = 8, 60, 4
	for _, name := range []string{"q", "q.fifo"} {
		b.create(t, name, func(s *queue.Settings) {
			if name != "q" {
				fifo(s)
			}
		})
		var mu sync.Mutex
		deleted := map[string]int{}
		orders := map[string]int{}
		done := make(chan struct{})
		var over sync.Once
		var all sync.WaitGroup
		for sender := range senders {
			all.Go(func() {
				for i := range each {
					m := text(fmt.Sprintf("%d-%d", sender, i))
					m.Group = fmt.Sprint("g", sender%groups, "-", sender)
					if _, errs, err := b.Send(t.Context(), project, name, m); err != nil || errs[0] != nil {
						t.Error(err, errs)
					}
				}
			})
		}
		for range 8 {
			all.Go(func() {
				for {
					select {
					case <-done:
						return
					default:
					}
					got, err := b.Receive(t.Context(), project, name, 1+rand.IntN(10), 100*time.Millisecond, 150*time.Millisecond)
					if err != nil {
						t.Error(err)
						return
					}
					for i, r := range got {
						var errs []error
						if rand.IntN(8) == 0 {
							errs, err = b.ChangeVisibility(project, name, queue.VisibilityChange{Receipt: r.Receipt, Visibility: time.Duration(rand.IntN(20)) * time.Millisecond})
							if err == nil && (errs[0] == nil || lambent.Is(errs[0], lambent.Invalid)) && name != "q" {
								break // the others of its group come after it
							}
							continue
						}
						mu.Lock() // so that what is counted is in the order of what is done
						errs, err = b.DeleteMessages(t.Context(), project, name, r.Receipt)
						if err == nil && errs[0] == nil {
							deleted[string(r.Body)]++
							if name != "q" {
								group, n, _ := cutLast(string(r.Body))
								if n != orders[group] {
									t.Errorf("%s is deleted after %d (the %dth of %d)", r.Body, orders[group], i, len(got))
								}
								orders[group] = n + 1
							}
						} else if name == "q" || !lambent.Is(errs[0], lambent.Invalid) {
							t.Error(err, errs)
						}
						late := errs[0] != nil
						n := len(deleted)
						mu.Unlock()
						if n == senders*each {
							over.Do(func() { close(done) })
						}
						if late {
							break
						}
					}
				}
			})
		}
		all.Wait()
		if len(deleted) != senders*each {
			t.Errorf("%s: %d deleted", name, len(deleted))
		}
		if i, err := b.Get(project, name); err != nil || i.Visible+i.Delayed != 0 || name != "q" && i.Out != 0 {
			t.Errorf("%s: left %+v, %v", name, i, err)
		}
	}
}
