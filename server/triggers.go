package server

import (
	"cmp"
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"time"

	"lambent"
	"lambent/guest"
	"lambent/internal/webhook"
	"lambent/queue"
	"lambent/source"
	"lambent/source/broker"
	"lambent/source/cron"
	"lambent/source/kafka"
	"lambent/source/mqtt"
	"lambent/source/mysql"
	"lambent/source/nats"
	"lambent/source/object"
	"lambent/source/postgres"
	queues "lambent/source/queue"
	"lambent/source/rabbitmq"
	"lambent/source/redis"
	"lambent/store"
	"lambent/trigger"
)

// openTriggers begins to run what was accepted before.
func (s *Server) openTriggers(ctx context.Context) (err error) {
	if s.queue, err = s.store.OpenQueue(ctx, store.QueueOptions{LaneDead: s.cfg.MaxDead}); err != nil {
		return err
	}
	s.onClose("queue", s.queue.Close)
	history, err := s.store.OpenHistory(ctx, store.HistoryOptions{Age: s.cfg.KeepEvents})
	if err != nil {
		return err
	}
	s.onClose("history", history.Close)
	s.objects = object.Open(s.path(bucketsDir))
	s.objects.Others = s.notified
	s.onClose("objects", func() error { s.objects.Close(); return nil })
	s.triggers, err = trigger.Open(ctx, trigger.Config{
		Invoker: s.dispatch, Store: s.store, Queue: s.queue, History: history,
		Sources: map[string]source.Source{
			"schedule": cron.Source{}, "bucket": s.objects, "postgres": s.postgres(), "mysql": &mysql.Source{}, "queue": &queues.Source{Queues: s.queues},
			"kafka":    broker.New(kafka.Driver{}),
			"mqtt":     broker.New(mqtt.Driver{}),
			"nats":     broker.New(nats.Driver{}),
			"rabbitmq": broker.New(rabbitmq.Driver{}),
			"redis":    broker.New(redis.Driver{}),
		},
		MaxPayload: s.limits.MaxAsyncPayload, Logger: s.log, Send: s.sendMessage, Post: s.postWebhook,
		Line: func(n lambent.Name, id, text string) {
			version := cmp.Or(n.Qualifier, lambent.Latest)
			n.Qualifier = ""
			s.logs.Function(n).Line(time.Now(), version, id, []byte(text))
		},
		Async: func(n lambent.Name) (lambent.Async, error) {
			t, err := s.control.Resolve(n)
			if err != nil {
				return lambent.Async{}, err
			}
			return *t.Async, nil
		},
		Together: func(n lambent.Name) bool {
			t, err := s.control.Resolve(n)
			return err == nil && s.batches(t.Revision)
		},
	})
	if err != nil {
		return err
	}
	s.onClose("triggers", func() error {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second) // Close has given the grace
		defer cancel()
		return s.triggers.Close(ctx)
	})
	return nil
}

// postgres watches databases of PostgreSQL.
func (s *Server) postgres() *postgres.Source {
	return &postgres.Source{MaxRetained: int64(s.cfg.WarnLogMB) << 20, Warn: func(t *lambent.Trigger, what string) {
		s.log.Warn("a trigger's database is to be looked after", "project", t.Target.Project, "function", t.Target.Function, "trigger", t.ID, "database", t.Database.Masked(), "warning", what)
	}}
}

// sendMessage puts one into a queue.
func (s *Server) sendMessage(ctx context.Context, project, name, trace string, hops int, body []byte) error {
	_, errs, err := s.queues.Send(ctx, project, name, queue.Message{Body: body, Trace: lambent.XRay(trace), Hops: hops})
	return errors.Join(append(errs, err)...)
}

// postWebhook tells a receiver of a function's, as far as the function itself gets.
func (s *Server) postWebhook(ctx context.Context, n lambent.Name, url, id string, body []byte) error {
	var network lambent.Network
	if t, err := s.control.Resolve(n); err == nil { // it may be gone by now
		network = t.Revision.Network
	}
	return webhook.Send(ctx, webhook.Message{
		URL: url, ID: id, Secret: s.keys.WebhookSecret(n.Project), Body: body,
		Reach: func(host string, to netip.AddrPort) bool {
			return s.driverName == driverProcess || network.Allows(host, to, isOurs(to.Addr()))
		},
	})
}

// isOurs reports whether an address is one of this machine.
func isOurs(a netip.Addr) bool {
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return true
	}
	return slices.ContainsFunc(addresses, func(one net.Addr) bool {
		p, err := netip.ParsePrefix(one.String())
		return err == nil && p.Addr().Unmap() == a.Unmap()
	})
}

// batches reports whether a revision's code may have several events in one invocation.
func (s *Server) batches(r *lambent.Revision) bool {
	rt, err := s.runtime(r.Config.Runtime)
	if err != nil {
		return false // which whoever starts it will say
	}
	g, ok := s.guests[rt.Guest].(guest.Batcher)
	return ok && g.Batches()
}

const sweepEvery = time.Hour

// sweep removes dead letters that are too old.
func (s *Server) sweep(ctx context.Context) {
	for {
		n, err := s.triggers.Sweep(time.Now().Add(-s.cfg.KeepDead))
		if err != nil && ctx.Err() == nil {
			s.log.Warn("dead letters cannot be removed", "error", err)
		}
		if n > 0 {
			s.log.Info("removed dead letters", "count", n, "older than", s.cfg.KeepDead)
		}
		select {
		case <-time.After(sweepEvery):
		case <-ctx.Done():
			return
		}
	}
}
