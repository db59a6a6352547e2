#include "kernels/oracle/oracle.h"

#include <cmath>

namespace qfid::kernels::oracle {

HeadResult attention(const Head& head) {
  HeadResult result;
  result.output.assign(static_cast<std::size_t>(head.q_len * head.dv), 0.0);
  result.magnitude = result.output;
  result.score_magnitude.assign(static_cast<std::size_t>(head.q_len), std::isnan(head.sink) ? 0.0 : std::fabs(head.sink));
  result.probs.assign(static_cast<std::size_t>(head.q_len * head.kv_len), 0.0);
  const auto index = [](std::int64_t row, std::int64_t column, std::int64_t width) {
    return static_cast<std::size_t>(row * width + column);
  };
  for (std::int64_t i = 0; i < head.q_len; ++i) {
    std::vector<double> score(static_cast<std::size_t>(head.kv_len));
    double largest = std::isnan(head.sink) ? -INFINITY : head.sink;
    bool any = false;
    for (std::int64_t j = 0; j < head.kv_len; ++j) {
      if (head.visible[index(i, j, head.kv_len)] == 0) continue;
      double dot = 0, magnitude = 0;
      for (std::int64_t c = 0; c < head.d; ++c) {
        const double product = head.q[index(i, c, head.d)] * head.k[index(j, c, head.d)];
        dot += product;
        magnitude += std::fabs(product);
      }
      const double added = head.bias.empty() ? 0.0 : head.bias[index(i, j, head.kv_len)];
      score[static_cast<std::size_t>(j)] = dot * head.scale + added;
      double& reach = result.score_magnitude[static_cast<std::size_t>(i)];
      reach = std::fmax(reach, magnitude * head.scale + std::fabs(added));
      largest = std::fmax(largest, dot * head.scale + added);
      any = true;
    }
    if (!any) continue;
    double total = std::isnan(head.sink) ? 0.0 : std::exp(head.sink - largest);
    for (std::int64_t j = 0; j < head.kv_len; ++j)
      if (head.visible[index(i, j, head.kv_len)] != 0) total += std::exp(score[static_cast<std::size_t>(j)] - largest);
    for (std::int64_t j = 0; j < head.kv_len; ++j) {
      if (head.visible[index(i, j, head.kv_len)] == 0) continue;
      const double p = std::exp(score[static_cast<std::size_t>(j)] - largest) / total;
      result.probs[index(i, j, head.kv_len)] = p;
      const double gate = head.value_gate.empty() ? 1.0 : head.value_gate[static_cast<std::size_t>(j)];
      for (std::int64_t c = 0; c < head.dv; ++c) {
        result.output[index(i, c, head.dv)] += p * gate * head.v[index(j, c, head.dv)];
        result.magnitude[index(i, c, head.dv)] += std::fabs(p * gate * head.v[index(j, c, head.dv)]);
      }
    }
    if (!head.output_gate.empty())
      for (std::int64_t c = 0; c < head.dv; ++c)
        result.output[index(i, c, head.dv)] *= head.output_gate[static_cast<std::size_t>(i)];
  }
  return result;
}

std::vector<double> linear(const std::vector<double>& x, const std::vector<double>& w, const std::vector<double>& bias,
                           std::int64_t rows, std::int64_t in, std::int64_t out) {
  std::vector<double> y(static_cast<std::size_t>(rows * out));
  for (std::int64_t r = 0; r < rows; ++r)
    for (std::int64_t o = 0; o < out; ++o) {
      double sum = bias.empty() ? 0.0 : bias[static_cast<std::size_t>(o)];
      for (std::int64_t i = 0; i < in; ++i)
        sum += x[static_cast<std::size_t>(r * in + i)] * w[static_cast<std::size_t>(o * in + i)];
      y[static_cast<std::size_t>(r * out + o)] = sum;
    }
  return y;
}

}  // namespace qfid::kernels::oracle
