#!/usr/bin/env python3
"""PyTorch's scaled_dot_product_attention in bf16 at the shapes of gpu_bench.cc, backend by backend. Prints Markdown."""
import statistics
import sys

try:
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
except ImportError as error:
    print(f"PyTorch isn't here: {error}", file=sys.stderr)
    sys.exit(4)


def milliseconds(call, runs=9):
    times = []
    for i in range(-3, runs):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        call()
        end.record()
        torch.cuda.synchronize()
        if i >= 0:
            times.append(start.elapsed_time(end))
    return statistics.median(times)


print(f"PyTorch {torch.__version__} on {torch.cuda.get_device_name()}, bf16, not causal\n")
print("| (batch, heads, S, d) | backend | ms | TFLOP/s |\n|---|---|---|---|")
for batch, heads, length, d in [(4, 16, 8192, 128), (16, 16, 2048, 128), (64, 12, 1024, 64)]:
    q, k, v = (torch.randn(batch, heads, length, d, device="cuda", dtype=torch.bfloat16) for _ in range(3))
    for backend in (SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION):
        try:
            with sdpa_kernel(backend):
                ms = milliseconds(lambda: torch.nn.functional.scaled_dot_product_attention(q, k, v))
        except RuntimeError as error:
            print(f"| ({batch}, {heads}, {length}, {d}) | {backend.name} | {error} | |")
            continue
        flop = 4 * batch * heads * length * length * d
        print(f"| ({batch}, {heads}, {length}, {d}) | {backend.name} | {ms:.3f} | {flop / ms / 1e9:.1f} |")
