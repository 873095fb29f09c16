#!/usr/bin/env bash
# Runs CI's command on the last commit as a newcomer would have it: a fresh clone, an empty home.
# The caches stay the caller's, so that only what is new is fetched.
set -euo pipefail
cd "$(dirname "$0")/.."

if [[ -n $(git status --porcelain) ]]; then
    echo "presubmit: the working tree holds changes that are not committed; they are not tested."
fi

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
git clone --quiet . "$scratch/clone"
mkdir "$scratch/home"
if [[ -d ../shared ]]; then
    ln -s "$(cd ../shared && pwd)" "$scratch/shared"
fi
HOME=$scratch/home CI=true bash "$scratch/clone/.ci/run"
