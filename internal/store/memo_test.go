package store

import (
	"fmt"
	"testing"
	"time"

	"github.com/sidecert/sidecert/internal/cert"
)

func TestMemoIsBoundedAndKeepsWhatIsAskedFor(t *testing.T) {
	var m memo[int]
	made := 0
	ask := func(i int) {
		got, err := m.of(sumOf(fmt.Append(nil, i)), func() (int, error) { made++; return i, nil })
		if got != i || err != nil {
			t.Fatalf("of(%d) = %d, %v", i, got, err)
		}
	}
	for i := range 3 * maxKnown {
		ask(i)
		ask(0)
	}
	if made != 3*maxKnown {
		t.Errorf("%d were made, want %d: the one that is asked for again and again was forgotten, or others were known", made, 3*maxKnown)
	}
	if held := len(m.recent) + len(m.older); held > maxKnown {
		t.Errorf("%d are held, want at most %d", held, maxKnown)
	}
}

func TestWhatChangedIsReadAnewAndWhatIsBrokenStaysSo(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, t.TempDir())
	first, second := save(t, s, bundle()), bundle()
	files, err := second.PEM()
	if err != nil {
		t.Fatal(err)
	}
	key := dir + "/archive/example.org/privkey1.pem"
	write(t, key, string(files[cert.PrivkeyPEM]))
	for range 2 {
		if _, err := s.version("example.org", 1); err == nil {
			t.Error("a version whose key was replaced is whole")
		}
	}
	for file, data := range files {
		write(t, dir+"/"+archived("example.org", file, 1), string(data))
	}
	if l, err := s.Lineage("example.org"); err != nil || l.Fingerprint() == first.Fingerprint() {
		t.Errorf("after all four files were replaced the lineage is as before, %v", err)
	}
}

// BenchmarkLongPast looks at a lineage as a pass does, ten years after its first certificate.
func BenchmarkLongPast(b *testing.B) {
	s, err := Open(options(b.TempDir(), b.TempDir()))
	if err != nil {
		b.Fatal(err)
	}
	for i := range 120 {
		if _, err := s.Save(b.Context(), "example.org", spec, ca.Issue(time.Now().Add(time.Duration(i-200)*time.Hour), life, names...)); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		if _, errs := s.Lineages(); len(errs) > 0 {
			b.Fatal(errs)
		}
		if did, err := s.Mend(b.Context(), "example.org"); did != "" || err != nil {
			b.Fatal(did, err)
		}
		s.Shown("example.org")
		if len(s.Versions("example.org")) != 120 {
			b.Fatal("not all versions are whole")
		}
	}
}
