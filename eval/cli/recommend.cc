#include <algorithm>
#include <iostream>

#include "eval/cli/result_commands.h"
#include "eval/experiment/proposal.h"
#include "eval/experiment/recommend.h"
#include "eval/experiment/record_reader.h"
#include "eval/experiment/spec_reader.h"
#include "eval/report/report.h"
#include "quant/core/error.h"

namespace qfid::eval {

namespace {

/// --budget arguments as gates named budget-1, ...; a file's; or those the results were run with.
std::vector<GateSpec> budget_of(const RecommendOptions& options, const ExperimentRecord& record) {
  if (options.budgets.empty())
    return options.gates.empty() ? read_gates(record.spec_file, record.spec_text, record.sets) : read_gates(options.gates);
  if (!options.gates.empty())
    throw quant::Error(quant::ErrorKind::usage, "--budget and --gates say the same thing, expected one of them");
  std::string text = "gates:\n";
  for (std::size_t i = 0; i < options.budgets.size(); ++i)
    text += "  budget-" + std::to_string(i + 1) + ": " + options.budgets[i] + "\n";
  return read_gates("--budget", text);
}

/// Beside the results, or where --proposal says; of several models a file each.
std::filesystem::path proposal_path(const RecommendOptions& options, const ExperimentRecord& record,
                                    const std::string& model) {
  std::filesystem::path path = options.proposal.empty() ? results_path(options.results).parent_path() / "proposal.yaml"
                                                        : std::filesystem::path(options.proposal);
  if (record.models.size() > 1) path.replace_filename(path.stem().string() + "-" + model + path.extension().string());
  return path;
}

/// What to keep in higher precision, as a configuration that validates.
void write_proposal(const RecommendOptions& options, const ExperimentRecord& record, const Recommendation& r,
                    const std::vector<GateSpec>& budget) {
  const std::filesystem::path path = proposal_path(options, record, r.model);
  Proposal proposal;
  try {
    proposal = propose(record, r, budget, path);
  } catch (const quant::Error& error) {  // results may have been moved away from their model and text
    proposal.why_not = error.what();
  }
  if (proposal.yaml.empty()) {
    std::cerr << "no proposal for " << r.model << ": " << proposal.why_not << "\n";
    return;
  }
  write_file_atomically(path, proposal.yaml);
  read_spec(path);
  std::cerr << "proposal for " << r.model << ": " << path.string() << " (" << proposal.targets.size() << " targets, "
            << proposal.windows
            << (proposal.measured ? " windows that the run measured too, after those it chooses on)\n"
                                  : " windows after all that the run evaluated)\n");
  if (proposal.windows < enough_windows)
    std::cerr << "  fewer than " << enough_windows << " windows are left: too few for both halves to decide\n";
}

}  // namespace

int command_recommend(const RecommendOptions& options) {
  const ExperimentRecord record = read_whole_record(results_path(options.results));
  const Objective objective = options.objective == "memory" ? Objective::memory : Objective::speed;
  const std::vector<GateSpec> budget = budget_of(options, record);
  const std::vector<Recommendation> all = recommend(record, budget, objective);
  std::cout << console_recommendation(record, all);
  if (!options.json.empty()) write_file_atomically(options.json, recommendation_json(all));
  for (const Recommendation& r : all)
    if (!r.choice) write_proposal(options, record, r, budget);
  return std::all_of(all.begin(), all.end(), [](const Recommendation& r) { return r.choice.has_value(); }) ? 0 : 1;
}

void add_recommend(CLI::App& command, RecommendOptions& options, std::function<int()>& work) {
  command.add_option("RESULTS", options.results, "results.json of a run, or its directory")->required();
  command
      .add_option("--budget", options.budgets,
                  "What must hold, as a gate is written: '{metric: perplexity.ratio, max: 1.01}' (repeatable)")
      ->type_size(1)
      ->allow_extra_args(false);
  command.add_option("--gates", options.gates, "YAML with gates: instead (default: those the results were run with)");
  command.add_option("--objective", options.objective, "What the best target has: speed (default) or memory")
      ->check(CLI::IsMember({"speed", "memory"}));
  command.add_option("--proposal", options.proposal,
                     "Where to write what to try when nothing passes (default: proposal.yaml beside the results)");
  command.add_option("--json", options.json, "Also write the answer as JSON");
  command.footer(
      "Selects on the first half of the windows, confirms on the second. Exit code 1 where no target is confirmed.");
  command.callback([&] { work = [&] { return command_recommend(options); }; });
}

}  // namespace qfid::eval
