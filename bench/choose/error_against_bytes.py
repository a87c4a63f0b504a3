#!/usr/bin/python3
"""Draws what each compressor's error costs in bytes, on gradients that were recorded from a real training.

usage: error_against_bytes.py --gradwire BUILD/tools/gradwire --gradients DIR [--out FILE.svg] [--json FILE.json]

DIR holds .npy files of f4, as `train_fashion_mnist --record DIR` writes them; only those of at least two dimensions and
1024 elements are taken, as in training. Each goes through `gradwire apply` with every spec below. A point is one spec:
bits an element (frame bytes over all files) and relative error (square root of summed squared errors over summed squared
norms), both over all files together. Every compressor that `gradwire info` lists
must be among the specs, or the script fails.

Of `adaptive_threshold` a single step is seen: the one that finds the threshold, which chooses as `topk` does. What has
no error (`none`) is printed and not drawn: the axis has no zero.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import matplotlib
import numpy

matplotlib.use("svg")
matplotlib.rcParams["svg.hashsalt"] = "gradwire"  # the same picture gives the same file
from matplotlib import pyplot  # noqa: E402

MIN_ELEMS = 1024

# One line of the picture each: a family, and specs along which one parameter changes.
FAMILIES = {
    "lossless": ["none", "none|zstd"],
    "casts": ["f16", "bf16", "bf16|zstd"],
    "quantize, nearest": [f"q{bits}" for bits in (8, 6, 5, 4, 3, 2)],
    "quantize, stochastic": [f"q{bits}(round=stochastic)" for bits in (8, 6, 4, 3, 2)],
    "quantize, exponential levels": [f"quantize(bits={bits},levels=exponential)" for bits in (5, 4, 3)],
    "quantize, learned levels": [f"quantize(bits={bits},levels=learned)" for bits in (4, 3, 2)],
    "rotated quantize": [f"rotate(q{bits})" for bits in (8, 6, 4, 3)] + ["rotate(q2,clip=1.2,scale=contractive)"],
    "quantize, then zstd": [f"q{bits}|zstd" for bits in (8, 6, 4, 3, 2)],
    "sign, rotated sign": ["sign(bucket=128)", "sign", "rotate(q1(bucket=4096),scale=contractive)"],
    "ternary": ["ternary(pack=bits)", "ternary(pack=trits)"],
    "natural": ["natural"],
    "f8": ["f8(format=e4m3)", "f8(format=e5m2)"],
    "mx, nvfp4": ["mx8", "mx6", "nvfp4", "mx4"],
    "thc": ["thc"],
    "topk": [f"topk({density})" for density in (0.3, 0.1, 0.03, 0.01, 0.003, 0.001)],
    "topk, sampled": [f"topk({density},select=sampled)" for density in (0.3, 0.1, 0.03, 0.01, 0.003, 0.001)],
    "topk, values in 4 bits": [f"topk({density})|q4" for density in (0.3, 0.1, 0.03, 0.01, 0.003, 0.001)],
    "block_topk": [f"block_topk({density})" for density in (0.3, 0.1, 0.03, 0.01)],
    "randomk": [f"randomk({density})" for density in (0.3, 0.1, 0.03, 0.01)],
    "adaptive_threshold": [f"adaptive_threshold({density})" for density in (0.3, 0.1, 0.03, 0.01, 0.003, 0.001)],
    "threshold": [f"threshold({{quantile:{share}}})" for share in (0.7, 0.9, 0.97, 0.99, 0.997, 0.999)],
    "powersgd": [f"powersgd(rank={rank})" for rank in (16, 8, 4, 2, 1)],
    "projection": [f"projection(rank={rank})" for rank in (16, 8, 4, 2, 1)],
}


def check_complete(gradwire):
    """Fails unless every compressor of this build is drawn."""
    listed = subprocess.run([gradwire, "info", "--compressors", "--json"], capture_output=True, text=True, check=True)
    names = {compressor["name"] for compressor in json.loads(listed.stdout)["compressors"]}
    drawn = set()
    for spec in (spec for specs in FAMILIES.values() for spec in specs):
        words = re.findall(r"(?:^|[(|])([a-z]\w*)", spec)
        drawn.update("quantize" if re.fullmatch(r"q[1-8]", word) else word for word in words)
    if missing := names - drawn:
        sys.exit(f"FAMILIES lacks {', '.join(sorted(missing))}, which {gradwire} has")


def with_thresholds(spec, gradients):
    """Puts magnitudes in the place of {quantile:...}: that of the given quantile among all elements of all files."""

    def magnitude(match):
        elements = numpy.concatenate([numpy.abs(array).ravel() for _, array in gradients])
        return f"{numpy.quantile(elements, float(match.group(1))):.3g}"

    return re.sub(r"\{quantile:([\d.]+)\}", magnitude, spec)


def read_gradients(folder):
    files = []
    for path in sorted(Path(folder).glob("*.npy")):
        array = numpy.load(path)
        if array.ndim >= 2 and array.size >= MIN_ELEMS:
            files.append((path, array))
    if not files:
        sys.exit(f"{folder}: no .npy file of at least two dimensions and {MIN_ELEMS} elements")
    return files


def apply(gradwire, spec, path, residual):
    """Bytes of the frame, and the squared error."""
    files = ["--in", str(path), "--out", f"{residual}.decoded", "--residual", str(residual)]
    done = subprocess.run([gradwire, "apply", "--compressor", spec, *files], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{spec} on {path}: {done.stderr.strip()}")
    frame_bytes = int(re.search(r"^frame bytes: (\d+)$", done.stdout, re.M).group(1))
    return frame_bytes, float(numpy.square(numpy.load(residual), dtype=numpy.float64).sum())


def measure(gradwire, gradients):
    elems = sum(array.size for _, array in gradients)
    squares = sum(float(numpy.square(array, dtype=numpy.float64).sum()) for _, array in gradients)
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for family, specs in FAMILIES.items():
            for template in specs:
                spec = with_thresholds(template, gradients)
                results = [apply(gradwire, spec, path, Path(scratch) / "residual.npy") for path, _ in gradients]
                frame_bytes = sum(result[0] for result in results)
                rows.append(
                    {
                        "family": family,
                        "spec": spec,
                        "bits_per_element": 8 * frame_bytes / elems,
                        "ratio": 4 * elems / frame_bytes,
                        "relative_error": (sum(result[1] for result in results) / squares) ** 0.5,
                    }
                )
    return rows


def draw(rows, path):
    figure, axes = pyplot.subplots(figsize=(10, 6.5))
    colours = pyplot.get_cmap("tab20").colors
    for number, family in enumerate(FAMILIES):
        points = [row for row in rows if row["family"] == family and row["relative_error"] > 0]
        if not points:
            continue
        axes.plot(
            [row["bits_per_element"] for row in points],
            [row["relative_error"] for row in points],
            marker="osD^v<>p*hXP"[number % 12],
            markersize=5,
            markerfacecolor="none" if number % 2 == 1 else None,  # what lies beneath shows through
            linestyle="-" if number < len(colours) else "--",
            linewidth=1,
            color=colours[number % len(colours)],
            label=family,
        )
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xlabel("bits per element on the wire")
    axes.set_ylabel("relative error  ||x - C(x)|| / ||x||")
    axes.set_xticks([1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8, 16])
    axes.set_xticklabels(["1/32", "1/16", "1/8", "1/4", "1/2", "1", "2", "4", "8", "16"])
    axes.grid(True, which="major", linewidth=0.4)
    axes.legend(fontsize=8, ncol=2, loc="lower left")
    axes.set_title("Gradients of the Fashion-MNIST example: lower left is better")
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gradwire", required=True)
    parser.add_argument("--gradients", required=True)
    parser.add_argument("--out")
    parser.add_argument("--json")
    arguments = parser.parse_args()
    check_complete(arguments.gradwire)
    rows = measure(arguments.gradwire, read_gradients(arguments.gradients))
    for row in rows:
        print(f"{row['family']:<30} {row['spec']:<42} {row['bits_per_element']:8.3f} {row['relative_error']:10.3e}")
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(rows, indent=1) + "\n")
    if arguments.out:
        draw(rows, arguments.out)


if __name__ == "__main__":
    main()
