#include "kernels/oracle/coded.h"

#include <algorithm>
#include <cmath>

namespace qfid::kernels::oracle {

namespace {

std::size_t at(std::int64_t row, std::int64_t column, std::int64_t width) {
  return static_cast<std::size_t>(row * width + column);
}

void exact_scores(const CodedHead& head, std::int64_t i, CodedRow& row) {
  for (std::int64_t j = 0; j < head.kv_len; ++j) {
    if (head.visible[at(i, j, head.kv_len)] == 0) continue;
    ++row.visible;
    double dot = 0, magnitude = 0, square = 0;
    for (std::int64_t c = 0; c < head.d; ++c) {
      const double product = head.q[at(i, c, head.d)] * head.k[at(j, c, head.d)];
      dot += product;
      magnitude += std::fabs(product);
      square += product * product;
    }
    const double scale = head.q_scale[at(0, i, 0)] * head.k_scale[at(0, j, 0)] * head.scale;
    row.score[at(0, j, 0)] = dot * scale + (head.bias.empty() ? 0.0 : head.bias[at(i, j, head.kv_len)]);
    row.score_magnitude[at(0, j, 0)] = magnitude * std::fabs(scale);
    row.score_size[at(0, j, 0)] = std::sqrt(square) * std::fabs(scale);
  }
}

/// The maximum each key's E refers to; returns the row's.
double references(const CodedHead& head, std::int64_t i, const std::vector<double>& score, std::vector<double>& reference) {
  double maximum = head.sink.empty() ? -INFINITY : head.sink[at(0, i, 0)];
  const std::int64_t size = head.block > 0 ? head.block : head.kv_len, blocks = (head.kv_len + size - 1) / size;
  for (std::int64_t n = 0; n < blocks; ++n) {
    const std::int64_t begin = (head.reverse ? blocks - 1 - n : n) * size, end = std::min(begin + size, head.kv_len);
    for (std::int64_t j = begin; j < end; ++j)
      if (head.visible[at(i, j, head.kv_len)] != 0) maximum = std::fmax(maximum, score[at(0, j, 0)]);
    for (std::int64_t j = begin; j < end; ++j) reference[at(0, j, 0)] = maximum;
  }
  return maximum;
}

}  // namespace

CodedRow coded_row(const CodedHead& head, std::int64_t i, std::span<const double> p, std::span<const double> stored) {
  const auto keys = static_cast<std::size_t>(head.kv_len), channels = static_cast<std::size_t>(head.dv);
  CodedRow row;
  for (std::vector<double>* list : {&row.score, &row.score_magnitude, &row.score_size, &row.e, &row.prob}) list->assign(keys, 0.0);
  row.output.assign(channels, 0.0);
  row.magnitude.assign(channels, 0.0);
  row.size.assign(channels, 0.0);
  exact_scores(head, i, row);
  if (row.visible == 0) return row;
  std::vector<double> score = row.score, reference(keys);
  if (!stored.empty()) score.assign(stored.begin(), stored.end());
  row.maximum = references(head, i, score, reference);
  row.l = head.sink.empty() ? 0.0 : std::exp(head.sink[at(0, i, 0)] - row.maximum);
  for (std::size_t j = 0; j < keys; ++j) {
    if (head.visible[at(i, static_cast<std::int64_t>(j), head.kv_len)] == 0) continue;
    row.e[j] = std::exp(score[j] - reference[j]);
    const double shrink = std::exp(reference[j] - row.maximum);
    row.l += shrink * (head.quantized_sum ? p[j] / head.p_scale : row.e[j]);
    for (std::size_t c = 0; c < channels; ++c) {
      const double term = shrink * p[j] * head.v[j * channels + c];
      row.output[c] += term;
      row.magnitude[c] += std::fabs(term);
      row.size[c] += term * term;
    }
  }
  row.lse = row.maximum + std::log(row.l);
  for (std::size_t j = 0; j < keys; ++j)
    if (head.visible[at(i, static_cast<std::int64_t>(j), head.kv_len)] != 0)
      row.prob[j] = std::exp(score[j] - row.maximum) / row.l;
  for (std::size_t c = 0; c < channels; ++c) {
    row.output[c] *= head.v_scale[c] / (head.p_scale * row.l);
    row.magnitude[c] *= head.v_scale[c] / (head.p_scale * row.l);
    row.size[c] = std::sqrt(row.size[c]) * head.v_scale[c] / (head.p_scale * row.l);
  }
  return row;
}

}  // namespace qfid::kernels::oracle
