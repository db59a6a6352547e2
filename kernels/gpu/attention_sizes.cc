#include "kernels/gpu/attention_sizes.h"

#include <algorithm>
#include <string>

#include "kernels/gpu/context.h"

namespace qfid::kernels::gpu {

namespace {

void check_shape(bool ok, const char* what, const Shape& found, const std::string& expected) {
  quant::require(ok, "attention: " + std::string(what) + " is " + found.to_string() + ", expected " + expected);
}

}  // namespace

std::int64_t rows_at_once(const Sizes& s, bool causal, std::int64_t most) {
  constexpr std::int64_t chunks = 4, tile = 128;
  const std::int64_t part = (s.q_len + chunks * tile - 1) / (chunks * tile) * tile;
  return std::min({s.rows, most, causal ? std::max(part, tile) : most});
}

Sizes sizes_of(const AttentionProblem& p, const AttentionInputs& in) {
  const Shape &q = in.q.shape, &k = in.k.shape, &v = in.v.shape;
  check_shape(q.rank() == 4 && q[2] == p.q_heads && q[3] == p.head_dim, "q", q, "[B, q_len, q_heads, head_dim]");
  check_shape(k.rank() == 4 && k == Shape{q[0], k[1], p.kv_heads, p.head_dim}, "k", k, "[B, kv_len, kv_heads, head_dim]");
  check_shape(v == Shape{q[0], k[1], p.kv_heads, p.v_head_dim}, "v", v, "[B, kv_len, kv_heads, v_head_dim]");
  const std::int64_t B = q[0], q_len = q[1], kv_len = k[1];
  check_keys(p, kv_len);
  if (p.gate)
    check_shape(in.gate_logits.shape == Shape{B, kv_len, p.gates()}, "gate_logits", in.gate_logits.shape,
                "[B, kv_len, gates]");
  if (p.gate && p.gate->site == GateSite::output)
    quant::require(q_len <= kv_len, "attention: q_len is " + std::to_string(q_len) + ", kv_len " + std::to_string(kv_len) +
                                        ": an output-site gate reads row i + kv_len - q_len, expected q_len <= kv_len");
  if (p.learnable_sink) check_shape(in.sink.shape.elements() == p.q_heads, "sink", in.sink.shape, "[q_heads]");
  if (in.key_mask.defined())
    check_shape(in.key_mask.shape == Shape{B, kv_len}, "key_mask", in.key_mask.shape, "[B, kv_len]");
  if (in.bias.defined()) {
    const Shape& s = in.bias.shape;
    check_shape(
        s.rank() == 4 && (s[0] == 1 || s[0] == B) && (s[1] == 1 || s[1] == p.q_heads) && s[2] == q_len && s[3] == kv_len,
        "bias", s, "[1|B, 1|q_heads, q_len, kv_len]");
  }
  return {B,
          q_len,
          kv_len,
          p.q_heads,
          p.kv_heads,
          p.head_dim,
          p.v_head_dim,
          padded(p.head_dim),
          padded(p.v_head_dim),
          padded(kv_len),
          p.q_heads / p.kv_heads * q_len};
}

}  // namespace qfid::kernels::gpu
