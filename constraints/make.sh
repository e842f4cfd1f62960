#!/usr/bin/env bash
# Writes newest.txt and oldest.txt again: every package at the newest and at the oldest version that setup.cfg allows,
# for all Pythons that it allows. Needs uv.
set -euo pipefail
cd "$(dirname "$0")/.."
common=(pip compile setup.cfg --extra dev --universal --python-version 3.11 --no-header --no-annotate --quiet)
uv "${common[@]}" --upgrade --output-file constraints/newest.txt
# What setup.cfg names at its lowest, what those need at the newest that fits them.
uv "${common[@]}" --resolution lowest-direct --upgrade --output-file constraints/oldest.txt
