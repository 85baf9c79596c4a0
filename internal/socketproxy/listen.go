package socketproxy

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/sidecert/sidecert/internal/cert"
)

// socketMode lets everybody use the socket who mounts the folder that it is in.
const socketMode = 0o666

// Listen opens the place where the proxy is asked. Of a unix socket it makes the folder where it is missing, and takes the place of the
// socket that a killed proxy has left. A lock beside it tells that from the socket of one that runs, which is an error.
func Listen(at net.Addr) (net.Listener, error) {
	if at.Network() != "unix" {
		l, err := net.Listen(at.Network(), at.String())
		if err != nil {
			return nil, &cert.Error{Op: "listen", Err: err, Hint: "set SOCKET_PROXY_LISTEN to an address of this container with a free port, e.g. tcp://0.0.0.0:2375"}
		}
		return l, nil
	}
	path := at.String()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, listenError(err)
	}
	lock, err := os.OpenFile(path+".lock", os.O_CREATE|os.O_RDWR|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, listenError(err)
	}
	l, err := take(path, lock)
	if err != nil {
		lock.Close()
		return nil, err
	}
	return &locked{Listener: l, lock: lock}, nil
}

// take makes the socket, under the lock.
func take(path string, lock *os.File) (net.Listener, error) {
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); errors.Is(err, syscall.EWOULDBLOCK) {
		return nil, &cert.Error{
			Op: "listen", Err: fmt.Errorf("another socket proxy listens at %s", path),
			Hint: "stop it, or give this one a volume or a SOCKET_PROXY_LISTEN of its own",
		}
	} else if err != nil {
		return nil, listenError(fmt.Errorf("lock %s: %w", lock.Name(), err))
	}
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, listenError(err)
	case info.Mode()&fs.ModeSocket == 0:
		return nil, &cert.Error{Op: "listen", Err: fmt.Errorf("%s is there and no socket", path), Hint: "take it away, or set SOCKET_PROXY_LISTEN to another path"}
	default:
		if err := os.Remove(path); err != nil {
			return nil, listenError(err)
		}
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, listenError(err)
	}
	if err := os.Chmod(path, socketMode); err != nil {
		l.Close()
		return nil, listenError(err)
	}
	return l, nil
}

func listenError(err error) error {
	return &cert.Error{Op: "listen", Err: err, Hint: "the folder of SOCKET_PROXY_LISTEN must be on a volume that this process can write to, e.g. volumes: [socket:/run/sidecert]"}
}

// locked keeps the lock as long as it listens.
type locked struct {
	net.Listener
	lock *os.File
}

func (l *locked) Close() error {
	defer l.lock.Close()
	return l.Listener.Close()
}

// limited accepts a connection when there are fewer than so many.
type limited struct {
	net.Listener
	free   chan struct{}
	closed chan struct{}
	once   sync.Once
}

func atMost(l net.Listener, conns int) net.Listener {
	return &limited{Listener: l, free: make(chan struct{}, conns), closed: make(chan struct{})}
}

func (l *limited) Accept() (net.Conn, error) {
	select {
	case l.free <- struct{}{}:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	conn, err := l.Listener.Accept()
	if err != nil {
		<-l.free
		return nil, err
	}
	return &counted{Conn: conn, done: sync.OnceFunc(func() { <-l.free })}, nil
}

func (l *limited) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

type counted struct {
	net.Conn
	done func()
}

func (c *counted) Close() error {
	defer c.done()
	return c.Conn.Close()
}
