#!/usr/bin/env bash
# Tries the package with one interpreter and one set of versions, in an environment of its own:
#   constraints/try.sh python3.13 newest [FOLDER]
# installs a wheel and runs it outside the repository, then the tests. FOLDER keeps the environments and the log.
set -euo pipefail
cd "$(dirname "$0")/.."
python="$1" versions="$2" folder="${3:-$(mktemp -d)}"
constraints="$PWD/constraints/$versions.txt"
mkdir -p "$folder"

"$python" -m venv "$folder/bare"
"$folder/bare/bin/python" -m pip --disable-pip-version-check wheel --quiet --no-deps --wheel-dir "$folder" .
"$folder/bare/bin/python" -m pip --disable-pip-version-check install --quiet --constraint "$constraints" "$folder"/vdw_jax-*.whl
(
  cd "$folder"
  bare/bin/vdw-jax --version
  bare/bin/vdw-jax sample --target_formula=GaInSSe2 --num_samples=2 --out=sampled --overwrite --quiet
  bare/bin/vdw-jax check sampled/samples.extxyz
  bare/bin/vdw-jax train --config=configs/smoke.py --help >/dev/null
)

make test VENV="$folder/dev" PYTHON="$python" CONSTRAINTS="$constraints"
echo "$("$python" -V), $versions versions: wheel and tests pass"
