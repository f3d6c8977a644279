package postgres

// What the keywords of libpq mean that pgx does not know.

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

var tlsVersions = map[string]uint16{"tlsv1": tls.VersionTLS10, "tlsv1.1": tls.VersionTLS11, "tlsv1.2": tls.VersionTLS12, "tlsv1.3": tls.VersionTLS13}

// forPgx returns the settings without the keywords that pgx does not know, and
// with values as it reads them.
func (s parsed) forPgx() parsed {
	kept := parsed{}
	for name, value := range s {
		switch {
		case notOfPgx[name]:
			continue
		case name == "client_encoding" && value == "auto":
			continue // that of the locale, which Go has not
		case name == "connect_timeout" && s.number(name, 0) < 0:
			value = "0" // without limit, as in libpq
		case numbers[name] != "":
			value = strings.TrimSpace(value)
		}
		kept[name] = value
	}
	return kept
}

// number returns the value of one of numbers.
func (s parsed) number(name string, otherwise int) int {
	n, err := strconv.Atoi(strings.TrimSpace(s[name]))
	if err != nil {
		return otherwise
	}
	return n
}

// addresses are what hostaddr gives for each host, as many as hosts, each empty for
// a host that is looked up. It gives s the hosts that pgx is to verify: an address is
// its own host where host is empty. It is nil without hostaddr.
func (s parsed) addresses() (addresses []string, reason string) {
	if strings.Trim(s["hostaddr"], ",") == "" {
		return nil, ""
	}
	addresses = strings.Split(s["hostaddr"], ",")
	hosts := strings.Split(s["host"], ",")
	if s["host"] == "" {
		hosts = make([]string, len(addresses))
	}
	if len(hosts) != len(addresses) {
		return nil, fmt.Sprintf("has %d addresses in hostaddr for %d hosts: give one for each, an empty one for a host that is looked up", len(addresses), len(hosts))
	}
	for i, address := range addresses {
		if address == "" {
			continue
		}
		if _, err := netip.ParseAddr(address); err != nil {
			return nil, "has a hostaddr that is not an IP address: write a name as host"
		}
		if hosts[i] == "" || strings.HasPrefix(hosts[i], "/") {
			hosts[i] = address
		}
	}
	s["host"] = strings.Join(hosts, ",")
	return addresses, ""
}

// connectTo makes the configuration connect to the addresses of its hosts. TLS goes
// on to verify the host.
func connectTo(config *pgconn.Config, addresses []string, hosts int) {
	places := make([]*string, 0, 1+len(config.Fallbacks))
	places = append(places, &config.Host)
	for _, fallback := range config.Fallbacks {
		places = append(places, &fallback.Host)
	}
	// Each host is tried in as many ways, with TLS and without, except
	// unix sockets, which have one way.
	sockets := 0
	for _, place := range places {
		if strings.HasPrefix(*place, "/") {
			sockets++
		}
	}
	ways := 1
	if hosts > sockets {
		ways = (len(places) - sockets) / (hosts - sockets)
	}
	for i := 0; len(addresses) > 0 && i < len(places); addresses = addresses[1:] {
		n := ways
		if strings.HasPrefix(*places[i], "/") {
			n = 1
		}
		for ; n > 0; n, i = n-1, i+1 {
			if addresses[0] != "" {
				*places[i] = addresses[0]
			}
		}
	}
}

// boundTLS sets the versions of TLS that may be used.
func (s parsed) boundTLS(config *pgconn.Config) (reason string) {
	least, most := tlsVersions[strings.ToLower(s["ssl_min_protocol_version"])], tlsVersions[strings.ToLower(s["ssl_max_protocol_version"])]
	if most != 0 && least > most {
		return "has a higher ssl_min_protocol_version than ssl_max_protocol_version"
	}
	if least == 0 && most != 0 && most < tls.VersionTLS12 {
		return "has an ssl_max_protocol_version below TLSv1.2, which is the least without ssl_min_protocol_version: set that too"
	}
	all := []*tls.Config{config.TLSConfig}
	for _, fallback := range config.Fallbacks {
		all = append(all, fallback.TLSConfig)
	}
	for _, c := range all {
		if c != nil {
			c.MinVersion, c.MaxVersion = least, most
		}
	}
	return ""
}

// dial returns what makes the connections: with the keep-alives that libpq's keywords
// ask for, else with those of [keepAlive].
func (s parsed) dial() pgconn.DialFunc {
	dialer := &net.Dialer{KeepAliveConfig: keepAlive}
	seconds := func(name string, otherwise time.Duration) time.Duration {
		switch n := s.number(name, 0); {
		case s[name] == "":
			return otherwise
		case n <= 0:
			return -1 // that of the operating system
		default:
			return time.Duration(n) * time.Second
		}
	}
	alive := &dialer.KeepAliveConfig
	alive.Idle, alive.Interval = seconds("keepalives_idle", alive.Idle), seconds("keepalives_interval", alive.Interval)
	if s["keepalives_count"] != "" {
		if alive.Count = s.number("keepalives_count", 0); alive.Count <= 0 {
			alive.Count = -1
		}
	}
	if s["keepalives"] == "0" {
		dialer.KeepAliveConfig, dialer.KeepAlive = net.KeepAliveConfig{}, -1
	}
	if limit := s.number("tcp_user_timeout", 0); limit > 0 {
		dialer.Control = limitUnacknowledged(time.Duration(limit) * time.Millisecond)
	}
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		return dialer.DialContext(ctx, network, address)
	}
}

// keepAlive finds a peer that vanished without closing the connection within
// about half a minute.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 3}
