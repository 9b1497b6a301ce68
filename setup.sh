#!/usr/bin/env bash
# One provisioner for a laptop, a Brev VM (as its set-up script) and Colab. Safe to run twice.
#
#   bash setup.sh          install, register the Jupyter kernel, show the preflight
#   bash setup.sh demo     train with and without KL, compare, grade (installs first)
#   bash setup.sh site     build the walk-through in site/ (installs first)
#   bash setup.sh test     run all tests (installs first); `test fast` for one tier, `test zoo` for
#                          all kinds of models, `test gpu` where there is a GPU
#
# It installs into .venv, or in place on Colab and inside an active conda environment.
# PYTHON=/path/to/python chooses the interpreter. Left out: GPU drivers.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
LOG=$PWD/setup.log

say() { printf '%s\n' "$*"; }
fail() { printf 'setup: %s\n' "$*" >&2; exit 2; }

suitable() {  # a Python 3.11 to 3.13
  "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null
}

find_python() {
  local candidate
  for candidate in ${PYTHON:-} python3 python3.12 python3.13 python3.11 python; do
    if command -v "$candidate" >/dev/null 2>&1 && suitable "$candidate"; then
      command -v "$candidate"; return
    fi
  done
  return 1
}

as_root() {  # run with root's rights, or fail at once: nobody is there to type a password
  if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi
}

apt_install() {
  command -v apt-get >/dev/null 2>&1 || return 1
  as_root apt-get update -qq >>"$LOG" 2>&1 || true
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$@" >>"$LOG" 2>&1
}

pin() {  # the torch version that pyproject.toml names
  sed -n 's/^torch = "\(.*\)"/\1/p' pyproject.toml
}

has_gpu() { command -v nvidia-smi >/dev/null 2>&1 && nvidia-smi -L 2>/dev/null | grep -q GPU; }

in_place() {  # on Colab, or in a conda environment of one's own; conda's base is left alone
  [ -n "${COLAB_RELEASE_TAG:-}${COLAB_GPU:-}" ] ||
    { [ -n "${CONDA_PREFIX:-}" ] && [ "${CONDA_DEFAULT_ENV:-base}" != base ]; }
}

pip_install() { "$PY" -m pip install --disable-pip-version-check -q "$@" >>"$LOG" 2>&1; }

torch_ok() {  # a torch in the range of pyproject.toml, that can use the GPU where there is one
  "$PY" - "$(has_gpu && echo gpu || echo cpu)" 2>>"$LOG" <<'PYTHON'
import sys, torch
version = tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2])
sys.exit(not ((2, 8) <= version < (3, 0) and (sys.argv[1] == "cpu" or torch.version.cuda)))
PYTHON
}

install_torch() {
  local version; version=$(pin)
  if torch_ok; then say "torch: keeping the one that is there"; return; fi
  if has_gpu || [ "$(uname -s)" != Linux ]; then
    say "torch $version ..."; pip_install "torch==$version"; return
  fi
  say "torch $version, CPU build ..."
  # A CPU wheel that pip can see (a local wheel folder, a mirror) comes first; else uv, which
  # knows where PyTorch keeps its CPU builds.
  pip_install "torch==$version+cpu" && return
  { pip_install "uv>=0.6" && "$PY" -m uv pip install -q --python "$PY" --torch-backend=cpu \
      "torch==$version" >>"$LOG" 2>&1; }
}

browser() {  # a headless one for tests/browser, which skips itself without
  command -v chromium >/dev/null 2>&1 && command -v chromedriver >/dev/null 2>&1 && return
  say "chromium, for the tests in a browser ..."
  apt_install chromium chromium-driver || say "note: no chromium; tests/browser will be skipped"
}

stamp() { cat pyproject.toml setup.sh | cksum | tr -d ' '; }

disk_check() {
  local need=4 free; has_gpu && need=12
  free=$(df -Pk . | awk 'NR == 2 { print int($4 / 1048576) }')
  [ "$free" -ge "$need" ] || fail "$free GiB free here, $need needed; free some disk space"
}

install() {
  if in_place; then
    PY=$(command -v python3 || command -v python) || fail "no python in this environment"
    suitable "$PY" || fail "this environment has $("$PY" -V), the course needs 3.11 to 3.13"
    STAMP=$("$PY" -c 'import sys; print(sys.prefix)')/.grpo-course
  else
    PY=$PWD/.venv/bin/python; STAMP=$PWD/.venv/.grpo-course
  fi
  if [ -x "$PY" ] && [ "$(cat "$STAMP" 2>/dev/null)" = "$(stamp)" ]; then return; fi
  : >"$LOG" 2>/dev/null || fail "$PWD cannot be written to; copy the course to another folder"
  disk_check
  if ! in_place && ! [ -x "$PY" ]; then
    local base
    base=$(find_python) || { say "no Python 3.11 to 3.13 here; trying apt ..."
      apt_install python3.11 python3.11-venv && base=$(find_python); } ||
      fail "no Python 3.11 to 3.13 found; install one, or name it: PYTHON=/path bash setup.sh"
    say "Python: $("$base" -V 2>&1 | cut -d' ' -f2) in .venv"
    "$base" -m venv .venv >>"$LOG" 2>&1 || {
      rm -rf .venv
      apt_install "$(basename "$("$base" -c 'import sys; print("python%d.%d" % sys.version_info[:2])')")-venv" &&
        "$base" -m venv .venv >>"$LOG" 2>&1
    } || { rm -rf .venv; fail "cannot make .venv (is the package python3-venv installed?); see setup.log"; }
  fi
  install_torch || fail "cannot install torch $(pin); is there a network? See setup.log"
  say "the course and its libraries ..."
  local extras="[grading,dev]"; [ -d grading ] || extras=""
  pip_install -e ".$extras" || fail "cannot install the libraries; is there a network? See setup.log"
  # Notebooks import torch before lib can say how its threads should wait; their kernels say it.
  "$PY" -m ipykernel install --sys-prefix --env OMP_WAIT_POLICY PASSIVE >>"$LOG" 2>&1 || true
  "$PY" -m ipykernel install --user --name grpo-course --display-name "GRPO course" \
    --env OMP_WAIT_POLICY PASSIVE >>"$LOG" 2>&1 ||
    say "note: no Jupyter kernel registered for this user; JupyterLab from .venv works anyway"
  stamp >"$STAMP"
}

FIRST=${1:-}
case $FIRST in
  "" | demo | site | test) ;;
  *) fail "unknown sub-command '$FIRST'; use: bash setup.sh [demo|site|test]" ;;
esac
[ -z "$FIRST" ] || [ -d grading ] ||
  fail "'$FIRST' needs the whole course; this copy is a student's: bash setup.sh"
[ $# -gt 0 ] && shift
install
# One thread: a quarter slower on two quiet cores, five times faster where a neighbour takes one
# of them away in the middle of every parallel loop.
[ -z "$FIRST" ] || export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
case $FIRST in
  "") "$PY" -m lib preflight
      in_place || say "next: .venv/bin/jupyter lab --notebook-dir . notebooks/01_sentiment.ipynb" ;;
  demo) exec "$PY" -m grading demo "$@" ;;
  site) exec "$PY" -m grading site "$@" ;;
  test)
    "$PY" -m ruff check .
    # Each of two workers begins with half of this list: one with chapters 1 and 3, the other
    # soon with tests/browser, which executes the others first.
    tiers=(tests/notebooks tests/training tests/fast tests/browser tests/grading tests/zoo tests/gpu)
    marked=(-m "not slow")
    [ $# -gt 0 ] && tiers=("${@/#/tests/}") && marked=()
    case " ${tiers[*]} " in *" tests/browser "*) browser ;; esac
    exec "$PY" -m pytest -n auto --maxprocesses 4 --dist worksteal ${marked[@]+"${marked[@]}"} "${tiers[@]}" ;;
esac
