package docker

import (
	"context"
	"fmt"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/client"
)

// maxLogLines is how many lines of a log are asked for.
const maxLogLines = "50"

// Logs returns the end of what a container has said since a time, 4 KiB at most.
func (e *Engine) Logs(ctx context.Context, nameOrID string, since time.Time) (said string, err error) {
	err = e.call(ctx, callTimeout, "GET /containers/{id}/logs", func(ctx context.Context, api *client.Client) error {
		stream, err := api.ContainerLogs(ctx, nameOrID, container.LogsOptions{
			ShowStdout: true, ShowStderr: true, Tail: maxLogLines, Since: fmt.Sprintf("%d.%09d", since.Unix(), since.Nanosecond()),
		})
		if err != nil {
			return err
		}
		defer stream.Close()
		said, err = wordsOf(stream)
		return err
	})
	return said, err
}
