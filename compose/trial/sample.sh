#!/bin/sh
# The sample database, 20 MB × SCALE. Run once, by the image's own initialisation.
set -eu
sed "s/{scale}/${SCALE:-1}/g" /usr/share/pgfleet/sample.sql \
  | psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" --output /dev/null
