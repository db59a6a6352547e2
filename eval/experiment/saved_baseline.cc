#include "eval/experiment/saved_baseline.h"

#include <algorithm>
#include <format>
#include <set>

#include "eval/data/protocol.h"
#include "eval/experiment/gates.h"
#include "eval/experiment/hashes_json.h"
#include "eval/json/json_cursor.h"
#include "eval/json/json_file.h"
#include "quant/core/input_file.h"

namespace qfid::eval {

using nlohmann::ordered_json;
using quant::Error;
using quant::ErrorKind;

namespace {

constexpr int baseline_version = 1;
constexpr std::int64_t most = 1'000'000'000'000;

bool gated(const std::vector<GateSpec>& gates, const RunRecord& run, const GateMetric& metric) {
  if (gates.empty()) return true;
  return std::any_of(gates.begin(), gates.end(), [&](const GateSpec& gate) {
    return gate.exact.empty() && gate.relative_target.empty() && gate_metric(gate.metric).sums == metric.sums &&
           matches(gate.models, run.model) && matches(gate.targets, run.target);
  });
}

/// The hashes that the gates look at; all there are without gates. Error{usage} where they are missing.
std::optional<TensorHashes> gated_hashes(const std::vector<GateSpec>& gates, const RunRecord& run) {
  if (gates.empty()) return run.hashes;
  const auto gate = std::find_if(gates.begin(), gates.end(),
                                 [&](const GateSpec& g) { return !g.exact.empty() && concerns(g, run.model, run.target); });
  if (gate == gates.end()) return std::nullopt;
  if (!run.hashes)
    throw Error(ErrorKind::usage, std::format("{} / {} has no hashes of {}: run with gate \"{}\" in the configuration",
                                              run.model, run.target, gate->exact, gate->name));
  return run.hashes;
}

/// A tensor a line, so that a difference of two files shows what changed.
std::string hashes_text(const TensorHashes& hashes) {
  const ordered_json json = hashes_json(hashes);
  std::string tensors;
  for (const auto& [name, text] : json["tensors"].items())
    tensors += std::format("{}     {}: {}", tensors.empty() ? "" : ",\n", ordered_json(name).dump(), text.dump());
  return std::format("   \"hashes\": {{\"windows\": {},\n    \"key\": {},\n    \"tensors\": {{\n{}\n    }}}}",
                     hashes.windows, json["key"].dump(), tensors);
}

SavedRun read_run(const JsonCursor& at) {
  SavedRun run;
  run.model = at.at("model").text();
  run.checkpoint = at.at("checkpoint").text();
  if (at.has("vocabulary")) run.vocabulary = at.at("vocabulary").integer(1, most);
  run.target = at.at("target").text();
  run.schemes = at.at("schemes").text();
  for (const JsonCursor& item : at.at("tokens").items()) run.tokens.push_back(item.integer(1, most));
  for (const auto& [name, list] : at.at("sums").entries()) {
    std::vector<double>& sums = run.sums[name];
    for (const JsonCursor& item : list.items()) sums.push_back(item.number());
    if (sums.size() != run.tokens.size())
      list.fail("a list of " + std::to_string(run.tokens.size()) + " numbers, one a window");
  }
  if (at.has("hashes")) run.hashes = hashes_of(at.at("hashes"));
  return run;
}

}  // namespace

DataIdentity identity_of(const Provenance& p) {
  return {p.protocol, p.tokens_hash, p.context, p.first_token, p.windows, p.chunk_windows, p.tokenizer_hash};
}

void require_comparable(const DataIdentity& a, const std::string& a_name, const DataIdentity& b, const std::string& b_name) {
  std::string differences;
  const auto compare = [&](const char* what, const auto& x, const auto& y) {
    if (x != y) differences += std::format("{}the {} differs ({}, {})", differences.empty() ? "" : ", ", what, x, y);
  };
  compare("protocol", a.protocol, b.protocol);
  compare("context", a.context, b.context);
  compare("hash of the tokens", a.tokens_hash, b.tokens_hash);
  if (!a.tokenizer_hash.empty() && !b.tokenizer_hash.empty())
    compare("hash of the tokenizer", a.tokenizer_hash, b.tokenizer_hash);
  compare("first token", a.first_token, b.first_token);
  compare("number of windows", a.windows, b.windows);
  compare("chunk size", a.chunk_windows, b.chunk_windows);
  if (!differences.empty()) throw Error(ErrorKind::usage, a_name + " and " + b_name + " aren't comparable: " + differences);
}

void require_same_model(const ModelRecord& a, const std::string& a_name, const ModelRecord& b, const std::string& b_name) {
  std::string differences;
  if (a.vocabulary != b.vocabulary && a.vocabulary != 0 && b.vocabulary != 0)
    differences = std::format("the vocabulary of model {} differs ({}, {}), ", a.name, a.vocabulary, b.vocabulary);
  if (differences.empty() && a.content_hash == b.content_hash) return;
  throw Error(ErrorKind::usage, std::format("{} and {} aren't comparable: {}the checkpoint of model {} differs ({}, {})",
                                            a_name, b_name, differences, a.name, a.content_hash, b.content_hash));
}

const SavedRun* SavedBaseline::find(const std::string& model, const std::string& target) const {
  for (const SavedRun& run : runs)
    if (run.model == model && run.target == target) return &run;
  return nullptr;
}

SavedBaseline baseline_of(const ExperimentRecord& record, const std::vector<GateSpec>& gates) {
  const Provenance& p = record.provenance;
  SavedBaseline saved;
  saved.data = identity_of(p);
  saved.made_with = {{"qfid", p.tool_version + " (" + p.git_commit + ")"},
                     {"compiler", p.compiler},
                     {"device", p.device},
                     {"isa", p.isa},
                     {"threads", std::to_string(p.threads)}};
  for (const auto& [name, version] : p.libraries) saved.made_with[name] = version;
  for (const RunRecord& run : record.runs) {
    if (run.target == "baseline") continue;
    SavedRun entry{run.model, "", run.target, 0, run.description, run.windows.tokens, {}};
    for (const GateMetric& metric : gate_metrics()) {
      if (of_hidden_states(metric) == run.windows.nmse.empty() && run.status == RunStatus::ok) continue;
      if (gated(gates, run, metric) && run.status == RunStatus::ok)
        entry.sums[std::string(metric.sums)] = gate_sums(run, *record.find(run.model, "baseline"), metric);
      else if (gated(gates, run, metric))
        throw Error(ErrorKind::usage, std::format("{} / {} was {}: only complete results make a baseline", run.model,
                                                  run.target, to_string(run.status)));
    }
    for (const ModelRecord& model : record.models)
      if (model.name == run.model) {
        entry.checkpoint = model.content_hash;
        entry.vocabulary = model.vocabulary;
      }
    entry.hashes = gated_hashes(gates, run);
    if (!entry.sums.empty() || entry.hashes) saved.runs.push_back(std::move(entry));
  }
  if (saved.runs.empty()) throw Error(ErrorKind::usage, "nothing to save: no gate matches a run of these results");
  return saved;
}

std::string baseline_json(const SavedBaseline& saved) {
  const DataIdentity& d = saved.data;
  ordered_json data{{"protocol", d.protocol},       {"context", d.context}, {"tokens_hash", d.tokens_hash},
                    {"first_token", d.first_token}, {"windows", d.windows}, {"chunk_windows", d.chunk_windows}};
  if (!d.tokenizer_hash.empty()) data["tokenizer_hash"] = d.tokenizer_hash;
  std::string text = std::format("{{\n \"baseline_version\": {},\n \"data\": {},\n \"made_with\": {},\n \"runs\": [\n",
                                 baseline_version, data.dump(), ordered_json(saved.made_with).dump());
  for (const SavedRun& run : saved.runs) {
    const std::string vocabulary = run.vocabulary == 0 ? "" : std::format("\"vocabulary\": {}, ", run.vocabulary);
    text +=
        std::format("  {{\"model\": {}, {}\"checkpoint\": {}, \"target\": {},\n   \"schemes\": {},\n   \"tokens\": {},\n",
                    ordered_json(run.model).dump(), vocabulary, ordered_json(run.checkpoint).dump(),
                    ordered_json(run.target).dump(), ordered_json(run.schemes).dump(), ordered_json(run.tokens).dump());
    std::string sums;
    for (const auto& [name, series] : run.sums)
      sums += std::format("{}    {}: {}", sums.empty() ? "" : ",\n", ordered_json(name).dump(), ordered_json(series).dump());
    text += "   \"sums\": {\n" + sums + "\n   }" + (run.hashes ? ",\n" + hashes_text(*run.hashes) : "") + "}" +
            (&run == &saved.runs.back() ? "\n" : ",\n");
  }
  return text + " ]\n}\n";
}

SavedBaseline read_baseline(const quant::FileContent& file) {
  const std::string path = file.path().string();
  const nlohmann::ordered_json json = parse_strict_ordered_json(file.text(), path);
  const JsonCursor root(json, path);
  const JsonCursor version = root.at("baseline_version");
  if (version.integer(0, most) != baseline_version) version.fail(std::to_string(baseline_version));
  const JsonCursor data = root.at("data");
  SavedBaseline saved;
  saved.path = path;
  saved.data = {current_spelling(data.at("protocol").text()),
                data.at("tokens_hash").text(),
                data.at("context").integer(1, most),
                data.at("first_token").integer(0, most),
                data.at("windows").integer(1, most),
                data.at("chunk_windows").integer(1, most),
                ""};
  if (data.has("tokenizer_hash")) saved.data.tokenizer_hash = data.at("tokenizer_hash").text();
  for (const auto& [name, value] : root.at("made_with").entries()) saved.made_with[name] = value.text();
  std::set<std::pair<std::string, std::string>> seen;
  for (const JsonCursor& run : root.at("runs").items()) {
    saved.runs.push_back(read_run(run));
    if (!seen.insert({saved.runs.back().model, saved.runs.back().target}).second)
      run.at("target").fail("a target that no earlier run has");
  }
  return saved;
}

SavedBaselines load_baselines(const std::vector<GateSpec>& gates, const std::filesystem::path& instead) {
  SavedBaselines all;
  for (const GateSpec& gate : gates) {
    if (gate.relative_written.empty() || all.contains(gate.relative_file)) continue;
    std::error_code error;
    if (!instead.empty())
      all[gate.relative_file] = read_baseline(instead);
    else if (std::filesystem::exists(gate.relative_file, error))
      all[gate.relative_file] = read_baseline(gate.relative_file);
  }
  return all;
}

}  // namespace qfid::eval
