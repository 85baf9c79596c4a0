package enginetest

import (
	"context"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"testing"
	"time"
)

// Address is where a container answers on a port now; with a start it may be given another one.
func (s *Stage) Address(name string, port int) (string, error) {
	c, err := s.Engine.Inspect(context.Background(), name)
	if err != nil {
		return "", err
	}
	for _, network := range c.Networks {
		for _, addr := range network.Addrs {
			return net.JoinHostPort(addr.String(), strconv.Itoa(port)), nil
		}
	}
	return "", fmt.Errorf("%s has no address", name)
}

// Endpoint is an address that leads to a container whatever its own is, as a name in DNS would.
func (s *Stage) Endpoint(t *testing.T, name string, port int) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	Serve(t, Relay(func() (net.Conn, error) {
		addr, err := s.Address(name, port)
		if err != nil {
			return nil, err
		}
		return net.DialTimeout("tcp", addr, 5*time.Second)
	}), l)
	return l.Addr().String()
}

// Relay passes connections on to where it dials.
type Relay func() (net.Conn, error)

// Serve passes on what comes from l until ctx ends, and closes all of it then.
func (dial Relay) Serve(ctx context.Context, l net.Listener) error {
	var all sync.WaitGroup
	defer all.Wait()
	defer context.AfterFunc(ctx, func() { l.Close() })()
	for {
		in, err := l.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		all.Go(func() {
			defer in.Close()
			out, err := dial()
			if err != nil {
				return
			}
			defer out.Close()
			defer context.AfterFunc(ctx, func() { in.Close(); out.Close() })()
			var both sync.WaitGroup
			for from, to := range map[net.Conn]net.Conn{in: out, out: in} {
				both.Go(func() {
					io.Copy(to, from)
					if half, ok := to.(interface{ CloseWrite() error }); ok {
						half.CloseWrite()
					}
				})
			}
			both.Wait()
		})
	}
}
