"""Runs train_fashion_mnist. Usage: demo_test.py PROGRAM NAME, of one of the functions at its end; 77 means skipped."""
import gzip
import json
import pathlib
import struct
import subprocess
import sys
import tempfile

DATASET = pathlib.Path("/usr/share/datasets/fashion-mnist")
PROMISED_KEYS = ["test_accuracy", "loss", "dense_bytes_per_step", "wire_bytes_per_step", "ratio", "seconds",
                 "exposed_seconds"]


def run(program, *arguments):
    return subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, timeout=280)


def missing_data(program, folder):
    result = run(program, "--ranks", 2, "--data", "/nonexistent")
    assert result.returncode != 0, result.stdout
    assert "/nonexistent/train-images-idx3-ubyte.gz" in result.stderr, result.stderr


def compare(program, folder):
    runs = {"dense": {"feedback": "none", "wire": 8000, "accuracy": 0.9}, "q4": {"feedback": "ef", "wire": 1000,
            "accuracy": 0.902}}
    paths = []
    for name, run_of in runs.items():
        paths.append(folder / f"{name}.json")
        paths[-1].write_text(json.dumps({
            "compressor": name, "feedback": run_of["feedback"], "transport": "local", "ranks": 2, "epochs": 1,
            "seed": 1, "steps": 10, "parameters": 100, "loss": 0.25, "test_accuracy": run_of["accuracy"],
            "dense_bytes_per_step": 8000, "wire_bytes_per_step": run_of["wire"], "seconds": 2.0,
            "exposed_seconds": 0.5}))
    result = run(program, "--compare", *paths)
    assert result.returncode == 0, result.stderr
    assert "q4 + ef against dense: accuracy +0.20 points, 8.00 times fewer bytes" in result.stdout, result.stdout

    paths[1].write_text("{}")
    result = run(program, "--compare", *paths)
    assert result.returncode != 0 and "q4.json was not written by --json" in result.stderr, result.stderr


def cut(name, items, folder):
    """Writes the first items of one of the dataset's files."""
    with gzip.open(DATASET / name, "rb") as file:
        magic = file.read(4)
        shape = struct.unpack(f">{magic[3]}I", file.read(4 * magic[3]))
        size = 1
        for extent in shape[1:]:
            size *= extent
        values = file.read(items * size)
    with gzip.open(folder / name, "wb") as file:
        file.write(magic + struct.pack(f">{magic[3]}I", items, *shape[1:]) + values)


def cut_dataset(folder):
    if not (DATASET / "train-images-idx3-ubyte.gz").exists():
        print("SKIPPED: the dataset is not installed")
        sys.exit(77)
    for prefix, items in (("train", 512), ("t10k", 256)):
        cut(f"{prefix}-images-idx3-ubyte.gz", items, folder)
        cut(f"{prefix}-labels-idx1-ubyte.gz", items, folder)


def device_options(program, folder):
    for arguments, problem in ((("--device", "tpu"), "--device tpu: expected cpu or cuda"),
                               (("--nccl",), "--nccl: it is for --device cuda"),
                               (("--device", "cuda", "--record", folder), "--record: with --device cuda")):
        result = run(program, *arguments)
        assert result.returncode != 0 and problem in result.stderr, (arguments, result.stderr)


def devices(program, folder):
    """Where there is a device, and a libtorch that has it, training there gives what it gives on the host."""
    cut_dataset(folder)
    figures = folder / "figures.json"
    losses = {}
    for device in ("cpu", "cuda"):
        result = run(program, "--ranks", 2, "--epochs", 2, "--batch", 32, "--data", folder, "--json", figures, "--quiet",
                     "--device", device)
        if device == "cuda" and "libtorch finds no CUDA device, or is built without CUDA" in result.stderr:
            assert result.returncode != 0
            print("SKIPPED: libtorch finds no CUDA device, or is built without CUDA")
            sys.exit(77)
        assert result.returncode == 0, result.stderr
        losses[device] = json.loads(figures.read_text())["loss"]
    assert abs(losses["cuda"] - losses["cpu"]) < 0.02 * losses["cpu"], losses


def momentum(program, folder):
    """Rules that bring the momentum take the place of the optimiser's, weight decay included."""
    result = run(program, "--feedback", "onebit_adam(100)", "--momentum", 0.9)
    assert result.returncode != 0, result.stdout
    assert "onebit_adam(100) has the momentum in itself, and would get it twice" in result.stderr, result.stderr

    cut_dataset(folder)

    def train(*arguments):
        figures = folder / "figures.json"
        result = run(program, "--ranks", 2, "--epochs", 2, "--batch", 32, "--data", folder, "--json", figures, "--quiet",
                     *arguments)
        assert result.returncode == 0, result.stderr
        return json.loads(figures.read_text())

    # Where nothing is lost these are SGD with a momentum of 0.9, step by step.
    plain = train("--compressor", "dense", "--lr", 0.02)["loss"]
    for rule, rate in (("dgc(0.9)", 0.02), ("ef21_sgdm(0.1)", 0.2)):
        same = train("--compressor", "dense", "--feedback", rule, "--lr", rate)["loss"]
        assert abs(same - plain) < 1e-4 * plain, (rule, same, plain)
    assert abs(train("--compressor", "dense", "--lr", 0.02, "--momentum", 0)["loss"] - plain) > 0.01 * plain

    adam = train("--compressor", "sign", "--feedback", "onebit_adam(freeze=10,beta2=0.9)")
    assert adam["loss"] < 2.2, adam  # of ten classes: 2.3 at the start


def training(program, folder):
    cut_dataset(folder)
    figures = folder / "figures.json"
    result = run(program, "--ranks", 2, "--epochs", 1, "--batch", 32, "--data", folder, "--json", figures, "--quiet")
    assert result.returncode == 0, result.stderr
    values = json.loads(figures.read_text())
    missing = [key for key in PROMISED_KEYS if not isinstance(values.get(key), (int, float))]
    assert not missing, f"{missing} missing in {values}"
    assert 0 <= values["test_accuracy"] <= 1, values
    assert 7 < values["ratio"] < 8, values


def planning(program, folder):
    """A plan of a policy, and one by hand, which begins when the machine has measured enough."""
    for options, complaint in ((("--candidates", "q2"), "--candidates: they are for --policy or --trace"),
                               (("--plan-period", 16), "--plan-period: it is for --policy or --trace"),
                               (("--compressor", "dense", "--policy", "uniform"), "--compressor dense: there are no"),
                               (("--policy", "no_such"), "no_such"),
                               (("--plan", folder / "missing.json"), "missing.json: cannot open it")):
        result = run(program, "--ranks", 2, *options)
        assert result.returncode != 0 and complaint in result.stderr, (options, result.stderr)

    cut_dataset(folder)
    files = {name: folder / name for name in ("figures.json", "run.json", "gradients.trace", "plan.json")}
    common = ["--ranks", 2, "--batch", 16, "--data", folder, "--json", files["figures.json"]]
    result = run(program, *common, "--epochs", 6, "--plan-period", 16, "--policy", "budget(ratio=12)", "--candidates", "q2", "q8",
                 "--trace", files["gradients.trace"], "--report", files["run.json"])
    assert result.returncode == 0, result.stderr
    assert "The plan at the end" in result.stdout and "hidden.weight" in result.stdout, result.stdout
    figures = json.loads(files["figures.json"].read_text())
    assert figures["policy"] == "budget(ratio=12)", figures
    assert [layer["name"] for layer in figures["plan"]["layers"]] == ["conv2.weight", "hidden.weight", "output.weight"], figures
    assert figures["steps"] == 96 and json.loads(files["run.json"].read_text())["totals"]["steps"] == 96
    assert files["gradients.trace"].stat().st_size > 0

    files["plan.json"].write_text('{"layers": [{"name": "hidden.weight", "spec": "q2", "bytes": 0, "error": 0}]}')
    result = run(program, *common, "--epochs", 1, "--plan", files["plan.json"])
    assert result.returncode == 0, result.stderr
    compressors = {param["name"]: param["compressor"] for param in json.loads(files["figures.json"].read_text())["params"]}
    assert compressors["hidden.weight"].startswith("quantize(bits=2,"), compressors
    assert compressors["conv2.weight"].startswith("quantize(bits=4,"), compressors


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        tests = {"missing_data": missing_data, "compare": compare, "training": training, "momentum": momentum,
                 "planning": planning, "device_options": device_options,
                 "devices": devices}
        tests[sys.argv[2]](sys.argv[1], pathlib.Path(temporary))
