// An experiment that runs in a moment and has everything a run can have: two models, two targets, every later pass, gates;
// and comparisons of what runs of it wrote.
#pragma once

#include <map>

#include "tests/support/checkpoint_files.h"
#include "tests/support/command_line.h"

namespace qfid::tests {

class TinyExperiment {
 public:
  explicit TinyExperiment(int windows = 12, const std::string& more = "") {
    write_model(dir, "m");
    nlohmann::json config = tiny_config();
    config["activation_function"] = "gelu";
    write_model(dir, "n", config);
    std::vector<std::uint16_t> ids;
    for (int i = 0; i < 8 * windows; ++i) ids.push_back(static_cast<std::uint16_t>((i % 16) * (i % 16 + 3) % 16));
    dir.write("tokens.npy", npy_tokens(ids));
    config_path = dir.write("x.yaml", text(more)).string();
  }

  static std::string text(const std::string& more = "") {
    return "version: 1\nname: t\nmodels: {m: {path: m}, n: {path: n}}\ndata: {tokens: tokens.npy}\n"
           "baseline: {backend: reference}\ntargets:\n  int8: {backend: reference, preset: int8-per-token}\n"
           "  fp8: {backend: reference, preset: fp8-e4m3}\n"
           "metrics: {local_windows: 3, sink_windows: 3, kernel_windows: 1, noise_windows: 3, budget_windows: 3, "
           "interventions: [mask_key_0], intervention_windows: 3}\nrun: {chunk_windows: 2, threads: 1}\n" +
           more;
  }

  std::string out(const std::string& name) const { return (dir.path() / name).string(); }

  std::vector<std::string> run_arguments(const std::string& name, const std::vector<std::string>& more = {}) const {
    std::vector<std::string> arguments{"run", config_path, "--quiet", "--no-timings", "--out", out(name)};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  }
  Outcome run(const std::string& name, const std::vector<std::string>& more = {}) const {
    return qfid_here(run_arguments(name, more));
  }

  /// What a directory holds, its journal apart.
  std::map<std::string, std::string> files(const std::string& name) const {
    std::map<std::string, std::string> all;
    if (!std::filesystem::exists(dir.path() / name)) return all;
    for (const auto& entry : std::filesystem::directory_iterator(dir.path() / name))
      if (entry.path().filename() != "run.journal") all[entry.path().filename().string()] = read_file(entry.path());
    return all;
  }

  TemporaryDirectory dir;
  std::string config_path;
};

}  // namespace qfid::tests
