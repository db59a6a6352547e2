#include "kernels/cpu/panel_operands.h"

#include <algorithm>
#include <cstring>

#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/row_blocks.h"
#include "quant/core/dispatch.h"
#include "quant/core/first_error.h"

namespace qfid::kernels::cpu {

namespace {

constexpr std::int64_t column_step = 16, most_columns = 64;
constexpr std::int64_t pack_bytes = 4;  ///< of a pack of every route: 4 u8s8, 2 s16 or bf16, 1 f32
constexpr int query_offset = 128;       ///< makes s8 codes of Q u8

std::int64_t round_up(std::int64_t x, std::int64_t step) { return (x + step - 1) / step * step; }

/// `n` codes from element `at` on as numbers of the route.
void numbers(const host::Operand& x, std::int64_t at, std::int64_t n, BlockType type, void* dst) {
  if (type == BlockType::f32) return expand_codes(x.codes, at, n, DataType::f32, dst);
  if (type == BlockType::bf16) return expand_codes(x.codes, at, n, DataType::bf16, dst);
  const auto* codes = reinterpret_cast<const std::int8_t*>(x.codes.raw()) + at;
  if (type == BlockType::s16) {
    std::copy_n(codes, n, static_cast<std::int16_t*>(dst));
  } else {
    std::copy_n(codes, n, static_cast<std::int8_t*>(dst));
  }
}

struct SumCodes {
  __attribute__((always_inline)) std::int32_t operator()(const std::int8_t* codes, std::int64_t n) const {
    std::int32_t sum = 0;
    for (std::int64_t i = 0; i < n; ++i) sum += codes[i];
    return sum;
  }
};

struct FlipSigns {
  __attribute__((always_inline)) void operator()(const std::int8_t* __restrict codes, std::int64_t n,
                                                 std::uint8_t* __restrict dst) const {
    for (std::int64_t i = 0; i < n; ++i) dst[i] = static_cast<std::uint8_t>(codes[i] ^ query_offset);
  }
};

/// K's rows are columns of the product: row j, `n` packs of 4 bytes each, into [n][key_block] packs.
void scatter_key(const std::byte* src, std::int64_t n, std::int64_t j, std::byte* dst) {
  for (std::int64_t k = 0; k < n; ++k) std::memcpy(dst + (k * key_block + j) * pack_bytes, src + k * pack_bytes, pack_bytes);
}
/// `pack` rows of n numbers side by side: [n][pack]. `step`: from row to row.
template <class T>
void interleave(const T* src, std::int64_t step, std::int64_t n, T* dst) {
  constexpr std::int64_t pack = pack_bytes / static_cast<std::int64_t>(sizeof(T));
  for (std::int64_t c = 0; c < n; ++c)
    for (std::int64_t i = 0; i < pack; ++i) dst[c * pack + i] = src[i * step + c];
}

/// Runs f with the numbers' width as an integer type: packing moves bits.
template <class F>
void as_bits(std::size_t bytes, const F& f) {
  if (bytes == 1) return f(std::uint8_t{});
  if (bytes == 2) return f(std::uint16_t{});
  return f(std::uint32_t{});
}

}  // namespace

PanelOperands::PanelOperands(const AttentionProblem& problem, const host::AttentionOperands& o, const BlockRoute& qk,
                             const BlockRoute& pv, PanelMemory& memory)
    : p_(problem),
      o_(o),
      qk_(qk),
      pv_(pv),
      depth_(qk.padded(problem.head_dim)),
      width_(round_up(problem.v_head_dim, column_step)),
      blocks_(std::max<std::int64_t>(1, (o.kv_len + key_block - 1) / key_block)) {
  for (std::int64_t c = 0; c < width_; c += most_columns) columns_.push_back({c, std::min(most_columns, width_ - c)});
  const std::int64_t heads = o.batch * problem.kv_heads, keys = heads * blocks_ * key_block;
  k_ = memory.k.reserve(keys * depth_ * static_cast<std::int64_t>(qk.bytes));
  v_ = memory.v.reserve(keys * width_ * static_cast<std::int64_t>(pv.bytes));
  memory.key_scales.reserve(keys * 4);
  key_scales_ = memory.key_scales.as<float>();
  memory.value_scales.reserve(heads * problem.v_head_dim * 4);
  value_scales_ = memory.value_scales.as<float>();
  if (qk.type == BlockType::u8s8) {
    memory.excess.reserve(keys * 4);
    excess_ = memory.excess.as<std::int32_t>();
  }
  one_scale_.resize(static_cast<std::size_t>(heads));
  quant::FirstError error;
#pragma omp parallel for schedule(static)
  for (std::int64_t i = 0; i < heads * blocks_; ++i)
    error.guard([&] {
      const std::int64_t h = i / blocks_;
      pack_keys(h / problem.kv_heads, h % problem.kv_heads, i % blocks_);
      pack_values(h / problem.kv_heads, h % problem.kv_heads, i % blocks_);
    });
  error.rethrow();
  for (std::int64_t h = 0; h < heads; ++h) {
    for (std::int64_t c = 0; c < problem.v_head_dim; ++c)
      value_scales_[h * problem.v_head_dim + c] = o.v.scale_at(h / problem.kv_heads, 0, h % problem.kv_heads, c);
    const float* first = key_scales(h / problem.kv_heads, h % problem.kv_heads, 0);
    one_scale_[static_cast<std::size_t>(h)] =
        std::all_of(first, first + blocks_ * key_block, [&](float s) { return s == *first; }) ? 1 : 0;
  }
}

const std::byte* PanelOperands::keys(std::int64_t b, std::int64_t kv_head, std::int64_t n) const {
  return k_ + (head(b, kv_head) * static_cast<std::size_t>(blocks_) + static_cast<std::size_t>(n)) *
                  static_cast<std::size_t>(depth_ * key_block) * qk_.bytes;
}

const std::byte* PanelOperands::values(std::int64_t b, std::int64_t kv_head, std::int64_t n,
                                       const ValueColumns& columns) const {
  const std::int64_t in_head = blocks_ * key_block * columns.first + n * key_block * columns.n;
  return v_ +
         (head(b, kv_head) * static_cast<std::size_t>(blocks_ * key_block * width_) + static_cast<std::size_t>(in_head)) *
             pv_.bytes;
}

const std::int32_t* PanelOperands::excess(std::int64_t b, std::int64_t kv_head, std::int64_t n) const {
  if (excess_ == nullptr) return nullptr;
  return excess_ + (static_cast<std::int64_t>(head(b, kv_head)) * blocks_ + n) * key_block;
}

const float* PanelOperands::key_scales(std::int64_t b, std::int64_t kv_head, std::int64_t n) const {
  return key_scales_ + (static_cast<std::int64_t>(head(b, kv_head)) * blocks_ + n) * key_block;
}

const float* PanelOperands::value_scales(std::int64_t b, std::int64_t kv_head) const {
  return value_scales_ + static_cast<std::int64_t>(head(b, kv_head)) * p_.v_head_dim;
}

bool PanelOperands::one_key_scale(std::int64_t b, std::int64_t kv_head) const { return one_scale_[head(b, kv_head)] != 0; }

void PanelOperands::pack_keys(std::int64_t b, std::int64_t kv_head, std::int64_t n) {
  auto* dst = const_cast<std::byte*>(keys(b, kv_head, n));
  auto* scales = const_cast<float*>(key_scales(b, kv_head, n));
  const std::int64_t d = p_.head_dim, width = std::min(key_block, o_.kv_len - n * key_block);
  if (width < key_block) std::memset(dst, 0, static_cast<std::size_t>(depth_ * key_block) * qk_.bytes);
  std::int32_t* excess_of = excess_ == nullptr ? nullptr : const_cast<std::int32_t*>(excess(b, kv_head, n));
  if (excess_of != nullptr) std::fill_n(excess_of, key_block, 0);
  std::vector<std::byte> row(static_cast<std::size_t>(depth_) * qk_.bytes);  // its padding stays 0
  for (std::int64_t j = 0; j < key_block; ++j) {
    const std::int64_t t = std::min(n * key_block + j, o_.kv_len - 1);  // scales of keys beyond the end: as the last one's
    scales[j] = t < 0 ? 1.0F : o_.k.scale_at(b, t, kv_head);
    if (j >= width) continue;
    numbers(o_.k, ((b * o_.kv_len + t) * p_.kv_heads + kv_head) * d, d, qk_.type, row.data());
    scatter_key(row.data(), depth_ / qk_.pack, j, dst);
    if (excess_of != nullptr)
      excess_of[j] = query_offset * quant::dispatched(SumCodes{}, reinterpret_cast<const std::int8_t*>(row.data()), depth_);
  }
}

void PanelOperands::pack_values(std::int64_t b, std::int64_t kv_head, std::int64_t n) {
  const std::int64_t d = p_.v_head_dim, width = std::min(key_block, o_.kv_len - n * key_block);
  std::vector<std::byte> rows(static_cast<std::size_t>(pv_.pack * width_) * pv_.bytes);  // columns beyond d stay 0
  for (std::int64_t j = 0; j < key_block; j += pv_.pack) {
    for (std::int64_t i = 0; i < pv_.pack; ++i) {
      std::byte* row = rows.data() + static_cast<std::size_t>(i * width_) * pv_.bytes;
      const std::int64_t t = n * key_block + j + i;
      if (j + i < width) {
        numbers(o_.v, ((b * o_.kv_len + t) * p_.kv_heads + kv_head) * d, d, pv_.type, row);
      } else {
        std::memset(row, 0, static_cast<std::size_t>(width_) * pv_.bytes);
      }
    }
    for (const ValueColumns& c : columns_)
      as_bits(pv_.bytes, [&]<class T>(T) {
        auto* dst = reinterpret_cast<T*>(const_cast<std::byte*>(values(b, kv_head, n, c)));
        interleave(reinterpret_cast<const T*>(rows.data()) + c.first, width_, c.n, dst + j * c.n);
      });
  }
}

void PanelOperands::queries(std::int64_t b, std::int64_t h, std::int64_t first, std::int64_t rows, std::byte* dst) const {
  const std::int64_t d = p_.head_dim;
  const std::size_t row = static_cast<std::size_t>(depth_) * qk_.bytes;
  if (depth_ != d) std::memset(dst, 0, static_cast<std::size_t>(rows) * row);
  for (std::int64_t r = 0; r < rows; ++r) {
    std::byte* at = dst + static_cast<std::size_t>(r) * row;
    const std::int64_t from = ((b * o_.q_len + first + r) * p_.q_heads + h) * d;
    if (qk_.type == BlockType::u8s8) {
      quant::dispatched(FlipSigns{}, reinterpret_cast<const std::int8_t*>(o_.q.codes.raw()) + from, d,
                        reinterpret_cast<std::uint8_t*>(at));
    } else {
      numbers(o_.q, from, d, qk_.type, at);
    }
  }
}

}  // namespace qfid::kernels::cpu
