#!/usr/bin/env bash
# Have Debian's packages: gnupg (always needed), postgresql (the tests' server of an older major, with contrib),
# prometheus (promtool, for the tests of the alerts), chromium (the tests of the status page), jq (of signed records);
# systemd (systemd-analyze, for the deploy checks); fonts-inter (only for the pictures in docs/images).
# As root they are installed when missing; otherwise it says what to do.
set -euo pipefail

missing() {
  case $1 in
    gnupg) ! command -v gpg >/dev/null || ! command -v gpg-agent >/dev/null ;;
    postgresql) [ -z "$(compgen -G '/usr/share/postgresql/*/extension/pgcrypto.control')" ] \
      || [ -z "$(compgen -G '/usr/lib/postgresql/*/bin/initdb')" ] ;;
    prometheus) ! command -v prometheus >/dev/null || ! command -v promtool >/dev/null ;;
    chromium) ! command -v chromium >/dev/null ;;
    jq) ! command -v jq >/dev/null ;;
    systemd) ! command -v systemd-analyze >/dev/null ;;
    fonts-inter) [ ! -e /usr/share/fonts/opentype/inter ] ;;
    *) echo "unknown: $1" >&2; exit 2 ;;
  esac
}

install() {
  local log
  log=$(mktemp)
  echo "Installing $* …"
  export DEBIAN_FRONTEND=noninteractive
  if ! { apt-get install -y --no-install-recommends "$@" || { apt-get update && apt-get install -y --no-install-recommends "$@"; }; } \
    >"$log" 2>&1 </dev/null; then
    tail -n 20 "$log" >&2
    rm -f "$log"
    echo "apt-get could not install $*." >&2
    exit 2
  fi
  rm -f "$log"
}

clusters() {
  command -v pg_lsclusters >/dev/null && pg_lsclusters --no-header | awk '{ print $1, $2 }' | sort || true
}

for what in "$@"; do
  missing "$what" || continue
  packages=$what
  [ "$what" = postgresql ] && packages="postgresql postgresql-contrib"
  if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
    echo "$what is not installed. As root: apt-get install $packages (or your system's package of that name)." >&2
    exit 2
  fi
  before=$(clusters)
  # shellcheck disable=SC2086
  install $packages
  # Debian's packages start what they bring: a server on port 9090, a cluster on port 5432. We wanted the programs only.
  if [ "$what" = prometheus ]; then
    invoke-rc.d prometheus stop >/dev/null 2>&1 || true
    update-rc.d prometheus disable >/dev/null 2>&1 || true
  fi
  comm -13 <(echo "$before") <(clusters) | while read -r version name; do
    [ -z "$version" ] || pg_dropcluster --stop "$version" "$name" >/dev/null 2>&1 || true
  done
done
