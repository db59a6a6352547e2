#include "kernels/cpu/row_blocks.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <type_traits>

#include "kernels/cpu/exp_lane.h"
#include "kernels/cpu/row_blocks_avx512.h"
#include "quant/core/dispatch.h"

namespace qfid::kernels::cpu {

using quant::Format;

namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();

/// f32 rounded to bf16, as f32.
__attribute__((always_inline)) inline float bf16_lane(float x) {
  const auto bits = std::bit_cast<std::uint32_t>(x);
  const auto rounded = std::bit_cast<float>((bits + 0x7FFFU + ((bits >> 16) & 1U)) & 0xFFFF0000U);
  return x != x ? std::numeric_limits<float>::quiet_NaN() : rounded;  // of NaN the sum may overflow
}

struct Scores {
  /// 64 sums of one row, scaled.
  template <class Acc>
  __attribute__((always_inline)) static void scaled(const ScoreBlock& b, std::int64_t r, const Acc* acc, float* x) {
    std::int32_t none[key_block];
    if constexpr (std::is_same_v<Acc, std::int32_t>) {
      if (b.excess != nullptr) {
        for (int j = 0; j < key_block; ++j) none[j] = acc[j] - b.excess[j];
        acc = none;
      }
    }
    const float sq = b.sq[r], one = (sq * b.sk[0]) * b.c;
    if (b.one_sk) {
      for (int j = 0; j < key_block; ++j) x[j] = static_cast<float>(acc[j]) * one;
    } else {
      for (int j = 0; j < key_block; ++j) x[j] = static_cast<float>(acc[j]) * ((sq * b.sk[j]) * b.c);
    }
    if (b.bf16_scores)
      for (int j = 0; j < key_block; ++j) x[j] = bf16_lane(x[j]);
  }

  template <class Acc>
  __attribute__((always_inline)) std::int64_t operator()(const ScoreBlock& b, Acc* sums) const {
    std::int64_t seen = 0;
    for (std::int64_t r = 0; r < b.rows; ++r) {
      Acc* at = sums + r * key_block;
      const std::int64_t visible = std::clamp<std::int64_t>(b.visible + r * b.visible_step, 0, b.width);
      float x[key_block];
      scaled(b, r, at, x);
      const float* bias = b.bias == nullptr ? nullptr : b.bias + r * b.bias_step;
      for (std::int64_t j = 0; bias != nullptr && j < visible; ++j) x[j] += bias[j];
      for (std::int64_t j = 0; b.mask != nullptr && j < visible; ++j) x[j] = b.mask[j] != 0 ? x[j] : -infinity;
      for (std::int64_t j = visible; j < key_block; ++j) x[j] = -infinity;
      float* top = b.top + r * row_lanes;
      for (int part = 0; part < key_block; part += row_lanes)
        for (int i = 0; i < row_lanes; ++i) top[i] = x[part + i] > top[i] ? x[part + i] : top[i];
      std::memcpy(at, x, sizeof x);
      if (bias == nullptr && b.mask == nullptr) {
        seen += visible;
      } else {
        for (std::int64_t j = 0; j < visible; ++j) seen += x[j] != -infinity ? 1 : 0;
      }
    }
    return seen;
  }
};

// Codes as the numbers they stand for, in f32: every format here is exact in it.
struct IntegerCode {
  static constexpr float magic = 12582912.0F;  // 1.5 * 2^23: the sum has no fraction bits, rounded half to even
  __attribute__((always_inline)) float operator()(float e, float scale) const { return (e * scale + magic) - magic; }
};
struct Bf16Code {
  __attribute__((always_inline)) float operator()(float e, float) const { return bf16_lane(e); }
};
struct F32Code {
  __attribute__((always_inline)) float operator()(float e, float) const { return e; }
};
/// As quant/codec.cc with satfinite, for numbers >= 0: a binade's codes are 2^(exponent - mantissa) apart; added to
/// 2^(exponent - mantissa + 23), whose last bit that is, a number is rounded to them, half to even.
template <int mantissa, int bias, std::uint32_t largest>
struct Fp8Code {
  __attribute__((always_inline)) float operator()(float e, float scale) const {
    const float x = e * scale;
    constexpr std::uint32_t smallest_normal = static_cast<std::uint32_t>(128 - bias) << 23;
    const std::uint32_t binade = std::bit_cast<std::uint32_t>(x) & 0x7F800000U;
    const std::uint32_t normal = binade > smallest_normal ? binade : smallest_normal;
    const float step = std::bit_cast<float>(normal + (static_cast<std::uint32_t>(23 - mantissa) << 23));
    const float rounded = (x + step) - step;
    constexpr auto most = static_cast<float>(largest);
    return rounded > most ? most : rounded;
  }
};
using E4m3Code = Fp8Code<3, 7, 448>;
using E5m2Code = Fp8Code<2, 15, 57344>;

/// The code of e as a number of the product's type.
template <class Code, class T>
__attribute__((always_inline)) inline T number(float e, float scale) {
  if constexpr (std::is_integral_v<T>) {
    // The sum's low bits are the integer.
    return static_cast<T>(std::bit_cast<std::uint32_t>(e * scale + IntegerCode::magic));
  } else if constexpr (std::is_same_v<T, quant::bf16>) {
    return {static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(Code{}(e, scale)) >> 16)};
  } else {
    return Code{}(e, scale);
  }
}

template <class T>
using Bits =
    std::conditional_t<sizeof(T) == 1, std::uint8_t, std::conditional_t<sizeof(T) == 2, std::uint16_t, std::uint32_t>>;

/// What only listeners and quantized sums ask for.
template <class T>
void keep_values(const CodeBlock& b, std::int64_t r, const T* p) {
  for (int j = 0; j < key_block; ++j) {
    float value;
    if constexpr (std::is_same_v<T, quant::bf16>) {
      value = quant::to_f32(p[j]);
    } else {
      value = static_cast<float>(p[j]);
    }
    if (b.values != nullptr) b.values[r * key_block + j] = value;
    if (b.code_sum != nullptr) b.code_sum[r] += static_cast<double>(value);
  }
}

template <class Code, class T>
struct Codes {
  __attribute__((always_inline)) std::int64_t operator()(const CodeBlock& b) const {
    const float scale = b.scheme->effective_scale();
    constexpr int zero_lanes = key_block / sizeof(T);  // a cache line of counters; rows are few enough for a byte
    Bits<T> zeros[zero_lanes] = {};
    for (std::int64_t r = 0; r < b.rows; ++r) {
      T* out = static_cast<T*>(b.p) + r * b.ldp;
      const float m = b.m[r];
      const float* s = b.scores + r * key_block;
      float e[key_block];
      for (int j = 0; j < key_block; ++j) e[j] = exp_lane(s[j] - m);
      float* sum = b.sum + r * row_lanes;
      for (int part = 0; part < key_block; part += row_lanes)
        for (int i = 0; i < row_lanes; ++i) sum[i] += e[part + i];
      T p[key_block];
      for (int j = 0; j < key_block; ++j) p[j] = number<Code, T>(e[j], scale);
      for (int part = 0; part < key_block; part += zero_lanes)
        for (int i = 0; i < zero_lanes; ++i)
          zeros[i] = static_cast<Bits<T>>(zeros[i] + (std::bit_cast<Bits<T>>(p[part + i]) == 0 ? 1 : 0));
      std::memcpy(out, p, sizeof p);
      if (b.values != nullptr || b.code_sum != nullptr) keep_values(b, r, p);
    }
    std::int64_t total = 0;
    for (const Bits<T> z : zeros) total += z;
    return total;
  }
};

struct Rescale {
  template <class T>
  __attribute__((always_inline)) void operator()(const T* __restrict sums, const float* __restrict scales, float divisor,
                                                 float* __restrict out, std::int64_t n) const {
    for (std::int64_t c = 0; c < n; ++c) out[c] = static_cast<float>(sums[c]) * scales[c] / divisor;
  }
};

template <class Code, class T>
std::int64_t coded(const CodeBlock& b) {
  return quant::dispatched(Codes<Code, T>{}, b);
}

template <class Code>
std::int64_t numbers(const CodeBlock& b) {
  return b.type == BlockType::bf16 ? coded<Code, quant::bf16>(b) : coded<Code, float>(b);
}

}  // namespace

std::int64_t score_block(const ScoreBlock& block, std::int32_t* sums) {
  return has_avx512(block) ? score_block_avx512(block, sums) : quant::dispatched(Scores{}, block, sums);
}
std::int64_t score_block(const ScoreBlock& block, float* sums) {
  return has_avx512(block) ? score_block_avx512(block, sums) : quant::dispatched(Scores{}, block, sums);
}

std::int64_t code_block(const CodeBlock& b) {
  if (has_avx512(b)) return code_block_avx512(b);
  switch (b.scheme->format) {
    case Format::uint8:
    case Format::int8:
      if (b.type == BlockType::u8s8) return coded<IntegerCode, std::uint8_t>(b);
      if (b.type == BlockType::s16) return coded<IntegerCode, std::int16_t>(b);
      return coded<IntegerCode, float>(b);
    case Format::e4m3:
      return numbers<E4m3Code>(b);
    case Format::e5m2:
      return numbers<E5m2Code>(b);
    case Format::bf16:
      return numbers<Bf16Code>(b);
    case Format::f32:
      break;
  }
  return coded<F32Code, float>(b);
}

void rescale(const std::int32_t* sums, const float* scales, float divisor, float* out, std::int64_t n) {
  quant::dispatched(Rescale{}, sums, scales, divisor, out, n);
}
void rescale(const float* sums, const float* scales, float divisor, float* out, std::int64_t n) {
  quant::dispatched(Rescale{}, sums, scales, divisor, out, n);
}

}  // namespace qfid::kernels::cpu
