#include "eval/experiment/training_claims.h"
#include "eval/report/findings.h"
#include "eval/report/format.h"
#include "eval/report/quality.h"
#include "eval/report/report.h"

namespace qfid::eval {

namespace {

void add_targets(std::string& text, const ExperimentRecord& record, const ModelRecord& model) {
  const Quality& quality = quality_of(record);
  text += std::format("| Target | {} | {} | Interval | {} | {} | Worst local: layer.tap, SQNR dB | Zero P codes |\n",
                      quality.level.name, quality.headline.name, quality.distance.name, quality.agreement.name);
  text += "|---|---|---|---|---|---|---|---|\n";
  for (const RunRecord& run : record.runs) {
    if (run.model != model.name) continue;
    if (run.metrics.empty()) {
      text += std::format("| {} | {}: {} | | | | | | |\n", cell(run.target), to_string(run.status), cell(run.message));
      continue;
    }
    const LayerRow* worst = worst_row(run, "local");
    text += std::format(
        "| {} | {} | {} | {} | {} | {} | {} | {} |\n", cell(run.target),
        short_number(find_metric(run, quality.level.metric)), short_number(find_metric(run, quality.headline.metric)),
        interval_text(find_metric(run, quality.headline.metric)), short_number(find_metric(run, quality.distance.metric)),
        short_number(find_metric(run, quality.agreement.metric)),
        worst == nullptr ? "-" : std::format("{}.{}, {:.1f}", worst->layer, worst->tap, *column(*worst, "sqnr_db")),
        short_number(find_metric(run, "p_codes.zero_share")));
  }
  text += "\n";
}

/// Per target: the format's worst place and the kernel's, on the baseline's inputs.
void add_format_or_kernel(std::string& text, const ExperimentRecord& record, const ModelRecord& model) {
  const std::string verdict = format_or_kernel(record, model.name);
  if (verdict.empty()) return;
  text += "F" + verdict.substr(1) + ".\n\n";
  text +=
      "| target | where the damage sits | format: worst layer.tap, SQNR dB | kernel: worst layer.tap, SQNR dB | kernel gain "
      "off by at most | kernel "
      "error / format error |\n|---|---|---|---|---|---|\n";
  const auto place = [](const LayerRow* row) {
    return row == nullptr ? "exact" : std::format("{}.{}, {:.1f}", row->layer, row->tap, *column(*row, "sqnr_db"));
  };
  for (const RunRecord& run : record.runs) {
    const Metric* deviation = find_metric(run, "kernel.gain.deviation.max");
    if (run.model != model.name || deviation == nullptr) continue;
    const std::string suspicion = kernel_suspicion(run), damage = damage_in_words(run);
    text += std::format("| {} | {} | {} | {} | {} | {} |\n", cell(run.target), damage.empty() ? "-" : cell(damage),
                        place(worst_row(run, "format")),
                        suspicion.empty() ? place(worst_row(run, "kernel")) : "**suspect**: " + cell(suspicion),
                        short_number(deviation), short_number(find_metric(run, "kernel.damage.share.max")));
  }
  text += "\n";
}

/// Each target's three worst places: a table over all targets would show the worst target alone.
void add_worst_layers(std::string& text, const ExperimentRecord& record, const ModelRecord& model) {
  constexpr std::size_t shown = 3;
  std::string rows;
  for (const RunRecord& run : record.runs) {
    if (run.model != model.name) continue;
    std::vector<std::pair<double, const LayerRow*>> worst;
    for (const LayerRow& row : run.layers)
      if (row.error == "local" && row.head == -1)
        if (const auto sqnr = column(row, "sqnr_db")) worst.emplace_back(*sqnr, &row);
    std::stable_sort(worst.begin(), worst.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
    if (worst.size() > shown) worst.resize(shown);
    for (const auto& [sqnr, row] : worst)
      rows += std::format("| {} | {} | {} | {:.1f} | {} | {} | {} |\n", cell(run.target), row->layer, row->tap, sqnr,
                          short_number(column(*row, "gain")), short_number(column(*row, "cosine")),
                          short_number(column(*row, "share_sign_flips")));
  }
  if (rows.empty()) return;
  text += "Where the damage is made (local errors: each operation fed with the baseline's inputs), each target's worst:\n\n";
  text += "| target | layer | tap | SQNR dB | gain | cosine | sign flips |\n|---|---|---|---|---|---|---|\n" + rows + "\n";
}

void add_outliers(std::string& text, const ExperimentRecord& record) {
  text +=
      "## Outliers, sinks and drains\n\n| model | target | largest residual | kurtosis | massive | sink rate (q64) | sink "
      "rate (T64) | drain of v, sink heads | after the gate | after out_proj |\n";
  text += "|---|---|---|---|---|---|---|---|---|---|\n";
  const auto by_prefix = [](const RunRecord& run, const std::string& prefix) -> const Metric* {
    for (const Metric& metric : run.metrics)
      if (metric.name.starts_with(prefix)) return &metric;
    return nullptr;
  };
  for (const RunRecord& run : record.runs) {
    if (run.metrics.empty()) continue;
    text += std::format(
        "| {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |\n", cell(run.model), cell(run.target),
        short_number(find_metric(run, "residual.inf_norm.max")),
        short_number(find_metric(run, "residual.kurtosis.token.max")),
        short_number(find_metric(run, "residual.massive.max")), short_number(by_prefix(run, "sink_rate.q64")),
        short_number(by_prefix(run, "sink_rate.T64")), short_number(find_metric(run, "drain.v.sinks")),
        short_number(find_metric(run, "drain.v_gated.sinks")), short_number(find_metric(run, "drain.out.sinks")));
  }
  text += "\n";
}

void add_provenance(std::string& text, const ExperimentRecord& record) {
  text += "## What ran\n\n| model | target | backend | schemes | implementations |\n|---|---|---|---|---|\n";
  for (const RunRecord& run : record.runs) {
    std::string ran;
    for (const auto& [site, name] : run.implementations)
      if (site == "q_proj" || site == "fc2" || site == "attention" || site == "lm_head")
        ran += (ran.empty() ? "" : "; ") + site + ": " + name;
    text += std::format("| {} | {} | {} | {} | {} |\n", cell(run.model), cell(run.target), run.backend,
                        cell(run.description), cell(ran));
  }
  const Provenance& p = record.provenance;
  text += std::format(
      "\nqfid {} ({}), {}; {}, ISA {}, {} threads, chunks of {} windows; tokens {} ({}), protocol {}, {} windows of {} "
      "tokens from {}.\n",
      p.tool_version, p.git_commit, p.compiler, p.device, p.isa, p.threads, p.chunk_windows, cell(p.tokens_path),
      p.tokens_hash, p.protocol, p.windows, p.context, p.first_token);
  for (const auto& [name, version] : p.libraries) text += std::format("{} {}.\n", name, version);
  for (const ModelRecord& model : record.models)
    text += std::format("Model {}: {}, content {}.\n", model.name, cell(model.path), model.content_hash);
  text += "\nEach run alone:\n\n```\n";
  for (const RunRecord& run : record.runs) text += run.repro + "\n";
  text += "```\n";
}

/// `training`: what is said of checkpoints on the way, which `record` lacks.
std::string markdown_of(const ExperimentRecord& record, const std::string& training) {
  std::string text = "# " + cell(record.name) + "\n\n";
  if (record.interrupted) text += "**Interrupted**: the numbers cover the windows that were finished.\n\n";
  text += std::format("{}; intervals ({:.0f} %) are clustered by window.\n\n", quality_of(record).in_words,
                      100 * record.confidence);
  text += markdown_gates(record.gates);
  text += markdown_seeds(record);
  text += training;
  for (const ModelRecord& model : record.models) {
    text += std::format("## {} ({})\n\n", model.name, model.variant);
    add_targets(text, record, model);
    add_format_or_kernel(text, record, model);
    add_worst_layers(text, record, model);
    text += markdown_changes(record, model.name);
    text += markdown_budgets(record, model.name);
  }
  text += markdown_variants(record);
  add_outliers(text, record);
  std::string rows;
  for (const PairRecord& pair : record.pairs)
    rows += std::format(
        "| {} | {} | {} | {} | {} |\n", cell(pair.model), cell(pair.a), cell(pair.b), short_number(pair.difference.value),
        pair.difference.ci ? std::format("{:.6f} .. {:.6f}", pair.difference.ci->low, pair.difference.ci->high)
                           : pair.difference.note);
  if (!rows.empty())
    text += std::format(
        "## Target against target\n\n{}\n\n| model | A | B | difference | interval |\n|---|---|---|---|---|\n{}\n",
        quality_of(record).difference_in_words, rows);
  add_provenance(text, record);
  for (const std::string& warning : record.warnings) text += "\nWarning: " + cell(warning) + "\n";
  return text;
}

}  // namespace

std::string markdown_report(const ExperimentRecord& record) {
  if (has_trainings(record)) return markdown_of(without_earlier_checkpoints(record), markdown_training(record));
  return markdown_of(record, "");
}

}  // namespace qfid::eval
