#include "eval/experiment/tensor_hasher.h"

#include <algorithm>
#include <format>
#include <span>

#include "eval/model/checkpoint.h"

namespace qfid::eval {

using kernels::DeviceTensor;

namespace {

/// The hash of all windows so far and of one more.
std::string continued(const std::string& so_far, std::span<const std::byte> window) {
  return bytes_hash({std::as_bytes(std::span(so_far)), window});
}

/// One head's numbers of a window [T, heads, d], together.
std::vector<std::byte> head_bytes(std::span<const std::byte> window, std::size_t head, std::size_t heads, std::size_t row) {
  std::vector<std::byte> all;
  for (std::size_t at = head * row; at < window.size(); at += heads * row)
    all.insert(all.end(), window.begin() + static_cast<std::ptrdiff_t>(at),
               window.begin() + static_cast<std::ptrdiff_t>(at + row));
  return all;
}

}  // namespace

void TensorHasher::add(const std::string& name, const DeviceTensor& tensor, kernels::Backend& on, std::int64_t windows,
                       std::int64_t heads) {
  if (!tensor.defined()) return;
  const quant::Tensor host = on.download(tensor.shape[0] == windows ? tensor : on.slice(tensor, 0, windows));
  auto entry = std::find_if(hashes_.tensors.begin(), hashes_.tensors.end(), [&](const auto& e) { return e.first == name; });
  if (entry == hashes_.tensors.end()) {
    hashes_.tensors.emplace_back(name, std::vector<std::string>(static_cast<std::size_t>(heads)));
    entry = std::prev(hashes_.tensors.end());
  }
  const std::span<const float> numbers(host.view<float>().data(), static_cast<std::size_t>(host.shape().elements()));
  const std::span<const std::byte> all = std::as_bytes(numbers);
  const std::size_t bytes = all.size() / static_cast<std::size_t>(windows);
  const std::size_t row = static_cast<std::size_t>(tensor.shape.dims().back()) * sizeof(float);
  for (std::size_t w = 0; w < static_cast<std::size_t>(windows); ++w) {
    const std::span<const std::byte> window = all.subspan(w * bytes, bytes);
    if (heads == 1) entry->second[0] = continued(entry->second[0], window);
    for (std::size_t h = 0; heads > 1 && h < static_cast<std::size_t>(heads); ++h)
      entry->second[h] = continued(entry->second[h], head_bytes(window, h, static_cast<std::size_t>(heads), row));
  }
}

void TensorHasher::add_layer(int l, const LayerTrace& trace, kernels::Backend& on, std::int64_t windows,
                             std::int64_t heads) {
  if (!taps_ || windows == 0) return;
  const auto by_head = [&](const DeviceTensor& x) {
    return x.reshaped(quant::Shape{x.shape[0], x.shape[1], heads, x.shape.elements() / (x.shape[0] * x.shape[1] * heads)});
  };
  if (l == 0) add("embedding", trace.hidden_in, on, windows, 1);
  const std::string layer = std::format("layer{}.", l);
  add(layer + "attn_in", trace.attn_in, on, windows, 1);
  add(layer + "q", by_head(trace.q), on, windows, heads);
  add(layer + "k", by_head(trace.k), on, windows, heads);
  add(layer + "v", by_head(trace.v), on, windows, heads);
  add(layer + "gate_logits", trace.gate_logits, on, windows, 1);
  add(layer + "output", by_head(trace.output), on, windows, heads);
  add(layer + "attn_out", trace.attn_out, on, windows, 1);
  add(layer + "ffn_in", trace.ffn_in, on, windows, 1);
  add(layer + "ffn_act", trace.ffn_act, on, windows, 1);
  add(layer + "ffn_out", trace.ffn_out, on, windows, 1);
  add(layer + "residual", trace.residual, on, windows, 1);
}

void TensorHasher::add_last(const char* name, const DeviceTensor& tensor, kernels::Backend& on, std::int64_t windows) {
  if (windows <= 0) return;
  hashes_.windows += windows;
  add(name, tensor, on, windows, 1);
}

std::map<std::string, std::string> hash_key(const kernels::BackendInfo& info, const std::string& schemes,
                                            const std::map<std::string, std::string>& implementations) {
  std::map<std::string, std::string> key{{"backend", info.name},
                                         {"instruction set", info.isa},
                                         {"number of threads", std::to_string(info.threads)},
                                         {"precision", schemes}};
  for (const auto& [module, name] : implementations) key["implementation of " + module] = name;
  return key;
}

}  // namespace qfid::eval
