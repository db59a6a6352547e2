// What the row passes of attention share: which row a block works on, a score from its accumulator, codes of P.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp8.h>

#include "kernels/gpu/formats.cuh"
#include "kernels/gpu/launch.cuh"
#include "kernels/gpu/softmax.h"

namespace qfid::kernels::gpu {

/// One query row of a chunk. Counts of rows and keys fit 32 bits (a chunk's memory does); 64-bit division is ten times as
/// dear.
struct Row {
  int z;  ///< batch within the chunk
  int b, h, kv_head, i;
  int visible;      ///< keys from here on are masked
  std::int64_t at;  ///< row of [B, q_heads, q_len]
};

/// Row r of batch z of the chunk.
__device__ inline Row row_of(const RowChunk& c, int z, int r) {
  Row row;
  const int q_len = static_cast<int>(c.q_len), kv_heads = static_cast<int>(c.kv_heads);
  row.z = z;
  const int batch = static_cast<int>(c.first_batch) + z, query = static_cast<int>(c.first_row) + r;
  row.b = batch / kv_heads;
  row.kv_head = batch - row.b * kv_heads;
  int member = 0;  // of the group of query heads
  row.i = query;
  if (c.q_heads != c.kv_heads) {
    member = query / q_len;
    row.i = query - member * q_len;
  }
  row.h = c.q_heads == c.kv_heads ? row.kv_head : row.kv_head * (static_cast<int>(c.q_heads) / kv_heads) + member;
  const int kv_len = static_cast<int>(c.kv_len), keys = static_cast<int>(c.keys);
  const int seen = c.causal ? row.i + 1 + kv_len - q_len : kv_len;
  row.visible = seen < 0 ? 0 : seen < keys ? seen : keys;
  row.at = (static_cast<std::int64_t>(row.b) * c.q_heads + row.h) * c.q_len + row.i;
  return row;
}

__device__ inline Row row_of(const RowChunk& c, int n) {
  const int rows = static_cast<int>(c.rows), z = n / rows;
  return row_of(c, z, n - z * rows);
}

/// What a row's scores are made with; `uniform`: the key's scale doesn't change along the row.
struct RowScores {
  float sq, factor, c;
  bool uniform;
  const float* sk;  ///< [keys], where they differ
  const std::uint8_t* mask;
  const float* bias;
  bool round;
};

__device__ inline RowScores scores_of(const ScoreInputs& in, const RowChunk& c, const Row& row) {
  RowScores s;
  // Scales of Q and K by token or head have steps of 1, by tensor or head one token step: no division but for blocks.
  const auto over = [](int x, std::int64_t step, std::int64_t all) {
    return step == 1 ? x : step >= all ? 0 : x / static_cast<int>(step);
  };
  s.sq = in.q.scale == nullptr ? 1.0F
                               : in.q.scale[row.b * in.q.per_window + over(row.i, in.q.s1, c.q_len) * in.q.c2 * in.q.c3 +
                                            over(row.h, in.q.s2, c.q_heads) * in.q.c3];
  s.c = in.c;
  s.uniform = in.key_scales == nullptr;
  s.sk = s.uniform ? nullptr : in.key_scales + (static_cast<std::int64_t>(row.b) * c.kv_heads + row.kv_head) * in.key_stride;
  s.factor = (s.sq * (in.k.scale == nullptr
                          ? 1.0F
                          : in.k.scale[row.b * in.k.per_window + over(row.kv_head, in.k.s2, c.kv_heads) * in.k.c3])) *
             s.c;
  s.mask = in.key_mask == nullptr ? nullptr : in.key_mask + row.b * c.kv_len;
  s.bias = in.bias == nullptr ? nullptr : in.bias + row.b * in.bias_window + row.h * in.bias_head + row.i * c.kv_len;
  s.round = in.round_bf16;
  return s;
}

__device__ inline float bf16_number(unsigned bits) { return __uint_as_float(bits << 16); }

/// Accumulator i as a number.
__device__ inline float accumulated(const ScoreInputs& in, std::int64_t i) {
  if (in.acc_number == Number::s32) return static_cast<float>(static_cast<const std::int32_t*>(in.acc)[i]);
  if (in.acc_number == Number::bf16) return bf16_number(static_cast<const std::uint16_t*>(in.acc)[i]);
  return static_cast<const float*>(in.acc)[i];
}

/// Score j from its accumulator; the caller has checked that j is visible.
__device__ inline float score(float acc, int j, const RowScores& s) {
  const float factor = s.uniform ? s.factor : (s.sq * s.sk[j]) * s.c;
  float x = acc * factor;
  if (s.round) x = bf16_number(encode_bf16(x));
  if (s.bias != nullptr) x += s.bias[j];
  if (s.mask != nullptr && s.mask[j] == 0) x = -INFINITY;
  return x;
}

/// Code of e in the storage of F, and its value. e is in [0, 1] and p_scale * e never overflows FP8 but by saturation.
template <Format F>
__device__ unsigned prob_code(float e, float scale, float& value) {
  if constexpr (F == Format::uint8 || F == Format::int8) {
    // 1.5 * 2^23 leaves no fraction bits: the sum is rounded half to even, and its last byte is the code.
    const unsigned bits = __float_as_uint(e * scale + 12582912.0F);
    value = __uint_as_float(bits) - 12582912.0F;
    return bits & 0xFFU;
  }
  if constexpr (F == Format::e4m3 || F == Format::e5m2) {
    const unsigned code = __nv_cvt_float_to_fp8(e * scale, __NV_SATFINITE, F == Format::e4m3 ? __NV_E4M3 : __NV_E5M2);
    value = decode<F>(code, 0);
    return code;
  }
  if constexpr (F == Format::bf16) {
    const unsigned code = encode_bf16(e);
    value = __uint_as_float(code << 16);
    return code;
  }
  value = e;
  return __float_as_uint(e);
}

/// Two codes of FP8 in one instruction.
template <Format F>
__device__ unsigned fp8_pair(float low, float high) {
  return __nv_cvt_float2_to_fp8x2(make_float2(low, high), __NV_SATFINITE, F == Format::e4m3 ? __NV_E4M3 : __NV_E5M2);
}

/// prob_code of four numbers in one word, for one-byte codes. Each byte of `nonzero` counts the codes that aren't zero.
template <Format F>
__device__ unsigned code_word(const float* e, float scale, unsigned& nonzero) {
  constexpr bool fp8 = F == Format::e4m3 || F == Format::e5m2;
  unsigned word;
  if constexpr (fp8) {
    word = fp8_pair<F>(e[0] * scale, e[1] * scale) | fp8_pair<F>(e[2] * scale, e[3] * scale) << 16;
  } else {
    unsigned bits[4];
#pragma unroll
    for (int n = 0; n < 4; ++n) bits[n] = __float_as_uint(e[n] * scale + 12582912.0F);
    word = __byte_perm(__byte_perm(bits[0], bits[1], 0x0040), __byte_perm(bits[2], bits[3], 0x0040), 0x5410);
  }
  // Bit 7 of each byte: only codes of uint8 use all eight bits.
  const unsigned carried = F == Format::uint8 ? ((word & 0x7F7F7F7FU) + 0x7F7F7F7FU) | word : word + 0x7F7F7F7FU;
  nonzero += (carried & 0x80808080U) >> 7;
  return word;
}

/// The product's operand for a code: T of one byte the code (uint8 less 128), of two or four its value.
template <Format F, class T>
__device__ T operand_of(unsigned code, float value) {
  if constexpr (sizeof(T) == 1) return static_cast<T>(F == Format::uint8 ? code ^ 0x80U : code);
  if constexpr (sizeof(T) == 2) return static_cast<T>(__float_as_uint(value) >> 16);
  if constexpr (sizeof(T) == 4) return static_cast<T>(__float_as_uint(value));
}

template <Format F>
__device__ void store_code(void* codes, std::int64_t at, unsigned code) {
  if constexpr (F == Format::f32) {
    static_cast<std::uint32_t*>(codes)[at] = code;
  } else if constexpr (F == Format::bf16) {
    static_cast<std::uint16_t*>(codes)[at] = static_cast<std::uint16_t>(code);
  } else {
    static_cast<std::uint8_t*>(codes)[at] = static_cast<std::uint8_t>(code);
  }
}

/// f.operator()<format, stored type>() for the pairs that exist.
template <class Run>
void with_prob_types(Format format, Number number, const Run& run) {
  const auto wide = [&]<Format F, class Own>() {
    if (number == Number::f32) return run.template operator()<F, std::uint32_t>();
    if (number == Number::bf16) return run.template operator()<F, std::uint16_t>();
    run.template operator()<F, Own>();
  };
  switch (format) {
    case Format::uint8:
      return run.template operator()<Format::uint8, std::uint8_t>();
    case Format::int8:
      return run.template operator()<Format::int8, std::uint8_t>();
    case Format::e4m3:
      return wide.template operator()<Format::e4m3, std::uint8_t>();
    case Format::e5m2:
      return wide.template operator()<Format::e5m2, std::uint8_t>();
    case Format::bf16:
      if (number == Number::f32) return run.template operator()<Format::bf16, std::uint32_t>();
      return run.template operator()<Format::bf16, std::uint16_t>();
    case Format::f32:
      return run.template operator()<Format::f32, std::uint32_t>();
  }
}

}  // namespace qfid::kernels::gpu
