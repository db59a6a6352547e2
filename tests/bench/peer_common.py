"""What the two peer scripts share: interleaved rounds, medians, tables, JSON. Standard library only."""

import json
import os
import statistics
import subprocess
import sys

EXIT_DISAGREE = 1  # results differ more than they may
EXIT_USAGE = 2
EXIT_INPUT = 3  # a file or program isn't there, or can't be read
EXIT_NO_PEER = 4  # PyTorch (or transformers) isn't installed


def stop(code, message):
    print(f"{os.path.basename(sys.argv[0])}: {message}", file=sys.stderr)
    sys.exit(code)


def need(path, what):
    if not os.path.exists(path):
        stop(EXIT_INPUT, f"{what}: {path} isn't there")


def set_threads(threads):
    """Before torch is imported: its OpenMP and ours read this."""
    os.environ["OMP_NUM_THREADS"] = str(threads)
    os.environ["MKL_NUM_THREADS"] = str(threads)


def import_or_stop(*names):
    """The modules, or exit code 4 and the reason: the comparison needs its peer."""
    try:
        return [__import__(name) for name in names]
    except (ImportError, OSError) as error:
        stop(EXIT_NO_PEER, f"nothing compared: {' and '.join(names)} must be importable by {sys.executable}: {error}")


def run_program(command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        stop(EXIT_DISAGREE, f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")


def rounds(count, ours, theirs):
    """Runs both sides `count` times, the order swapped from round to round, so that a drift of the machine hits both."""
    all_ours, all_theirs, load = [], [], []
    for i in range(count):
        load.append(os.getloadavg()[0])
        if i % 2 == 0:
            all_ours.append(ours())
            all_theirs.append(theirs())
        else:
            all_theirs.append(theirs())
            all_ours.append(ours())
        print(f"round {i + 1} of {count}, load {load[-1]:.2f}", file=sys.stderr)
    return all_ours, all_theirs, load


def summary(values):
    return {"median": statistics.median(values), "min": min(values), "max": max(values), "rounds": list(values)}


def ratios(numerators, denominators):
    """Of each round its own ratio: what slowed a round down slowed both."""
    return summary([a / b for a, b in zip(numerators, denominators)])


def spread(s, form="{:.2f}"):
    return f"{form.format(s['median'])} [{form.format(s['min'])}, {form.format(s['max'])}]"


def print_table(header, rows):
    widths = [max(len(str(row[i])) for row in [header, *rows]) for i in range(len(header))]
    for row in [header, ["-" * w for w in widths], *rows]:
        cells = [str(c).ljust(w) if i == 0 else str(c).rjust(w) for i, (c, w) in enumerate(zip(row, widths))]
        print("  ".join(cells).rstrip())


def machine(torch, load):
    with open("/proc/cpuinfo") as file:
        model = next((line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), "unknown")
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "torch": torch.__version__,
        "torch_capability": torch.backends.cpu.get_cpu_capability(),
        "torch_threads": torch.get_num_threads(),
        "load_before_rounds": load,
    }


def write_json(path, record):
    if path is None:
        return
    with open(path, "w") as file:
        json.dump(record, file, indent=1)
        file.write("\n")
    print(f"wrote {path}", file=sys.stderr)
