"""How readers' time and memory grow with the file: the worst files that we know of for each, at three sizes, and what the
replay programs of a build need for them.

    python3 tests/fuzz/scaling.py build/release/tests/fuzz [TARGET...]
"""
import json
import struct
import subprocess
import sys
import tempfile
from pathlib import Path


def safetensors(header, data=b""):
    return struct.pack("<Q", len(header)) + header + data


def npy(descr, shape, data):
    text = "{'descr': '%s', 'fortran_order': False, 'shape': %s, }" % (descr, shape)
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode() + data


def letters():
    """GPT-2's letters of the 256 bytes."""
    plain = [b for b in range(256) if 0x21 <= b <= 0x7E or 0xA1 <= b <= 0xAC or b >= 0xAE]
    other = iter(range(0x100, 0x200))
    return [chr(b) if b in plain else chr(next(other)) for b in range(256)]


def tokenizer(vocabulary=(), merges=(), pre=None, added=(), text=b"", **more):
    vocab = {letter: b for b, letter in enumerate(letters())}
    for word in vocabulary:
        vocab.setdefault(word, len(vocab))
    file = {"pre_tokenizer": pre or {"type": "ByteLevel"}, "added_tokens": list(added),
            "model": {"type": "BPE", "vocab": vocab, "merges": list(merges)}, **more}
    return json.dumps(file).encode() + b"\0" + text


def split(pattern):
    stages = [{"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated"}, {"type": "ByteLevel", "use_regex": False}]
    return {"type": "Sequence", "pretokenizers": stages}


def journal(contents):
    file = b"1" + b"qfid journal 1\n\n"
    for content in contents:
        file += struct.pack("<QQQQ", len(content), 0, 0, 0) + content
    return file


def text(value):
    return struct.pack("<Q", len(value)) + value


IDENTITY = b"\x00" + struct.pack("<QQ", 0, 0) + text(b"") * 5 + struct.pack("<iQ", 1, 0) + text(b"") * 2 + struct.pack("<qq", 0, 0)


def unit(name, content):
    return b"\x01" + text(name) + text(content)


CORPUS = Path(__file__).parent / "corpus"


def record(change):
    root = json.loads((CORPUS / "results" / "report0").read_bytes()[1:])
    change(root)
    return json.dumps(root).encode()


def copies(of, key, n):
    return lambda root: root.__setitem__(of, [dict(root[of][0], **{key: f"x{i}"}) for i in range(n)] + root[of])


def runs(n):
    def change(root):
        base, model = root["runs"][0], root["models"][0]
        for i in range(n):
            root["models"].append(dict(model, name=f"x{i}"))
            root["runs"].append(dict(base, model=f"x{i}"))
    return change


CASES = {
    "safetensors": {
        "tensors": (20000, lambda n: safetensors(json.dumps({f"t{i}": {"dtype": "U8", "shape": [1], "data_offsets": [i, i + 1]}
                                                            for i in range(n)}).encode(), bytes(n))),
        "dimensions": (300000, lambda n: safetensors(json.dumps({"t": {"dtype": "U8", "shape": [1] * n, "data_offsets": [0, 1]}}).encode(), b"x")),
        "metadata": (50000, lambda n: safetensors(json.dumps({"__metadata__": {f"k{i}": "v" for i in range(n)}}).encode())),
        "brackets": (1000000, lambda n: safetensors(b"{" + b"[" * n)),
        "data": (4000000, lambda n: safetensors(json.dumps({"t": {"dtype": "BF16", "shape": [n], "data_offsets": [0, 2 * n]}}).encode(), bytes(2 * n))),
    },
    "checkpoint": {
        "index": (100000, lambda n: json.dumps({"weight_map": {f"t{i}": f"s{i}" for i in range(n)}}).encode()),
        "config": (100000, lambda n: b"\0" + json.dumps({"model_type": "opt", **{f"k{i}": i for i in range(n)}}).encode()),
        "attention": (50000, lambda n: b"\0" + json.dumps({"model_type": "opt", "attention": {f"k{i}": i for i in range(n)}}).encode()),
    },
    "npy": {
        "tokens": (2000000, lambda n: b"0" + npy("<i8", f"({n},)", bytes(8 * n))),
        "numbers": (2000000, lambda n: b"4" + npy("<f8", f"({n},)", bytes(8 * n))),
    },
    "tokenizer": {
        "vocabulary": (50000, lambda n: tokenizer([f"w{i}" for i in range(n)])),
        "merges": (50000, lambda n: tokenizer(["ab"], [["a", "b"]] * n)),
        "template": (20000, lambda n: tokenizer(post_processor={
            "type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "s"}}] * n + [{"Sequence": {"id": "A"}}],
            "special_tokens": {"s": {"ids": [1] * n}}})),
        "text": (300000, lambda n: tokenizer(["ab"], [["a", "b"]], text=b"ab" * n)),
        "spaces": (300000, lambda n: tokenizer(pre=split(r"\s+(?!\S)|\s+"), text=b" " * n)),
        "backtracking": (2000, lambda n: tokenizer(pre=split(r"(a|a)+b"), text=b"a" * n)),
        "quadratic": (5000, lambda n: tokenizer(pre=split(r"a+b"), text=b"a" * n)),
        "added": (20000, lambda n: tokenizer(added=[{"id": i, "content": f"<{i}>", "normalized": False} for i in range(n)], text=b"x<1>")),
    },
    "config": {
        "entries": (30000, lambda n: b"0" + "".join(f"k{i}: v\n" for i in range(n)).encode()),
        "targets": (250, lambda n: b"0version: 1\nname: t\nmodels: {m: {path: .}}\ndata: {tokens: t.npy}\ntargets:\n"
                    + "".join(f"  t{i}: {{preset: x{i}, linear: {{weights: int8}}}}\n" for i in range(n)).encode()),
        "gates": (250, lambda n: b"1version: 1\ngates:\n" + "".join(f"  g{i}: {{metric: kl.mean, max: 1}}\n" for i in range(n)).encode()),
        "brackets": (200000, lambda n: b"0" + b"[" * n),
        "braces": (200000, lambda n: b"0" + b"{" * n),
        "dashes": (100000, lambda n: b"0" + b"- " * n),
        "list": (60000, lambda n: b"0[" + b"a, " * n + b"]"),
        "map": (50000, lambda n: b"0{" + b"a: b, " * n + b"}"),
        "colons": (100000, lambda n: b"0" + b"a: " * n),
        "questions": (100000, lambda n: b"0" + b"? " * n),
        "quoted": (200000, lambda n: b"0a: \"" + b"\\n" * n + b"\""),
        "folded": (60000, lambda n: b"0a: >\n" + b"  b\n" * n),
        "plain": (200000, lambda n: b"0" + b"a " * n),
        "lines": (200000, lambda n: b"0a: b\n" + b"\n" * n),
        "comments": (100000, lambda n: b"0" + b"#\n" * n),
        "again": (30000, lambda n: b"3" + "".join(f"k{i}: [v, {{a: b}}]\n" for i in range(n)).encode()),
    },
    "set": {
        "dots": (200000, lambda n: b"a" + b".a" * n + b"=1"),
        "list": (60000, lambda n: b"targets.b.overrides=[" + b"a, " * n + b"]"),
    },
    "journal": {
        "entries": (100000, lambda n: journal([b"\x00" + struct.pack("<Q", n) + text(b"") * 2 * n + struct.pack("<Q", 0) + IDENTITY[17:]])),
        "units": (50000, lambda n: journal([IDENTITY] + [b"\x02" + struct.pack("<i", 0)] * n)),
        "warnings": (200000, lambda n: journal([IDENTITY, unit(b"m/noise", struct.pack("<dQQQQ", 0, 0, 0, 0, n) + text(b"") * n)])),
    },
    "results": {
        "runs": (500, lambda n: b"0" + record(runs(n))),
        "saved": (10000, lambda n: b"5" + json.dumps({"baseline_version": 1, "data": json.loads((CORPUS / "results" / "baseline").read_bytes()[1:])["data"],
                                                     "made_with": {}, "runs": [dict(json.loads((CORPUS / "results" / "baseline").read_bytes()[1:])["runs"][0], target=f"t{i}") for i in range(n)]}).encode()),
        "warnings": (50000, lambda n: b"0" + record(lambda root: root.__setitem__("warnings", ["w"] * n))),
        "noise": (2000, lambda n: b"0" + record(copies("noise", "name", n))),
        "gates": (2000, lambda n: b"0" + record(copies("gates", "name", n))),
    },
}


def main():
    programs = Path(sys.argv[1])
    print(f"{'target':12} {'case':13} {'MB':>7} {'seconds at n, 2n, 4n':>24} {'4n/2n':>6} {'MiB a MB':>9}")
    for target in sys.argv[2:] or CASES:
        for name, (n, make) in CASES[target].items():
            with tempfile.TemporaryDirectory() as folder:
                files = []
                for factor in (1, 2, 4):
                    files.append(Path(folder) / f"{name}-{factor}")
                    files[-1].write_bytes(make(n * factor))
                out = subprocess.run([programs / f"replay_{target}", "--measure", *files], capture_output=True, text=True, check=True).stdout
                rows = [line.split(maxsplit=4) for line in out.splitlines()]
                times = [float(row[2]) for row in rows]
                size, memory = int(rows[2][1]) / 1e6, int(rows[2][3]) - int(rows[0][3])
                grown = (int(rows[2][1]) - int(rows[0][1])) / 1e6
                died = "".join(" " + row[4] for row in rows if len(row) > 4)
                print(f"{target:12} {name:13} {size:7.1f} {times[0]:8.3f} {times[1]:7.3f} {times[2]:7.3f} "
                      f"{times[2] / max(times[1], 1e-3):6.1f} {memory / grown:9.1f}{died}", flush=True)


main()
