package renewal

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"testing"
	"time"

	"github.com/sidecert/sidecert/internal/cert"
	"github.com/sidecert/sidecert/internal/store"
)

// BenchmarkQuietPass is what an hour costs in which nothing is due: every lineage is read, checked and compared.
func BenchmarkQuietPass(b *testing.B) {
	for _, n := range []int{1, 100} {
		b.Run(fmt.Sprintf("%d certificates", n), func(b *testing.B) {
			s, err := store.Open(store.Options{CertDir: b.TempDir(), StateDir: b.TempDir(), FilesPerms: 0o600, FoldersPerms: 0o755, Now: time.Now})
			if err != nil {
				b.Fatal(err)
			}
			var specs []cert.Spec
			for i := range n {
				name := fmt.Sprintf("site%d.example", i)
				spec := cert.Spec{Name: name, Names: []string{name}, CA: cert.CA{Directory: "https://ca.example/dir"}}
				for range 5 { // a lineage has a past
					if _, err := s.Save(b.Context(), name, spec, testCA.Issue(time.Now(), 90*24*time.Hour, name)); err != nil {
						b.Fatal(err)
					}
				}
				specs = append(specs, spec)
			}
			m := New(Config{Wishes: cert.Wishes{Specs: specs}, Store: s, Issuer: nil, Reloader: quiet{}, Now: time.Now, Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
			for b.Loop() {
				if r := m.Once(b.Context(), Ask{}); len(r.Certs) != n || r.Certs[0].Err != nil {
					b.Fatalf("%+v", r)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/float64(n), "µs/certificate")
		})
	}
}

type quiet struct{}

func (quiet) Look(context.Context, []cert.Kept) cert.Look { return cert.Look{} }
func (quiet) Show(context.Context, []cert.Kept) cert.Look { return cert.Look{} }
