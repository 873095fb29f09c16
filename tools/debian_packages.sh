#!/usr/bin/env bash
# Installs what tests/debian-packages.txt names and this machine lacks, where that is allowed.
# Where it is not, says so in one line: the tests that need a package then skip, naming it.
set -euo pipefail
cd "$(dirname "$0")/.."

missing=()
while read -r package probe _; do
    case "$package" in "" | "#"*) continue ;; esac
    if [[ $probe == /* ]]; then
        compgen -G "$probe" >/dev/null || missing+=("$package")
    else
        command -v "$probe" >/dev/null || missing+=("$package")
    fi
done <tests/debian-packages.txt
((${#missing[@]})) || exit 0

may_install() {
    command -v apt-get >/dev/null || return 1
    if ((EUID == 0)); then
        as_root=()
    else
        as_root=(sudo -n)
        sudo -n true 2>/dev/null
    fi
}

# Tests start their own servers on free ports, so a package must not start its service.
forbid_services() {
    local policy=/usr/sbin/policy-rc.d
    [[ ! -e $policy ]] || return 0
    trap '"${as_root[@]}" rm -f /usr/sbin/policy-rc.d' EXIT
    printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
    "${as_root[@]}" chmod +x "$policy"
}

install_missing() {
    local options=(-qq -y --no-install-recommends -o Acquire::Retries=1 -o Acquire::http::Timeout=30)
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install "${options[@]}" "${missing[@]}" </dev/null
}

update_lists() {
    "${as_root[@]}" apt-get update -qq -o Acquire::Retries=1 -o Acquire::http::Timeout=30 </dev/null
}

if may_install; then
    echo "Installing Debian packages that tests need: ${missing[*]}"
    forbid_services
    log=$(mktemp)
    if install_missing >"$log" 2>&1 ||
        { update_lists >>"$log" 2>&1 && install_missing >>"$log" 2>&1; }; then
        rm -f "$log"
        exit 0
    fi
    tail -n 5 "$log"
    rm -f "$log"
fi
echo "Debian packages missing: ${missing[*]}. The tests that need them will skip;" \
    "install them with: sudo apt-get install ${missing[*]}"
