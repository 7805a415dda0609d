#!/usr/bin/env bash
# Run a command with a container engine: scripts/engine.sh COMMAND [ARGUMENT]…
#
# The engine that answers is used. Where none does, one is started for as long as the command runs: on Debian, as root,
# its packages are installed when they are missing. Its socket, pid file and images are its own (/run/pgfleet-test-engine,
# /var/lib/pgfleet-test-engine; the images stay for the next time).
#
# The command finds in PGFLEET_TEST_DEBIAN and PGFLEET_TEST_PYTHON what to build on: debian:bookworm-slim and
# python:3.12-slim-bookworm, or, where no registry answers, stand-ins for them under names of their own, made from
# Debian's packages and a CPython 3.12 of this machine.
set -euo pipefail
shopt -s inherit_errexit
RUN=/run/pgfleet-test-engine
KEPT=/var/lib/pgfleet-test-engine
POLICY=/usr/sbin/policy-rc.d

refuse() {
  echo "$1" >&2
  exit 3
}

as_root() { # WHAT FOR
  if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
    refuse "$1, and only root on Debian can mend that here."
  fi
}

apt() {
  DEBIAN_FRONTEND=noninteractive scripts/quietly.sh apt-get -qq "$@"
}

works() { # an engine that answers, with all that is needed
  docker info >/dev/null 2>&1 && has_plugins
}

has_plugins() {
  docker compose version >/dev/null 2>&1 && docker buildx version >/dev/null 2>&1
}

install_engine() {
  as_root "There is no container engine (Docker with buildx and compose)"
  echo "Installing a container engine …"
  apt update
  local packages=(docker.io docker-cli docker-buildx docker-compose)
  if grep -q '^VERSION_CODENAME=bookworm$' /etc/os-release; then
    # Debian 12 has no compose 2; the packages of Debian 13 run there.
    local scratch mirror options
    scratch=$(mktemp -d)
    chmod 0755 "$scratch"
    mkdir -p "$scratch/lists/partial" "$scratch/cache/archives/partial"
    # shellcheck disable=SC2016
    mirror=$(apt-get indextargets --format '$(SITE)' 'Identifier: Packages' 'Codename: bookworm' 'Origin: Debian' | head -n 1)
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] ${mirror:-http://deb.debian.org/debian} trixie main" \
      >"$scratch/sources.list"
    options=(-o "Dir::Etc::SourceList=$scratch/sources.list" -o Dir::Etc::SourceParts=/dev/null
      -o "Dir::State::Lists=$scratch/lists" -o "Dir::Cache=$scratch/cache")
    apt "${options[@]}" update
    (
      top=$PWD
      cd "$scratch"
      "$top/scripts/quietly.sh" apt-get -qq "${options[@]}" download "${packages[@]/%//trixie}"
    )
    packages=("$scratch"/*.deb)
  fi
  # Debian's package would start an engine; we start ours, and stop it.
  if [ ! -e "$POLICY" ]; then
    trap 'rm -f "$POLICY"' EXIT
    printf '#!/bin/sh\nexit 101\n' >"$POLICY"
    chmod 0755 "$POLICY"
  fi
  apt install -y --no-install-recommends "${packages[@]}"
  [ -z "$(trap -p EXIT)" ] || rm -f "$POLICY"
  trap - EXIT
  rm -rf "${scratch:-}"
}

start_engine() {
  as_root "No container engine answers"
  mkdir -p "$RUN"
  exec 9>"$RUN/lock"
  flock --nonblock 9 || { echo "Another test run has the engine; waiting for it …" && flock 9; }
  export DOCKER_HOST=unix://$RUN/docker.sock
  rm -f "$RUN/docker.pid" "$RUN/docker.sock"
  setsid dockerd --host "$DOCKER_HOST" --data-root "$KEPT" --exec-root "$RUN/exec" --pidfile "$RUN/docker.pid" \
    >"$RUN/log" 2>&1 </dev/null 9>&- &
  engine=$!
  trap stop_engine EXIT
  trap 'exit 130' INT TERM
  local deadline=$((SECONDS + 60))
  until docker info >/dev/null 2>&1; do
    if ! kill -0 "$engine" 2>/dev/null || [ "$SECONDS" -ge "$deadline" ]; then
      refuse "No container engine can be started here: $(grep -viE 'level=(info|warn)' "$RUN/log" | tail -n 1)"
    fi
    sleep 0.2
  done
}

stop_engine() {
  kill "$engine" 2>/dev/null || true
  wait "$engine" 2>/dev/null || true
}

available() { # here already, or a registry has it
  docker image inspect "$1" >/dev/null 2>&1 || timeout 300 docker pull --quiet "$1" >/dev/null 2>&1
}

base() { # PUBLIC-NAME FUNCTION-THAT-MAKES-A-STAND-IN; prints the name to use
  if available "$1"; then
    echo "$1"
    return
  fi
  local name=pgfleet-test/$1
  docker image inspect "$name" >/dev/null 2>&1 || {
    echo "No registry answers: making a stand-in of $1 …" >&2
    "$2" "$name" >&2
  }
  echo "$name"
}

make_debian() {
  if ! command -v mmdebstrap >/dev/null; then
    as_root "Debian's package mmdebstrap is not installed"
    apt update
    apt install -y --no-install-recommends mmdebstrap
  fi
  local scratch
  scratch=$(mktemp -d)
  # With this machine's certificate authorities, so that pip and apt reach in a build what they reach outside.
  mkdir -p "$scratch/over/etc/ssl/certs" "$scratch/over/usr/local/share/ca-certificates"
  cp /etc/ssl/certs/ca-certificates.crt "$scratch/over/etc/ssl/certs/"
  cp /usr/local/share/ca-certificates/*.crt "$scratch/over/usr/local/share/ca-certificates/" 2>/dev/null || true
  printf '[global]\ncert = /etc/ssl/certs/ca-certificates.crt\n' >"$scratch/over/etc/pip.conf"
  # shellcheck disable=SC2016
  scripts/quietly.sh mmdebstrap --quiet --variant=minbase --components=main \
    --include=ca-certificates,netbase,tzdata,libssl3,libffi8,libsqlite3-0,libbz2-1.0,liblzma5,libreadline8,libexpat1,libuuid1,zlib1g,libncursesw6,libtirpc3 \
    --dpkgopt=force-unsafe-io --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
    --customize-hook="copy-in $scratch/over/etc $scratch/over/usr /" \
    --customize-hook='rm -rf "$1"/var/lib/apt/lists/* "$1"/var/cache/apt/*.bin' \
    bookworm "$scratch/debian.tar"
  docker import "$scratch/debian.tar" "$1" >/dev/null
  rm -rf "$scratch"
}

python_prefix() { # of a CPython 3.12 that can be moved: not the system's
  local prefix
  for prefix in "${PY312_PREFIX:-}" "$(python3.12 -c 'import sys; print(sys.base_prefix)' 2>/dev/null || true)" \
    /usr/local "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.12.* /opt/python/*3.12*; do
    if [ -n "$prefix" ] && [ "$prefix" != /usr ] && "$prefix/bin/python3.12" -c 'import ensurepip, ssl' 2>/dev/null; then
      echo "$prefix"
      return
    fi
  done
  refuse "No registry answers, and there is no CPython 3.12 outside /usr (pyenv's, say) to make a stand-in of the Python image from."
}

make_python() {
  local prefix scratch
  prefix=$(python_prefix)
  scratch=$(mktemp -d)
  (
    cd "$prefix"
    shopt -s nullglob # a Python without a shared library is one file less
    tar c --exclude=lib/python3.12/test --exclude=lib/python3.12/site-packages --exclude=__pycache__ --exclude='*.a' \
      bin/python3.12 lib/python3.12 lib/libpython3.12.so* >"$scratch/python.tar"
  )
  cat >"$scratch/Dockerfile" <<DOCKERFILE
FROM $PGFLEET_TEST_DEBIAN
ADD python.tar /usr/local/
ENV PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 PIP_CERT=/etc/ssl/certs/ca-certificates.crt
RUN cd /usr/local/bin && ln -s python3.12 python3 && ln -s python3 python && ldconfig \
 && mkdir -p /usr/local/lib/python3.12/site-packages && python3 -m ensurepip && ln -sf pip3 pip
CMD ["python3"]
DOCKERFILE
  scripts/quietly.sh docker build --quiet --tag "$1" "$scratch"
  rm -rf "$scratch"
}

cd "$(dirname "$0")/.."
if ! works; then
  { command -v dockerd >/dev/null && has_plugins; } || install_engine
  start_engine
fi
PGFLEET_TEST_DEBIAN=$(base debian:bookworm-slim make_debian)
export PGFLEET_TEST_DEBIAN
PGFLEET_TEST_PYTHON=$(base python:3.12-slim-bookworm make_python)
export PGFLEET_TEST_PYTHON
# Not exec: the engine is stopped afterwards.
"$@"
