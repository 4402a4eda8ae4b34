#!/usr/bin/env bash
# Installs the servers that tests start and that come with no Python package: PostgreSQL, PgBouncer
# and MariaDB for the sql sink, RabbitMQ as a broker. They come from Debian, as root and in CI
# (CI=true) or when asked for with --install. Elsewhere it only says which are missing; the tests
# that need them are skipped then, and fail in CI.
set -euo pipefail

missing=()
command -v initdb >/dev/null || compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || missing+=(postgresql)
PATH="$PATH:/usr/sbin" command -v pgbouncer >/dev/null || missing+=(pgbouncer)
PATH="$PATH:/usr/sbin" command -v mariadbd >/dev/null || missing+=(mariadb-server)
[ -x /usr/lib/rabbitmq/bin/rabbitmq-server ] || missing+=(rabbitmq-server)
[ ${#missing[@]} -gt 0 ] || exit 0

if [ "${1:-}" != --install ] && [ "${CI:-}" != true ]; then
  echo "tests on ${missing[*]} are skipped; as root, 'make servers' installs what they need" >&2
  exit 0
fi
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
  echo "${missing[*]}: only root can install what is missing, on Debian" >&2
  exit 0
fi
# The packages would start servers of their own: the tests start theirs, in directories of their own.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
  printf '#!/bin/sh\nexit 101\n' >"$policy"
  chmod +x "$policy"
  trap 'rm -f "$policy"' EXIT
fi
export DEBIAN_FRONTEND=noninteractive
echo "installing ${missing[*]} for the tests" >&2
{ apt-get -qq update && apt-get -qq install --yes --no-install-recommends "${missing[@]}"; } >/dev/null \
  || echo "${missing[*]}: could not be installed" >&2
