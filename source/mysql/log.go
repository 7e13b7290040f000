package mysql

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"

	"github.com/go-mysql-org/go-mysql/client"
	"github.com/go-mysql-org/go-mysql/mysql"
	"github.com/go-mysql-org/go-mysql/replication"

	"lambent"
	"lambent/internal/rows"
)

// errorRead is what a server says that cannot tell its log from where it is to.
const (
	errorRead    = mysql.ER_MASTER_FATAL_ERROR_READING_BINLOG
	errorUnknown = 1955 // MariaDB: a position that its log does not have
)

// A log is what a server writes, as it is read.
type log struct {
	*replication.BinlogStreamer // of events that are not parsed
	syncer                      *replication.BinlogSyncer
	parser                      *parser
	end                         func()
}

func (l *log) Close() {
	l.end() // so that nothing is waited for
	if l.BinlogStreamer != nil {
		// The client's reader is to have seen that: it shares what is closed next, without a lock.
		ctx, cancel := context.WithTimeout(context.Background(), connectTimeout)
		defer cancel()
		for err := error(nil); err == nil; {
			_, err = l.GetEvent(ctx)
		}
	}
	l.syncer.Close()
}

// openLog begins to read the log behind a position, of changes of some tables alone.
func (c *config) openLog(ctx context.Context, at position, id uint32, name string, wanted func(rows.Table) bool) (*log, error) {
	set, err := mysql.ParseGTIDSet(flavour(at.MariaDB), at.GTIDs)
	if err != nil {
		return nil, lambent.Errorf(lambent.Internal, "mysql", "the GTIDs %q cannot be read: %w", at.GTIDs, err)
	}
	life, made, end := hang(ctx)
	l := &log{parser: newParser(at.MariaDB, wanted), end: end}
	l.syncer = replication.NewBinlogSyncer(replication.BinlogSyncerConfig{
		ServerID: id, Flavor: flavour(at.MariaDB), Host: c.host, Port: c.port, User: c.user, Password: c.password, TLSConfig: c.tls,
		Localhost: name, Dialer: dialer(life), HeartbeatPeriod: tick, DisableRetrySync: true, DiscardGTIDSet: true, RawModeEnabled: true,
		Logger: slog.New(slog.DiscardHandler), EventCacheCount: 16,
		Option: func(c *client.Conn) error {
			_, err := c.Execute("SET SESSION net_write_timeout = 3600")
			return err
		},
	})
	if err := made(safely(func() (err error) {
		l.BinlogStreamer, err = l.syncer.StartSyncGTID(set)
		return err
	})); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

func flavour(mariadb bool) string {
	if mariadb {
		return mysql.MariaDBFlavor
	}
	return mysql.MySQLFlavor
}

// try reads the first of the log: whether that is allowed MySQL only tells whoever does.
func try(ctx context.Context, c *config, s *server, sql *conn, t *lambent.Trigger, at position) error {
	id, err := s.replicaID(sql, t)
	if err != nil {
		return err
	}
	l, err := c.openLog(ctx, at, id, replicaName(t), func(rows.Table) bool { return false })
	if err == nil {
		defer l.Close()
		limited, cancel := context.WithTimeout(ctx, connectTimeout)
		defer cancel()
		_, err = l.GetEvent(limited)
	}
	switch codeOf(err) {
	case mysql.ER_ACCESS_DENIED_ERROR, mysql.ER_SPECIFIC_ACCESS_DENIED_ERROR:
		return s.noReplication(err)
	}
	return err
}

// replicaName is what a trigger's connection is called among the server's replicas.
func replicaName(t *lambent.Trigger) string { return "lambent-" + t.ID }

// replicaID is the number of a trigger among the server's replicas, of which each has
// one: it is the trigger's own, unless another is found to have it.
func (s *server) replicaID(c *conn, t *lambent.Trigger) (uint32, error) {
	taken := []string{s.variables["server_id"]}
	list := "SHOW SLAVE HOSTS"
	if !s.mariadb && s.version >= 80022 {
		list = "SHOW REPLICAS"
	}
	replicas, err := ask(c, list)
	if err != nil && codeOf(err) == 0 { // who may not see the others takes it that none is the same
		return 0, err
	}
	for _, r := range replicas {
		if r[1] != replicaName(t) { // one of ours that is about to end
			taken = append(taken, r[0])
		}
	}
	for n := 0; ; n++ {
		hash := sha256.Sum256([]byte(t.ID + " " + t.Since.String() + " " + strconv.Itoa(n)))
		id := binary.BigEndian.Uint32(hash[:]) | 1<<31 // above what people choose
		if !slices.Contains(taken, strconv.FormatUint(uint64(id), 10)) {
			return id, nil
		}
	}
}

// logError is an error of reading the log.
func (w *watch) logError(err error) error {
	switch code := codeOf(err); {
	case code == errorRead && strings.Contains(line(err), "same server"):
		return lambent.Errorf(lambent.Unavailable, "mysql", "another replica has the trigger's server_id: %s", line(err))
	case code == errorRead || code == errorUnknown:
		return w.lost(fmt.Sprintf("the server no longer has the log from %s on, to which the trigger has come (%s)", w.from.where(), line(err)))
	}
	return err
}

// where is a position for people.
func (p *position) where() string {
	if p.GTIDs == "" {
		return "its beginning"
	}
	return p.GTIDs
}
