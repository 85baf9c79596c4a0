package reliability

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/sidecert/sidecert/internal/acmetest"
)

// A real sidecert is killed by strace before each change that it makes to a file, or has the disk full there; certbot too. Then it is
// started again, and must come to one whole certificate without having asked for a second one, or for a second account.
func TestStraceLeavesOneWholeCertificate(t *testing.T) {
	t.Parallel()
	need(t, "strace")
	programs := []program{sidecert(buildSidecert(t)), certbot()}
	strides := map[string]int{"sidecert": 10, "certbot": 25}
	var rows [8]row
	t.Run("sweep", func(t *testing.T) {
		i := 0
		for _, pr := range programs {
			for _, renewal := range []bool{false, true} {
				for _, f := range faults {
					s := sweep{program: pr, renewal: renewal, fault: f, stride: strides[pr.name], row: &rows[i]}
					if os.Getenv("SWEEP") == "full" {
						s.stride = 1
					}
					i++
					t.Run(strings.ReplaceAll(pr.name+" "+s.story()+" "+f.name, " ", "-"), func(t *testing.T) {
						t.Parallel()
						need(t, pr.path)
						s.T, s.ca = t, startAuthority(t, acmetest.Config{})
						s.run()
					})
				}
			}
		}
	})
	t.Logf("\n%s", table(rows[:]))
}

// row is what a sweep found, in points at each of which a program met a fault and was started again.
type row struct {
	program, story, fault string
	// points are those that were judged, of all that there are.
	points, all int
	// wrong are those where no single whole new pair is live in the end, certs and accounts those at which the CA gave more than one.
	wrong, certs, accounts int
	// torn are those where, until the new start, what was live was no pair.
	torn int
}

func table(rows []row) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "program\tstory\tfault\tpoints\twrong for good\tcertificates too many\taccounts too many\ttorn until the next start")
	for _, r := range rows {
		if r.points > 0 {
			fmt.Fprintf(w, "%s\t%s\t%s\t%d of %d\t%d\t%d\t%d\t%d\n", r.program, r.story, r.fault, r.points, r.all, r.wrong, r.certs, r.accounts, r.torn)
		}
	}
	w.Flush()
	return b.String()
}

// sweep is a program, what it is doing, and what happens to it meanwhile.
type sweep struct {
	*testing.T
	program program
	// renewal says that it renews; otherwise it issues for the first time.
	renewal bool
	fault   fault
	// stride is of how many points one is judged.
	stride int
	ca     *authority
	row    *row
	// recordings are of runs that nothing disturbed.
	recordings [][]call
	// judged are the positions at which a fault has struck.
	judged map[int]bool
	places int
}

func (s *sweep) story() string {
	if s.renewal {
		return "renewal"
	}
	return "first issue"
}

func (s *sweep) run() {
	*s.row = row{program: s.program.name, story: s.story(), fault: s.fault.name}
	s.judged = map[int]bool{}
	var targets []int
	for at, c := range s.recorded(0) {
		if !s.fault.room || needsRoom(c) {
			targets = append(targets, at)
		}
	}
	s.row.all = len(targets)
	enough := (len(targets) + s.stride - 1) / s.stride
	for offset := range s.stride {
		for i := offset; i < len(targets) && len(s.judged) < enough; i += s.stride {
			s.aim(targets[i])
		}
	}
	s.row.points = len(s.judged)
	if s.row.points == 0 {
		s.Error("no fault struck at any point")
	}
}

// aim has the fault strike at a position if it can.
func (s *sweep) aim(at int) {
	for try := 0; try < tries && !s.judged[at]; try++ {
		if changes := s.recorded(try); at < len(changes) {
			s.point(changes[at])
		}
	}
}

// tries is how often a point is aimed at. Which thread makes a call differs from run to run, so each time by another recording.
const tries = 4

// recorded are the changes that a run makes which nothing disturbs.
func (s *sweep) recorded(i int) []call {
	for len(s.recordings) <= i {
		p := s.fresh()
		tr := s.traced(p, s.disturbed(p), "")
		if _, err := s.pair(p); err != nil || tr.err != nil {
			s.Fatalf("undisturbed: %v, %v\n%s", tr.err, err, tr.output)
		}
		s.recordings = append(s.recordings, tr.changes())
	}
	return s.recordings[i]
}

func needsRoom(c call) bool {
	return slices.Contains(strings.Split(strings.ReplaceAll(roomCalls, "?", ""), ","), c.name)
}

// fresh is a place of its own for a point, with a certificate to renew if the story needs one.
func (s *sweep) fresh() place {
	s.places++
	p := s.ca.place(s.T, fmt.Sprintf("p%d.example.org", s.places))
	if s.renewal {
		if out, err := run(s.T, s.program.issue(s.ca, p)); err != nil {
			s.Fatalf("issue what is to be renewed: %v\n%s", err, out)
		}
		s.age(p)
	}
	return p
}

// age waits until a certificate is older than one that is issued then: their dates count in seconds.
func (s *sweep) age(p place) {
	leaf, err := s.pair(p)
	if err != nil {
		s.Fatal(err)
	}
	<-time.After(time.Until(leaf.NotBefore.Add(time.Second)))
}

func (s *sweep) disturbed(p place) command {
	if s.renewal {
		return s.program.renew(s.ca, p)
	}
	return s.program.issue(s.ca, p)
}

// traced runs a command in a place under strace; inject is empty where nothing is to happen to it.
func (s *sweep) traced(p place, c command, inject string) trace {
	s.Helper()
	file := filepath.Join(s.ca.dir, "trace")
	// Not --seccomp-bpf, which is quicker: the kernel delivers no signal where that stops a call.
	before := []string{"strace", "--follow-forks", "--decode-fds=path", "--string-limit=0", "--output=" + file, "--trace=" + roomCalls + "," + freeCalls}
	if inject != "" {
		before = append(before, "--inject="+inject)
	}
	out, err := run(s.T, c, append(before, "--")...)
	data, errRead := os.ReadFile(file)
	if errRead != nil {
		s.Fatalf("strace wrote nothing: %v\n%s", errRead, out)
	}
	if err := os.Remove(file); err != nil {
		s.Fatal(err)
	}
	tr := parseTrace(data, p.dir)
	tr.output, tr.err = out, err
	return tr
}

// point has the fault strike at a call, and judges what becomes of it.
func (s *sweep) point(c call) {
	p := s.fresh()
	defer os.RemoveAll(p.dir)
	old, _ := s.pair(p)
	certs, accounts := s.ca.Issued(), int(s.ca.accounts.Load())
	tr := s.traced(p, s.disturbed(p), fmt.Sprintf("%s:%s:when=%d", c.name, s.fault.inject, c.nth))
	position, met := tr.position(s.fault)
	if !met || s.judged[position] {
		return
	}
	s.judged[position] = true
	torn := s.renewal && s.torn(p)
	again := s.again(p, old)

	certs, accounts = s.ca.Issued()-certs, int(s.ca.accounts.Load())-accounts
	var found []string
	count := func(n *int, bad bool, what string) {
		if bad {
			*n++
			found = append(found, what)
		}
	}
	err := s.whole(p, old)
	count(&s.row.wrong, err != nil, fmt.Sprint("wrong for good: ", err))
	count(&s.row.certs, certs > 1, fmt.Sprintf("%d certificates", certs))
	count(&s.row.accounts, accounts > 1, fmt.Sprintf("%d accounts", accounts))
	count(&s.row.torn, torn, "no pair until the next start")
	if len(found) > 0 {
		s.report(where(tr.changes(), position)+": "+strings.Join(found, "; "), tr, again)
	}
}

// report is an error for our program. Of another one a line is enough.
func (s *sweep) report(what string, tr trace, again string) {
	if s.program.name != "sidecert" {
		s.Log(what)
		return
	}
	s.Errorf("%s\n%s%v\nagain:\n%s", what, tr.output, tr.err, again)
}

// again starts the program anew as a person would, and returns what it said. A renewal that has not come to be then is asked for once more.
func (s *sweep) again(p place, old *x509.Certificate) string {
	if !s.renewal {
		return said(run(s.T, s.program.issue(s.ca, p)))
	}
	first := said(run(s.T, s.program.look(s.ca, p)))
	if leaf, err := s.pair(p); err != nil || !leaf.Equal(old) {
		return first
	}
	return first + said(run(s.T, s.program.renew(s.ca, p)))
}

func said(out []byte, err error) string { return fmt.Sprintf("%sended with: %v\n", out, err) }

// pair is what a web server would load, and its leaf.
func (s *sweep) pair(p place) (*x509.Certificate, error) {
	pair, err := tls.LoadX509KeyPair(p.live("fullchain"), p.live("privkey"))
	if err != nil {
		return nil, err
	}
	return pair.Leaf, pair.Leaf.VerifyHostname(p.name)
}

func (s *sweep) torn(p place) bool {
	_, err := s.pair(p)
	return err != nil
}

// whole is nil where the one lineage has a new certificate of the CA, and its four files are of one version.
func (s *sweep) whole(p place, old *x509.Certificate) error {
	leaf, err := s.pair(p)
	if err != nil {
		return err
	}
	if leaf.Equal(old) {
		return errors.New("the certificate is still the old one")
	}
	if err := verify(p, leaf, s.ca.Roots()); err != nil {
		return err
	}
	return strays(p)
}

func verify(p place, leaf *x509.Certificate, roots *x509.CertPool) error {
	var files [3][]byte
	for i, name := range []string{"cert", "chain", "fullchain"} {
		data, err := os.ReadFile(p.live(name))
		if err != nil {
			return err
		}
		files[i] = data
	}
	if !bytes.Equal(slices.Concat(files[0], files[1]), files[2]) {
		return errors.New("cert.pem and chain.pem are not those of fullchain.pem")
	}
	between := x509.NewCertPool()
	between.AppendCertsFromPEM(files[1])
	_, err := leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between})
	return err
}

// strays finds files of a second lineage, such as certbot's NAME-0001. In renewal/ only a conf makes one.
func strays(p place) error {
	for folder, want := range map[string]string{"live": p.name, "archive": p.name, "renewal": p.name + ".conf"} {
		entries, err := os.ReadDir(filepath.Join(p.certs(), folder))
		if err != nil {
			return err
		}
		i := slices.IndexFunc(entries, func(e fs.DirEntry) bool {
			return e.Name() != want && e.Name() != "README" && (folder != "renewal" || filepath.Ext(e.Name()) == ".conf")
		})
		if i >= 0 {
			return fmt.Errorf("%s/%s is no file of the lineage", folder, entries[i].Name())
		}
	}
	return nil
}
