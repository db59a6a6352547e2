// Windows that go through a layer together.
#pragma once

#include <cstdint>
#include <vector>

#include "eval/data/windows.h"
#include "quant/core/tensor.h"

namespace qfid::eval {

/// One chunk of windows: input and target ids i32 [B, T], and which positions count.
struct Chunk {
  std::int64_t first_window = 0;
  quant::Tensor inputs, targets;
  std::vector<std::vector<bool>> scored;  ///< [B][T]
};

/// Windows [begin, end), all of one length. A target that doesn't count is written as 0.
Chunk chunk_of(const std::vector<Window>& windows, std::size_t begin, std::size_t end);
/// One field of theirs: i32 [end - begin, length].
quant::Tensor ids_of(const std::vector<Window>& windows, std::size_t begin, std::size_t end,
                     std::vector<std::int32_t> Window::* field);

}  // namespace qfid::eval
