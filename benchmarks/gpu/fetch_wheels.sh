#!/usr/bin/env bash
# Fetch what a bare GPU machine lacks (30 MB) into build/wheels, which git ignores. Run it where there is a network, in
# the repository's root, then copy the checkout with that folder to the GPU machine.
#
#   bash benchmarks/gpu/fetch_wheels.sh [PYTHON_VERSION]     the version on the GPU machine, 3.12 unless said
#
# wheels.txt names the packages, constraints.txt their versions. torch and CUDA are not among them: the machine's own
# builds fit its driver.
set -euo pipefail
ROOT=$(cd "$(dirname "$0")/../.." && pwd)
FOLDER=$ROOT/build/wheels
PLATFORMS=()
for glibc in 28 27 24 17 12 5; do PLATFORMS+=(--platform "manylinux_2_${glibc}_x86_64"); done
for old in manylinux2014 manylinux2010 manylinux1; do PLATFORMS+=(--platform "${old}_x86_64"); done
mkdir -p "$FOLDER"
"${PYTHON:-python3}" -m pip download -q --no-deps --only-binary=:all: --implementation cp --python-version "${1:-3.12}" \
  "${PLATFORMS[@]}" -d "$FOLDER" -r "$ROOT/benchmarks/gpu/wheels.txt" -c "$ROOT/constraints.txt"
du -ch "$FOLDER"/*.whl | tail -n 1
