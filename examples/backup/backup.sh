#!/bin/sh
# Puts certificates, keys, accounts and schedule of a Compose project into one file:  ./backup.sh PROJECT FILE.tar.gz
# sidecert goes on meanwhile. It never changes a stored file but adds versions, then moves the links in live/ to them, and judges by content
# what it finds. So a copy is whole if what leads to a file is read before it: state first, then certs from the end of the alphabet,
# where renewal and live come before archive. If something is written at that very moment tar may fail, and there is no file: run it again.
set -eu
if [ $# -ne 2 ]; then
  echo "usage: $0 PROJECT FILE.tar.gz" >&2
  exit 2
fi
docker volume inspect "$1_certs" "$1_state" >/dev/null # docker run would make empty ones
umask 077                                              # there are private keys in it
trap 'rm -f "$2.part"' EXIT
docker run --rm --network none --volume "$1_state:/state:ro" --volume "$1_certs:/certs:ro" nginx:1 sh -ec '
  cd /
  state=$(ls -A state | grep -vxE "health\.json|.*\.sock|\..*\.new" | sed s,^,state/,) # the daemon makes those anew
  exec tar -cz --numeric-owner $state $(ls -Ar certs | sed s,^,certs/,)' >"$2.part"
mv "$2.part" "$2"
