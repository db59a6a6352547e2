#include "kernels/host/host_backend.h"

#include <omp.h>

#include <cmath>
#include <cstring>
#include <fstream>
#include <numbers>

#include "kernels/host/host_memory.h"
#include "quant/core/dispatch.h"
#include "quant/statistics_avx512.h"

namespace qfid::kernels::host {

using quant::Tensor;

namespace {

constexpr int lanes = 8;

struct AddLoop {
  __attribute__((always_inline)) void operator()(const float* a, const float* b, float* out, std::int64_t n) const {
    for (std::int64_t i = 0; i < n; ++i) out[i] = a[i] + b[i];
  }
};

struct ReluLoop {
  __attribute__((always_inline)) void operator()(const float* x, float* out, std::int64_t n) const {
    for (std::int64_t i = 0; i < n; ++i) out[i] = x[i] > 0.0F ? x[i] : (x[i] == x[i] ? 0.0F : x[i]);
  }
};

/// Sum of (x - shift)^power, power 1 or 2, in eight lanes.
struct PowerSum {
  __attribute__((always_inline)) double operator()(const float* x, std::int64_t n, double shift, bool squared) const {
    double sum[lanes] = {};
    std::int64_t i = 0;
    for (; i + lanes <= n; i += lanes)
      for (int j = 0; j < lanes; ++j) {
        const double d = static_cast<double>(x[i + j]) - shift;
        sum[j] += squared ? d * d : d;
      }
    double total = 0;
    for (double lane : sum) total += lane;
    for (; i < n; ++i) {
      const double d = static_cast<double>(x[i]) - shift;
      total += squared ? d * d : d;
    }
    return total;
  }
};

/// sums[r]: of row r of [rows, n], rows 1 or quant::rows_together.
void power_sums(const float* x, std::int64_t n, const double* shifts, bool squared, double* sums, int rows) {
  if (quant::current_isa() < quant::Isa::avx512) {
    for (int r = 0; r < rows; ++r) sums[r] = quant::dispatched(PowerSum{}, x + r * n, n, shifts[r], squared);
    return;
  }
  double parts[quant::rows_together][lanes] = {};
  quant::add_power_avx512(x, n, shifts, squared, parts, rows);
  for (int r = 0; r < rows; ++r) {
    sums[r] = 0;
    for (double lane : parts[r]) sums[r] += lane;
    for (std::int64_t i = n / lanes * lanes; i < n; ++i) {
      const double d = static_cast<double>(x[r * n + i]) - shifts[r];
      sums[r] += squared ? d * d : d;
    }
  }
}

struct NormLoop {
  __attribute__((always_inline)) void operator()(const float* x, float mean, float scale, const float* gamma,
                                                 const float* beta, float* out, std::int64_t n) const {
    for (std::int64_t i = 0; i < n; ++i) out[i] = (x[i] - mean) * scale * gamma[i] + (beta == nullptr ? 0.0F : beta[i]);
  }
};

struct Norm {
  const float *gamma, *beta;  ///< beta: null for none
  float eps;
  bool centered;

  /// Rows of x [rows, n], as many as power_sums() does at once.
  void operator()(const float* x, std::int64_t n, int rows, float* out) const {
    double means[quant::rows_together] = {}, squares[quant::rows_together];
    if (centered) {
      const double zeros[quant::rows_together] = {};
      power_sums(x, n, zeros, false, means, rows);
      for (double& mean : means) mean /= static_cast<double>(n);
    }
    power_sums(x, n, means, true, squares, rows);
    for (int r = 0; r < rows; ++r) {
      const double variance = squares[r] / static_cast<double>(n);
      const auto scale = static_cast<float>(1.0 / std::sqrt(variance + static_cast<double>(eps)));
      quant::dispatched(NormLoop{}, x + r * n, static_cast<float>(means[r]), scale, gamma, beta, out + r * n, n);
    }
  }
};

DeviceTensor normalized(const DeviceTensor& x, const DeviceTensor& gamma, const float* beta, float eps, bool centered) {
  const auto in = view<float>(x);
  const auto g = view<float>(gamma);
  quant::require(g.size() == in.columns(), "norm: gamma has another length than the rows");
  Tensor result(DType::f32, x.shape);
  float* out = result.view<float>().data();
  const Norm norm{g.data(), beta, eps, centered};
  const std::int64_t n = in.columns(), rows = in.rows();
  const std::int64_t groups = quant::current_isa() < quant::Isa::avx512 ? 0 : rows / quant::rows_together;
  const std::int64_t rest = rows - groups * quant::rows_together;
#pragma omp parallel for schedule(static)
  for (std::int64_t i = 0; i < groups + rest; ++i) {
    const std::int64_t row = i < groups ? i * quant::rows_together : groups * quant::rows_together + i - groups;
    norm(in.data() + row * n, n, i < groups ? quant::rows_together : 1, out + row * n);
  }
  return adopt(std::move(result));
}

float activated(float x, Activation kind) {
  const auto v = static_cast<double>(x);
  switch (kind) {
    case Activation::relu:
      return x > 0.0F ? x : (x == x ? 0.0F : x);
    case Activation::gelu_erf:
      return static_cast<float>(0.5 * v * (1 + std::erf(v * std::numbers::sqrt2 / 2)));
    case Activation::gelu_tanh:
      return static_cast<float>(0.5 * v * (1 + std::tanh(std::sqrt(2 / std::numbers::pi) * (v + 0.044715 * v * v * v))));
    case Activation::silu:
      return static_cast<float>(v / (1 + std::exp(-v)));
  }
  return x;
}

constexpr std::int64_t slab = 1 << 14;

/// f(begin, length) over [0, n) in parallel slabs.
template <class F>
void in_slabs(std::int64_t n, const F& f) {
#pragma omp parallel for schedule(static)
  for (std::int64_t begin = 0; begin < n; begin += slab) f(begin, std::min(slab, n - begin));
}

}  // namespace

void activate(const float* x, float* out, std::int64_t n, Activation kind) {
  if (kind == Activation::relu) return quant::dispatched(ReluLoop{}, x, out, n);
  for (std::int64_t i = 0; i < n; ++i) out[i] = activated(x[i], kind);
}

DeviceTensor HostBackend::upload(const Tensor& host_tensor) { return adopt(host_tensor.clone()); }
Tensor HostBackend::download(const DeviceTensor& tensor) { return host::download(tensor); }
DeviceTensor HostBackend::slice(const DeviceTensor& x, std::int64_t begin, std::int64_t end) {
  return host::slice(x, begin, end);
}

DeviceTensor HostBackend::embedding(const DeviceTensor& ids, const DeviceTensor& table) {
  const auto rows = view<std::int32_t>(ids);
  const auto entries = view<float>(table);
  const std::int64_t n = entries.columns();
  Tensor result(DType::f32, Shape{ids.shape[0], ids.shape[1], n});
  const auto out = result.view<float>();
  for (std::int64_t i = 0; i < rows.size(); ++i) {
    quant::require(rows[i] >= 0 && rows[i] < entries.rows(), "embedding: id outside the table");
    std::memcpy(out.data() + i * n, entries.data() + rows[i] * n, static_cast<std::size_t>(n) * sizeof(float));
  }
  return adopt(std::move(result));
}

DeviceTensor HostBackend::add(const DeviceTensor& a, const DeviceTensor& b) {
  quant::require(a.shape == b.shape, "add: shapes differ");
  const auto x = view<float>(a), y = view<float>(b);
  Tensor result(DType::f32, a.shape);
  float* out = result.view<float>().data();
  in_slabs(x.size(),
           [&](std::int64_t i, std::int64_t n) { quant::dispatched(AddLoop{}, x.data() + i, y.data() + i, out + i, n); });
  return adopt(std::move(result));
}

DeviceTensor HostBackend::layer_norm(const DeviceTensor& x, const DeviceTensor& gamma, const DeviceTensor& beta, float eps) {
  const auto b = view<float>(beta);
  quant::require(b.size() == x.shape[-1], "norm: beta has another length than the rows");
  return normalized(x, gamma, b.data(), eps, true);
}

DeviceTensor HostBackend::rms_norm(const DeviceTensor& x, const DeviceTensor& gamma, float eps) {
  return normalized(x, gamma, nullptr, eps, false);
}

DeviceTensor HostBackend::activation(const DeviceTensor& x, Activation kind) {
  const auto in = view<float>(x);
  Tensor result(DType::f32, x.shape);
  float* out = result.view<float>().data();
  in_slabs(in.size(), [&](std::int64_t begin, std::int64_t n) { activate(in.data() + begin, out + begin, n, kind); });
  return adopt(std::move(result));
}

DeviceTensor HostBackend::rotary(const DeviceTensor& x, std::int64_t first, double theta) {
  const Shape& s = x.shape;
  quant::require(s.rank() == 4 && s[3] % 2 == 0, "rotary: expected [B, T, heads, d] with an even d");
  const auto in = view<float>(x);
  Tensor result(DType::f32, s);
  const auto out = result.view<float>();
  const std::int64_t half = s[3] / 2;
  for (std::int64_t r = 0; r < in.rows(); ++r) {
    const auto position = static_cast<double>(first + r / s[2] % s[1]);
    for (std::int64_t d = 0; d < half; ++d) {
      const double angle = position * std::pow(theta, -2.0 * static_cast<double>(d) / static_cast<double>(s[3]));
      const auto a = static_cast<double>(in[r * s[3] + d]), b = static_cast<double>(in[r * s[3] + d + half]);
      out[r * s[3] + d] = static_cast<float>(a * std::cos(angle) - b * std::sin(angle));
      out[r * s[3] + d + half] = static_cast<float>(b * std::cos(angle) + a * std::sin(angle));
    }
  }
  return adopt(std::move(result));
}

std::string cpu_model() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);)
    if (line.starts_with("model name"))
      if (const std::size_t colon = line.find(": "); colon != std::string::npos) return line.substr(colon + 2);
  return "unknown CPU";
}

int thread_count() { return omp_get_max_threads(); }
void set_thread_count(int n) { omp_set_num_threads(n); }

}  // namespace qfid::kernels::host
