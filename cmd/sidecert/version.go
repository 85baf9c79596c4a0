package main

import (
	"context"
	"flag"
	"fmt"
	"runtime"
)

// version is the release that this is or will be.
const version = "0.1.0"

var versionCommand = command{
	name:  "version",
	short: "print the version",
	help:  "Example: docker compose run --rm sidecert version\n",
	run: func(_ context.Context, in *invocation, flags *flag.FlagSet) error {
		if err := noArguments(in, flags); err != nil {
			return err
		}
		fmt.Fprintf(in.stdout, "sidecert %s %s/%s %s\n", version, runtime.GOOS, runtime.GOARCH, runtime.Version())
		return nil
	},
}
