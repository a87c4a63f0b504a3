#!/usr/bin/python3
"""What each policy makes of recorded and of drawn gradients, family by family: bytes, errors and solver times beside the
uniform setting's, as tables in Markdown and as JSON.

Needs the targets gradwire_tool, synthetic_bench, train_bench and train_fashion_mnist, the packages of `scripts/install-deps bench demo`.
Models: the convolutional network of the demo and a small transformer over the King James Bible, whose gradients are
recorded here, and the layers of published models with drawn gradients (synthetic_bench).
"""
import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys
import time

sys.path.append(str(pathlib.Path(__file__).resolve().parent.parent / "convergence"))
from bible import write_text  # noqa: E402

# Candidates of each family, and the uniform setting that they are compared with.
DENSITIES = ["0.001", "0.002", "0.003", "0.005", "0.0075", "0.01", "0.015", "0.02", "0.03", "0.05", "0.1"]
FAMILIES = {
    "bits": (["q2", "q3", "q4", "q5", "q6", "q7", "q8"], "q4"),
    "densities": ([f"topk({density})" for density in DENSITIES], "topk(0.01)"),
    "ranks": ([f"powersgd({rank})" for rank in (1, 2, 3, 4, 5, 6, 7, 8)], "powersgd(4)"),
}
FAMILIES["mixed"] = ([spec for specs, _ in FAMILIES.values() for spec in specs] +
                     [f"topk({density})|q4" for density in DENSITIES], "q4")
# What goes with each family beside what all have: policies that name candidates.
LOW_HIGH = {"bits": ("q2", "q6"), "densities": ("topk(0.001)", "topk(0.03)"), "ranks": ("powersgd(1)", "powersgd(8)"),
            "mixed": ("q2", "q6")}


LGRECO = "lgreco(alpha=1)"


def policies(family, uniform, lgreco):
    """`budget` also at the squared error of lgreco's plan: where it needs fewer bytes, that is no other measure's doing."""
    low, high = LOW_HIGH[family]
    like_lgreco = (lgreco["squared_error"] / uniform["squared_error"]) ** 0.5 * (1 + 1e-8)  # what its digits round away
    chosen = ["uniform", LGRECO, "budget(error=1,norm=plain)", "budget(error=1)", f"budget(error={like_lgreco:.10f})",
              f"budget(bytes={uniform['bytes']})", f"legacy(large={low},small={high})", f"accordion(low={low},high={high})"]
    if family in ("bits", "mixed"):
        chosen += ["cgx_linear(low=2,high=8)", "cgx_kmeans(low=2,high=8)"]
    if family in ("densities", "mixed"):
        chosen += ["global_topk"]
    if family in ("ranks", "mixed"):
        chosen += [f"spectral(bytes={uniform['bytes']})"]
    return chosen


def run(command, **more):
    print("$", " ".join(map(str, command)), file=sys.stderr)
    done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, text=True, check=False, **more)
    if done.returncode != 0:
        sys.exit(f"{command[0]} failed with {done.returncode}")
    return done.stdout


def record(build, out, fresh):
    """Traces of real trainings; those that are there are used again, unless `fresh`."""
    fashion, bible = out / "fashion.trace", out / "kjv.trace"
    text = out / "bible.txt"
    write_text(text)
    commands = {
        fashion: [build / "examples/train_fashion_mnist/train_fashion_mnist", "--ranks", 4, "--epochs", 2, "--quiet"],
        bible: [build / "bench/train_bench", "--task", "kjv", "--model", "transformer", "--data", text, "--ranks", 4, "--scheme", "q4+ef",
                "--optimizer", "adam", "--lr", "0.003", "--steps", 420, "--policy", "uniform", "--plan-start", 4, "--plan-period", 200]}
    for trace, command in commands.items():
        if trace.exists() and not fresh:
            print(f"using {trace}, of {time.ctime(trace.stat().st_mtime)}", file=sys.stderr)
            continue
        part = trace.with_suffix(".part")  # a trace that was cut short can be read: it must not be taken for whole
        run(command, env={**os.environ, "GRADWIRE_TRACE": str(part)})
        part.rename(trace)
    return {"Fashion-MNIST CNN": fashion, "KJV transformer": bible}


def compare(build, out, trace, family):
    """Rows of `gradwire plan compare` for one trace and family."""
    specs, reference = FAMILIES[family]
    measured, rows = out / "table.json", out / "rows.json"
    run([build / "tools/gradwire", "plan", "table", "--trace", trace, "--candidates", ",".join(specs), "--reference", reference,
         "--out", measured])

    def rows_of(chosen):
        run([build / "tools/gradwire", "plan", "compare", "--table", measured, "--policies", ";".join(chosen), "--json", rows])
        return json.loads(rows.read_text())["rows"]

    return rows_of(policies(family, *rows_of(["uniform", LGRECO])))


def exposed(build, out, trace, links=(0.25, 0.5, 1, 2, 4)):
    """Rows of `gradwire plan compare` for the last table that the hook recorded, which knows when backward had each
    gradient, and for links over which the uniform setting's bytes take these multiples of the backward pass."""
    steps, timed, rows = out / "steps", out / "timed.json", out / "rows.json"
    shutil.rmtree(steps, ignore_errors=True)
    run([build / "tools/gradwire", "trace", "export", trace, "--out", steps])
    step = max(int(path.parent.name.removeprefix("step-")) for path in steps.glob("step-*/table.json"))
    recorded = json.loads((steps / f"step-{step}" / "table.json").read_text())
    layers = recorded["layers"]
    backward_us = max(layer["ready_us"] for layer in layers)
    uniform_bytes = sum(layer["candidates"][layer["reference"]]["bytes"] for layer in layers)
    found = {}
    for share in links:
        for candidate in (candidate for layer in layers for candidate in layer["candidates"]):
            candidate["us"] = candidate["bytes"] / uniform_bytes * share * backward_us
        timed.write_text(json.dumps(recorded))
        run([build / "tools/gradwire", "plan", "compare", "--table", timed, "--policies",
             f"uniform;{LGRECO};lgreco(objective=time);budget(error=1,norm=plain)", "--json", rows])
        found[share] = json.loads(rows.read_text())["rows"]
    return found


def exposed_table(title, by_link):
    print(f"\n### {title}\n\nThe table that the hook recorded, with the moments at which backward had each gradient; a candidate takes its bytes over "
          "a link on which the uniform setting's take so many backward passes.\n")
    print("| uniform sends for | policy | exposed | bytes | error | root of squares |\n|---|---|---:|---:|---:|---:|")
    for share, rows in by_link.items():
        uniform = rows[0]
        for row in rows:
            bytes_text = f"{row['bytes']:,}".replace(",", " ")
            print(f"| {share} backward passes | `{row['policy']}` | {row['exposed_ms']:.3f} ms | {bytes_text} "
                  f"| {row['error'] / uniform['error']:.3f} | {(row['squared_error'] / uniform['squared_error']) ** 0.5:.3f} |")


def table(title, rows):
    uniform = rows[0]
    print(f"\n### {title}\n\n| policy | bytes | fewer than uniform | error | root of squares | solver |\n|---|---:|---:|---:|---:|---:|")
    for row in rows:
        if "bytes" not in row:
            print(f"| `{row['policy']}` | no plan: {row.get('reason', '')} | | | | |")
            continue
        bytes_text = f"{row['bytes']:,}".replace(",", " ")
        print(f"| `{row['policy']}` | {bytes_text} | {uniform['bytes'] / row['bytes']:.2f}x "
              f"| {row['error'] / uniform['error']:.3f} | {(row['squared_error'] / uniform['squared_error']) ** 0.5:.3f} "
              f"| {row['solver_ms']:.2f} ms |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, default="build/release")
    parser.add_argument("--fresh", action="store_true", help="record the traces anew")
    parser.add_argument("--out", type=pathlib.Path, help="default: BUILD/adaptive")
    arguments = parser.parse_args()
    build, out = arguments.build, arguments.out or arguments.build / "adaptive"
    out.mkdir(parents=True, exist_ok=True)
    everything = {}
    traces = record(build, out, arguments.fresh)
    for model, trace in traces.items():
        for family in FAMILIES:
            everything[f"{model}, {family}"] = compare(build, out, trace, family)
            table(f"{model}, {family} (uniform: {FAMILIES[family][1]})", everything[f"{model}, {family}"])
    # The transformer's gradients are handed over after backward, so that they have no times worth a table.
    cnn = "Fashion-MNIST CNN"
    everything[f"{cnn}, time"] = exposed(build, out, traces[cnn])
    exposed_table(f"{cnn}, time after backward until all is sent (uniform: q4)", everything[f"{cnn}, time"])
    print("\n### Published models, drawn gradients (synthetic_bench)\n")
    print("```\n" + run([build / "bench/synthetic_bench", "--json", out / "synthetic.json"]) + "```")
    (out / "compare.json").write_text(json.dumps(everything, indent=1))


if __name__ == "__main__":
    main()
