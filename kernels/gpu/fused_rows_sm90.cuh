// What a thread of the fused attention kernel does with the numbers it holds: two rows' scores, E, codes of P, output. A
// thread holds, of rows lane / 4 and that + 8, columns 8 n + lane % 4 * 2 and the next one: wgmma's accumulator layout. All
// sums have one order: eight E of a thread as a tree, four such in a tile one after another, tiles one after another, then
// four threads.
#pragma once

#include <cmath>

#include "kernels/gpu/fused.h"
#include "kernels/gpu/scores.cuh"
#include "kernels/gpu/wgmma_sm90.cuh"

namespace qfid::kernels::gpu {

/// Formats of a kernel: the products' operand types, P's format.
template <Mma qk_kind, Mma pv_kind, Format p_format>
struct Formats {
  static constexpr Mma qk = qk_kind, pv = pv_kind;
  static constexpr Format p = p_format;
  using Score = typename MmaAccumulator<qk>::type;
  using Sum = typename MmaAccumulator<pv>::type;
};
using Int8Unsigned = Formats<Mma::s8_s8, Mma::u8_s8, Format::uint8>;
using Int8Signed = Formats<Mma::s8_s8, Mma::s8_s8, Format::int8>;
using E4m3 = Formats<Mma::e4m3_e4m3, Mma::e4m3_e4m3, Format::e4m3>;

inline constexpr int tile_keys = static_cast<int>(fused_keys);

/// Where a block works.
struct Place {
  int b, h, kv_head, tile, tiles;
};

__device__ inline Place place_of(const FusedJob& j) {
  Place p;
  const int head = static_cast<int>(blockIdx.x) / j.q_tiles;
  p.tile = static_cast<int>(blockIdx.x) - head * j.q_tiles;
  if (j.causal) p.tile = j.q_tiles - 1 - p.tile;  // the longest first
  p.b = head / j.q_heads;
  p.h = head - p.b * j.q_heads;
  p.kv_head = p.h / (j.q_heads / j.kv_heads);
  const int last = min((p.tile + 1) * static_cast<int>(fused_rows), j.q_len) - 1;
  const int keys = j.causal && j.raw == nullptr ? min(last + 1 + j.kv_len - j.q_len, j.kv_len) : j.kv_len;
  p.tiles = keys <= 0 ? 1 : (keys + tile_keys - 1) / tile_keys;  // at least one, even if it is masked
  return p;
}

/// A thread's two rows.
struct Rows {
  Row row[2];
  RowScores scores[2];
  float m[2], l[2] = {0, 0};
  double code_sum[2] = {0, 0};
  int visible[2] = {0, 0}, nonzero[2] = {0, 0};
  bool stored[2];

  __device__ Rows(const FusedJob& j, const Place& p, int first) {
    const RowChunk chunk{0, 0, 0, 0, j.kv_len, 0, j.q_len, j.kv_len, j.q_heads, j.kv_heads, j.causal};
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int i = first + 8 * r;
      stored[r] = i < j.q_len;
      row[r].b = p.b;
      row[r].h = p.h;
      row[r].kv_head = p.kv_head;
      row[r].i = stored[r] ? i : j.q_len - 1;  // rows beyond the last repeat it
      const int seen = j.causal ? row[r].i + 1 + j.kv_len - j.q_len : j.kv_len;
      row[r].visible = seen < 0 ? 0 : min(seen, j.kv_len);
      row[r].at = (static_cast<std::int64_t>(p.b) * j.q_heads + p.h) * j.q_len + row[r].i;
      scores[r] = scores_of(j.in, chunk, row[r]);
      m[r] = -INFINITY;
    }
  }
};

__device__ inline float quad_sum(float x) {
  x += __shfl_xor_sync(full_warp, x, 1);
  return x + __shfl_xor_sync(full_warp, x, 2);
}
__device__ inline float quad_max(float x) {
  x = fmaxf(x, __shfl_xor_sync(full_warp, x, 1));
  return fmaxf(x, __shfl_xor_sync(full_warp, x, 2));
}

__device__ inline void round_to_bf16(float (&x)[64]) {
#pragma unroll
  for (int i = 0; i < 64; i += 2) {
    const __nv_bfloat162 two = __floats2bfloat162_rn(x[i], x[i + 1]);
    const unsigned bits = *reinterpret_cast<const unsigned*>(&two);
    x[i] = __uint_as_float(bits << 16);
    x[i + 1] = __uint_as_float(bits & 0xFFFF0000U);
  }
}

/// Times the row's, the key's and the softmax scale.
__device__ inline void scale_by_key(float (&x)[64], const Rows& rows, int first) {
#pragma unroll
  for (int n = 0; n < 16; ++n) {
    const float2 sk = *reinterpret_cast<const float2*>(rows.scores[0].sk + first + 8 * n);
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      x[4 * n + 2 * r] *= (rows.scores[r].sq * sk.x) * rows.scores[r].c;
      x[4 * n + 2 * r + 1] *= (rows.scores[r].sq * sk.y) * rows.scores[r].c;
    }
  }
}

/// What is done to a tile of accumulators: one factor a row; a factor a key too; that, and scores rounded; either, rounded
/// or not; anything (masks, biases, a listener). A kernel for each keeps its loops inside the instruction cache.
enum class Kind : std::uint8_t { uniform, keyed, keyed_rounded, any, general };

template <Kind kind>
__device__ bool rounds(const FusedJob& j) {
  return kind == Kind::keyed_rounded || (kind == Kind::any && j.in.round_bf16);
}

/// Scores from accumulators; column 0 of `first` is this thread's first. `inside`: every key of the tile is visible to the
/// warp. Unless kind is general they are to be rounded yet, where rounds() says so.
template <class F, Kind kind>
__device__ void to_scores(const typename F::Score (&s)[64], float (&x)[64], const FusedJob& j, const Rows& rows, int first,
                          bool inside) {
#pragma unroll
  for (int i = 0; i < 64; ++i) x[i] = static_cast<float>(s[i]);
  if constexpr (kind == Kind::general) {
#pragma unroll
    for (int i = 0; i < 64; ++i) {
      const int column = first + i / 4 * 8 + i % 2, r = i / 2 % 2;
      x[i] = column < rows.row[r].visible ? score(x[i], column, rows.scores[r]) : -INFINITY;
    }
    return;
  }
  if (kind == Kind::uniform || (kind == Kind::any && rows.scores[0].uniform)) {
#pragma unroll
    for (int i = 0; i < 64; ++i) x[i] *= rows.scores[i / 2 % 2].factor;
  } else {
    scale_by_key(x, rows, first);
  }
  if (inside) return;
#pragma unroll
  for (int i = 0; i < 64; ++i) x[i] = first + i / 4 * 8 + i % 2 < rows.row[i / 2 % 2].visible ? x[i] : -INFINITY;
}

/// Tap scores_i32 of one tile.
template <class F>
__device__ void tap_raw(const typename F::Score (&s)[64], const FusedJob& j, const Rows& rows, int first) {
  if constexpr (F::qk == Mma::s8_s8) {
    if (j.raw == nullptr) return;
#pragma unroll
    for (int i = 0; i < 64; ++i) {
      const int column = first + i / 4 * 8 + i % 2, r = i / 2 % 2;
      if (column < j.kv_len && rows.stored[r]) j.raw[rows.row[r].at * j.kv_len + column] = s[i];
    }
  }
}

/// What a listener asked for of one score.
template <class F>
__device__ void tap(const FusedJob& j, const Row& row, int column, float score, unsigned code) {
  const std::int64_t at = row.at * j.kv_len + column;
  if (j.taps.scores != nullptr) j.taps.scores[at] = score;
  if (j.taps.p_codes != nullptr) store_code<F::p>(j.taps.p_codes, at, code);
}

/// Codes of four E and how many aren't zero; in `general` also what else is asked about them.
template <class F, bool general>
__device__ unsigned code_four(const float (&e)[4], const FusedJob& j, Rows& rows, int r, unsigned& nonzero) {
  if constexpr (!general) return code_word<F::p>(e, j.prob.scale, nonzero);
  unsigned word = 0;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    float value;
    word |= prob_code<F::p>(e[i], j.prob.scale, value) << (8 * i);
    rows.code_sum[r] += static_cast<double>(value);
    rows.nonzero[r] += value == 0.0F ? 0 : 1;
  }
  return word;
}

/// E of one tile into its codes, as the next product's A operands take them.
template <class F, bool general>
__device__ void code_tile(const float (&x)[64], const FusedJob& j, Rows& rows, int first, std::uint32_t (&a)[4][4]) {
  float sums[2] = {0, 0};
  unsigned nonzero[2] = {0, 0};
#pragma unroll
  for (int g = 0; g < 4; ++g) {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      float e[8];
#pragma unroll
      for (int i = 0; i < 8; ++i) e[i] = expf(x[16 * g + i / 2 * 4 + 2 * r + i % 2] - rows.m[r]);
      sums[r] += ((e[0] + e[1]) + (e[2] + e[3])) + ((e[4] + e[5]) + (e[6] + e[7]));
      a[g][r] = code_four<F, general>({e[0], e[1], e[2], e[3]}, j, rows, r, nonzero[r]);
      a[g][2 + r] = code_four<F, general>({e[4], e[5], e[6], e[7]}, j, rows, r, nonzero[r]);
      if constexpr (general) {
#pragma unroll
        for (int i = 0; i < 8; ++i) {
          const int at = 16 * g + i / 2 * 4 + 2 * r + i % 2, column = first + at / 4 * 8 + at % 2;
          if (column >= j.kv_len || !rows.stored[r]) continue;
          rows.visible[r] += x[at] != -INFINITY ? 1 : 0;
          tap<F>(j, rows.row[r], column, x[at], a[g][i / 4 * 2 + r] >> (8 * (i % 4)) & 0xFFU);
        }
      }
    }
  }
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    rows.l[r] += sums[r];
    if constexpr (!general) rows.nonzero[r] += static_cast<int>(__dp4a(nonzero[r], 0x01010101U, 0U));
  }
}

/// context and output of one row: columns 8 n + lane % 4 * 2 + e of sum[4 n + 2 r + e].
template <class F, int D>
__device__ void store_row(const FusedJob& j, const Row& row, const typename F::Sum (&sum)[D / 2], int r, float l) {
  const float* sv = j.v_scales.scale == nullptr ? nullptr
                                                : j.v_scales.scale + row.b * j.v_scales.per_window +
                                                      row.kv_head / static_cast<int>(j.v_scales.s2) * j.v_scales.c3;
  const bool by_channel = j.v_scales.s3 == 1;  // else one scale for the head
  const float denominator = j.prob.scale * l;
  const float gate =
      j.gate == nullptr
          ? 1.0F
          : j.gate[(static_cast<std::int64_t>(row.b) * j.kv_len + row.i + j.kv_len - j.q_len) * j.q_heads + row.h];
  const std::int64_t at = ((static_cast<std::int64_t>(row.b) * j.q_len + row.i) * j.q_heads + row.h) * j.width;
#pragma unroll
  for (int n = 0; n < D / 8; ++n) {
    const int d = 8 * n + static_cast<int>(threadIdx.x & 3U) * 2;
    float value[2], gated[2];
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      const float scale = sv == nullptr || d + e >= j.width ? 1.0F : sv[by_channel ? d + e : 0];
      value[e] = l == 0.0F ? 0.0F : static_cast<float>(sum[4 * n + 2 * r + e]) * scale / denominator;
      gated[e] = j.gate == nullptr ? value[e] : value[e] * gate;
    }
    if (j.width % 2 == 0 && d < j.width) {
      if (j.context != nullptr) *reinterpret_cast<float2*>(j.context + at + d) = make_float2(value[0], value[1]);
      *reinterpret_cast<float2*>(j.output + at + d) = make_float2(gated[0], gated[1]);
    } else {
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        if (d + e >= j.width) continue;
        if (j.context != nullptr) j.context[at + d + e] = value[e];
        j.output[at + d + e] = gated[e];
      }
    }
  }
}

/// Counts of a warp's rows, all of one head.
__device__ inline void add_row_counts(const FusedJob& j, const Rows& rows, const bool (&masked)[2]) {
  unsigned visible = 0, nonzero = 0, none = 0;
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    if (!rows.stored[r]) continue;
    visible += static_cast<unsigned>(rows.visible[r]);
    nonzero += static_cast<unsigned>(rows.nonzero[r]);
    none += masked[r] && (threadIdx.x & 3U) == 0 ? 1U : 0U;
  }
  visible = __reduce_add_sync(full_warp, visible);
  nonzero = __reduce_add_sync(full_warp, nonzero);
  none = __reduce_add_sync(full_warp, none);
  if ((threadIdx.x & 31U) != 0) return;
  auto* counts = reinterpret_cast<unsigned long long*>(j.prob.counts) +
                 (static_cast<std::int64_t>(rows.row[0].b) * j.q_heads + rows.row[0].h) * 3;
  if (visible != 0) atomicAdd(counts, static_cast<unsigned long long>(visible));
  if (visible != nonzero) atomicAdd(counts + 1, static_cast<unsigned long long>(visible - nonzero));
  if (none != 0) atomicAdd(counts + 2, static_cast<unsigned long long>(none));
}

/// Sums of codes in double, of four threads.
__device__ inline double quad_sum(double x) {
  x += __shfl_xor_sync(full_warp, x, 1);
  return x + __shfl_xor_sync(full_warp, x, 2);
}

}  // namespace qfid::kernels::gpu
