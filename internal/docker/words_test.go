package docker_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/sidecert/sidecert/internal/docker"
)

func TestWordsAreTakenOutOfTheirFramesWhereThereAreAny(t *testing.T) {
	const out, errs = "\x01\x00\x00\x00\x00\x00\x00\x04out ", "\x02\x00\x00\x00\x00\x00\x00\x05error"
	for name, tt := range map[string]struct{ stream, want string }{
		"nothing":                {"", ""},
		"output and errors":      {out + errs, "out error"},
		"an empty frame":         {"\x01\x00\x00\x00\x00\x00\x00\x00" + errs, "error"},
		"a frame that is cut":    {out + errs[:11], "out err"},
		"a header that is cut":   {out + errs[:3], "out "},
		"with a terminal":        {"nginx: [emerg] no\r\n", "nginx: [emerg] no\r\n"},
		"with a terminal, short": {"no", "no"},
	} {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Api-Version", "1.41")
			w.Header().Set("Content-Type", "application/vnd.docker.raw-stream")
			io.WriteString(w, tt.stream)
		}))
		e := client(t, docker.Config{Host: "tcp://" + srv.Listener.Addr().String(), APIVersion: "1.41"})
		if got, err := e.Logs(t.Context(), "web", time.Now()); got != tt.want || err != nil {
			t.Errorf("%s: Logs() = %q, %v, want %q", name, got, err, tt.want)
		}
		if got, err := e.ExecStart(t.Context(), "a"); got != tt.want || err != nil {
			t.Errorf("%s: ExecStart() = %q, %v, want %q", name, got, err, tt.want)
		}
		srv.Close()
	}
}
