package report

import (
	"net/url"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sidecert/sidecert/internal/cert"
)

// Metrics counts what happens while the daemon runs; how the certificates stand is read when it is asked for, so that what has gone is not told
// of any more. It is safe for concurrent use.
type Metrics struct {
	registry *prometheus.Registry

	attempts *prometheus.CounterVec
	requests *prometheus.HistogramVec
	reloads  *prometheus.CounterVec
	lastPass prometheus.Gauge
	skew     *prometheus.GaugeVec
}

// results and kinds are those of sidecert_attempts_total; each stands at 0 from the start, so that the first failure is an increase.
const (
	resultObtained = "obtained"
	resultFailed   = "failed"
	kindNone       = "none"
	kindPassing    = "passing"
)

// NewMetrics makes those of one process. No other library's or program's are among them.
func NewMetrics(version string) *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		attempts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sidecert_attempts_total",
			Help: "Attempts to obtain a certificate, by result (obtained, failed) and by what the failure means for the next one: passing is tried again, person needs one to mend it, unreachable and busy are the CA's, clock is this machine's, interrupted goes on by itself.",
		}, []string{"result", "kind"}),
		requests: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "sidecert_acme_request_duration_seconds",
			Help:    "Time from a request to a CA to the last byte of its answer, by the CA's host, the method and the status of the answer, which is none where there was no answer.",
			Buckets: []float64{0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30},
		}, []string{"ca", "method", "status"}),
		reloads: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sidecert_reloads_total",
			Help: "Web containers told of new certificates, by the action and by what they were seen to serve after it: current, stale, foreign or unseen, the worst where they serve several certificates.",
		}, []string{"action", "result"}),
		lastPass: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "sidecert_last_pass_timestamp_seconds",
			Help: "When all certificates were last gone over, in seconds since 1970; 0 before the first time. It is done at least every hour.",
		}),
		skew: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "sidecert_clock_skew_seconds",
			Help: "How far the clock of this machine is ahead of the CA's, by its last answer, which tells the time to the second; negative when it is behind.",
		}, []string{"ca"}),
	}
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "sidecert_build_info", Help: "Is 1; the labels have the version of sidecert and of the Go that built it.",
		ConstLabels: prometheus.Labels{"version": version, "goversion": runtime.Version()},
	})
	build.Set(1)
	m.registry.MustRegister(m.attempts, m.requests, m.reloads, m.lastPass, m.skew, build)
	m.attempts.WithLabelValues(resultObtained, kindNone)
	for _, kind := range []string{kindPassing, string(cert.KindPerson), string(cert.KindUnreachable), string(cert.KindBusy), string(cert.KindClock), string(cert.KindInterrupted)} {
		m.attempts.WithLabelValues(resultFailed, kind)
	}
	return m
}

// Obtained counts an attempt that led to a certificate.
func (m *Metrics) Obtained() { m.attempts.WithLabelValues(resultObtained, kindNone).Inc() }

// Failed counts one that did not.
func (m *Metrics) Failed(kind cert.Kind) {
	if kind == cert.KindPassing {
		kind = kindPassing
	}
	m.attempts.WithLabelValues(resultFailed, string(kind)).Inc()
}

// Looked counts what web containers were told in a look at them.
func (m *Metrics) Looked(l cert.Look) {
	type told struct{ container, action string }
	worst := map[told]cert.Class{}
	for _, o := range l.Outcomes {
		if o.Action == "" {
			continue
		}
		key := told{o.Container, o.Action}
		if was, ok := worst[key]; !ok || badness[o.Class] > badness[was] {
			worst[key] = o.Class
		}
	}
	for key, class := range worst {
		m.reloads.WithLabelValues(actionWord(key.action), string(class)).Inc()
	}
}

// badness orders the classes.
var badness = map[cert.Class]int{cert.Current: 0, cert.Unseen: 1, cert.Foreign: 2, cert.Stale: 3}

// actionWord is an action without the command that a person has written, which may hold anything.
func actionWord(action string) string {
	if strings.HasPrefix(action, "exec ") {
		return "exec"
	}
	return action
}

// Passed notes a pass over all certificates.
func (m *Metrics) Passed(at time.Time) { m.lastPass.Set(seconds(at)) }

// Asked notes a request to the CA with a directory: its status is 0 where no answer came. The CA has answered at date by its own clock, which is
// zero where it does not say, and it was now by ours.
func (m *Metrics) Asked(directory, method string, status int, elapsed time.Duration, date, now time.Time) {
	host, code := hostOf(directory), "none"
	if status != 0 {
		code = strconv.Itoa(status)
	}
	m.requests.WithLabelValues(host, method, code).Observe(elapsed.Seconds())
	if !date.IsZero() {
		m.skew.WithLabelValues(host).Set(now.Sub(date).Round(time.Second).Seconds())
	}
}

// hostOf is all that is told of a directory's URL.
func hostOf(directory string) string {
	u, err := url.Parse(directory)
	if err != nil {
		return ""
	}
	return strings.ToValidUTF8(u.Host, "?")
}

func seconds(t time.Time) float64 { return float64(t.UnixNano()) / 1e9 }

// The metrics of each certificate, made anew at each question.
var (
	notAfterDesc = prometheus.NewDesc("sidecert_certificate_not_after_timestamp_seconds",
		"When the stored certificate expires, in seconds since 1970.", []string{"cert"}, nil)
	notBeforeDesc = prometheus.NewDesc("sidecert_certificate_not_before_timestamp_seconds",
		"From when on the stored certificate is valid, in seconds since 1970.", []string{"cert"}, nil)
	dueDesc = prometheus.NewDesc("sidecert_certificate_renewal_due_timestamp_seconds",
		"When the stored certificate is due for renewal, in seconds since 1970; of those that sidecert renews.", []string{"cert"}, nil)
	storedDesc = prometheus.NewDesc("sidecert_certificate_stored",
		"Is 1 when a certificate of a CA is stored, and 0 while a placeholder or nothing stands in its place.", []string{"cert"}, nil)
	nextDesc = prometheus.NewDesc("sidecert_certificate_next_attempt_timestamp_seconds",
		"When the certificate is next ordered, in seconds since 1970: when it is due, or when what holds it back ends.", []string{"cert"}, nil)
	failuresDesc = prometheus.NewDesc("sidecert_certificate_consecutive_failures",
		"How many attempts for the certificate have failed since one did not.", []string{"cert"}, nil)
	servedDesc = prometheus.NewDesc("sidecert_certificate_served",
		"Is 1 for the class of what a web container was last seen to serve of the certificate and 0 for the others: current is the stored version, stale an older one, foreign something else, and unseen nothing.",
		[]string{"cert", "container", "class"}, nil)
)

var classes = []cert.Class{cert.Current, cert.Stale, cert.Foreign, cert.Unseen}

// standingCollector turns a Standing into metrics.
type standingCollector struct{ standing func() (Standing, error) }

func (standingCollector) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{notAfterDesc, notBeforeDesc, dueDesc, storedDesc, nextDesc, failuresDesc, servedDesc} {
		to <- d
	}
}

func (c standingCollector) Collect(to chan<- prometheus.Metric) {
	s, err := c.standing()
	if err != nil {
		to <- prometheus.NewInvalidMetric(storedDesc, err)
		return
	}
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		for i := range labels { // a folder may be called anything
			labels[i] = strings.ToValidUTF8(labels[i], "�")
		}
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	at := func(d *prometheus.Desc, t time.Time, name string) {
		if !t.IsZero() {
			gauge(d, seconds(t), name)
		}
	}
	for _, crt := range s.Certs {
		at(notBeforeDesc, crt.NotBefore, crt.Name)
		at(notAfterDesc, crt.NotAfter, crt.Name)
		at(dueDesc, crt.Due, crt.Name)
		at(nextDesc, crt.Next, crt.Name)
		if !crt.Kept {
			continue
		}
		gauge(storedDesc, truth(crt.Stored), crt.Name)
		gauge(failuresDesc, float64(crt.Failures), crt.Name)
		for _, served := range crt.Served {
			for _, class := range classes {
				gauge(servedDesc, truth(class == served.Class), crt.Name, served.Container, string(class))
			}
		}
	}
}

func truth(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}

// collect has the certificates told of too, once.
func (m *Metrics) collect(standing func() (Standing, error)) {
	m.registry.MustRegister(standingCollector{standing})
}
