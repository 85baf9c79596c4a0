package cert

import (
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"testing"
)

func TestOwnerHintIsTheCommandAndForPermissionAlone(t *testing.T) {
	denied := &fs.PathError{Op: "openat", Path: "live", Err: syscall.EACCES}
	want := fmt.Sprintf("nginx:1 chown -Rh %d /etc/letsencrypt /var/lib/sidecert", os.Getuid())
	if got := OwnerHint(denied, "/etc/letsencrypt", "/var/lib/sidecert"); !strings.HasSuffix(got, want) {
		t.Errorf("OwnerHint() = %q, want %q at its end", got, want)
	}
	for _, other := range []error{syscall.EROFS, syscall.ENOSPC, fs.ErrNotExist} {
		if got := OwnerHint(other, "/etc/letsencrypt"); got != "" {
			t.Errorf("OwnerHint(%v) = %q, want none", other, got)
		}
	}
}
