#!/bin/sh
# Reloads nginx when a certificate has changed, where sidecert has no way to the Docker engine. Mounted into /docker-entrypoint.d/: the
# image's entrypoint runs it before nginx, and the loop goes on beside it.
set -eu
stored() { cat /etc/letsencrypt/live/*/fullchain.pem 2>/dev/null | sha256sum; }
seen=$(stored)
(
    while sleep 60; do
        now=$(stored)
        # It tests the configuration first: what is broken is tried again, and the old one stays in service.
        if [ "$now" != "$seen" ] && nginx -s reload; then seen=$now; fi
    done
) &
