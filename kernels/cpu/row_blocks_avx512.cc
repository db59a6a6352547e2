// 64 keys of a row are four registers, carried through each step side by side: a step waits 4 cycles for the last one's
// result. Per 16 scores: E 15 instructions, its code 2 (integers) to 8 (FP8), narrowing and counting 1 to 2.
#include "kernels/cpu/row_blocks_avx512.h"

#include <immintrin.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <type_traits>

#include "quant/core/dispatch.h"

namespace qfid::kernels::cpu {

using quant::Format;

namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();
constexpr int quarters = key_block / row_lanes;  // registers of a row
constexpr int nearest = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;

struct Row {
  __m512 x[quarters];
};

template <class Acc>
__attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,fma"), always_inline)) inline __m512 loaded(const Acc* sums,
                                                                                                      __m512i excess) {
  if constexpr (std::is_same_v<Acc, float>) {
    return _mm512_loadu_ps(sums);
  } else {
    return _mm512_cvtepi32_ps(_mm512_sub_epi32(_mm512_loadu_si512(sums), excess));
  }
}

/// How the factors of a block's scores come about: one for all keys of a row; (sq * sk) * c; or sq * (sk * c), the same
/// number where c is a power of two.
enum class Factors : std::uint8_t { one, each, folded };

/// Whether (sq * sk) * c and sq * (sk * c) are one number for the block's scales: c a power of two, nothing subnormal,
/// nothing beyond f32.
__attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,fma"))) bool folds(const ScoreBlock& b) {
  int exponent = 0;
  if (std::frexp(b.c, &exponent) != 0.5F || b.c < 0x1p-20F || b.c > 0x1p20F) return false;
  const __m512 least = _mm512_set1_ps(0x1p-40F), most = _mm512_set1_ps(0x1p40F);
  unsigned outside = 0;
  for (std::int64_t i = 0; i < key_block; i += row_lanes)
    outside |= _mm512_cmp_ps_mask(_mm512_loadu_ps(b.sk + i), least, _CMP_NGE_UQ) |
               _mm512_cmp_ps_mask(_mm512_loadu_ps(b.sk + i), most, _CMP_NLE_UQ);
  for (std::int64_t r = 0; r < b.rows; r += row_lanes) {
    const auto there = static_cast<__mmask16>(b.rows - r >= row_lanes ? 0xFFFFU : (1U << (b.rows - r)) - 1U);
    const __m512 sq = _mm512_maskz_loadu_ps(there, b.sq + r);
    outside |=
        _mm512_mask_cmp_ps_mask(there, sq, least, _CMP_NGE_UQ) | _mm512_mask_cmp_ps_mask(there, sq, most, _CMP_NLE_UQ);
  }
  return outside == 0;
}

/// f32(sum) * ((sq * sk) * c) of a block's rows, and their maxima.
template <Factors factors, class Acc>
__attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,fma"))) std::int64_t scores(const ScoreBlock& b, Acc* sums) {
  __m512 sk[quarters];
  __m512i excess[quarters];
  const __m512 c = _mm512_set1_ps(b.c), hidden = _mm512_set1_ps(-infinity);
  for (int i = 0; i < quarters; ++i) {
    sk[i] = _mm512_loadu_ps(b.sk + i * row_lanes);
    if (factors == Factors::folded) sk[i] = _mm512_mul_ps(sk[i], c);
    excess[i] = b.excess == nullptr ? _mm512_setzero_si512() : _mm512_loadu_si512(b.excess + i * row_lanes);
  }
  std::int64_t seen = 0;
  for (std::int64_t r = 0; r < b.rows; ++r, sums += key_block) {
    const std::int64_t visible = std::clamp<std::int64_t>(b.visible + r * b.visible_step, 0, b.width);
    const __m512 sq = _mm512_set1_ps(b.sq[r]), one = _mm512_mul_ps(_mm512_mul_ps(sq, sk[0]), c);
    __m512 top = _mm512_loadu_ps(b.top + r * row_lanes);
    seen += visible;
    Row s;
#pragma GCC unroll 4
    for (int i = 0; i < quarters; ++i) {
      const __m512 own = _mm512_mul_ps(sq, sk[i]);
      s.x[i] = _mm512_mul_ps(loaded(sums + i * row_lanes, excess[i]), factors == Factors::one      ? one
                                                                      : factors == Factors::folded ? own
                                                                                                   : _mm512_mul_ps(own, c));
    }
    if (visible < key_block) {
      const std::uint64_t mask = (std::uint64_t{1} << visible) - 1;
      for (int i = 0; i < quarters; ++i)
        s.x[i] = _mm512_mask_mov_ps(hidden, static_cast<__mmask16>(mask >> (i * row_lanes)), s.x[i]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < quarters; ++i) {
      top = _mm512_max_ps(s.x[i], top);
      std::memcpy(sums + i * row_lanes, &s.x[i], sizeof s.x[i]);
    }
    _mm512_storeu_ps(b.top + r * row_lanes, top);
  }
  return seen;
}

template <class Acc>
std::int64_t any_scores(const ScoreBlock& b, Acc* sums) {
  if (b.one_sk) return scores<Factors::one>(b, sums);
  return folds(b) ? scores<Factors::folded>(b, sums) : scores<Factors::each>(b, sums);
}

/// exp_lane() of s - m: where it is 0 the rest may be anything, so nothing is clamped; what isn't 0 is normal, and so is the
/// polynomial times 2^n.
__attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,fma"), always_inline)) inline Row exponentials(const float* s,
                                                                                                         __m512 m) {
  const __m512 magic = _mm512_set1_ps(12582912.0F), zero_below = _mm512_set1_ps(-87.33F);
  constexpr float coefficients[] = {1.0F / 120, 1.0F / 24, 1.0F / 6, 0.5F, 1.0F, 1.0F};
  Row r, p, n;
  __mmask16 there[quarters];
#pragma GCC unroll 4
  for (int i = 0; i < quarters; ++i) {
    r.x[i] = _mm512_sub_ps(_mm512_loadu_ps(s + i * row_lanes), m);
    there[i] = _mm512_cmp_ps_mask(r.x[i], zero_below, _CMP_NLT_UQ);
    n.x[i] = _mm512_sub_ps(_mm512_fmadd_ps(r.x[i], _mm512_set1_ps(1.44269504F), magic), magic);
  }
#pragma GCC unroll 4
  for (int i = 0; i < quarters; ++i) {
    r.x[i] = _mm512_fmadd_ps(n.x[i], _mm512_set1_ps(-0.693359375F), r.x[i]);
    r.x[i] = _mm512_fmadd_ps(n.x[i], _mm512_set1_ps(2.12194440e-4F), r.x[i]);
    p.x[i] = _mm512_fmadd_ps(r.x[i], _mm512_set1_ps(1.0F / 5040), _mm512_set1_ps(1.0F / 720));
  }
#pragma GCC unroll 8
  for (const float coefficient : coefficients)
#pragma GCC unroll 4
    for (int i = 0; i < quarters; ++i) p.x[i] = _mm512_fmadd_ps(p.x[i], r.x[i], _mm512_set1_ps(coefficient));
#pragma GCC unroll 4
  for (int i = 0; i < quarters; ++i) p.x[i] = _mm512_maskz_scalef_ps(there[i], p.x[i], n.x[i]);
  return p;
}

// Codes as the numbers they stand for.
struct Integer {
  __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,fma"), always_inline)) static __m512 of(__m512 e, __m512 scale) {
    return _mm512_roundscale_ps(_mm512_mul_ps(e, scale), nearest);
  }
};
struct F32 {
  __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,fma"), always_inline)) static __m512 of(__m512 e, __m512) {
    return e;
  }
};
struct Bf16 {
  __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,fma"), always_inline)) static __m512 of(__m512 e, __m512) {
    const __m512i bits = _mm512_castps_si512(e), odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1)),
                  raised = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7FFF)), odd);
    const __m512i rounded = _mm512_and_si512(raised, _mm512_set1_epi32(static_cast<int>(0xFFFF0000U)));
    const __mmask16 nan = _mm512_cmp_ps_mask(e, e, _CMP_UNORD_Q);  // of NaN the sum may overflow
    return _mm512_castsi512_ps(_mm512_mask_mov_epi32(rounded, nan, _mm512_set1_epi32(0x7FC00000)));
  }
};
/// Of x >= 0 a binade's codes are 2^(exponent - mantissa) apart: added to 2^(exponent - mantissa + 23), x is rounded to
/// them.
template <int mantissa, int bias, int largest>
struct Fp8 {
  __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,fma"), always_inline)) static __m512 of(__m512 e, __m512 scale) {
    const __m512 x = _mm512_mul_ps(e, scale);
    const __m512i binade = _mm512_and_si512(_mm512_castps_si512(x), _mm512_set1_epi32(0x7F800000)),
                  normal = _mm512_max_epi32(binade, _mm512_set1_epi32((128 - bias) << 23));
    const __m512 step = _mm512_castsi512_ps(_mm512_add_epi32(normal, _mm512_set1_epi32((23 - mantissa) << 23)));
    return _mm512_min_ps(_mm512_set1_ps(static_cast<float>(largest)), _mm512_sub_ps(_mm512_add_ps(x, step), step));
  }
};

/// 64 codes as numbers of the product's type, stored; returns how many are 0.
template <class Code>
__attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,fma"), always_inline)) inline int put(const Row& e, __m512 scale,
                                                                                                std::uint8_t* dst) {
  static_assert(std::is_same_v<Code, Integer>);
  __m512i code[quarters];
#pragma GCC unroll 4
  for (int i = 0; i < quarters; ++i) code[i] = _mm512_cvtps_epi32(_mm512_mul_ps(e.x[i], scale));
  // Packs work in parts of 16 bytes: part j holds keys 4 j and on of every register.
  const __m512i packed = _mm512_packus_epi16(_mm512_packs_epi32(code[0], code[1]), _mm512_packs_epi32(code[2], code[3]));
  const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  _mm512_storeu_si512(dst, _mm512_permutexvar_epi32(order, packed));
  return std::popcount(_cvtmask64_u64(_mm512_testn_epi8_mask(packed, packed)));
}
template <class Code>
__attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,fma"), always_inline)) inline int put(const Row& e, __m512 scale,
                                                                                                quant::bf16* dst) {
  alignas(64) constexpr std::uint16_t high[32] = {1,  3,  5,  7,  9,  11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31,
                                                  33, 35, 37, 39, 41, 43, 45, 47, 49, 51, 53, 55, 57, 59, 61, 63};
  const __m512i order = _mm512_load_si512(high);
  int zeros = 0;
#pragma GCC unroll 2
  for (int i = 0; i < quarters; i += 2) {
    const __m512i halves = _mm512_permutex2var_epi16(_mm512_castps_si512(Code::of(e.x[i], scale)), order,
                                                     _mm512_castps_si512(Code::of(e.x[i + 1], scale)));
    _mm512_storeu_si512(dst + i * row_lanes, halves);
    zeros += std::popcount(_cvtmask32_u32(_mm512_testn_epi16_mask(halves, halves)));
  }
  return zeros;
}
template <class Code>
__attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,fma"), always_inline)) inline int put(const Row& e, __m512 scale,
                                                                                                float* dst) {
  int zeros = 0;
#pragma GCC unroll 4
  for (int i = 0; i < quarters; ++i) {
    const __m512 code = Code::of(e.x[i], scale);
    _mm512_storeu_ps(dst + i * row_lanes, code);
    zeros += std::popcount(_cvtmask16_u32(_mm512_testn_epi32_mask(_mm512_castps_si512(code), _mm512_castps_si512(code))));
  }
  return zeros;
}

template <class Code, class T>
__attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,fma,popcnt"))) std::int64_t codes(const CodeBlock& b) {
  const __m512 scale = _mm512_set1_ps(b.scheme->effective_scale());
  std::int64_t zeros = 0;
  const float* s = b.scores;
  T* out = static_cast<T*>(b.p);
  for (std::int64_t r = 0; r < b.rows; ++r, s += key_block, out += b.ldp) {
    const Row e = exponentials(s, _mm512_set1_ps(b.m[r]));
    __m512 sum = _mm512_loadu_ps(b.sum + r * row_lanes);
#pragma GCC unroll 4
    for (int i = 0; i < quarters; ++i) sum = _mm512_add_ps(sum, e.x[i]);
    _mm512_storeu_ps(b.sum + r * row_lanes, sum);
    zeros += put<Code>(e, scale, out);
  }
  return zeros;
}

template <class Code>
std::int64_t numbers(const CodeBlock& b) {
  return b.type == BlockType::bf16 ? codes<Code, quant::bf16>(b) : codes<Code, float>(b);
}

}  // namespace

bool has_avx512(const ScoreBlock& b) {
  return quant::current_isa() == quant::Isa::avx512 && b.bias == nullptr && b.mask == nullptr && !b.bf16_scores;
}
bool has_avx512(const CodeBlock& b) {
  return quant::current_isa() == quant::Isa::avx512 && b.type != BlockType::s16 && b.code_sum == nullptr &&
         b.values == nullptr;
}

std::int64_t score_block_avx512(const ScoreBlock& b, std::int32_t* sums) { return any_scores(b, sums); }
std::int64_t score_block_avx512(const ScoreBlock& b, float* sums) { return any_scores(b, sums); }

std::int64_t code_block_avx512(const CodeBlock& b) {
  switch (b.scheme->format) {
    case Format::uint8:
    case Format::int8:
      return b.type == BlockType::u8s8 ? codes<Integer, std::uint8_t>(b) : codes<Integer, float>(b);
    case Format::e4m3:
      return numbers<Fp8<3, 7, 448>>(b);
    case Format::e5m2:
      return numbers<Fp8<2, 15, 57344>>(b);
    case Format::bf16:
      return numbers<Bf16>(b);
    case Format::f32:
      break;
  }
  return codes<F32, float>(b);
}

}  // namespace qfid::kernels::cpu
