package store

import (
	"errors"
	"io/fs"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// A pipe cannot be synced, and says so by the error of a file system that does not know how.
func TestFileThatCannotBeSyncedIsTolerated(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	if err := w.Sync(); !errors.Is(err, unix.EINVAL) {
		t.Skipf("a pipe is synced here with %v, and shows nothing", err)
	}
	if err := (diskFile{w}).Sync(); err != nil {
		t.Errorf("Sync() = %v, want none: the file system does not know it", err)
	}
}

func TestSyncThatFailsIsAnError(t *testing.T) {
	f, err := os.Create(t.TempDir() + "/file")
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if err := (diskFile{f}).Sync(); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("Sync() of a closed file = %v, want fs.ErrClosed", err)
	}
}
