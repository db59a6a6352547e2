// Operands of attention in panels: K and V of each (window, K/V head) as numbers of the block products, packed once and
// shared by the query blocks and heads of the group; Q block by block. Memory: as many numbers as K and V have, keys rounded
// up to 64.
#pragma once

#include <vector>

#include "kernels/attention.h"
#include "kernels/cpu/block_product.h"
#include "kernels/cpu/panel_memory.h"
#include "kernels/host/operands.h"

namespace qfid::kernels::cpu {

/// Columns [first, first + n) of V: one product; n a multiple of 16, at most 64.
struct ValueColumns {
  std::int64_t first, n;
};

class PanelOperands {
 public:
  PanelOperands(const AttentionProblem& problem, const host::AttentionOperands& o, const BlockRoute& qk,
                const BlockRoute& pv, PanelMemory& memory);

  /// Key block n of K, packed [k/pack][64][pack]; keys that don't exist are 0.
  const std::byte* keys(std::int64_t b, std::int64_t kv_head, std::int64_t n) const;
  /// V from key block n on, packed [keys/pack][columns.n][pack]; rows that don't exist are 0.
  const std::byte* values(std::int64_t b, std::int64_t kv_head, std::int64_t n, const ValueColumns& columns) const;
  /// What the offset of Q's codes adds to each sum of key block n; null where there is none.
  const std::int32_t* excess(std::int64_t b, std::int64_t kv_head, std::int64_t n) const;
  /// Scales of K, [64] of key block n, and whether all of this head's are one number.
  const float* key_scales(std::int64_t b, std::int64_t kv_head, std::int64_t n) const;
  bool one_key_scale(std::int64_t b, std::int64_t kv_head) const;
  /// Scales of V's channels, [v_head_dim].
  const float* value_scales(std::int64_t b, std::int64_t kv_head) const;
  /// Rows [first, first + rows) of a query head, [rows][depth()].
  void queries(std::int64_t b, std::int64_t head, std::int64_t first, std::int64_t rows, std::byte* dst) const;

  std::int64_t depth() const { return depth_; }    ///< head_dim, padded
  std::int64_t width() const { return width_; }    ///< v_head_dim, padded
  std::int64_t blocks() const { return blocks_; }  ///< key blocks
  const std::vector<ValueColumns>& columns() const { return columns_; }

 private:
  std::size_t head(std::int64_t b, std::int64_t kv_head) const {
    return static_cast<std::size_t>(b * p_.kv_heads + kv_head);
  }
  void pack_keys(std::int64_t b, std::int64_t kv_head, std::int64_t n);
  void pack_values(std::int64_t b, std::int64_t kv_head, std::int64_t n);

  const AttentionProblem& p_;
  const host::AttentionOperands& o_;
  BlockRoute qk_, pv_;
  std::int64_t depth_, width_, blocks_;
  std::vector<ValueColumns> columns_;
  std::byte *k_, *v_;
  float *key_scales_, *value_scales_;
  std::int32_t* excess_ = nullptr;
  std::vector<char> one_scale_;
};

}  // namespace qfid::kernels::cpu
