#include "eval/experiment/record_reader.h"

#include <map>
#include <set>

#include "eval/data/protocol.h"
#include "eval/experiment/hashes_json.h"
#include "eval/experiment/metric_json.h"
#include "eval/experiment/record_parts.h"
#include "eval/json/json_cursor.h"
#include "eval/json/json_file.h"

namespace qfid::eval {

namespace {

constexpr std::int64_t most = 1'000'000'000'000;

RunStatus status_of(const JsonCursor& at) {
  const std::string text = at.text();
  for (const RunStatus status : {RunStatus::ok, RunStatus::skipped, RunStatus::failed, RunStatus::interrupted})
    if (text == to_string(status)) return status;
  at.fail("one of ok, skipped, failed, interrupted");
}

std::vector<double> numbers(const JsonCursor& list, std::size_t length) {
  std::vector<double> all;
  for (const JsonCursor& item : list.items()) all.push_back(item.number());
  if (all.size() != length) list.fail("a list of " + std::to_string(length) + " numbers, one a window");
  return all;
}

WindowSums windows_of(const JsonCursor& at) {
  WindowSums sums;
  for (const JsonCursor& item : at.at("tokens").items()) sums.tokens.push_back(item.integer(1, most));
  const std::size_t n = sums.tokens.size();
  if (at.has("hidden_nmse")) {  // of protocol hidden
    sums.nmse = numbers(at.at("hidden_nmse"), n);
    sums.cosine_distance = numbers(at.at("hidden_cosine_distance"), n);
    sums.pooled_cosine_distance = numbers(at.at("hidden_pooled_cosine_distance"), n);
    return sums;
  }
  sums.nll = numbers(at.at("nll"), n);
  sums.kl = numbers(at.at("kl"), n);
  sums.kl_reverse = numbers(at.at("kl_reverse"), n);
  const JsonCursor agree = at.at("top1_agree");
  for (const JsonCursor& item : agree.items())
    sums.top1_agree.push_back(item.integer(0, sums.top1_agree.size() < n ? sums.tokens[sums.top1_agree.size()] : most));
  if (sums.top1_agree.size() != n) agree.fail("a list of " + std::to_string(n) + " numbers, one a window");
  return sums;
}

std::vector<ScoredDocument> documents_of(const JsonCursor& at) {
  std::vector<ScoredDocument> all;
  for (const JsonCursor& item : at.at("windows").items()) all.push_back({item.integer(0, most), 0, 0});
  for (const auto& [key, field] : {std::pair{"words", &ScoredDocument::words}, std::pair{"bytes", &ScoredDocument::bytes}}) {
    const std::vector<JsonCursor> items = at.at(key).items();
    if (items.size() != all.size()) at.at(key).fail("a list of " + std::to_string(all.size()) + " numbers, one a document");
    for (std::size_t i = 0; i < items.size(); ++i) all[i].*field = items[i].integer(0, most);
  }
  return all;
}

RunRecord run_of(const JsonCursor& at) {
  RunRecord run;
  run.model = at.at("model").text();
  run.target = at.at("target").text();
  run.backend = at.at("backend").text();
  run.mode = at.at("mode").text();
  run.description = at.at("description").text();
  run.status = status_of(at.at("status"));
  run.message = at.at("message").text();
  run.windows = windows_of(at.at("windows"));
  if (at.has("documents")) run.documents = documents_of(at.at("documents"));  // of protocol lmeval
  if (at.has("hashes")) run.hashes = hashes_of(at.at("hashes"));              // of runs with an exact gate
  run.repro = at.at("repro").text();
  if (run.status == RunStatus::ok && run.windows.tokens.empty()) at.at("windows").fail("windows, since the run is ok");
  return run;
}

Provenance provenance_of(const JsonCursor& at) {
  Provenance p;
  p.tool_version = at.at("tool_version").text();
  p.git_commit = at.at("git_commit").text();
  p.compiler = at.at("compiler").text();
  for (const auto& [name, version] : at.at("libraries").entries()) p.libraries[name] = version.text();
  p.device = at.at("device").text();
  p.isa = at.at("isa").text();
  p.threads = static_cast<int>(at.at("threads").integer(1, 1'000'000));
  p.chunk_windows = at.at("chunk_windows").integer(1, most);
  p.tokens_path = at.at("tokens").text();
  p.tokens_hash = at.at("tokens_hash").text();
  p.protocol = current_spelling(at.at("protocol").text());
  if (p.protocol == "attention")  // windows, tokens and a perplexity are what reports and gates are made of
    at.at("protocol").fail("a protocol of qfid run: these are results of qfid attention");
  p.context = at.at("context").integer(1, most);
  p.first_token = at.at("first_token").integer(0, most);
  p.windows = at.at("windows").integer(0, most);
  if (at.has("targets")) p.targets_path = at.at("targets").text();
  if (at.has("tokenizer_hash")) {  // added to version 1 later, and only of text
    p.tokenizer = at.at("tokenizer").text();
    p.tokenizer_hash = at.at("tokenizer_hash").text();
    p.documents = at.at("documents").text();
  }
  return p;
}

/// What the rest of the program takes for granted about runs: known models, no two alike, the same windows as the
/// baseline's.
void check_runs(const ExperimentRecord& record, const std::vector<JsonCursor>& cursors) {
  std::set<std::string> models;
  for (const ModelRecord& model : record.models) models.insert(model.name);
  std::map<std::string, const RunRecord*> baselines;
  for (const RunRecord& run : record.runs)
    if (run.target == "baseline") baselines.emplace(run.model, &run);
  std::set<std::pair<std::string, std::string>> seen;
  for (std::size_t i = 0; i < record.runs.size(); ++i) {
    const RunRecord& run = record.runs[i];
    if (!models.contains(run.model)) cursors[i].at("model").fail("a name of models[]");
    if (!seen.insert({run.model, run.target}).second) cursors[i].at("target").fail("a target that no earlier run has");
    const auto baseline = baselines.find(run.model);
    if (baseline == baselines.end()) cursors[i].at("model").fail("a model with a run \"baseline\"");
    if (run.status == RunStatus::ok && run.windows.tokens != baseline->second->windows.tokens)
      cursors[i].at("windows").at("tokens").fail("the baseline's windows");
  }
}

/// What comparisons and gates need.
ExperimentRecord essentials(const JsonCursor& root) {
  const JsonCursor version = root.at("schema_version");
  if (version.integer(0, most) != record_schema_version)
    version.fail(std::to_string(record_schema_version) + " (written by another version of qfid?)");
  ExperimentRecord record;
  record.name = root.at("name").text();
  record.spec_file = root.at("spec").at("file").text();
  record.spec_text = root.at("spec").at("text").text();
  for (const JsonCursor& set : root.at("spec").at("sets").items()) record.sets.push_back(set.text());
  record.confidence = root.at("confidence").number();
  if (!(record.confidence > 0 && record.confidence < 1)) root.at("confidence").fail("a number between 0 and 1");
  record.interrupted = root.at("interrupted").boolean();
  record.provenance = provenance_of(root.at("provenance"));
  for (const JsonCursor& model : root.at("models").items()) {
    ModelRecord entry;
    entry.name = model.at("name").text();
    entry.path = model.at("path").text();
    entry.family = model.at("family").text();
    entry.content_hash = model.at("content_hash").text();
    entry.parameters = model.at("parameters").integer(0, INT64_MAX);
    entry.variant = model.at("variant").text();
    if (model.has("vocabulary")) entry.vocabulary = model.at("vocabulary").integer(1, most);  // added to version 1 later
    if (model.has("seed")) {
      entry.seed = model.at("seed").integer(0, most_seed);
      entry.group = model.at("group").text();
      if (model.has("step")) entry.step = model.at("step").integer(0, most_step);
    }
    record.models.push_back(std::move(entry));
  }
  const std::vector<JsonCursor> runs = root.at("runs").items();
  for (const JsonCursor& run : runs) record.runs.push_back(run_of(run));
  check_runs(record, runs);
  if (root.has("noise"))  // added to version 1 later; gates look at it
    for (const JsonCursor& noise : root.at("noise").items()) record.noise.push_back(scored_change_of(noise));
  return record;
}

}  // namespace

ExperimentRecord read_results(const quant::FileContent& file) {
  const std::string path = file.path().string();
  const nlohmann::ordered_json json = parse_strict_ordered_json(file.text(), path);
  return essentials(JsonCursor(json, path));
}

ExperimentRecord read_whole_record(const quant::FileContent& file) {
  const std::string path = file.path().string();
  const nlohmann::ordered_json json = parse_strict_ordered_json(file.text(), path);
  const JsonCursor root(json, path);
  ExperimentRecord record = essentials(root);
  add_details(record, root);
  return record;
}

}  // namespace qfid::eval
