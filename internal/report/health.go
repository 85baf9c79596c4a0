// Package report tells people and machines how things stand.
package report

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// HealthFile is the name of the file in STATE_DIR by which `sidecert healthcheck` knows that the daemon is alive.
const HealthFile = "health.json"

// Health is what HealthFile holds.
type Health struct {
	// Ready says that a first pass has been over every certificate; Missing names those without files to serve.
	Ready   bool     `json:"ready"`
	Missing []string `json:"missing,omitempty"`
	// Beat is the time since the machine booted, sleep included: unlike the wall clock it does not jump.
	Beat time.Duration `json:"beat_ns"`
	// Time is Beat by the wall clock, for people.
	Time time.Time `json:"time"`
}

// stale is the age in which a beat is missed: the loop beats every 10 s.
const stale = time.Minute

// SinceBoot is the machine's age, the same to every process and container on it.
func SinceBoot() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return 0 // no Linux kernel since 2.6.39 lacks it
	}
	return time.Duration(ts.Nano())
}

// Encode writes a health file.
func (h Health) Encode() ([]byte, error) { return json.Marshal(h) }

// Check reads a health file and returns what is wrong, nil if web servers can start and the daemon's loop is alive. An ailing
// certificate is not wrong here: web containers wait for health, and an old certificate is better than no web server.
func Check(data []byte, sinceBoot time.Duration) error {
	h, err := decode(data)
	if err == nil {
		err = h.alive(sinceBoot)
	}
	if err == nil && len(h.Missing) > 0 {
		err = fmt.Errorf("no files to serve for %s", strings.Join(h.Missing, ", "))
	}
	return err
}

func decode(data []byte) (h Health, err error) {
	if err := json.Unmarshal(data, &h); err != nil {
		return h, fmt.Errorf("damaged health file: %w", err)
	}
	return h, nil
}

// alive says what is wrong with the daemon itself.
func (h Health) alive(sinceBoot time.Duration) error {
	switch age := sinceBoot - h.Beat; {
	case age < 0 || age > stale:
		return fmt.Errorf("the daemon's last sign of life was at %s", h.Time.Format(time.RFC3339))
	case !h.Ready:
		return errors.New("the first pass is not over")
	}
	return nil
}
