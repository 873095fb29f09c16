#!/usr/bin/env bash
# Makes .venv with the locked packages and the `tidegate` command.
# It talks as it goes: for most people it is the first thing of Tidegate they see.
set -euo pipefail
cd "$(dirname "$0")/.."

new_enough='import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))'

find_python() {
    local name
    for name in python3 python3.13 python3.12 python3.11; do
        if "$name" -c "$new_enough" >/dev/null 2>&1; then
            echo "$name"
            return
        fi
    done
    echo "setup: found no Python with venv, expected 3.11 or later as python3, python3.13," \
        "python3.12 or python3.11. Install one (Debian: apt-get install python3 python3-venv)." >&2
    return 1
}

# A half-made or moved environment is made anew; a good one is kept.
if ! .venv/bin/python -m pip --version >/dev/null 2>&1 ||
    ! .venv/bin/python -c "$new_enough" >/dev/null 2>&1; then
    python=$(find_python)
    echo "setup: making .venv with $("$python" --version)"
    "$python" -m venv --clear .venv
fi

export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
pip() { .venv/bin/python -m pip "$@"; }

# pip keeps downloads only where the registry lets it, so the wheels are kept here as files.
# The mark says that all of this lock is there for this Python: then no network is needed.
wheels=${TIDEGATE_CACHE:-.cache}/wheels
mark=$wheels/complete-$(.venv/bin/python -c 'import hashlib, pathlib, sys
lock = pathlib.Path("requirements.lock").read_bytes()
print(sys.implementation.cache_tag, hashlib.sha256(lock).hexdigest()[:16], sep="-")')

# pip names each package as it takes it up; a count is kinder than 140 names.
count_packages() {
    local total line taken=0
    total=$(grep -cE '^[A-Za-z0-9].*==' requirements.lock)
    while IFS= read -r line; do
        case "$line" in
            Collecting* | Ignoring*)
                taken=$((taken + 1))
                if ((taken % 20 == 0 || taken == total)); then
                    echo "setup: $taken of $total packages at hand"
                fi
                ;;
        esac
    done
}

fetch() {
    echo "setup: fetching packages into $wheels"
    mkdir -p "$wheels"
    pip download --no-deps --require-hashes --progress-bar off --find-links "$wheels" \
        --dest "$wheels" --requirement requirements.lock | count_packages
}

install() {
    echo "setup: unpacking packages from $wheels"
    pip install --quiet --no-compile --no-deps --require-hashes --no-index \
        --find-links "$wheels" --requirement requirements.lock
}

if [[ ! -e $mark ]] || ! install; then
    fetch
    install
    touch "$mark"
fi
# On all cores, which pip does not; a package's template that is no valid Python is no fault.
.venv/bin/python -m compileall -qq -j 0 .venv/lib || true
pip install --quiet --no-deps --no-build-isolation --editable .
touch .venv/.installed
echo "setup: ready in $SECONDS s"
