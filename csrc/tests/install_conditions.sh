#!/bin/sh
# Installs the package in the conditions that users have, in a folder of its own (argument 1), and says what became of it.
#   PYTHON=python3  one that has PyTorch, to run the kernels with; the network is needed for builds in isolation
set -eu
work=$(realpath "$1")
python=${PYTHON:-python3}
root=$(realpath "$(dirname "$0")/../..")
export LBAM_CUDA_ARCHITECTURES=none  # but where a condition is about CUDA; compiling it takes minutes

copy() {  # a clean tree
  rm -rf "$work/tree"
  mkdir -p "$work/tree"
  (cd "$root" && tar cf - --exclude=_native --exclude=__pycache__ CMakeLists.txt MANIFEST.in LICENSE README.md pyproject.toml \
    setup.py csrc kernels lbam_fast) | (cd "$work/tree" && tar xf -)
}

tools() {  # a folder that holds only these programs, to be the whole PATH
  rm -rf "$work/bin"
  mkdir -p "$work/bin"
  for name in "$@"; do
    if found=$(command -v "$name"); then ln -s "$found" "$work/bin/$name"; fi
  done
}

path() {  # all there is, without that folder
  if [ -d "$work/bin" ]; then echo "$work/bin"; else echo "$PATH"; fi
}

build() {  # options of pip
  (cd "$work/tree" && env PATH="$(path)" "$python" -m pip wheel --quiet --no-deps --wheel-dir "$work/wheels" "$@" .)
}

wheel() {  # name, expected platform tag, expected reason (a pattern), then options of pip
  name=$1 tag=$2 reason=$3
  shift 3
  copy
  rm -rf "$work/wheels" "$work/installed"
  if ! build "$@" >"$work/log" 2>&1; then
    cat "$work/log"
    exit 1
  fi
  file=$(ls "$work"/wheels/*.whl)
  case $file in *$tag*) ;; *) echo "$name: $file, expected a tag like $tag"; exit 1 ;; esac
  "$python" -m pip install --quiet --no-deps --target "$work/installed" "$file"
  check "$name" "$reason" "$work/installed"
  echo "    $(basename "$file"), $(du -k "$file" | cut -f1) KiB"
}

check() {  # name, pattern, folder that holds the package
  found=$(cd "$work" && PYTHONPATH=$3 "$python" -c "
import lbam_fast, lbam_fast.kernels
from lbam_fast import native
assert lbam_fast.__file__.startswith('$3'), lbam_fast.__file__
print(native.unavailable() or 'runs on ' + native.instruction_set(), '| CUDA:', native.not_built('cuda'))")
  echo "$1: $found"
  echo "$found" | grep -Eq "$2" || { echo "expected $2"; exit 1; }
}

compilers="c++ g++ as ld ar ranlib nm strip sh"
rm -rf "$work/bin"
LBAM_CUDA_ARCHITECTURES=90a
wheel "compiler and nvcc" py3-none-linux_ "^runs on .*CUDA: $" --no-build-isolation
LBAM_CUDA_ARCHITECTURES=none
tools $compilers cmake ninja
wheel "compiler alone" py3-none-linux_ "^runs on" --no-build-isolation
tools $compilers
wheel "compiler alone, in isolation" py3-none-linux_ "^runs on"
tools sh
wheel "neither" py3-none-any "^no C\+\+ compiler was found" --no-build-isolation
wheel "neither, in isolation" py3-none-any "^no C\+\+ compiler was found"
tools $compilers cmake ninja
LBAM_NATIVE=0 wheel "LBAM_NATIVE=0" py3-none-any "^switched off by LBAM_NATIVE=0" --no-build-isolation
tools sh
copy
if LBAM_NATIVE=require build --no-build-isolation >"$work/log" 2>&1; then
  echo "LBAM_NATIVE=require: a build without a compiler passed"
  exit 1
fi
grep -q "LBAM_NATIVE=require: no C++ compiler was found" "$work/log"
echo "LBAM_NATIVE=require: refused"

tools $compilers cmake ninja
copy
"$python" -m venv --without-pip "$work/venv"
for isolation in "" --no-build-isolation; do
  (cd "$work/tree" &&
    env PATH="$work/bin" "$python" -m pip --python "$work/venv/bin/python" install --quiet --no-deps $isolation -e .)
  check "editable $isolation" "^runs on" "$work/tree"
  "$python" -m pip --python "$work/venv/bin/python" install --quiet 'setuptools>=77'  # for the next turn
done
