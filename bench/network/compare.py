"""The work of compare.sh: runs the contenders in turns and prints one table."""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
REPOSITORY = HERE.parent.parent
SLOWER_BY = 2.0  # over a network, contenders this much slower than their family's best in round 1 sit the rest out

# coll_tuned's allreduce algorithms; 0 is its own choice, made as if no rule were given
TUNED = {0: "own choice", 1: "linear", 2: "reduce+bcast", 3: "doubling", 4: "ring", 5: "segmented", 6: "rabenseifner"}
SEGMENTS = {"32K": 1 << 15, "64K": 1 << 16, "256K": 1 << 18, "1M": 1 << 20}


def tuned(algorithm, segment_bytes=0):
    rules = f"--mca coll_tuned_use_dynamic_rules 1 --mca coll_tuned_allreduce_algorithm {algorithm}"
    if segment_bytes:
        rules += f" --mca coll_tuned_allreduce_algorithm_segmentsize {segment_bytes}"
    return rules


class Contender:
    """One program run; it may measure several rows."""

    def __init__(self, family, command, mpi_args="", label=None):
        self.family, self.command, self.mpi_args, self.label = family, command, mpi_args, label


def contenders(build, options):
    sizes = ["-b", options.size, "-e", options.size, "-f", "2", "-n", str(options.iters), "-w", str(options.warmup)]
    mpi = str(build / "bench/mpi_allreduce")
    found = [Contender("Open MPI", [mpi, *sizes], "", "default")]
    for algorithm, name in TUNED.items():
        if algorithm != 5:
            found.append(Contender("Open MPI", [mpi, *sizes], tuned(algorithm), name))
    for name, segment_bytes in SEGMENTS.items():
        found.append(Contender("Open MPI", [mpi, *sizes], tuned(5, segment_bytes), f"segmented/{name}"))
    gloo = build / "bench/gloo_allreduce"
    if gloo.exists():
        network = "lo" if options.hosts == "shm" else "eth0"
        found.append(Contender("Gloo", [str(gloo), *sizes, "--network", network]))
    for compressor in options.compressors.split(";"):
        command = [str(build / "tools/gradwire"), "perf", *sizes, "--compressor", compressor]
        found.append(Contender("gradwire", command + options.perf_args.split()))
    return found


class Launcher:
    """Starts jobs on the emulated hosts, or on this machine."""

    def __init__(self, options):
        self.shm = options.hosts == "shm"
        self.ranks = options.rate if self.shm else options.hosts
        self.environment = dict(os.environ, PREFIX=f"gwcmp{os.getpid()}x")
        self.netns = str(HERE / "netns.sh")
        self.prefix = ["chrt", "--rr", "5"] if options.realtime else []
        if not self.shm:
            subprocess.run([self.netns, "up", options.hosts, options.rate], env=self.environment, check=True)

    def close(self):
        if not self.shm:
            subprocess.run([self.netns, "down"], env=self.environment, check=True)

    def run(self, contender, json_path):
        command = [*contender.command, "--json", json_path]
        if self.shm:
            # Ranks that spin belong on cores of their own; Gloo has threads besides, which need room.
            crowded = int(self.ranks) > (os.cpu_count() or 1)
            binding = "none" if crowded or contender.family == "Gloo" else "core"
            command = ["mpirun", "--allow-run-as-root", "--oversubscribe", "--bind-to", binding, "-np", self.ranks,
                       "--mca", "mpi_yield_when_idle", "1" if crowded else "0", *contender.mpi_args.split(), *command]
        else:
            command = [self.netns, "exec", self.ranks, *command]
        environment = dict(self.environment, MPI_ARGS=contender.mpi_args)
        command = self.prefix + command
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=1800, check=False)
        if done.returncode != 0:
            sys.exit(f"compare: {' '.join(command)} failed with code {done.returncode}:\n{done.stdout}{done.stderr}")
        with open(json_path, encoding="utf-8") as file:
            return json.load(file)


def rows_of(contender, measured):
    """(name, microseconds) of each row; a wrong result disqualifies the whole comparison."""
    for row in measured:
        if row.get("wrong"):
            sys.exit(f"compare: {contender.family}: {row['wrong']} wrong elements")
        if contender.family == "gradwire":
            yield f"{row['compressor']} {row['algorithm']}", row["time_us"]
            yield "dense (Iallreduce)", row["dense_time_us"]
        else:
            yield contender.label or row["algorithm"], row["time_us"]


def measure(launcher, all_contenders, options):
    """{(family, name): [median of each round]}"""
    times = {}
    waiting = list(all_contenders)
    with tempfile.TemporaryDirectory() as folder:
        for number in range(1, options.rounds + 1):
            for contender in waiting:
                for name, time_us in rows_of(contender, launcher.run(contender, os.path.join(folder, "rows.json"))):
                    times.setdefault((contender.family, name), []).append(time_us)
                print(".", end="", file=sys.stderr, flush=True)
            if number == 1 and not launcher.shm:
                waiting = [c for c in waiting if not c.label or competitive(times, c.family, c.label)]
        print(file=sys.stderr)
    return times


def competitive(times, family, name):
    best = min(values[0] for (owner, _), values in times.items() if owner == family)
    return times[(family, name)][0] <= SLOWER_BY * best


def best_of(times, family, options):
    complete = {key: v for key, v in times.items() if key[0] == family and len(v) >= options.rounds}
    return min(complete, key=lambda key: statistics.median(complete[key]), default=None)


def print_table(times, size_bytes, options):
    rivals = {family: best_of(times, family, options) for family in ("Open MPI", "Gloo")}
    where = f"{options.rate} ranks, shared memory" if options.hosts == "shm" else f"{options.hosts} hosts, {options.rate}"
    print(f"# {where}, {options.size} f32, {options.rounds} rounds x {options.iters} iterations, slowest rank")
    print(f"# {'':<10}{'':<24}{'median ms':>10} {'of rounds':>20} {'GB/s':>7} {'x MPI':>7} {'x Gloo':>7}")
    for (family, name), values in sorted(times.items(), key=lambda item: (item[0][0], statistics.median(item[1]))):
        median = statistics.median(values)
        spread = f"{min(values) / 1e3:.2f} .. {max(values) / 1e3:.2f}"
        if len(values) < options.rounds:
            spread = "round 1 only"
        ratios = ""
        for rival in rivals.values():
            ratios += f" {statistics.median(times[rival]) / median:>7.2f}" if rival else f" {'-':>7}"
        mark = "*" if (family, name) in rivals.values() else " "
        print(f"{mark} {family:<10}{name:<24}{median / 1e3:>10.2f} {spread:>20} {size_bytes / median / 1e3:>7.3f}{ratios}")
    print("# * the best of its family, which the speed-ups in the last columns are against")


def parse(arguments):
    parser = argparse.ArgumentParser(prog="compare.sh", description=__doc__)
    parser.add_argument("hosts", help="number of emulated hosts, or 'shm'")
    parser.add_argument("rate", help="link rate as tc takes it (1gbit); after 'shm' the number of ranks")
    parser.add_argument("size", help="bytes of f32, e.g. 64M")
    parser.add_argument("--build", default=str(REPOSITORY / "build/release"), help="where the programs are")
    parser.add_argument("--rounds", type=int, default=3, help="turns of every contender")
    parser.add_argument("-n", "--iters", type=int, default=5, help="timed iterations a turn")
    parser.add_argument("-w", "--warmup", type=int, default=1, help="iterations before them")
    parser.add_argument("--compressors", default="q4;q8", help="for gradwire, separated by semicolons")
    parser.add_argument("--perf-args", default="", help="further flags of gradwire perf")
    parser.add_argument("--realtime", action="store_true",
                        help="run everything at real-time priority: for a machine that has other work (root)")
    parser.add_argument("--json", help="also write the medians of all rounds there")
    options = parser.parse_args(arguments)
    if options.rounds < 1 or options.iters < 1 or options.warmup < 0:
        parser.error("--rounds and --iters: expected at least 1; --warmup: at least 0")
    if options.size[-1:] not in "KMG" and not options.size.isdigit():
        parser.error(f"size '{options.size}': expected for example 4096, 64K or 64M")
    return options


def main(arguments):
    options = parse(arguments)
    build = pathlib.Path(options.build).resolve()
    for program in ("bench/mpi_allreduce", "tools/gradwire"):
        if not (build / program).exists():
            sys.exit(f"compare: {build / program} is missing: build it, or name another folder with --build")
    if not (build / "bench/gloo_allreduce").exists():
        print("compare: no bench/gloo_allreduce in the build: Gloo is left out", file=sys.stderr)
    unit = {"K": 10, "M": 20, "G": 30}.get(options.size[-1], 0)
    size_bytes = int(options.size.rstrip("KMG")) << unit
    launcher = Launcher(options)
    try:
        times = measure(launcher, contenders(build, options), options)
    finally:
        launcher.close()
    print_table(times, size_bytes, options)
    if options.json:
        rows = [{"family": f, "name": n, "round_medians_us": v} for (f, n), v in times.items()]
        pathlib.Path(options.json).write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
