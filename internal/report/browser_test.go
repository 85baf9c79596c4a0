package report

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestPagesInABrowser has Chromium draw every sample into the folder $SHOTS, for people to look at. The README's picture is one of them.
func TestPagesInABrowser(t *testing.T) {
	folder := os.Getenv("SHOTS")
	if folder == "" {
		t.Skip("SHOTS names no folder for the pictures")
	}
	for _, name := range slices.Sorted(maps.Keys(samples())) {
		standing := samples()[name]
		handler := newTestServer(t, standing).handler
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			handler.ServeHTTP(unframed{w}, r)
		}))
		defer server.Close()
		height := map[string]int{"none": 500, "one": 800, "three": 1300, "failures": 2600, "hundred": 3400, "readme": 1112}[name]
		for _, width := range []int{1280, 390, 900} {
			if (width == 900) != (name == "readme") {
				continue
			}
			for _, scheme := range []string{"light", "dark"} {
				shoot(t, server.URL, filepath.Join(folder, fmt.Sprintf("%s-%d-%s.png", name, width, scheme)), width, height, scheme)
			}
		}
	}
}

// unframed lets a page be shown in a frame.
type unframed struct{ http.ResponseWriter }

func (u unframed) WriteHeader(status int) {
	policy := u.Header().Get("Content-Security-Policy")
	u.Header().Set("Content-Security-Policy", strings.ReplaceAll(policy, "frame-ancestors 'none'", ""))
	u.Header().Del("Cross-Origin-Resource-Policy")
	u.ResponseWriter.WriteHeader(status)
}

func (u unframed) Write(b []byte) (int, error) {
	u.WriteHeader(http.StatusOK)
	return u.ResponseWriter.Write(b)
}

func shoot(t *testing.T, url, file string, width, height int, scheme string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	frame := ""
	if width < 500 { // Chromium has no narrower window: a frame is as narrow as one likes
		frame = url
		page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			fmt.Fprintf(w, `<body style="margin:0"><iframe src=%q style="border:0;width:%dpx;height:%dpx"></iframe>`, frame, width, height)
		}))
		defer page.Close()
		url = page.URL
	}
	args := []string{"--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--user-data-dir=" + t.TempDir(),
		fmt.Sprintf("--window-size=%d,%d", width, height), "--screenshot=" + file}
	if scheme == "dark" {
		args = append(args, "--blink-settings=preferredColorScheme=0")
	} else {
		args = append(args, "--blink-settings=preferredColorScheme=1")
	}
	if out, err := exec.CommandContext(ctx, "chromium", append(args, url)...).CombinedOutput(); err != nil {
		t.Fatalf("chromium: %v\n%s", err, out)
	}
}
