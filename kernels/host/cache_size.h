// Size of this CPU's caches: what blocks are sized by. Sizes choose blocks, never results.
#pragma once

#include <cstdint>

namespace qfid::kernels::host {

/// Bytes of a core's second-level cache, within [256 KiB, 4 MiB]; 1 MiB where the system doesn't say.
std::int64_t l2_bytes();
/// For tests: from now on `bytes`, whatever the CPU has (0: nothing fits); below 0, the CPU's again. Returns what was said
/// before, as an argument to give back.
std::int64_t force_l2_bytes(std::int64_t bytes);

}  // namespace qfid::kernels::host
