package store

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Somebody may have put the lock file elsewhere in the volume.
func TestLockBehindALinkIsTaken(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, t.TempDir())
	write(t, filepath.Join(dir, "locks/certbot"), "")
	if err := os.Symlink("locks/certbot", filepath.Join(dir, ".certbot.lock")); err != nil {
		t.Fatal(err)
	}
	taken := make(chan error, 1)
	go func() {
		lock, err := s.certs.Lock(".certbot.lock")
		if err == nil {
			err = lock.Close()
		}
		taken <- err
	}()
	select {
	case err := <-taken:
		if err != nil {
			t.Errorf("Lock() = %v", err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("Lock() tries for ever")
	}
}
