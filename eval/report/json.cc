#include <nlohmann/json.hpp>

#include "eval/experiment/hashes_json.h"
#include "eval/experiment/metric_json.h"
#include "eval/report/report.h"

namespace qfid::eval {

namespace {

using nlohmann::ordered_json;

ordered_json number(std::optional<double> value) { return number_json(value); }

/// Numbers in one text, as a list would take a line for each.
template <class Number>
std::string in_words(const std::vector<Number>& numbers) {
  std::string text;
  for (const Number number : numbers) text += (text.empty() ? "" : " ") + std::to_string(number);
  return text;
}

ordered_json histogram_json(const CodeHistogram& h) {
  return {{"layer", h.layer}, {"format", h.format}, {"p_scale", h.p_scale}, {"counts", in_words(h.counts)}};
}

/// What the protocol has.
ordered_json windows_json(const WindowSums& w) {
  if (!w.nmse.empty())
    return {{"tokens", w.tokens},
            {"hidden_nmse", w.nmse},
            {"hidden_cosine_distance", w.cosine_distance},
            {"hidden_pooled_cosine_distance", w.pooled_cosine_distance}};
  return {{"tokens", w.tokens}, {"nll", w.nll}, {"kl", w.kl}, {"kl_reverse", w.kl_reverse}, {"top1_agree", w.top1_agree}};
}

ordered_json run_json(const RunRecord& run) {
  ordered_json json{{"model", run.model},
                    {"target", run.target},
                    {"backend", run.backend},
                    {"mode", run.mode},
                    {"description", run.description},
                    {"status", to_string(run.status)},
                    {"message", run.message},
                    {"implementations", run.implementations},
                    {"metrics", ordered_json::object()}};
  for (const Metric& metric : run.metrics) json["metrics"][metric.name] = metric_json(metric);
  ordered_json layers = ordered_json::array();
  for (const LayerRow& row : run.layers) {
    ordered_json entry{{"layer", row.layer},
                       {"tap", row.tap},
                       {"head", row.head == -1 ? ordered_json(nullptr) : ordered_json(row.head)},
                       {"error", row.error}};
    for (const auto& [name, value] : row.values) entry[name] = number(value);
    layers.push_back(std::move(entry));
  }
  json["layers"] = std::move(layers);
  json["p_codes"] = ordered_json::array();
  for (const CodeHistogram& histogram : run.p_codes) json["p_codes"].push_back(histogram_json(histogram));
  json["windows"] = windows_json(run.windows);
  if (!run.documents.empty()) {
    const auto all = [&](std::int64_t ScoredDocument::* field) {
      ordered_json list = ordered_json::array();
      for (const ScoredDocument& document : run.documents) list.push_back(document.*field);
      return list;
    };
    json["documents"] = {{"windows", all(&ScoredDocument::windows)},
                         {"words", all(&ScoredDocument::words)},
                         {"bytes", all(&ScoredDocument::bytes)}};
  }
  if (run.hashes) json["hashes"] = hashes_json(*run.hashes);
  json["repro"] = run.repro;
  return json;
}

ordered_json gate_json(const GateRecord& g) {
  const GateStatistics& s = g.statistics;
  ordered_json json{{"name", g.name},
                    {"model", g.model},
                    {"target", g.target},
                    {"metric", g.metric},
                    {g.upper ? "max" : "min", number(g.bound)},
                    {"relative_to", g.relative_to},
                    {"confidence", g.confidence},
                    {"windows", s.windows},
                    {"effect", number(s.effect)}};
  if (s.limits) json["limits"] = {number(s.limits->low), number(s.limits->high)};
  json["outcome"] = to_string(s.outcome);
  json["verdict"] = to_string(g.verdict);
  json["blocks"] = g.blocks();
  json["words"] = g.words;
  if (s.detectable) json["detectable"] = number(s.detectable);
  if (s.windows_needed) json["windows_needed"] = *s.windows_needed;
  if (g.noise_floor) json["noise_floor"] = number(g.noise_floor);
  if (!g.expires.empty()) json["expected_failure"] = {{"reason", g.reason}, {"expires", g.expires}};
  return json;
}

ordered_json attention_json(const AttentionHead& head) {
  ordered_json maps = ordered_json::array();
  for (const auto& [target, rows] : head.maps) {
    ordered_json lines = ordered_json::array();
    for (const std::vector<int>& row : rows) lines.push_back(in_words(row));
    maps.push_back({{"target", target}, {"rows", lines}});
  }
  return {{"model", head.model}, {"layer", head.layer}, {"head", head.head},
          {"why", head.why},     {"block", head.block}, {"maps", maps}};
}

ordered_json group_json(const BudgetGroup& group) {
  ordered_json entries = ordered_json::array();
  for (const BudgetEntry& entry : group.entries)
    entries.push_back({{"name", entry.name},
                       {"alone", metric_json(entry.alone)},
                       {"without", metric_json(entry.without)},
                       {"alone_kl", entry.alone_kl},
                       {"without_kl", entry.without_kl}});
  return {{"alone", metric_json(group.alone)}, {"without", metric_json(group.without)}, {"entries", std::move(entries)}};
}

ordered_json budget_json(const ErrorBudget& budget) {
  return {{"model", budget.model},
          {"target", budget.target},
          {"backend", budget.backend},
          {"tokens", budget.tokens},
          {"whole", metric_json(budget.whole)},
          {"whole_kl", budget.whole_kl},
          {"parts", group_json(budget.parts)},
          {"layers", group_json(budget.layers)}};
}

ordered_json provenance_json(const Provenance& p) {
  ordered_json json{{"tool_version", p.tool_version},
                    {"git_commit", p.git_commit},
                    {"compiler", p.compiler},
                    {"libraries", p.libraries},
                    {"device", p.device},
                    {"isa", p.isa},
                    {"threads", p.threads},
                    {"chunk_windows", p.chunk_windows},
                    {"tokens", p.tokens_path},
                    {"tokens_hash", p.tokens_hash},
                    {"protocol", p.protocol},
                    {"context", p.context},
                    {"first_token", p.first_token},
                    {"windows", p.windows}};
  if (!p.targets_path.empty()) json["targets"] = p.targets_path;
  if (!p.tokenizer_hash.empty()) {
    json["tokenizer"] = p.tokenizer;
    json["tokenizer_hash"] = p.tokenizer_hash;
    json["documents"] = p.documents;
  }
  return json;
}

ordered_json timings_json(const ExperimentRecord& record) {
  const Timings& t = record.timings;
  ordered_json json{{"started", t.started},
                    {"total_seconds", t.total_seconds},
                    {"load_seconds", t.load_seconds},
                    {"calibration_seconds", t.calibration_seconds},
                    {"baseline_seconds", t.baseline_seconds},
                    {"targets_seconds", t.targets_seconds},
                    {"metrics_seconds", t.metrics_seconds},
                    {"local_seconds", t.local_seconds},
                    {"budget_seconds", t.budget_seconds},
                    {"changes_seconds", t.changes_seconds},
                    {"peak_memory_bytes", t.peak_memory_bytes}};
  ordered_json runs = ordered_json::array();
  for (const RunRecord& run : record.runs)
    runs.push_back({{"model", run.model},
                    {"target", run.target},
                    {"forward_seconds", run.seconds},
                    {"metric_seconds", run.metric_seconds},
                    {"local_seconds", run.local_seconds}});
  json["runs"] = std::move(runs);
  return json;
}

}  // namespace

std::string results_json(const ExperimentRecord& record) {
  ordered_json json{{"schema_version", record_schema_version},
                    {"name", record.name},
                    {"spec", {{"file", record.spec_file}, {"sets", record.sets}, {"text", record.spec_text}}},
                    {"confidence", record.confidence},
                    {"interrupted", record.interrupted},
                    {"provenance", provenance_json(record.provenance)}};
  ordered_json models = ordered_json::array();
  for (const ModelRecord& m : record.models) {
    models.push_back({{"name", m.name},
                      {"path", m.path},
                      {"family", m.family},
                      {"variant", m.variant},
                      {"parameters", m.parameters},
                      {"content_hash", m.content_hash},
                      {"unused_tensors", m.unused_tensors}});
    if (m.vocabulary != 0) models.back()["vocabulary"] = m.vocabulary;
    if (!m.seed) continue;
    models.back()["group"] = m.group;
    models.back()["seed"] = *m.seed;
    if (m.step) models.back()["step"] = *m.step;
  }
  json["models"] = std::move(models);
  json["runs"] = ordered_json::array();
  for (const RunRecord& run : record.runs) json["runs"].push_back(run_json(run));
  json["pairs"] = ordered_json::array();
  for (const PairRecord& pair : record.pairs)
    json["pairs"].push_back(
        {{"model", pair.model}, {"a", pair.a}, {"b", pair.b}, {pair.difference.name, metric_json(pair.difference)}});
  json["gates"] = ordered_json::array();
  for (const GateRecord& gate : record.gates) json["gates"].push_back(gate_json(gate));
  json["attention"] = ordered_json::array();
  for (const AttentionHead& head : record.attention) json["attention"].push_back(attention_json(head));
  json["budgets"] = ordered_json::array();
  for (const ErrorBudget& budget : record.budgets) json["budgets"].push_back(budget_json(budget));
  json["noise"] = ordered_json::array();
  for (const ScoredChange& noise : record.noise) json["noise"].push_back(scored_change_json(noise));
  json["interventions"] = ordered_json::array();
  for (const ScoredChange& change : record.interventions) json["interventions"].push_back(scored_change_json(change));
  json["warnings"] = record.warnings;
  json["timings"] = timings_json(record);
  // A file name need not be UTF-8; a record must be.
  return json.dump(1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

}  // namespace qfid::eval
