#include "kernels/cpu/softmax.h"

#include <bit>
#include <limits>

#include "quant/codec.h"
#include "quant/core/dispatch.h"

namespace qfid::kernels::cpu {

using quant::Format;

namespace {

constexpr int lanes = 16;
using Float16 = float __attribute__((vector_size(64)));
using Int16x32 = std::int32_t __attribute__((vector_size(64)));
constexpr float infinity = std::numeric_limits<float>::infinity();

__attribute__((always_inline)) inline Float16 broadcast(float v) { return Float16{} + v; }

/// e^x for x <= 0 within 2 ulp; 0 below -87.33 (where e^x is subnormal), -inf included.
/// Cody-Waite reduction, Taylor polynomial of degree 7 on [-ln2/2, ln2/2].
__attribute__((always_inline)) inline Float16 exp16(const Float16& x_in) {
  const Float16 lowest = broadcast(-87.33F);
  const auto gone = x_in < lowest;
  const Float16 x = gone ? lowest : x_in;
  constexpr float magic = 12582912.0F;
  const Float16 shifted = x * 1.44269504F + magic, n = shifted - magic;
  const Float16 r = (x - n * 0.693359375F) - n * -2.12194440e-4F;
  Float16 p = broadcast(1.0F / 5040);
  for (float c : {1.0F / 720, 1.0F / 120, 1.0F / 24, 1.0F / 6, 0.5F, 1.0F, 1.0F}) p = p * r + c;
  Int16x32 exponent, result;
  __builtin_memcpy(&exponent, &shifted, sizeof exponent);
  __builtin_memcpy(&result, &p, sizeof result);
  result += exponent << 23;
  __builtin_memcpy(&p, &result, sizeof p);
  return gone ? Float16{} : p;
}

struct Scores {
  template <class Acc>
  __attribute__((always_inline)) float operator()(const Acc* acc, float* s, std::int64_t n, const ScoreRow& row) const {
    for (std::int64_t j = 0; j < n; ++j) s[j] = static_cast<float>(acc[j]) * ((row.sq * row.sk[j]) * row.c);
    if (row.bf16_scores)
      for (std::int64_t j = 0; j < n; ++j) {
        const auto bits = std::bit_cast<std::uint32_t>(s[j]);
        s[j] = std::bit_cast<float>((bits + 0x7FFFU + ((bits >> 16) & 1U)) & 0xFFFF0000U);
      }
    if (row.bias != nullptr)
      for (std::int64_t j = 0; j < n; ++j) s[j] += row.bias[j];
    if (row.mask != nullptr)
      for (std::int64_t j = 0; j < n; ++j) s[j] = row.mask[j] != 0 ? s[j] : -infinity;
    float top[lanes];
    for (float& t : top) t = -infinity;
    std::int64_t j = 0;
    for (; j + lanes <= n; j += lanes)
      for (int i = 0; i < lanes; ++i) top[i] = s[j + i] > top[i] ? s[j + i] : top[i];
    for (; j < n; ++j) top[0] = s[j] > top[0] ? s[j] : top[0];
    float m = -infinity;
    for (float t : top) m = t > m ? t : m;
    return m;
  }
};

template <class Acc>
float scores(const Acc* acc, float* s, std::int64_t n, std::int64_t visible, const ScoreRow& row) {
  const float m = quant::dispatched(Scores{}, acc, s, visible, row);
  for (std::int64_t j = visible; j < n; ++j) s[j] = -infinity;
  return m;
}

struct Exp {
  __attribute__((always_inline)) float operator()(const float* s, float m, float* e, std::int64_t n) const {
    Float16 sum{};
    std::int64_t j = 0;
    for (; j + lanes <= n; j += lanes) {
      Float16 x;
      __builtin_memcpy(&x, s + j, sizeof x);
      const Float16 y = exp16(x - m);
      sum += y;
      __builtin_memcpy(e + j, &y, sizeof y);
    }
    if (j < n) {
      Float16 x = broadcast(-infinity);
      for (std::int64_t i = j; i < n; ++i) x[i - j] = s[i];
      const Float16 y = exp16(x - m);
      sum += y;
      for (std::int64_t i = j; i < n; ++i) e[i] = y[i - j];
    }
    float total = 0;
    for (int i = 0; i < lanes; ++i) total += sum[i];
    return total;
  }
};

struct IntegerCodes {
  template <class T>
  __attribute__((always_inline)) std::int64_t operator()(const float* e, std::int64_t n, float scale, T* codes,
                                                         std::int64_t& sum) const {
    constexpr float magic = 12582912.0F;
    std::int32_t zeros = 0, total = 0;  // 255 * 8 M keys fit
    for (std::int64_t j = 0; j < n; ++j) {
      const auto code = static_cast<std::int32_t>((e[j] * scale + magic) - magic);
      codes[j] = static_cast<T>(code);
      zeros += code == 0 ? 1 : 0;
      total += code;
    }
    sum = total;
    return zeros;
  }
};

struct Multiply {
  __attribute__((always_inline)) void operator()(const float* x, float c, float* out, std::int64_t n) const {
    for (std::int64_t j = 0; j < n; ++j) out[j] = x[j] * c;
  }
};

struct Take {
  template <class Acc>
  __attribute__((always_inline)) void operator()(const Acc* acc, float* dst, std::int64_t n, bool add) const {
    if (add) {
      for (std::int64_t j = 0; j < n; ++j) dst[j] += static_cast<float>(acc[j]);
    } else {
      for (std::int64_t j = 0; j < n; ++j) dst[j] = static_cast<float>(acc[j]);
    }
  }
};

template <class T>
std::int64_t zeros_and_sum(const T* codes, std::int64_t n, float scale, float* scratch, float& sum) {
  quant::expand(std::span<const T>(codes, static_cast<std::size_t>(n)),
                std::span<float>(scratch, static_cast<std::size_t>(n)));
  double total = 0;
  std::int64_t zeros = 0;
  for (std::int64_t j = 0; j < n; ++j) {
    zeros += scratch[j] == 0.0F;
    total += static_cast<double>(scratch[j]);
  }
  sum = static_cast<float>(total / static_cast<double>(scale));
  return zeros;
}

}  // namespace

float finish_scores(const std::int32_t* acc, float* s, std::int64_t n, std::int64_t visible, const ScoreRow& row) {
  return scores(acc, s, n, visible, row);
}
float finish_scores(const float* acc, float* s, std::int64_t n, std::int64_t visible, const ScoreRow& row) {
  return scores(acc, s, n, visible, row);
}

float exp_row(const float* s, float m, float* e, std::int64_t n) { return quant::dispatched(Exp{}, s, m, e, n); }
float exp_one(float x) {
  float e = 0;
  exp_row(&x, 0.0F, &e, 1);
  return e;
}

std::int64_t code_row(const float* e, std::int64_t n, const ProbScheme& scheme, void* codes, float* scratch,
                      float& code_sum) {
  const float scale = scheme.effective_scale();
  const auto count = static_cast<std::size_t>(n);
  quant::CodeCounts ignored;
  switch (scheme.format) {
    case Format::uint8:
    case Format::int8: {
      std::int64_t sum = 0;
      const std::int64_t zeros = scheme.format == Format::uint8
                                     ? quant::dispatched(IntegerCodes{}, e, n, scale, static_cast<std::uint8_t*>(codes), sum)
                                     : quant::dispatched(IntegerCodes{}, e, n, scale, static_cast<std::int8_t*>(codes), sum);
      code_sum = static_cast<float>(sum) / scale;
      return zeros;
    }
    case Format::e4m3:
    case Format::e5m2: {
      quant::dispatched(Multiply{}, e, scale, scratch, n);
      if (scheme.format == Format::e4m3) {
        const std::span<quant::e4m3> out(static_cast<quant::e4m3*>(codes), count);
        quant::cast_to_e4m3({scratch, count}, 1.0F, quant::Overflow::satfinite, out, ignored);
        return zeros_and_sum(out.data(), n, scale, scratch, code_sum);
      }
      const std::span<quant::e5m2> out(static_cast<quant::e5m2*>(codes), count);
      quant::cast_to_e5m2({scratch, count}, 1.0F, quant::Overflow::satfinite, out, ignored);
      return zeros_and_sum(out.data(), n, scale, scratch, code_sum);
    }
    case Format::bf16: {
      const std::span<quant::bf16> out(static_cast<quant::bf16*>(codes), count);
      quant::cast_to_bf16({e, count}, out);
      return zeros_and_sum(out.data(), n, 1.0F, scratch, code_sum);
    }
    case Format::f32:
      break;
  }
  std::int64_t zeros = 0;
  double sum = 0;
  auto* out = static_cast<float*>(codes);
  for (std::int64_t j = 0; j < n; ++j) {
    out[j] = e[j];
    zeros += e[j] == 0.0F;
    sum += static_cast<double>(e[j]);
  }
  code_sum = static_cast<float>(sum);
  return zeros;
}

void take_product(const std::int32_t* acc, float* dst, std::int64_t n, bool add) {
  quant::dispatched(Take{}, acc, dst, n, add);
}
void take_product(const float* acc, float* dst, std::int64_t n, bool add) { quant::dispatched(Take{}, acc, dst, n, add); }

}  // namespace qfid::kernels::cpu
