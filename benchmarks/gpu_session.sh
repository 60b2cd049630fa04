#!/usr/bin/env bash
# One session on a machine with a GPU and no network: build, test, measure, within 9 minutes.
#
#   benchmarks/gpu_session.sh OUT_DIR          on the GPU
#   benchmarks/gpu_session.sh OUT_DIR --dry    the same steps on a CPU with a narrow network, to try the script itself
#
# Everything goes to OUT_DIR, in at most 8 files, each written as its part runs: whatever stops the session, what is
# done is kept. A part that fails, is refused or runs out of its time is noted in summary.txt, and the next one starts.
#   summary.txt     each part with its outcome and seconds      tests.txt       the tests that need a GPU
#   machine.txt     what is on the machine                      figures.txt     the tables of all suites
#   build.txt       what could be built                         records.jsonl   the figures themselves
#   tools.txt       profilers and checkers: usable or refused
set -u
[ $# -ge 1 ] || { sed -n '2,13p' "$0"; exit 2; }
mkdir -p "$1" || exit
out=$(cd "$1" && pwd)
dry=${2:-}
cd "$(dirname "$0")/.." || exit
python=${PYTHON:-$([ -x .venv/bin/python ] && echo .venv/bin/python || echo python3)}
export PYTHONUNBUFFERED=1 PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
deadline=$((SECONDS + 540))
: >"$out/records.jsonl"

note() { echo "$*" | tee -a "$out/summary.txt"; }

# part LIMIT FILE COMMAND...: run within LIMIT seconds and what is left of the session, output to FILE
part() {
  local limit=$1 file=$2 start=$SECONDS left=$((deadline - SECONDS - 10)) outcome code
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

suite() {
  local limit=$1 name=$2
  shift 2
  if [ "$dry" = --dry ]; then
    local cases="not compile and not 1024x1024"
    [ "$name" != memory ] || cases="not compile" # it has no smaller one
    part "$limit" figures.txt "$python" -m pytest "benchmarks/test_$name.py" --device cpu --base-width 4 --record "$out/records.jsonl" \
      -p no:cacheprovider -q -k "$cases"
  else
    part "$limit" figures.txt "$python" -m pytest "benchmarks/test_$name.py" --device cuda --record "$out/records.jsonl" \
      -p no:cacheprovider -q "$@"
  fi
}

note "started $(date -u +%Y-%m-%dT%H:%M:%SZ) ${dry}"
part 20 machine.txt nvidia-smi
part 20 machine.txt "$python" -c "import platform, torch; print(platform.python_version(), torch.__version__, torch.cuda.is_available())"
part 20 machine.txt "$python" -m pip list

# The kernels lie beside the package; an installation maps them into it, a bare checkout needs a link.
"$python" -c "import lbam_fast.kernels" 2>/dev/null || ln -sfn ../kernels lbam_fast/kernels
part 20 build.txt "$python" -c "import lbam_fast.kernels; print(lbam_fast.kernels.__file__)"

# Built where there is something to build it with; without, the Triton kernels run all the same.
part 20 build.txt nvcc --version
part 150 build.txt bash -c 'cmake -S . -B build/native && cmake --build build/native --target native --parallel &&
  mkdir -p lbam_fast/_native && cp build/native/bin/* lbam_fast/_native/'

part 90 tests.txt "$python" -m pytest tests -m gpu -q -p no:cacheprovider

probe='import torch; a = torch.rand(1024, 1024, device="cuda"); print((a @ a).sum().item())'
for tool in "ncu --clock-control none --metrics sm__cycles_elapsed.max" "compute-sanitizer --tool memcheck" "nsys profile -o /dev/null"; do
  # shellcheck disable=SC2086
  part 20 tools.txt $tool "$python" -c "$probe"
done

for tool in memcheck racecheck; do
  part 60 tools.txt compute-sanitizer --tool "$tool" --error-exitcode 9 "$python" -m pytest tests/test_gpu.py -q -p no:cacheprovider \
    -k "kernel and inference and official and bfloat16"
done

suite 150 inference --full -k "not compile"
suite 110 inference -k "compile and (fp32 or bf16)"
suite 40 latency -k "not compile"
suite 60 layers --full
suite 60 training_step --full -k "not compile"
suite 40 memory -k "not compile"
note "ended after $SECONDS s with $(wc -l <"$out/records.jsonl") rows of records"
