#!/usr/bin/env bash
# Build, test and measure on a machine with a GPU and no network, in two calls of at most 9 minutes, the most valuable first.
#
#   benchmarks/gpu_session.sh OUT 1         build, tests of the published width, bf16 inference, layers by every route
#   benchmarks/gpu_session.sh OUT 2         all other tests, training, other types, peers, sanitizers
#   benchmarks/gpu_session.sh OUT --dry     both on a CPU with a narrow network, to try the script itself; minutes
#
# What the first call compiles and measures lies in build/gpu, lbam_fast/_native and build/native, where the second finds it;
# without it the second does that again. Everything else goes to OUT, in at most 8 files, each written as its part runs:
# whatever stops a call, what is done is kept. A part that fails, is refused or runs out of its time is noted in summary.txt, and
# the next one starts.
#   summary.txt     each part with its outcome and seconds      figures.txt     the tables of all suites
#   machine.txt     what is on the machine, and doctor          records.jsonl   the figures themselves
#   build.txt       what could be built                         routes.json     which route each call takes, and what each took
#   tests.txt       the tests that need a GPU                   tools.txt       profilers and checkers: usable or refused
set -u
[ $# -ge 2 ] && case $2 in 1 | 2 | --dry) ;; *) false ;; esac || { sed -n '2,17p' "$0"; exit 2; }
mkdir -p "$1" || exit
out=$(cd "$1" && pwd)
which=$2
cd "$(dirname "$0")/.." || exit
python=${PYTHON:-$([ -x .venv/bin/python ] && echo .venv/bin/python || echo python3)}
kept=$PWD/build/gpu
[ "$which" != --dry ] || kept=$out/kept
mkdir -p "$kept"
export PYTHONUNBUFFERED=1 PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" TRITON_CACHE_DIR="$kept/triton" XDG_CACHE_HOME="$kept"
deadline=$((SECONDS + 530)) patience=1
[ "$which" != --dry ] || { deadline=$((SECONDS + 1060)) patience=2; } # both calls, on a machine that may be slow
main_cases="256x256 batch 1,256x256 batch 16,256x256 batch 64,1024x1024 batch 1"
small="256x256 batch 1 fresh mask"
tried=" "

note() { echo "$*" | tee -a "$out/summary.txt"; }

# part LIMIT FILE COMMAND...: run within LIMIT seconds and what is left of the call, output to FILE
part() {
  local limit=$(($1 * patience)) file=$2 start=$SECONDS left=$((deadline - SECONDS - 10)) outcome code
  shift 2
  [ "$limit" -le "$left" ] || limit=$left
  if [ "$limit" -lt 5 ]; then
    note "skipped, no time left: $*"
    return
  fi
  echo "== $*" >>"$out/$file"
  timeout --signal=INT --kill-after=10 "$limit" "$@" >>"$out/$file" 2>&1
  code=$?
  case $code in
    0) outcome=done ;;
    124 | 137) outcome="stopped at its limit" ;;
    127) outcome="not there" ;;
    *) outcome="failed or refused ($code)" ;;
  esac
  note "$outcome, $((SECONDS - start)) s: $*"
}

# suite LIMIT NAME OPTIONS...: one of the suites; dry, its smallest case on a CPU, once
suite() {
  local limit=$1 name=$2 options=(--device cuda)
  shift 2
  if [ "$which" = --dry ]; then
    case $tried in *" $name "*) return ;; esac
    tried+="$name "
    options=(--device cpu --base-width 4)
    set -- --dtype bf16 -k "not compile and not ONNX and not OpenVINO"
    case $name in
      inference | latency) set -- --case "$small" "$@" ;;
      layers) set -- --case dc7 "$@" ;;
      memory) return ;; # it has no small case
    esac
  fi
  part "$limit" figures.txt "$python" -m pytest "benchmarks/test_$name.py" --record "$out/records.jsonl" -p no:cacheprovider -q \
    "${options[@]}" "$@"
}

gpu_tests() { # gpu_tests LIMIT OPTIONS...: warnings of other versions of libraries fail nothing here
  local limit=$1
  shift
  part "$limit" tests.txt "$python" -m pytest tests/test_gpu.py -q -p no:cacheprovider -W default "$@"
}

warm() { # warm LIMIT HEIGHT, WIDTH, BATCH, DTYPE: what doctor --warm does, where the command line's libraries may be missing
  part "$1" machine.txt "$python" -c "import torch; from lbam_fast import LBAMConfig; from lbam_fast.model.warm import warm
print(warm(LBAMConfig.preset('official'), $2))"
}

describe() {
  part 20 machine.txt nvidia-smi
  part 30 machine.txt "$python" -m pip list
  # The kernels lie beside the package; an installation maps them into it, a bare checkout needs a link.
  "$python" -c "import lbam_fast.kernels" 2>/dev/null || ln -sfn ../kernels lbam_fast/kernels
}

# The CUDA kernels alone, for the architecture of this card; where nothing can be built the Triton kernels run all the same.
build() {
  local architecture
  architecture=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | head -n 1 | tr -d .)
  [ "$architecture" != 90 ] || architecture=90a
  export LBAM_CUDA_ARCHITECTURES=${architecture:-none}
  part 20 build.txt nvcc --version
  if [ "$which" = --dry ]; then
    note "not built when dry: for LBAM_CUDA_ARCHITECTURES=$LBAM_CUDA_ARCHITECTURES"
    return
  fi
  part 120 build.txt bash -c 'generator=$(command -v ninja >/dev/null && echo "-G Ninja")
    cmake -S . -B build/native $generator && cmake --build build/native --target lbam_native_cuda --parallel &&
    mkdir -p lbam_fast/_native && cp build/native/bin/* lbam_fast/_native/'
}

keep_record() {
  part 30 machine.txt "$python" -m lbam_fast doctor
  part 30 figures.txt "$python" benchmarks/route_rows.py "$out/records.jsonl"
  cp "$kept/lbam_fast/routes.json" "$out/" 2>/dev/null || note "no route was measured"
}

first() {
  describe
  build
  warm 60 "256, 256, 1, torch.bfloat16"
  gpu_tests 60 -k "published_width and bfloat16"
  gpu_tests 40 -k "shared_layers"
  suite 150 inference --full --dtype bf16 --case "$main_cases" -k "not compile and fresh"
  keep_record
  suite 100 layers --full --dtype bf16
  suite 60 inference --full --dtype bf16 --case "$main_cases" -k "not compile and one"
  gpu_tests 60 -k "published_width and not bfloat16"
  part 30 machine.txt "$python" benchmarks/bookkeeping.py
  keep_record
}

second() {
  describe
  [ "$which" != 2 ] || [ -e lbam_fast/_native/lbam_native_cuda.so ] || build
  gpu_tests 150 -k "not published_width and not shared_layers"
  suite 60 training_step --full --dtype bf16 -k "not compile"
  suite 80 inference --full --dtype fp32,tf32,fp16 --case "$main_cases" -k "not compile and fresh"
  suite 50 inference --dtype bf16 -k "compile and not max"
  suite 40 latency -k "not compile"
  suite 40 memory -k "not compile"
  suite 40 training_step --dtype fp32,fp16 -k "not compile"
  keep_record
  check
}

check() {
  local probe='import torch; a = torch.rand(1024, 1024, device="cuda"); print((a @ a).sum().item())' tool
  for tool in memcheck racecheck; do
    part 45 tools.txt compute-sanitizer --tool "$tool" --error-exitcode 9 "$python" -m pytest tests/test_gpu.py -q \
      -p no:cacheprovider -W default -k "inference_stays and kernel and official and bfloat16 and not 2019"
  done
  for tool in "ncu --clock-control none --metrics sm__cycles_elapsed.max" "nsys profile -o /dev/null"; do
    # shellcheck disable=SC2086
    part 15 tools.txt $tool "$python" -c "$probe"
  done
}

note "started $(date -u +%Y-%m-%dT%H:%M:%SZ), call $which"
case $which in
  1) first ;;
  2) second ;;
  --dry)
    first
    second
    ;;
esac
touch "$out/records.jsonl"
note "ended after $SECONDS s with $(wc -l <"$out/records.jsonl") rows of records"
