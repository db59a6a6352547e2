// qfid_cpu_bench: what the cpu backend's attention is made of, and oneDNN Graph's attention beside it.
#pragma once

#include "tests/bench/bench.h"

namespace qfid::bench {

void register_blocks();
/// Scaled dot-product attention as a graph, in f32 and in INT8 as frameworks quantize it; the label says into how many
/// partitions oneDNN divided it (1: fused).
void register_graphs();

}  // namespace qfid::bench
