#!/bin/sh
# Prometheus and promtool from Debian's packages, for tests/prometheus. Without Debian or root it only says what is missing,
# and the tests are skipped with NOT TESTED, or fail with CI=true. The package's service is never started.
set -eu
if command -v prometheus >/dev/null && command -v promtool >/dev/null; then exit 0; fi
if ! command -v apt-get >/dev/null || [ "$(id -u)" -ne 0 ]; then
  echo "no prometheus here: install it (as root on Debian, this script does: sh tests/prometheus/install.sh)" >&2
  exit 0
fi
exec 9>"${TMPDIR:-/tmp}/taskfleet-apt.lock" # one at a time: that of tests/browser may run beside it
flock 9
policy=/usr/sbin/policy-rc.d # says whether an installed service may start: 101 is no
ours=
if [ ! -e "$policy" ]; then
  ours=$policy
  printf '#!/bin/sh\nexit 101\n' >"$policy"
  chmod +x "$policy"
  trap 'rm -f "$ours"' EXIT INT TERM
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq -o DPkg::Lock::Timeout=300
apt-get install -qq -y --no-install-recommends -o DPkg::Lock::Timeout=300 prometheus >/dev/null
