// qfid attention: kernels on anybody's tensors.
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <format>
#include <iostream>

#include "eval/cli/result_commands.h"
#include "eval/cli/surroundings.h"
#include "eval/experiment/attention_study.h"
#include "eval/experiment/spec_reader.h"
#include "eval/model/safetensors.h"
#include "eval/report/report.h"
#include "kernels/registry/registry.h"
#include "quant/core/error.h"
#include "quant/core/nearest.h"

namespace qfid::eval {

namespace {

AttentionTensors tensors_of(const AttentionOptions& options) {
  if (options.file.empty() == options.problem.empty())
    throw quant::Error(quant::ErrorKind::usage, "expected either FILE.safetensors or --problem, and not both");
  AttentionTensors tensors;
  if (options.problem.empty()) {
    if (!options.fill.empty()) throw quant::Error(quant::ErrorKind::usage, "--fill belongs to --problem");
    tensors =
        load_attention(options.file, options.gate_site == "value" ? kernels::GateSite::value : kernels::GateSite::output);
  } else {
    const ProblemSizes p = parse_problem(options.problem);
    const std::string fill = options.fill.empty() ? "normal" : options.fill;
    tensors = generate_attention(p.batch, p.heads, p.length, p.head_dim,
                                 fill == "sink"      ? Fill::sink
                                 : fill == "outlier" ? Fill::outlier
                                                     : Fill::normal,
                                 options.seed);
    tensors.name = std::format("{} {} seed {}", options.problem, fill, options.seed);
  }
  tensors.causal = options.causal;
  if (options.scale > 0) tensors.scale = static_cast<float>(options.scale);
  return tensors;
}

/// Presets as targets of the chosen backend, or a file's targets; without either all presets but f32.
std::vector<TargetSpec> targets_of(const AttentionOptions& options) {
  std::vector<TargetSpec> targets;
  if (!options.targets.empty()) targets = read_targets(options.targets);
  std::vector<std::string> names = options.presets;
  if (names.empty() && targets.empty())
    for (const PresetText& preset : presets())
      if (preset.name != "f32") names.push_back(preset.name);
  std::string text = "targets:\n";
  for (const std::string& name : names) text += "  " + name + ": {backend: " + options.backend + ", preset: " + name + "}\n";
  if (!names.empty())
    for (TargetSpec& target : read_targets("--preset", text)) targets.push_back(std::move(target));
  return targets;
}

}  // namespace

int command_attention(const AttentionOptions& options) {
  if (options.threads > 0) kernels::set_threads(options.threads);
  const std::vector<TargetSpec> targets = targets_of(options);
  const AttentionTensors tensors = tensors_of(options);
  if (!options.out.empty()) require_writable(options.out);  // known before anything runs
  AttentionStudyOptions study_options;
  study_options.backend = options.backend;
  study_options.twins = !options.no_twins;
  study_options.keep_outputs = !options.save_outputs.empty();
  const bool show = isatty(STDERR_FILENO) != 0;
  const AttentionStudy study = study_attention(
      tensors, targets, study_options,
      [&](std::int64_t done, std::int64_t all) {
        if (show)
          std::cerr << std::format("\r\033[K{}/{} batch entries", done, all) << (done == all ? "\r\033[K" : "")
                    << std::flush;
      },
      stop_on_signals());
  std::cout << console_attention(study.record) << std::flush;
  if (!options.out.empty()) {
    write_file_atomically(std::filesystem::path(options.out) / "results.json", results_json(study.record));
    write_file_atomically(std::filesystem::path(options.out) / "layers.csv", layers_csv(study.record));
  }
  if (!options.save_outputs.empty()) write_file_atomically(options.save_outputs, safetensors_bytes(study.outputs));
  if (study.record.interrupted) return 130;
  int code = 0;
  for (const RunRecord& run : study.record.runs) {
    if (run.status == RunStatus::failed) code = std::max(code, study.record.unfinished ? 4 : 5);
    if (run.status == RunStatus::skipped && !options.skip_unavailable) code = std::max(code, 4);
  }
  return code;
}

void add_attention(CLI::App& command, AttentionOptions& options, std::function<int()>& work) {
  command.add_option("FILE", options.file,
                     "safetensors with q [batch, heads, q_len, d], k and v; where they are: gate (logits), sink, mask");
  command.add_flag("--causal", options.causal, "Query i sees keys up to i + kv_len - q_len");
  command.add_option("--scale", options.scale, "Scale of the scores (default 1/sqrt(d))")->check(CLI::PositiveNumber);
  command.add_option("--gate-site", options.gate_site, "What a gate scales: output (default) or value")
      ->check(CLI::IsMember({"output", "value"}));
  command.add_option("--problem", options.problem, "Generated tensors instead of a file: BATCHxHEADSxLENGTHxHEAD_DIM");
  command.add_option("--fill", options.fill, "Of --problem: normal (default), sink or outlier")
      ->check(CLI::IsMember({"normal", "sink", "outlier"}));
  command.add_option("--seed", options.seed, "Of --problem (default 1)");
  command.add_option("--preset", options.presets, "A preset to measure (repeatable; default: all)")
      ->type_size(1)
      ->allow_extra_args(false);
  command.add_option("--targets", options.targets, "YAML with targets: to measure (see configs/README.md)");
  command.add_option("--backend", options.backend, "Of full precision and of presets: cpu (default), gpu or reference")
      ->check(CLI::IsMember({"cpu", "gpu", "reference"}));
  command.add_option("--threads", options.threads, "OpenMP threads (default: all cores)")->check(CLI::PositiveNumber);
  command.add_flag("--no-twins", options.no_twins, "Don't run emulated twins: format and kernel aren't told apart");
  command.add_flag("--skip-unavailable", options.skip_unavailable, "Targets this machine can't run are no error");
  command.add_option("--out", options.out, "Directory for results.json and layers.csv");
  command.add_option("--save-outputs", options.save_outputs,
                     "safetensors with every run's output, f32 [batch, heads, q_len, d_v]");
  command.callback([&] { work = [&] { return command_attention(options); }; });
}

}  // namespace qfid::eval
