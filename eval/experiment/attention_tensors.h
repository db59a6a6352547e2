// One attention problem as tensors: from anybody's safetensors file, or generated. What `qfid attention` measures.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include "kernels/attention.h"
#include "quant/core/tensor.h"

namespace qfid::eval {

/// Host tensors in the kernels' layout. gate_logits [B, kv_len, gates]; bias [1|B, 1|heads, q_len, kv_len].
struct AttentionTensors {
  std::string name;                       ///< for reports: the file's, or the generated problem
  std::string content_hash;               ///< of the file, "" when generated
  quant::Tensor q, k, v;                  ///< f32 [B, len, heads, d]
  quant::Tensor gate_logits, sink, bias;  ///< empty where there is none
  bool causal = false;
  std::optional<float> scale;
  kernels::GateSite gate_site = kernels::GateSite::output;

  /// In full precision; Error{usage} as kernels::validate.
  kernels::AttentionProblem problem() const;
};

/// Of a file's tensors: q [batch, heads, q_len, d], k [batch, kv_heads, kv_len, d], v [batch, kv_heads, kv_len, d_v] in F32,
/// BF16 or F16; and where they are: gate (logits of the sigmoid: value site [batch, kv_heads, kv_len], output site
/// [batch, heads, q_len]), sink [heads], mask (BOOL or U8, 1 = seen, or floats that are added to the scaled scores; up to
/// four dimensions that broadcast to [batch, heads, q_len, kv_len]). Other names are left alone.
/// Error{input} naming file and tensor: missing, wrong rank or size, NaN or Inf (a mask may hold -Inf).
AttentionTensors load_attention(const std::filesystem::path& file, kernels::GateSite gate_site);

enum class Fill : std::uint8_t { normal, sink, outlier };
/// Seeded tensors of one shape for q, k and v, standard normal; `sink`: all queries look for key 0, which gets nearly all
/// attention and whose value is a twentieth (an attention sink with a drained value); `outlier`: one channel in 64 (at least
/// one) of K and V is 20 times as large.
AttentionTensors generate_attention(std::int64_t batch, std::int64_t heads, std::int64_t length, std::int64_t head_dim,
                                    Fill fill, std::uint64_t seed);

/// "4x16x2048x128" -> batch, heads, length, head_dim. Error{usage}.
struct ProblemSizes {
  std::int64_t batch, heads, length, head_dim;
};
ProblemSizes parse_problem(const std::string& text);

}  // namespace qfid::eval
