#include "kernels/cpu/softmax.h"

#include <algorithm>
#include <bit>
#include <limits>
#include <numeric>

#include "kernels/cpu/exp_lane.h"
#include "quant/codec.h"
#include "quant/core/dispatch.h"

namespace qfid::kernels::cpu {

using quant::Format;

namespace {

constexpr int lanes = 16;
constexpr float infinity = std::numeric_limits<float>::infinity();

struct Scores {
  template <class Acc>
  __attribute__((always_inline)) float operator()(const Acc* acc, float* s, std::int64_t n, const ScoreRow& row) const {
    for (std::int64_t j = 0; j < n; ++j) s[j] = static_cast<float>(acc[j]) * ((row.sq * row.sk[j]) * row.c);
    if (row.bf16_scores)
      for (std::int64_t j = 0; j < n; ++j) {
        const auto bits = std::bit_cast<std::uint32_t>(s[j]);
        const auto rounded = std::bit_cast<float>((bits + 0x7FFFU + ((bits >> 16) & 1U)) & 0xFFFF0000U);
        s[j] = s[j] != s[j] ? s[j] : rounded;  // of NaN the sum may overflow
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
  __attribute__((always_inline)) float operator()(const float* __restrict s, float m, float* __restrict e,
                                                  std::int64_t n) const {
    float sum[lanes] = {};
    std::int64_t j = 0;
    for (; j + lanes <= n; j += lanes)
      for (int i = 0; i < lanes; ++i) {
        e[j + i] = exp_lane(s[j + i] - m);
        sum[i] += e[j + i];
      }
    for (int i = 0; j < n; ++j, ++i) {
      e[j] = exp_lane(s[j] - m);
      sum[i] += e[j];
    }
    float total = 0;
    for (float lane : sum) total += lane;
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
      const float number = e[j] == e[j] ? e[j] : 0.0F;
      const auto code = static_cast<std::int32_t>((number * scale + magic) - magic);
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

/// How many of n codes are +0 or -0: `magnitude` masks the sign away.
struct ZeroCodes {
  template <class T>
  __attribute__((always_inline)) std::int64_t operator()(const T* codes, std::int64_t n, std::uint32_t magnitude) const {
    std::int32_t zeros = 0;
    for (std::int64_t j = 0; j < n; ++j) zeros += (codes[j] & magnitude) == 0 ? 1 : 0;
    return zeros;
  }
};

/// The codes' sum over p_scale, in double in order of keys; 0 when nobody divides by it.
template <class T>
float sum_of(const T* codes, std::int64_t n, const ProbScheme& scheme, float* scratch) {
  if (!scheme.quantized_sum) return 0;
  quant::expand(std::span<const T>(codes, static_cast<std::size_t>(n)),
                std::span<float>(scratch, static_cast<std::size_t>(n)));
  double total = 0;
  for (std::int64_t j = 0; j < n; ++j) total += static_cast<double>(scratch[j]);
  return static_cast<float>(total / static_cast<double>(scheme.effective_scale()));
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
        code_sum = sum_of(out.data(), n, scheme, scratch);
      } else {
        const std::span<quant::e5m2> out(static_cast<quant::e5m2*>(codes), count);
        quant::cast_to_e5m2({scratch, count}, 1.0F, quant::Overflow::satfinite, out, ignored);
        code_sum = sum_of(out.data(), n, scheme, scratch);
      }
      return quant::dispatched(ZeroCodes{}, static_cast<const std::uint8_t*>(codes), n, 0x7FU);
    }
    case Format::bf16: {
      const std::span<quant::bf16> out(static_cast<quant::bf16*>(codes), count);
      quant::cast_to_bf16({e, count}, out);
      code_sum = sum_of(out.data(), n, scheme, scratch);
      return quant::dispatched(ZeroCodes{}, static_cast<const std::uint16_t*>(codes), n, 0x7FFFU);
    }
    case Format::f32:
      break;
  }
  std::copy_n(e, n, static_cast<float*>(codes));
  code_sum = scheme.quantized_sum ? static_cast<float>(std::accumulate(e, e + n, 0.0)) : 0.0F;
  return quant::dispatched(ZeroCodes{}, static_cast<const std::uint32_t*>(codes), n, 0x7FFFFFFFU);
}

void take_product(const std::int32_t* acc, float* dst, std::int64_t n, bool add) {
  quant::dispatched(Take{}, acc, dst, n, add);
}
void take_product(const float* acc, float* dst, std::int64_t n, bool add) { quant::dispatched(Take{}, acc, dst, n, add); }

}  // namespace qfid::kernels::cpu
