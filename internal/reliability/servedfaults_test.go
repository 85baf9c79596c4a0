package reliability

import (
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"
)

// servedFault is something that befalls a scene or one of its slots; its end undoes it.
type servedFault struct {
	name  string
	begin func(s *servedScene, slot *servedSlot) (end func())
	// daemon says that it befalls no web container.
	daemon bool
	// late says that it may also happen when all is current.
	late bool
}

func nothingMore() {}

var servedFaults = []servedFault{
	{name: "configuration broken", begin: func(s *servedScene, slot *servedSlot) func() {
		s.configure(slot, s.live(), "\n}} nonsense\n")
		return func() { s.configure(slot, s.live(), "") }
	}},
	{name: "stopped", late: true, begin: func(s *servedScene, slot *servedSlot) func() {
		s.docker("stop", "--time", "1", slot.name)
		return func() { s.docker("start", slot.name) }
	}},
	{name: "recreated", late: true, begin: func(s *servedScene, slot *servedSlot) func() {
		s.remove(slot)
		s.run(slot, s.live())
		return nothingMore
	}},
	{name: "paused", late: true, begin: func(s *servedScene, slot *servedSlot) func() {
		s.until("the kernel lets "+slot.name+" be paused", func() bool { return exec.Command("docker", "pause", slot.name).Run() == nil })
		return func() { s.docker("unpause", slot.name) }
	}},
	{name: "killed", late: true, begin: func(s *servedScene, slot *servedSlot) func() {
		s.docker("kill", slot.name)
		return func() { s.docker("start", slot.name) }
	}},
	{name: "replaced by one with an old copy", late: true, begin: func(s *servedScene, slot *servedSlot) func() {
		s.remove(slot)
		s.run(slot, s.only(max(1, s.version()-s.random.IntN(2))))
		return func() {
			s.remove(slot)
			s.run(slot, s.live())
		}
	}},
	{name: "scaled", late: true, begin: func(s *servedScene, slot *servedSlot) func() {
		last := s.slots[len(s.slots)-1]
		if s.random.IntN(2) == 0 {
			s.remove(slot)
			return func() { s.run(slot, s.live()) }
		}
		over := last.trouble()
		s.run(last, s.live())
		return func() {
			s.remove(last)
			over()
		}
	}},
	{name: "restarted when signalled", begin: func(s *servedScene, _ *servedSlot) func() {
		var restarts sync.WaitGroup
		s.socket.onTold(func(slot *servedSlot) bool {
			restarts.Go(func() {
				defer slot.trouble()()
				exec.Command("docker", "restart", "--time", "1", slot.name).Run()
			})
			return true
		})
		return func() {
			s.socket.onTold(nil)
			restarts.Wait()
		}
	}},
	{name: "socket away", daemon: true, late: true, begin: func(s *servedScene, _ *servedSlot) func() {
		s.leave()
		s.socket.server.Close()
		return func() { s.serve(); s.back() }
	}},
	{name: "socket slow", daemon: true, begin: func(s *servedScene, _ *servedSlot) func() {
		s.socket.set(time.Second, false)
		return func() { s.socket.set(0, false) }
	}},
	{name: "socket answers 403", daemon: true, begin: func(s *servedScene, _ *servedSlot) func() {
		s.leave()
		s.socket.set(0, true)
		return func() { s.socket.set(0, false); s.back() }
	}},
	{name: "sidecert killed when it signalled", daemon: true, begin: func(s *servedScene, _ *servedSlot) func() {
		struck, pass := make(chan struct{}), s.random.IntN(2) == 0
		s.socket.onTold(func(*servedSlot) bool {
			s.leave()
			s.mu.Lock()
			s.daemon.Process.Kill()
			s.mu.Unlock()
			close(struck)
			return pass
		})
		return func() {
			s.socket.onTold(nil)
			select {
			case <-struck:
				s.killDaemon()
				s.startDaemon()
				s.back()
			case <-time.After(5 * time.Second):
			}
		}
	}},
	{name: "sidecert killed before it signalled", daemon: true, begin: func(s *servedScene, _ *servedSlot) func() {
		n, done := s.version(), make(chan struct{})
		go func() {
			defer close(done)
			for end := time.Now().Add(patience); s.version() == n && time.Now().Before(end); time.Sleep(time.Millisecond) {
			}
			s.leave()
			s.killDaemon()
		}()
		return func() {
			<-done
			s.startDaemon()
			s.back()
		}
	}},
	{name: "signal swallowed", begin: func(s *servedScene, slot *servedSlot) func() {
		s.remove(slot)
		s.run(slot, s.live(), map[string]string{"nginx": "nginx -g 'daemon off;'", "httpd": "httpd-foreground", "haproxy": "haproxy -W -db -f /usr/local/etc/haproxy/haproxy.cfg"}[slot.kind])
		return func() {
			s.remove(slot)
			s.run(slot, s.live())
		}
	}},
	{name: "files touched", daemon: true, late: true, begin: func(s *servedScene, _ *servedSlot) func() {
		files, _ := filepath.Glob(filepath.Join(s.place.certs(), "archive", s.place.name, "*.pem"))
		for _, file := range files {
			os.Chtimes(file, time.Now(), time.Now())
		}
		return nothingMore
	}},
	{name: "gone back inside", late: true, begin: func(s *servedScene, slot *servedSlot) func() {
		if s.version() < 2 {
			return nothingMore
		}
		s.configure(slot, s.only(s.version()-1), "")
		s.reload(slot)
		return func() {
			s.configure(slot, s.live(), "")
			s.reload(slot)
		}
	}},
	{name: "nothing", daemon: true, begin: func(*servedScene, *servedSlot) func() { return nothingMore }},
}

// strike begins a fault and returns what ends it.
func (s *servedScene) strike(f servedFault, slot *servedSlot) (end func()) {
	over := func() {}
	if !f.daemon {
		over = slot.trouble()
	}
	lift := f.begin(s, slot)
	return func() {
		lift()
		over()
	}
}
