# Sourced by the scripts beside it: makes .venv in the repository and installs the package into it, when needed only.
# Usage: ensure_environment [EXTRAS], e.g. `ensure_environment test`. Sets VENV_PYTHON. PYTHON names the interpreter
# that makes the environment (default: python3). The current directory must be the repository's root.

ensure_environment() {
    local extras="${1:-}" python="${PYTHON:-python3}" target="." stamp wanted
    VENV_PYTHON="$PWD/.venv/bin/python"
    if ! "$VENV_PYTHON" -m pip --version >/dev/null 2>&1; then
        if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "Python 3.11 or newer is needed, and '$python' is not one. Name one: PYTHON=python3.12 bash $0" >&2
            return 1
        fi
        echo "== making .venv with $("$python" --version)"
        if ! "$python" -m venv --clear .venv; then
            echo "'$python -m venv' failed; on Debian and Ubuntu it needs: apt install python3-venv" >&2
            return 1
        fi
    fi
    if [ -n "$extras" ]; then target=".[$extras]"; fi
    # The stamp holds what an installation depends on, the folder included: a virtual environment can't be moved.
    stamp=".venv/installed-${extras:-base}"
    wanted=$("$VENV_PYTHON" - <<'PYTHON'
import hashlib, os, sys
digest = hashlib.sha256(f"{os.getcwd()} {sys.version}".encode())
for name in ("setup.cfg", "pyproject.toml", "scripts/constraints.txt"):
    with open(name, "rb") as file:
        digest.update(file.read())
print(digest.hexdigest())
PYTHON
    )
    if [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ]; then
        echo "== installing $target into .venv (the first time this fetches torch and takes some minutes)"
        "$VENV_PYTHON" -m pip install --quiet --disable-pip-version-check -c scripts/constraints.txt -e "$target"
        echo "$wanted" >"$stamp"
    fi
}
