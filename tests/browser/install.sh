#!/bin/sh
# What the browser tests need: a Chromium, and the packages that the front end is built from (axe is among them).
# On Debian and as root it installs what is missing; elsewhere it says what to do.
set -eu
cd "$(dirname "$0")/../.."

have() { command -v "$1" >/dev/null 2>&1; }

missing=""
have chromium || have chromium-browser || test -n "${TASKFLEET_CHROMIUM:-}" || missing="chromium fonts-liberation fonts-dejavu-core"
have npm || missing="$missing nodejs npm"
if test -n "$missing"; then
    if have apt-get && test "$(id -u)" = 0; then
        # One at a time: that of tests/prometheus may run beside it.
        exec 9>"${TMPDIR:-/tmp}/taskfleet-apt.lock"
        flock 9
        apt-get update -q -o DPkg::Lock::Timeout=300
        # shellcheck disable=SC2086 # a list of packages
        DEBIAN_FRONTEND=noninteractive apt-get install -q -y -o DPkg::Lock::Timeout=300 --no-install-recommends $missing
        exec 9>&-
    else
        echo "the browser tests need: $missing (on Debian, as root: tests/browser/install.sh)" >&2
        test "${CI:-}" != true || exit 1
        exit 0
    fi
fi
cd dashboard/front
if test node_modules/.package-lock.json -nt package-lock.json; then exit 0; fi
# Without a network the tests that need the packages say so themselves.
npm ci --ignore-scripts --no-audit --no-fund || test "${CI:-}" != true
