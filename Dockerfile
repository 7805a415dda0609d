# pgfleet in a container: one image, its role by command. docs/deploy.md says how to run it.
#
#   docker build -t pgfleet .                                            client tools of PostgreSQL 14 to 18, from the PGDG repository
#   docker build -t pgfleet --build-arg PG_SOURCE=debian .               Debian's own, PostgreSQL 15; reaches Debian's mirrors only
#   docker build -t pgfleet --build-arg PG_MAJORS=17 .                   PGDG, one major
#   docker build -t pgfleet --build-arg BASE=mirror.example/python:3.12-slim-bookworm .

ARG BASE=python:3.12-slim-bookworm
FROM ${BASE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore PIP_NO_CACHE_DIR=1
WORKDIR /src
COPY pyproject.toml constraints.txt ./
RUN python -m venv --without-pip /opt/pgfleet \
 && python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["dependencies"], sep="\n")' >requirements.txt \
 && pip --python /opt/pgfleet/bin/python install --constraint constraints.txt --requirement requirements.txt
COPY README.md LICENSE beat_schedule.py ./
COPY worker worker
RUN pip --python /opt/pgfleet/bin/python install --no-deps .

FROM ${BASE} AS clients
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
# pgdg: every major, from PostgreSQL's own repository (its signing key comes with Debian's postgresql-common).
# debian: the one that Debian has.
ARG PG_SOURCE=pgdg
ARG PG_MAJORS="14 15 16 17 18"
ARG PGDG_URL=http://apt.postgresql.org/pub/repos/apt
# Not pinned: they are Debian's stable release, and its security fixes are wanted.
# hadolint ignore=DL3008,SC2086
RUN export DEBIAN_FRONTEND=noninteractive \
 && apt-get update \
 && case "$PG_SOURCE" in \
      debian) clients=postgresql-client ;; \
      pgdg) \
        apt-get download postgresql-common \
        && mkdir -p /tmp/pgdg /etc/apt/keyrings \
        && dpkg-deb --extract postgresql-common_*.deb /tmp/pgdg \
        && cp "$(find /tmp/pgdg -path '*/pgdg/apt.postgresql.org*' \( -name '*.gpg' -o -name '*.asc' \) | sort | head -n 1)" /etc/apt/keyrings/ \
        && echo "deb [signed-by=$(echo /etc/apt/keyrings/apt.postgresql.org*)] $PGDG_URL bookworm-pgdg main" >/etc/apt/sources.list.d/pgdg.list \
        && rm -rf postgresql-common_*.deb /tmp/pgdg \
        && apt-get update \
        && clients=$(printf 'postgresql-client-%s ' $PG_MAJORS) ;; \
      *) echo "PG_SOURCE is pgdg or debian, not $PG_SOURCE" >&2; exit 2 ;; \
    esac \
 && apt-get install -y --no-install-recommends ca-certificates gpg gpg-agent tini $clients \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/archives/* /var/log/apt /var/log/dpkg.log

FROM clients
# Debian has a user of that name with another number. The directories are where volumes go, and theirs to write.
RUN userdel backup \
 && groupadd --gid 1000 backup \
 && useradd --uid 1000 --gid 1000 --home-dir /var/lib/pgfleet --no-create-home --shell /usr/sbin/nologin backup \
 && install -d -o backup -g backup -m 0700 /var/lib/pgfleet /var/lib/pgfleet/reports /var/backups/postgres \
 && install -d -o backup -g backup -m 0711 /var/spool/pgfleet \
 && install -d -m 0755 /etc/pgfleet
COPY --from=build /opt/pgfleet /opt/pgfleet
COPY --chmod=0755 compose/image/cron compose/image/entrypoint compose/image/healthcheck compose/image/import-keys /usr/local/bin/
COPY --chmod=0644 compose/image/crontab /etc/pgfleet/crontab
ENV PATH=/opt/pgfleet/bin:$PATH \
    HOME=/var/lib/pgfleet \
    PGFLEET_STATE_DIR=/var/lib/pgfleet \
    PGFLEET_SPOOL=/var/spool/pgfleet \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    LANG=C.UTF-8
WORKDIR /var/lib/pgfleet
USER 1000:1000
HEALTHCHECK --interval=60s --timeout=60s --start-period=180s --start-interval=5s --retries=3 CMD ["healthcheck"]
ENTRYPOINT ["tini", "-g", "--", "entrypoint"]
CMD ["help"]
