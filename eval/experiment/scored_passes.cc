#include "eval/experiment/scored_passes.h"

#include <algorithm>
#include <cmath>
#include <format>

#include "eval/experiment/gates.h"
#include "eval/experiment/lockstep.h"
#include "eval/model/intervention.h"

namespace qfid::eval {

using kernels::DeviceTensor;

namespace {

constexpr std::uint64_t noise_seed = 2026;

/// A decoder under an intervention for as long as this lives.
class Intervened {
 public:
  Intervened(Decoder& decoder, Intervention* change) : decoder_(decoder) { decoder_.intervene(change); }
  Intervened(const Intervened&) = delete;
  Intervened& operator=(const Intervened&) = delete;
  ~Intervened() { decoder_.intervene(nullptr); }

 private:
  Decoder& decoder_;
};

DeviceTensor window_logits(Decoder& decoder, const Chunk& window, Intervention* change = nullptr) {
  const Intervened intervened(decoder, change);
  DeviceTensor hidden = decoder.embed(decoder.backend().upload(window.inputs));
  const DeviceTensor mask = decoder.key_mask(window.inputs);
  for (int l = 0; l < decoder.layers(); ++l) hidden = decoder.layer(l, hidden, nullptr, mask).residual;
  NamedCounts ignored;
  return decoder.logits(hidden, ignored);
}

WindowTokens scored_tokens(kernels::Backend& on, const DeviceTensor& base, const DeviceTensor& test, const Chunk& window) {
  const std::vector<kernels::TokenComparison> all = on.reductions().compare_logits(base, test, on.upload(window.targets));
  WindowTokens scored;
  for (std::size_t t = 0; t < all.size(); ++t) {
    if (!window.scored[0][t]) continue;
    if (!std::isfinite(all[t].nll_test) || !std::isfinite(all[t].kl))
      throw quant::Error(quant::ErrorKind::input, std::format("non-finite logits in window {}", window.first_window));
    scored.push_back(all[t]);
  }
  return scored;
}

/// What gates can bound, and the perplexity itself.
bool is_kept(const Metric& metric) {
  return metric.name == "perplexity" || std::any_of(gate_metrics().begin(), gate_metrics().end(),
                                                    [&](const GateMetric& g) { return g.name == metric.name; });
}

void fill(ScoredChange& change, const TokenData& data) {
  const WindowSums sums = window_sums(data);
  change.tokens = sums.tokens;
  change.kl = sums.kl;
  change.nll_difference = data.sums([](const kernels::TokenComparison& t) { return t.nll_test - t.nll_base; });
  for (Metric& metric : compute_token_metrics(data))
    if (is_kept(metric)) change.metrics.push_back(std::move(metric));
}

TokenData empty_data(const ScoredWindows& windows) { return {{}, windows.confidence, windows.documents, false}; }

std::unique_ptr<Intervention> intervention_of(const std::string& name, kernels::Backend& on, bool causal,
                                              const std::vector<std::vector<double>>& gate_means) {
  if (name == "mask_key_0") return std::make_unique<MaskKey0>(on, causal);
  if (name == "zero_v_0") return std::make_unique<ZeroV0>(on);
  if (gate_means.empty()) return nullptr;
  return std::make_unique<ConstantGates>(on, name == "gate_one" ? std::vector<std::vector<double>>{} : gate_means);
}

}  // namespace

kernels::Backend* noise_twin(Backends& backends, const TargetSpec& baseline) {
  for (const char* name : {"gpu", "cpu", "reference"})
    if (baseline.backend != name && backends.get(name, 0).available()) return &backends.get(name, 0);
  return nullptr;
}

std::optional<std::vector<ScoredChange>> measure_noise(const std::string& model, Decoder& baseline, Decoder* twin,
                                                       const ScoredWindows& windows) {
  ModuleNoise noise(baseline.backend(), noise_seed);
  TokenData by_noise = empty_data(windows), by_backend = empty_data(windows);
  for (std::size_t w = 0; w < windows.count; ++w) {
    const Chunk window = chunk_of(windows.windows, w, w + 1);
    const DeviceTensor base = window_logits(baseline, window);
    noise.set_window(static_cast<std::int64_t>(w));
    by_noise.windows.push_back(scored_tokens(baseline.backend(), base, window_logits(baseline, window, &noise), window));
    if (twin != nullptr)
      by_backend.windows.push_back(scored_tokens(
          baseline.backend(), base, transferred(window_logits(*twin, window), twin->backend(), baseline.backend()), window));
    if (!windows.done(w + 1)) return std::nullopt;
  }
  std::vector<ScoredChange> all{{model, "baseline", "module outputs off by 2^-9"}};
  fill(all[0], by_noise);
  if (twin != nullptr) {
    all.push_back({model, "baseline", "backend " + twin->backend().info().name});
    fill(all[1], by_backend);
  }
  return all;
}

std::optional<std::vector<ScoredChange>> measure_interventions(const std::vector<std::string>& names,
                                                               const std::string& model, const std::string& target,
                                                               Decoder& decoder, bool causal,
                                                               const std::vector<std::vector<double>>& gate_means,
                                                               const ScoredWindows& windows) {
  struct Entry {
    std::unique_ptr<Intervention> change;
    TokenData data;
  };
  std::vector<Entry> entries;
  for (const std::string& name : names)
    entries.push_back({intervention_of(name, decoder.backend(), causal, gate_means), empty_data(windows)});
  for (std::size_t w = 0; w < windows.count; ++w) {
    const Chunk window = chunk_of(windows.windows, w, w + 1);
    const DeviceTensor plain = window_logits(decoder, window);
    for (Entry& entry : entries)
      if (entry.change)
        entry.data.windows.push_back(
            scored_tokens(decoder.backend(), plain, window_logits(decoder, window, entry.change.get()), window));
    if (!windows.done(w + 1)) return std::nullopt;
  }
  std::vector<ScoredChange> all;
  for (std::size_t i = 0; i < names.size(); ++i) {
    all.push_back({model, target, names[i]});
    if (entries[i].change)
      fill(all.back(), entries[i].data);
    else
      all.back().message = "the model has no gates";
  }
  return all;
}

std::vector<std::vector<double>> mean_gates(const ModelConfig& config, Decoder& baseline, const ScoredWindows& windows) {
  if (!config.gate) return {};
  std::vector<std::vector<double>> sums(static_cast<std::size_t>(baseline.layers()));
  std::int64_t positions = 0;
  for (std::size_t w = 0; w < windows.count; ++w) {
    const Chunk window = chunk_of(windows.windows, w, w + 1);
    positions += window.inputs.shape()[1];
    DeviceTensor hidden = baseline.embed(baseline.backend().upload(window.inputs));
    for (int l = 0; l < baseline.layers(); ++l) {
      TapCollector taps({.gate = true});
      hidden = baseline.layer(l, hidden, &taps, baseline.key_mask(window.inputs)).residual;
      const quant::Tensor gates = baseline.backend().download(taps.gate);
      std::vector<double>& sum = sums[static_cast<std::size_t>(l)];
      sum.resize(static_cast<std::size_t>(gates.shape()[-1]));
      for (std::int64_t i = 0; i < gates.shape().elements(); ++i)
        sum[static_cast<std::size_t>(i) % sum.size()] += static_cast<double>(gates.view<float>().data()[i]);
    }
  }
  for (std::vector<double>& layer : sums)
    for (double& mean : layer) mean /= static_cast<double>(positions);
  return sums;
}

}  // namespace qfid::eval
