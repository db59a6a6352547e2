#!/usr/bin/env python3
"""Evaluation of an OPT checkpoint by qfid beside Hugging Face transformers, end to end, with the same number of threads.

    peer_opt.py build/release/bin/qfid MODEL_DIR TOKENS.npy --windows 32 --rounds 5 --threads 2 --json out/peer_opt.json

Both sides compute the perplexity of the same windows: windows of the model's context from the start of the token file,
input = beginning-of-sequence token followed by all but the window's last token, targets = the window. The peer is
OPTForCausalLM with SDPA attention, in f32 and in bf16, each with the batch size that proves fastest here (--batch fixes it).
qfid runs its f32 baseline, bf16, INT8 per token (lm_head in f32) and the same with lm_head in INT8 too in one `qfid run`, in
each round before or after the peers, the order swapped.

tokens/s: `forward` is the decoder with its logits; `evaluation` adds all measures that qfid forms of the arm (NLL, and of
the targets KL divergence, agreement and distortion per layer as well). The peers' covers forward and NLL, and qfid's
`evaluation` is what they are compared with: ratio = qfid's tokens/s / the peer's of the same round, median [least, largest].

Exit codes: 0; 1, the f32 perplexities differ by more than 1e-4 relative, or qfid failed; 2, wrong options; 3, a file isn't
there; 4, PyTorch or transformers isn't installed (says so and compares nothing).
"""

import argparse
import json
import math
import os
import tempfile
import time

import peer_common as common

AGREEMENT = 1e-4  # relative; f32 on both sides in another order of summation leaves about 1e-6
DTYPES = {"f32": "float32", "bf16": "bfloat16"}
CONFIGURATION = """version: 1
name: peer
models: {{opt: {{path: {model}}}}}
data: {{tokens: {tokens}, protocol: window, windows: {windows}}}
baseline: {{backend: cpu, precision: f32}}
targets:
  bf16: {{backend: cpu, preset: bf16}}
  int8-token: {{backend: cpu, preset: int8-per-token}}
  int8-token-head:
    backend: cpu
    preset: int8-per-token
    overrides: [{{match: lm_head, linear: {{weights: int8/channel, activations: int8/token}}}}]
metrics: {{local_windows: 0, sink_windows: 0}}
run: {{threads: {threads}}}
"""


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("qfid", help="path of the qfid program")
    parser.add_argument("model", help="directory of an OPT checkpoint with softmax attention")
    parser.add_argument("tokens", help="token file (.npy)")
    parser.add_argument("--windows", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--batch", type=int, help="windows a peer takes at once (default: the fastest of 1, 2, 4, 8)")
    parser.add_argument("--peers", default="f32,bf16", help="dtypes of transformers, by commas; f32 is always among them")
    parser.add_argument("--json", help="also write everything here")
    args = parser.parse_args()
    if min(args.windows, args.rounds, args.threads, args.batch or 1) < 1:
        parser.error("--windows, --rounds, --threads and --batch must be at least 1")
    args.peers = list(dict.fromkeys(["f32", *args.peers.split(",")]))
    if unknown := set(args.peers) - set(DTYPES):
        parser.error(f"--peers: {', '.join(sorted(unknown))} unknown, expected some of {', '.join(DTYPES)}")
    for path, what in [(args.qfid, "qfid"), (args.model, "model"), (args.tokens, "tokens")]:
        common.need(path, what)
    return args


class Peer:
    def __init__(self, torch, transformers, numpy, args, name):
        self.torch = torch
        load, dtype = transformers.OPTForCausalLM.from_pretrained, getattr(torch, DTYPES[name])
        try:
            self.model = load(args.model, dtype=dtype, attn_implementation="sdpa")
        except TypeError:  # transformers before version 5 call it torch_dtype
            self.model = load(args.model, torch_dtype=dtype, attn_implementation="sdpa")
        self.model.eval()
        config = self.model.config
        context = config.max_position_embeddings
        tokens = numpy.load(args.tokens).astype("int64")
        if len(tokens) < args.windows * context:
            message = f"{args.tokens}: {args.windows} windows of {context} asked for, the file holds {len(tokens)} tokens"
            common.stop(common.EXIT_INPUT, message)
        self.targets = torch.from_numpy(tokens[: args.windows * context].reshape(args.windows, context))
        begin = torch.full((args.windows, 1), config.bos_token_id)
        self.inputs = torch.cat([begin, self.targets[:, :-1]], 1)
        self.batch = args.batch or min([1, 2, 4, 8], key=lambda b: self.evaluate(b, min(8, args.windows))["seconds"])

    def evaluate(self, batch=None, windows=None):
        """Perplexity and the time it took, weights in memory beforehand."""
        batch, windows = batch or self.batch, windows or len(self.inputs)
        nll, start = 0.0, time.perf_counter()
        with self.torch.inference_mode():
            for i in range(0, windows, batch):
                end = min(i + batch, windows)
                logits = self.model(self.inputs[i:end], use_cache=False).logits.float()
                losses = self.torch.nn.functional.cross_entropy(
                    logits.flatten(0, 1), self.targets[i:end].flatten(), reduction="none"
                )
                nll += losses.double().sum().item()
        seconds = time.perf_counter() - start
        tokens = windows * self.inputs.shape[1]
        return {"seconds": seconds, "tokens_per_second": tokens / seconds, "perplexity": math.exp(nll / tokens)}


def run_qfid(args, tokens):
    """Arm -> perplexity, tokens/s."""
    with tempfile.TemporaryDirectory() as folder:
        config, out = os.path.join(folder, "peer.yaml"), os.path.join(folder, "out")
        with open(config, "w") as file:
            file.write(
                CONFIGURATION.format(
                    model=json.dumps(os.path.abspath(args.model)),
                    tokens=json.dumps(os.path.abspath(args.tokens)),
                    windows=args.windows,
                    threads=args.threads,
                )
            )
        common.run_program([args.qfid, "run", config, "--out", out])
        with open(os.path.join(out, "results.json")) as file:
            record = json.load(file)
    arms = {}
    for run, timing in zip(record["runs"], record["timings"]["runs"]):
        seconds = timing["forward_seconds"]
        arms["f32" if run["target"] == "baseline" else run["target"]] = {
            "perplexity": run["metrics"]["perplexity"]["value"],
            "forward": tokens / seconds,
            "evaluation": tokens / (seconds + timing["metric_seconds"]),
        }
    return arms


def main():
    args = arguments()
    common.set_threads(args.threads)
    torch, transformers, numpy = common.import_or_stop("torch", "transformers", "numpy")
    torch.set_num_threads(args.threads)
    transformers.utils.logging.disable_progress_bar()
    peers = {name: Peer(torch, transformers, numpy, args, name) for name in args.peers}
    tokens = peers["f32"].inputs.numel()
    theirs_of = lambda: {name: peer.evaluate() for name, peer in peers.items()}
    ours, theirs, load = common.rounds(args.rounds, lambda: run_qfid(args, tokens), theirs_of)

    rates = {name: [r[name]["tokens_per_second"] for r in theirs] for name in peers}
    expected = theirs[0]["f32"]["perplexity"]
    results, rows = {}, []
    for name, peer in peers.items():
        perplexity, evaluation = theirs[0][name]["perplexity"], common.summary(rates[name])
        results[f"transformers {name}"] = {"perplexity": perplexity, "evaluation": evaluation, "batch": peer.batch}
        rows.append([f"transformers {name}", f"{perplexity:.6f}", "", common.spread(evaluation, "{:.0f}"), *[""] * len(peers)])
    for arm in ours[0]:
        entry = {"perplexity": ours[0][arm]["perplexity"]}
        for rate in ("forward", "evaluation"):
            entry[rate] = common.summary([r[arm][rate] for r in ours])
        entry["ratio"] = {name: common.ratios(entry["evaluation"]["rounds"], rates[name]) for name in peers}
        results[f"qfid {arm}"] = entry
        columns = [common.spread(entry[rate], "{:.0f}") for rate in ("forward", "evaluation")]
        columns += [common.spread(entry["ratio"][name]) for name in peers]
        rows.append([f"qfid {arm}", f"{entry['perplexity']:.6f}", *columns])
    batches = ", ".join(f"{name} with batch {peer.batch}" for name, peer in peers.items())
    print(f"{tokens} tokens in {args.windows} windows, {args.threads} threads, transformers {batches}")
    header = ["arm", "perplexity", "forward tokens/s", "evaluation tokens/s", *[f"ratio to {name}" for name in peers]]
    common.print_table(header, rows)
    difference = abs(results["qfid f32"]["perplexity"] / expected - 1)
    print(f"f32 perplexities differ by {difference:.1e} relative, expected at most {AGREEMENT:.0e}")
    machine = common.machine(torch, load) | {"transformers": transformers.__version__}
    common.write_json(
        args.json,
        {"threads": args.threads, "tokens": tokens, "machine": machine, "difference": difference, "results": results},
    )
    if not difference <= AGREEMENT:
        common.stop(common.EXIT_DISAGREE, "the perplexities disagree: the times compare different work")


if __name__ == "__main__":
    main()
