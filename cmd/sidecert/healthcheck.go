package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"

	"github.com/sidecert/sidecert/internal/cert"
	"github.com/sidecert/sidecert/internal/config"
	"github.com/sidecert/sidecert/internal/report"
)

var healthcheckCommand = command{
	name:  "healthcheck",
	short: "is every certificate's file in place and the daemon alive? (for HEALTHCHECK)",
	help: `Example: sidecert healthcheck

Ends with 0 once every configured certificate has files to serve, a placeholder included, and while the daemon's loop is alive; so
web containers can wait for it: depends_on: {sidecert: {condition: service_healthy}}. A certificate that cannot be renewed does
not make it fail. In the container of a socket proxy: whether that answers, and an engine behind it.
`,
	run: func(ctx context.Context, in *invocation, flags *flag.FlagSet) error {
		if err := noArguments(in, flags); err != nil {
			return err
		}
		if first, _ := os.ReadFile("/proc/1/cmdline"); runsProxy(string(first)) {
			return checkProxy(ctx, in)
		}
		c, _, _ := config.Parse(in.environ, in.world) // with mistakes the daemon does not run, which is found below
		data, err := os.ReadFile(filepath.Join(c.StateDir, report.HealthFile))
		if err == nil {
			err = report.Check(data, report.SinceBoot())
		}
		if err != nil {
			return &cert.Error{Op: "healthcheck", Err: err, Hint: "`docker compose logs sidecert` tells what the daemon is doing"}
		}
		fmt.Fprintln(in.stdout, "healthy")
		return nil
	},
}
