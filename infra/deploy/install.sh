#!/bin/sh
# Makes the environment in $1 from requirements.lock. Safe to interrupt: the next run repairs what was left half done.
set -eu
venv=$1
python=${PYTHON:-python3}
began=$(date +%s)

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || {
  echo "thumbwheel: $python is not Python 3.11 or newer: run make PYTHON=/path/to/one" >&2
  exit 2
}

repair=
[ ! -e "$venv/.unfinished" ] || repair=--reinstall  # a package may lie there half copied

if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
  rm -rf "$venv"
  # Debian's python3 comes without ensurepip; a pip outside can still fill an environment that has none.
  "$python" -m venv "$venv" >/dev/null 2>&1 ||
    { "$python" -m venv --clear --without-pip "$venv" && "$python" -m pip --python "$venv/bin/python" install -q pip; } || {
    rm -rf "$venv"
    echo "thumbwheel: $python can make no environment: install its venv module (Debian: apt install python3-venv)" >&2
    exit 2
  }
fi
touch "$venv/.unfinished"
rm -f "$venv/.installed"

wanted=$(sed -n 's/^uv==//p' requirements.lock)
if [ "$("$venv/bin/uv" --version 2>/dev/null | cut -d' ' -f2)" != "$wanted" ]; then
  # Forced, since pip takes a half copied package for an installed one.
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --force-reinstall "uv==$wanted"
fi

# uv does not read pip's configuration: a machine that reaches its registry only through that gets it from here.
setting() { "$venv/bin/python" -m pip config get "$1" 2>/dev/null || true; }
index=${UV_DEFAULT_INDEX:-${PIP_INDEX_URL:-$(setting global.index-url)}}
[ -z "$index" ] || export UV_DEFAULT_INDEX="$index"
certificates=${SSL_CERT_FILE:-${PIP_CERT:-$(setting global.cert)}}
[ -z "$certificates" ] || export SSL_CERT_FILE="$certificates"

export VIRTUAL_ENV="$venv" UV_HTTP_TIMEOUT="${UV_HTTP_TIMEOUT:-300}"
"$venv/bin/uv" pip sync --compile-bytecode $repair requirements.lock
"$venv/bin/uv" pip install --quiet --no-deps -e .

echo $(($(date +%s) - began)) >"$venv/.setup_s"
rm -f "$venv/.unfinished"
touch "$venv/.installed"
