#!/bin/sh
# Fills the empty volumes of a Compose project from a file that backup.sh has made:  ./restore.sh PROJECT FILE.tar.gz
set -eu
if [ $# -ne 2 ]; then
  echo "usage: $0 PROJECT FILE.tar.gz" >&2
  exit 2
fi
if ! docker volume inspect "$1_certs" "$1_state" >/dev/null; then
  echo "$0: make the volumes first, by: docker compose --project-name $1 up --no-start" >&2
  exit 1
fi
docker run --rm --interactive --network none --volume "$1_state:/state" --volume "$1_certs:/certs" nginx:1 sh -ec '
  if [ -n "$(ls -A /state)$(ls -A /certs)" ]; then
    echo "the volumes are not empty, nothing was restored: remove them by docker compose down --volumes if you do not need what is in them" >&2
    exit 1
  fi
  cd /
  exec tar -xzp --numeric-owner' <"$2"
