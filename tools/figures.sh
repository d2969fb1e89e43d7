#!/usr/bin/env bash
# Measure the figures in docs/figures/ anew, all or those named:
#
#     tools/figures.sh DATA [quality routing time arm overhead prediction deadline threads scores backbones]
#
# DATA holds folders of ground truth: test/Set5, test/Set14, test/B100, test/Urban100, val and val4k, for scores also
# train. Everything takes about two hours; the machine must be idle. Needs the extras train, openvino and plot.
# bmodels, which is not among all, takes as long again and needs the TPU's compiler (docs/tpu.md), but no idle machine.
set -euo pipefail
data=$(realpath "${1:?usage: figures.sh DATA [NAME...]}")
shift
cd "$(dirname "$0")/.."
[ $# -gt 0 ] || set -- quality routing time arm overhead prediction deadline threads scores backbones
# OpenVINO in bf16 where the processor has units for it; a word of its own, or none.
bf16=$(if grep -qs 'avx512_bf16\|amx_bf16' /proc/cpuinfo; then echo openvino:bf16; fi)
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

# Print a command as Markdown, and what it prints.
run() {
    printf '```sh\n%s\n```\n\n' "${*//"$data"/DATA}" | sed "s|$out|OUT|g"
    "$@"
    echo
}

benchmark() { run tools/benchmark.py "$@"; }

figures_quality() {
    cat <<'TEXT'
# Quality, size and time of every sub-net

One pass each; PSNR and SSIM on Y, means over the pictures; Urban100 is its first 24 pictures.

TEXT
    run arm-sr models --profile --data "$data"/test/{Set5,Set14,B100,Urban100}
}

figures_routing() {
    cat <<'TEXT'
# Routing by MACs

`budget` is the default rule; `arm` has ARM's table and objective under the same budgets; `static` is one branch in one
pass; `eta` is ARM's rule patch by patch, `trade-off` has the objective `mse`. MACs are of one pass of the largest
sub-net, halo included; ms is the sum over the pictures, of one run each; seam is the step across the borders of the
tiles less the step one pixel inside, in 8-bit levels; the last column is the difference in RGB PSNR over all pixels to
the best single branch that costs no more.

TEXT
    for set in val test/Urban100; do
        run arm-sr sweep "$data/$set" -o "$out" --backend onnxruntime --repeats 1 --budgets 20%,30%,40%,60%,80% --arm lut/plain-x4.arm.json
    done
    run arm-sr sweep "$data/val" -o "$out" --backend onnxruntime --repeats 1 --etas 1,2,4
    run arm-sr sweep "$data/val" -o "$out" -m plain-x2 --backend opencv --repeats 1 --budgets 20%,40%,60%
}

figures_time() {
    cat <<'TEXT'
# Quality against time

All arms of a picture in turn in one run, medians of seven rounds. `time` is a budget as a share of the largest sub-net's
measured time, `trade-off` is `--eta` with `--objective mse` by the same measured costs. The 2040-pixel pictures of `val`:

TEXT
    # shellcheck disable=SC2086
    benchmark curve --data "$data/val" --min-side 2040 --backend onnxruntime $bf16 opencv --repeats 7 --budgets 60% --trade-offs 1,3,6,10
    printf '`val4k`:\n\n'
    benchmark curve --data "$data/val4k" --backend onnxruntime --repeats 7 --budgets 45% --trade-offs 3,4,5
    printf 'Urban100:\n\n'
    benchmark curve --data "$data/test/Urban100" --backend onnxruntime --repeats 7 --budgets 20%,40%,60% --trade-offs 1,3,10
}

figures_arm() {
    cat <<'TEXT'
# Against ARM's own procedure

Patches of 32 at a step of 28, one call each, ARM's table and rule, on the same sub-nets; one thread. Its eta are `best`, with which its
published code begins, and multiples of the cost of the largest net (1 and 2; 4 is hardly better than 2, and from 8 on it is nearly
`best`). Trade-offs were chosen to be just as good. `val4k`:

TEXT
    local arm=(--threads 1 --repeats 7 --budgets , --backend onnxruntime --arm lut/plain-x4.arm.json --etas 1,2,best)
    benchmark curve --data "$data/val4k" "${arm[@]}" --trade-offs 1.15,2.6,4.6
    printf 'The 2040-pixel pictures of `val`:\n\n'
    benchmark curve --data "$data/val" --min-side 2040 "${arm[@]}" --trade-offs 1.1,2.8,7.5
    printf 'Urban100:\n\n'
    benchmark curve --data "$data/test/Urban100" "${arm[@]}" --trade-offs 0.69,1.2,4.7
}

figures_overhead() {
    cat <<'TEXT'
# What the engine adds to inference

Medians of seven rounds; planning is run five times as often.

TEXT
    # shellcheck disable=SC2086
    benchmark overhead --data "$data/val" --min-side 2040 --repeats 7 --backend onnxruntime openvino $bf16 opencv
}

figures_prediction() {
    cat <<'TEXT'
# Predicted time against real time

Plans within shares of the largest sub-net's time, medians of seven runs, in each of which every picture has a row less.

TEXT
    for engine in onnxruntime opencv; do
        benchmark prediction --data "$data/val" --repeats 7 --backend "$engine"
    done
}

figures_deadline() {
    cat <<'TEXT'
# Deadlines

From the time of interpolation to that of the largest sub-net.

TEXT
    benchmark deadline --data "$data/val" --calls 1000 --backend onnxruntime
}

figures_threads() {
    printf '# Threads\n\n'
    # shellcheck disable=SC2086
    benchmark scaling --backend onnxruntime $bf16 opencv --repeats 7
}

figures_scores() {
    cat <<'TEXT'
# Edge scores

Squared error that plans lose against those of an oracle, which knows the error of every patch, and rank correlation of
the score over all patches. A share of the MACs is either the same for each picture (`--budget`) or spent in all where it
is worth most (`--eta` with `--objective mse`); each table has an oracle of its own, whose plans come from the same solver: it
stops at a mixture it takes for no better, so it can be beaten by a little. Neighbouring patches are averaged in all plans,
which makes the scores more alike than they are patch by patch.

TEXT
    for set in val val4k; do
        run tools/compare_scores.py --train "$data/train" --data "$data/$set"
    done
}

figures_backbones() {
    cat <<'TEXT'
# The same method on two backbones

Medians of three runs; rules, MACs and the last column as in `routing.md`. L, M and S are ARM's operating points: the cheapest
setting 0.05 dB above the largest sub-net in one pass, as good as it, and 0.05 dB below, by MACs and by milliseconds.

TEXT
    for model in fsrcnn-x4 plain-x4; do
        run arm-sr sweep "$data/test/Urban100" -o "$out" -m "$model" --backend onnxruntime --budgets 20%,40%,60%,80% --arm "lut/$model.arm.json"
    done
}

figures_bmodels() {
    cat <<'TEXT'
# Compiled sub-nets on TPUs

plain-x4 for each chip and precision: cycles and milliseconds by the compiler's model of the chip for one tile, without transfers;
differences to ONNX Runtime in 8-bit levels on crops of `val`, in the vendor's simulator; what is lost in RGB PSNR over all their
pixels. `docs/tpu.md` has the rest.

TEXT
    run tools/compile_bmodel.py --data "$data/val" --tile 48 96 -o "$out/bmodels"
}

for name; do
    declare -F "figures_$name" >/dev/null || { echo "figures.sh: there are no figures called $name" >&2; exit 2; }
done
for name; do
    echo "$name" >&2
    "figures_$name" >"$out/figures.md"
    cp "$out/figures.md" "docs/figures/$name.md"
done
