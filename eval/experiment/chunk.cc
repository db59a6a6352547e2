#include "eval/experiment/chunk.h"

#include <algorithm>

namespace qfid::eval {

quant::Tensor ids_of(const std::vector<Window>& windows, std::size_t begin, std::size_t end,
                     std::vector<std::int32_t> Window::* field) {
  const auto length = static_cast<std::int64_t>((windows[begin].*field).size());
  quant::Tensor ids(quant::DType::i32, quant::Shape{static_cast<std::int64_t>(end - begin), length});
  for (std::size_t w = begin; w < end; ++w)
    std::copy((windows[w].*field).begin(), (windows[w].*field).end(),
              ids.view<std::int32_t>().data() + static_cast<std::int64_t>(w - begin) * length);
  return ids;
}

Chunk chunk_of(const std::vector<Window>& windows, std::size_t begin, std::size_t end) {
  Chunk chunk{static_cast<std::int64_t>(begin),
              ids_of(windows, begin, end, &Window::input),
              ids_of(windows, begin, end, &Window::target),
              {}};
  std::replace(chunk.targets.view<std::int32_t>().data(),
               chunk.targets.view<std::int32_t>().data() + chunk.targets.shape().elements(), no_target, 0);
  for (std::size_t w = begin; w < end; ++w) {
    std::vector<bool> scored(windows[w].input.size());
    for (std::size_t i = 0; i < scored.size(); ++i) scored[i] = windows[w].scored(static_cast<std::int64_t>(i));
    chunk.scored.push_back(std::move(scored));
  }
  return chunk;
}

}  // namespace qfid::eval
