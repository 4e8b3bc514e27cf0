#!/bin/sh
# Installs Kafka, PostgreSQL and Redis where they are missing: Debian's packages, and the broker's jars by Maven.
# Usage: install_services.sh KAFKA_VERSION KAFKA_DIRECTORY. Starts nothing. Safe to interrupt and to run again.
set -eu
version=$1
jars=$2
here=$(dirname "$0")

missing=
command -v java >/dev/null || missing="$missing openjdk-17-jre-headless"
[ -d "$jars" ] || command -v mvn >/dev/null || missing="$missing maven"
command -v initdb >/dev/null || ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || missing="$missing postgresql"
command -v redis-server >/dev/null || missing="$missing redis-server"

if [ -n "$missing" ]; then
  if ! command -v apt-get >/dev/null || [ "$(id -u)" != 0 ]; then
    echo "thumbwheel: install these, then try again:$missing (as root, on Debian: apt-get install$missing)" >&2
    exit 2
  fi
  # Debian's packages start their servers at once: ours run elsewhere, so those stay off.
  policy=/usr/sbin/policy-rc.d
  [ -e "$policy" ] || { printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod +x "$policy" && trap 'rm -f "$policy"' EXIT; }
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
fi

if [ ! -d "$jars" ]; then
  aside=$jars.$$
  mkdir -p "$aside"
  mvn -q -B -f "$here/kafka.pom.xml" -Dkafka.version="$version" dependency:copy-dependencies \
    -DoutputDirectory="$aside" -DincludeScope=runtime
  mv -T "$aside" "$jars" 2>/dev/null || rm -rf "$aside" # another one was quicker
fi
