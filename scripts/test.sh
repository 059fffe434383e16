#!/usr/bin/env bash
# Runs every check: ruff, mypy, pytest. Does its own set-up (.venv) the first time and whenever requirements change.
#
#   bash scripts/test.sh                      all but the slow tests
#   bash scripts/test.sh --slow               all tests
#   bash scripts/test.sh -k resume -x         anything else goes to pytest
#   PYTHON=python3.12 bash scripts/test.sh    the interpreter for a new .venv
#   WORKERS=4 bash scripts/test.sh            test processes side by side (default 2; 0 runs all in one process)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/environment.sh

markers=(-m "not slow")
pytest_arguments=()
for argument in "$@"; do
    if [ "$argument" = "--slow" ]; then markers=(); else pytest_arguments+=("$argument"); fi
done

ensure_environment test

# No test needs a network, and none may reach for one. One thread each, as test processes share the cores.
export HF_HUB_OFFLINE=1 HF_DATASETS_OFFLINE=1 HF_EVALUATE_OFFLINE=1 HF_HUB_DISABLE_TELEMETRY=1
export TOKENIZERS_PARALLELISM=false OMP_NUM_THREADS=1

status=0
run() {
    echo "== $1"
    shift
    "$@" || status=1
}
run "ruff check" "$VENV_PYTHON" -m ruff check .
run "ruff format --check" "$VENV_PYTHON" -m ruff format --check .
run "mypy" "$VENV_PYTHON" -m mypy
run "pytest" "$VENV_PYTHON" -m pytest -q -n "${WORKERS:-2}" --dist loadfile \
    ${markers[@]+"${markers[@]}"} ${pytest_arguments[@]+"${pytest_arguments[@]}"}
if [ "$status" -eq 0 ]; then echo "== all checks passed"; else echo "== a check failed, see above"; fi
exit "$status"
