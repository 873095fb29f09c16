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

# pip names each package as it takes it up; a count is kinder than 140 names.
count_packages() {
    local total line taken=0
    total=$(grep -cE '^[A-Za-z0-9].*==' requirements.lock)
    while IFS= read -r line; do
        case "$line" in
            Collecting* | Ignoring* | "Requirement already satisfied"*)
                taken=$((taken + 1))
                if ((taken % 20 == 0 || taken == total)); then
                    echo "setup: $taken of $total packages at hand"
                fi
                ;;
            "Installing collected packages"*) echo "setup: unpacking them" ;;
        esac
    done
}

# A half-made or moved environment is made anew; a good one is kept.
if ! .venv/bin/python -m pip --version >/dev/null 2>&1 ||
    ! .venv/bin/python -c "$new_enough" >/dev/null 2>&1; then
    python=$(find_python)
    echo "setup: making .venv with $("$python" --version)"
    "$python" -m venv --clear .venv
fi

echo "setup: fetching packages (kept in ${PIP_CACHE_DIR:-the cache folder of pip})"
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
.venv/bin/python -m pip install --no-deps --require-hashes --progress-bar off \
    --requirement requirements.lock | count_packages
.venv/bin/python -m pip install --quiet --no-deps --no-build-isolation --editable .
touch .venv/.installed
echo "setup: ready in $SECONDS s"
