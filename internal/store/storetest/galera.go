package storetest

import (
	"context"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/go-sql-driver/mysql"
)

// GaleraEnv names the nodes of a Galera cluster that the tests may use, each like
// MySQLEnv, with blanks between.
const GaleraEnv = "FLAVORSYNC_TEST_GALERA_DSNS"

// GaleraDSNs names a new database without any table on each node of the cluster. See
// Open.
func GaleraDSNs(t testing.TB) []string {
	t.Helper()
	servers := strings.Fields(os.Getenv(GaleraEnv))
	if len(servers) == 0 {
		unavailable(t, GaleraEnv+" is not set: there is no Galera cluster to test with (scripts/galera starts one)")
	}
	nodes := make([]*mysql.Config, len(servers))
	for i, server := range servers {
		nodes[i] = parse(t, GaleraEnv, server)
	}
	name := create(t, nodes[0])
	dsns := make([]string, len(nodes))
	for i, node := range nodes {
		// The other nodes have not made it yet, it may be.
		administer(t, node, "SET SESSION wsrep_sync_wait = 1", "SELECT 1")
		dsns[i] = with(node, name)
	}
	return dsns
}

// Spread is a DSN like dsns, whose connections go to each of them in turn, as through a
// load balancer: past one that does not listen.
func Spread(t testing.TB, dsns ...string) string {
	t.Helper()
	return balancer(t, dsns, func(turn int) int { return turn % len(dsns) })
}

// Prefer is a DSN like dsns, whose connections go to the first of them that listens.
func Prefer(t testing.TB, dsns ...string) string {
	t.Helper()
	return balancer(t, dsns, func(int) int { return 0 })
}

// balancer lets first choose where the connection of that turn goes.
func balancer(t testing.TB, dsns []string, first func(turn int) int) string {
	t.Helper()
	nodes := make([]*mysql.Config, len(dsns))
	for i, dsn := range dsns {
		nodes[i] = parse(t, GaleraEnv, dsn)
	}
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for turn := 0; ; turn++ {
			client, err := listener.Accept()
			if err != nil {
				return // the test is over
			}
			at := first(turn)
			go balance(client, slices.Concat(nodes[at:], nodes[:at]))
		}
	}()
	balanced := nodes[0].Clone()
	balanced.Addr = listener.Addr().String()
	return balanced.FormatDSN()
}

// balance lets client talk to the first of nodes that listens, until either has gone.
func balance(client net.Conn, nodes []*mysql.Config) {
	defer func() { _ = client.Close() }()
	for _, node := range nodes {
		server, err := new(net.Dialer).DialContext(context.Background(), "tcp", node.Addr)
		if err != nil {
			continue
		}
		go func() {
			_, _ = io.Copy(server, client)
			_ = server.Close()
		}()
		_, _ = io.Copy(client, server)
		return
	}
}
