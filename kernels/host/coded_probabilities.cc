// What coding P does, over host memory: the weights that the product with V used, their divergence from the base's
// probabilities by row, how often each code occurs, and which part of attention's error is P's and which V's.
#include <algorithm>
#include <array>
#include <cfloat>
#include <cmath>

#include "kernels/host/host_memory.h"
#include "kernels/host/reductions.h"
#include "kernels/host/seen_keys.h"
#include "kernels/host/vector_math.h"
#include "quant/codec.h"
#include "quant/core/dispatch.h"
#include "quant/core/first_error.h"

namespace qfid::kernels::host {

namespace {

constexpr int lanes = 8;

struct RowSum {
  __attribute__((always_inline)) double operator()(const float* x, std::int64_t n) const {
    double sum[lanes] = {};
    std::int64_t i = 0;
    for (; i + lanes <= n; i += lanes)
      for (int j = 0; j < lanes; ++j) sum[j] += static_cast<double>(x[i + j]);
    double total = 0;
    for (double lane : sum) total += lane;
    for (; i < n; ++i) total += static_cast<double>(x[i]);
    return total;
  }
};

double lacking(const float* row, std::int64_t n) {
  return std::max(1 - quant::dispatched(RowSum{}, row, n), least_sink_mass);
}

/// (1+r) ln(1+r) + (1-r) ln(1-r) for |r| <= 1: its series where the logarithms would cancel.
__attribute__((always_inline)) inline double twice_entropy_loss(double r) {
  const double z = r * r, a = 1.0 + r, b = 1.0 - r;
  const double series = z * (1.0 + z * (1.0 / 6 + z * (1.0 / 15 + z * (1.0 / 28))));
  const double direct = a * log_lane(a < DBL_MIN ? DBL_MIN : a) + b * log_lane(b < DBL_MIN ? DBL_MIN : b);
  return z < 1e-4 ? series : direct;
}

struct CodedSums {
  double distance = 0, divergence = 0, flushed = 0;
};

/// A row's |p - w|, m f((P - Q) / m) with P, Q the rows over their sums and m = P + Q, and p where w is 0.
struct CodedRow {
  __attribute__((always_inline)) CodedSums operator()(const float* p, const float* w, double p_share, double w_share,
                                                      std::int64_t n) const {
    double distance[lanes] = {}, divergence[lanes] = {}, flushed[lanes] = {};
    const auto step = [&](const float* a, const float* b) __attribute__((always_inline)) {
      for (int j = 0; j < lanes; ++j) {
        const double x = a[j], y = b[j], from = x * p_share, to = y * w_share, m = from + to;
        distance[j] += std::fabs(x - y);
        divergence[j] += m * twice_entropy_loss((from - to) / (m > 0.0 ? m : 1.0));
        flushed[j] += y == 0.0 ? x : 0.0;
      }
    };
    std::int64_t i = 0;
    for (; i + lanes <= n; i += lanes) step(p + i, w + i);
    if (i < n) {
      float a[lanes] = {}, b[lanes] = {};  // zeros add nothing
      for (int j = 0; i < n; ++i, ++j) {
        a[j] = p[i];
        b[j] = w[i];
      }
      step(a, b);
    }
    CodedSums sums;
    for (int j = 0; j < lanes; ++j) {
      sums.distance += distance[j];
      sums.divergence += divergence[j];
      sums.flushed += flushed[j];
    }
    return sums;
  }
};

CodedDivergence coded_row(const float* base, const float* test, const float* weights, std::int64_t n, bool sink) {
  const double p = quant::dispatched(RowSum{}, base, n), w = quant::dispatched(RowSum{}, weights, n);
  if (p == 0 && quant::dispatched(RowSum{}, test, n) == 0) return {};
  const double p_sink = sink ? lacking(base, n) : 0, w_sink = sink ? lacking(test, n) : 0;
  const double p_share = p + p_sink > 0 ? 1 / (p + p_sink) : 0, w_share = w + w_sink > 0 ? 1 / (w + w_sink) : 0;
  const std::int64_t seen = quant::dispatched(SeenKeys{}, base, weights, n);
  const CodedSums sums = quant::dispatched(CodedRow{}, base, weights, p_share, w_share, seen);
  CodedDivergence row{(sums.distance + std::fabs(p_sink - w_sink)) / 2, sums.divergence / 4, sums.flushed, 1};
  if (sink) {
    const double from = p_sink * p_share, to = w_sink * w_share;
    row.jsd += (from + to) * twice_entropy_loss((from - to) / (from + to)) / 4;
  }
  if (w_share == 0 || p_share == 0) row.jsd = std::log(2.0);
  return row;
}

/// Codes of P as numbers.
class Decoder {
 public:
  explicit Decoder(const ProbScheme& scheme) : format_(scheme.format) {
    for (int i = 0; i < 256; ++i) {
      const auto code = static_cast<std::uint8_t>(i);
      number_[static_cast<std::size_t>(i)] = format_ == quant::Format::e4m3 ? quant::to_f32(quant::e4m3{code})
                                             : format_ == quant::Format::e5m2
                                                 ? quant::to_f32(quant::e5m2{code})
                                                 : static_cast<float>(code);  // codes of P in int8 aren't negative
    }
  }
  float operator()(const std::byte* codes, std::int64_t i) const {
    if (format_ == quant::Format::f32) return reinterpret_cast<const float*>(codes)[i];
    if (format_ == quant::Format::bf16) return quant::to_f32(reinterpret_cast<const quant::bf16*>(codes)[i]);
    return number_[static_cast<std::size_t>(codes[i])];
  }

 private:
  quant::Format format_;
  std::array<float, 256> number_{};
};

/// f(first key, end) for each block of keys, in the order in which a row's maximum saw them.
template <class F>
void in_blocks(const ProbScheme& scheme, std::int64_t keys, const F& f) {
  const std::int64_t block = scheme.reference == PReference::row_max ? std::max<std::int64_t>(keys, 1) : scheme.block;
  const std::int64_t blocks = (keys + block - 1) / block;
  for (std::int64_t n = 0; n < blocks; ++n) {
    const std::int64_t begin = (scheme.reference == PReference::running_reverse ? blocks - 1 - n : n) * block;
    f(begin, std::min(begin + block, keys));
  }
}

/// Adds one key's part of P V, (P^ - P) V and P^ (V^ - V) to a query's.
struct AddKey {
  __attribute__((always_inline)) void operator()(double p, double w, const float* v, const float* coded, double* output,
                                                 double* by_p, double* by_v, std::int64_t n) const {
    for (std::int64_t d = 0; d < n; ++d) {
      const double x = v[d], y = coded[d];
      output[d] += p * x;
      by_p[d] += (w - p) * x;
      by_v[d] += w * (y - x);
    }
  }
};

/// One head: `stride` numbers from one key of v to the next.
OutputSplit split_head(const float* p, const float* w, const float* v, const float* coded, std::int64_t queries,
                       std::int64_t keys, std::int64_t stride, std::int64_t dims) {
  OutputSplit sums;
  const auto n = static_cast<std::size_t>(dims);
  std::vector<double> output(n), p_first(n), v_first(n), p_others(n), v_others(n);
  for (std::int64_t q = 0; q < queries; ++q, p += keys, w += keys) {
    for (std::vector<double>* part : {&output, &p_first, &v_first, &p_others, &v_others})
      std::fill(part->begin(), part->end(), 0.0);
    for (std::int64_t k = 0; k < keys; ++k) {
      if (p[k] == 0.0F && w[k] == 0.0F) continue;
      quant::dispatched(AddKey{}, static_cast<double>(p[k]), static_cast<double>(w[k]), v + k * stride, coded + k * stride,
                        output.data(), k == 0 ? p_first.data() : p_others.data(), k == 0 ? v_first.data() : v_others.data(),
                        dims);
    }
    for (std::size_t d = 0; d < n; ++d) {
      const double by_p = p_first[d] + p_others[d], by_v = v_first[d] + v_others[d];
      sums.output += output[d] * output[d];
      sums.error += (by_p + by_v) * (by_p + by_v);
      sums.p += by_p * by_p;
      sums.p_first += p_first[d] * p_first[d];
      sums.p_others += p_others[d] * p_others[d];
      sums.v += by_v * by_v;
      sums.v_first += v_first[d] * v_first[d];
      sums.v_others += v_others[d] * v_others[d];
    }
  }
  return sums;
}

}  // namespace

DeviceTensor HostReductions::coded_weights(const DeviceTensor& probs, const DeviceTensor& codes, const ProbScheme& scheme,
                                           bool sink) {
  quant::require(probs.shape == codes.shape && probs.shape.rank() == 4,
                 "coded_weights: probabilities and codes must be [B, H, Tq, Tk] of one shape");
  quant::require(codes.dtype == quant::storage(scheme.format), "coded_weights: codes of another format than the scheme's");
  const std::int64_t keys = probs.shape[3], rows = keys == 0 ? 0 : probs.shape.elements() / keys;
  quant::Tensor result(DType::f32, probs.shape);
  const float* p = view<float>(probs).data();
  const auto* c = static_cast<const std::byte*>(codes.storage.get());
  float* out = result.view<float>().data();
  const auto width = static_cast<std::int64_t>(quant::info(codes.dtype).bytes);
  const Decoder decoder(scheme);
  const auto p_scale = static_cast<double>(scheme.effective_scale());
#pragma omp parallel for schedule(static)
  for (std::int64_t r = 0; r < rows; ++r) {
    const float* row = p + r * keys;
    const std::byte* coded = c + r * keys * width;
    double largest = sink ? lacking(row, keys) : 0;
    in_blocks(scheme, keys, [&](std::int64_t begin, std::int64_t end) {
      largest = std::max(largest, static_cast<double>(*std::max_element(row + begin, row + end)));
      for (std::int64_t k = begin; k < end; ++k)
        out[r * keys + k] = static_cast<float>(static_cast<double>(decoder(coded, k)) * largest / p_scale);
    });
  }
  return adopt(std::move(result));
}

std::vector<CodedDivergence> HostReductions::coded_divergence(const DeviceTensor& base, const DeviceTensor& test,
                                                              const DeviceTensor& weights, bool sink) {
  quant::require(base.shape == test.shape && base.shape == weights.shape && base.shape.rank() == 4,
                 "coded_divergence: probabilities must be [B, H, Tq, Tk] of one shape");
  const std::int64_t n = base.shape[3], rows = n == 0 ? 0 : base.shape.elements() / n;
  const float *p = view<float>(base).data(), *q = view<float>(test).data(), *w = view<float>(weights).data();
  std::vector<CodedDivergence> all(static_cast<std::size_t>(rows));
#pragma omp parallel for schedule(static)
  for (std::int64_t r = 0; r < rows; ++r)
    all[static_cast<std::size_t>(r)] = coded_row(p + r * n, q + r * n, w + r * n, n, sink);
  return all;
}

std::vector<std::int64_t> HostReductions::code_histogram(const DeviceTensor& codes, bool causal) {
  const Shape& s = codes.shape;
  quant::require(s.rank() == 4 && quant::info(codes.dtype).bytes == 1,
                 "code_histogram: codes must be bytes, [B, H, Tq, Tk]");
  const auto* c = static_cast<const std::uint8_t*>(codes.storage.get());
  std::vector<std::int64_t> counts(256);
#pragma omp parallel for schedule(static)
  for (std::int64_t h = 0; h < s[0] * s[1]; ++h) {
    std::array<std::array<std::int64_t, 256>, 4> mine{};  // one after another would wait for its own last sum
    for (std::int64_t q = 0; q < s[2]; ++q)
      for (std::int64_t k = 0, seen = causal ? q + s[3] - s[2] + 1 : s[3]; k < seen; ++k)
        ++mine[static_cast<std::size_t>(k % 4)][static_cast<std::size_t>(c[(h * s[2] + q) * s[3] + k])];
#pragma omp critical
    for (const auto& part : mine)
      for (std::size_t i = 0; i < counts.size(); ++i) counts[i] += part[i];
  }
  return counts;
}

std::vector<OutputSplit> HostReductions::output_split(const DeviceTensor& base, const DeviceTensor& weights,
                                                      const DeviceTensor& v, const DeviceTensor& coded_v) {
  const Shape &s = base.shape, &values = v.shape;
  quant::require(s == weights.shape && s.rank() == 4, "output_split: probabilities must be [B, H, Tq, Tk] of one shape");
  quant::require(
      values == coded_v.shape && values.rank() == 4 && values[0] == s[0] && values[1] == s[3] && s[1] % values[2] == 0,
      "output_split: values must be [B, Tk, Hkv, D] of one shape, found " + values.to_string());
  const std::int64_t heads = s[1], group = heads / values[2], stride = values[2] * values[3];
  const float *p = view<float>(base).data(), *w = view<float>(weights).data();
  const float *x = view<float>(v).data(), *y = view<float>(coded_v).data();
  std::vector<OutputSplit> all(static_cast<std::size_t>(s[0] * heads));
  quant::FirstError error;
#pragma omp parallel for schedule(static)
  for (std::int64_t i = 0; i < s[0] * heads; ++i)
    error.guard([&] {
      const std::int64_t at = i / heads * s[3] * stride + i % heads / group * values[3], row = i * s[2] * s[3];
      all[static_cast<std::size_t>(i)] = split_head(p + row, w + row, x + at, y + at, s[2], s[3], stride, values[3]);
    });
  error.rethrow();
  return all;
}

}  // namespace qfid::kernels::host
