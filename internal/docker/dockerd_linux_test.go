package docker_test

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sidecert/sidecert/internal/docker"
)

// dockerd starts an engine of its own, in which nothing runs, that speaks TLS with the files of a folder, or plain HTTP where it is empty.
// It has no network but the listener that it is handed: an engine without a bridge removes docker0 wherever it starts, be it another's.
func dockerd(t *testing.T, tlsDir string) string {
	t.Helper()
	if _, err := exec.LookPath("dockerd"); err != nil || os.Getuid() != 0 {
		t.Skip("no dockerd to start, or nobody who may start it")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listener, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	defer listener.Close()
	dir, err := os.MkdirTemp("", "dockerd") // short, since its sockets' paths have a limit
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(dir, "daemon.json") // in place of this machine's own
	if err := os.WriteFile(config, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{"--config-file", config, "--host", "fd://", "--data-root", dir + "/data", "--exec-root", dir + "/exec", "--pidfile", dir + "/pid", "--storage-driver=vfs", "--bridge=none", "--iptables=false", "--ip-masq=false"}
	if tlsDir == "" {
		args = append(args, "--tls=false")
	} else {
		args = append(args, "--tlsverify", "--tlscacert", tlsDir+"/ca.pem", "--tlscert", tlsDir+"/cert.pem", "--tlskey", tlsDir+"/key.pem")
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sh", append([]string{"-c", `LISTEN_PID=$$ LISTEN_FDS=1 exec dockerd "$@"`, "dockerd"}, args...)...)
	cmd.ExtraFiles = []*os.File{listener}
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS}
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		cmd.Process.Signal(os.Interrupt)
		<-ended
		os.RemoveAll(dir)
	})
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for {
		if said, err := os.ReadFile(log.Name()); err == nil && strings.Contains(string(said), "API listen on") {
			return l.Addr().String()
		}
		select {
		case err := <-ended:
			ended <- err
			said, _ := os.ReadFile(log.Name())
			t.Skipf("dockerd does not start here: %v\n%s", err, said)
		case <-ctx.Done():
			t.Fatal("dockerd does not listen after 30 s")
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func TestRealEngineBehindTLSIsReachedOrSaysWhatIsWrong(t *testing.T) {
	ours, others := newAuthority(t), newAuthority(t)
	hour := time.Now().Add(time.Hour)
	server := dockerd(t, ours.issue(t, ours, "127.0.0.1", hour))
	plain := dockerd(t, "")
	for _, tt := range []struct {
		name   string
		config docker.Config
		advice string // empty: it works
	}{
		{"with a client certificate", docker.Config{Host: server, CertPath: ours.issue(t, ours, "me", hour), TLSVerify: true}, ""},
		{"plain to the plain port", docker.Config{Host: plain}, ""},
		{"a client certificate of another CA", docker.Config{Host: server, CertPath: others.issue(t, ours, "me", hour), TLSVerify: true}, "refuses the client certificate"},
		{"an expired client certificate", docker.Config{Host: server, CertPath: ours.issue(t, ours, "me", hour.Add(-2*time.Hour)), TLSVerify: true}, "refuses the client certificate"},
		{"an engine of another CA", docker.Config{Host: server, CertPath: ours.issue(t, others, "me", hour), TLSVerify: true}, "did not sign the certificate of the engine"},
		{"plain to the TLS port", docker.Config{Host: server}, "speaks TLS only: set DOCKER_TLS_VERIFY=1"},
		{"TLS to the plain port", docker.Config{Host: plain, CertPath: ours.issue(t, ours, "me", hour), TLSVerify: true}, "does not speak TLS"},
	} {
		t.Run(tt.name, func(t *testing.T) { tt.config.Host = "tcp://" + tt.config.Host; wantAdvice(t, tt.config, tt.advice) })
	}
}
