#include "eval/experiment/device_memory.h"

#include <algorithm>
#include <format>
#include <map>
#include <set>

#include "eval/experiment/target_precision.h"
#include "eval/model/decoder.h"
#include "quant/quantize.h"

namespace qfid::eval {

std::int64_t least_device_bytes(const ModelConfig& config, const std::vector<DecoderPrecision>& arms,
                                const ChunkShape& chunk) {
  const std::int64_t hidden = config.hidden_size;
  std::int64_t bytes = 4 * hidden * (config.vocab_size + config.max_position_embeddings + config.position_offset);
  std::set<std::string> packed;
  for (const DecoderPrecision& arm : arms)
    for (const ModuleProblem& entry : linear_problems(config, arm)) {
      const kernels::LinearProblem& p = entry.problem;
      if (!packed.insert(entry.module + " " + p.to_string()).second) continue;
      bytes += p.in * p.out * static_cast<std::int64_t>(quant::info(quant::storage(p.weights.format)).bytes);
    }
  // A layer's trace: its input, both norms, q, k, v, attention's and out_proj's output, fc2's, the residual; fc1's.
  const std::int64_t layer = 10 * hidden + config.ffn_dim, states = hidden * static_cast<std::int64_t>(arms.size());
  return bytes + 4 * chunk.windows * chunk.tokens * (layer + states);
}

std::string memory_reason(const std::string& device, std::int64_t least, std::optional<std::int64_t> free) {
  if (!free || least <= *free) return "";
  const auto mebibytes = [](std::int64_t bytes) { return static_cast<double>(bytes) / (1 << 20); };
  return std::format(
      "at least {:.1f} MiB of {} are needed, {:.1f} MiB are free; fewer windows a chunk (run.chunk_windows) or "
      "fewer targets in a run need less",
      mebibytes(least), device, mebibytes(*free));
}

std::string memory_reason(const Spec& spec, const ModelSpec& model, const CheckedModel& checked, Backends& backends) {
  std::map<kernels::Backend*, std::vector<DecoderPrecision>> arms;
  const auto place = [&](const TargetSpec& target) {
    kernels::Backend& on = backends.of(target);
    if (unsupported_reason(target, checked.config, on).empty()) arms[&on].push_back(precision_of(target, checked.config));
  };
  place(spec.baseline);
  for (const TargetSpec& target : spec.targets)
    if (!target.skip_when_unavailable) place(target);  // the others run without it, should it not fit
  // Where windows differ in length, nobody knows yet how long those of a chunk are.
  const std::int64_t windows =
      traits(spec.data.protocol).one_length ? std::min(spec.run.chunk_windows, checked.size.windows) : 0;
  const ChunkShape chunk{windows, checked.size.context};
  for (const auto& [on, precisions] : arms) {
    const kernels::BackendInfo info = on->info();
    const std::string why = memory_reason("backend " + info.name + " (" + info.device + ")",
                                          least_device_bytes(checked.config, precisions, chunk), on->free_memory());
    if (!why.empty()) return "model " + model.name + ": " + why;
  }
  return "";
}

}  // namespace qfid::eval
