package cert

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
)

// OwnerHint is what to do where folders on volumes belong to somebody else than the user that we run as; "" where err is about something
// else. Root without capabilities is such a user too. The folders are told by the command that the README has.
func OwnerHint(err error, folders ...string) string {
	if !errors.Is(err, fs.ErrPermission) {
		return ""
	}
	return fmt.Sprintf(`user %d may not write there; give it the volumes, once: docker run --rm --volumes-from $(docker compose ps -aq sidecert) nginx:1 chown -Rh %[1]d %s`,
		os.Getuid(), strings.Join(folders, " "))
}
