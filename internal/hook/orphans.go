package hook

import (
	"os"
	"os/signal"
	"syscall"
)

// reap waits for orphans: the first process of a container is given what hooks have left running, and whatever ends and is not waited
// for stays as a zombie. Nothing is ended by it. Who calls it holds running, so that no hook is under way that has its own wait; nothing
// else in this process starts programs.
func (r *Runner) reap() {
	if os.Getpid() != 1 {
		return
	}
	reapAll()
	r.orphans.Do(func() { go r.reapLater() })
}

func reapAll() {
	for {
		pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil)
		if err != syscall.EINTR && (err != nil || pid <= 0) {
			return
		}
	}
}

// reapLater waits for what ends between hooks, as long as the process lives. What has ended before the signals are told is found too.
func (r *Runner) reapLater() {
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGCHLD)
	for {
		r.running.Lock()
		reapAll()
		r.running.Unlock()
		<-ended
	}
}
