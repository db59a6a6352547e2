// docs/metrics.md and docs/results-format.md say what the program really writes: every key and column it can produce is
// documented, and nothing is documented that it can't.
#include <catch2/catch_test_macros.hpp>
#include <fstream>
#include <nlohmann/json.hpp>
#include <regex>
#include <set>
#include <sstream>

#include "eval/experiment/footprint.h"
#include "eval/metrics/attention_sinks.h"
#include "eval/metrics/backcopy.h"
#include "eval/metrics/catalog.h"
#include "eval/metrics/hidden_states.h"
#include "eval/metrics/layer_tables.h"
#include "eval/metrics/outlier_error.h"
#include "eval/metrics/token_metrics.h"
#include "eval/report/report.h"

using namespace qfid;
using namespace qfid::eval;

namespace {

using Names = std::set<std::string>;

std::string document(const std::string& name) {
  std::ifstream file(std::string(QFID_SOURCE_DIR) + "/docs/" + name);
  REQUIRE(file);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

/// Words in backticks in column `column` (from 0) of the tables between `begin` and `end` (headings, or parts of lines).
Names table_words(const std::string& text, const std::string& begin, const std::string& end, std::size_t column) {
  const std::size_t from = text.find(begin), to = text.find(end, from);
  REQUIRE(from != std::string::npos);
  REQUIRE(to != std::string::npos);
  std::istringstream lines(text.substr(from, to - from));
  const std::regex word("`([^`]+)`");
  Names names;
  for (std::string line; std::getline(lines, line);) {
    if (!line.starts_with("|")) continue;
    std::istringstream cells(line.substr(1));
    std::string cell;
    for (std::size_t i = 0; i <= column; ++i) std::getline(cells, cell, '|');
    for (std::sregex_iterator it(cell.begin(), cell.end(), word), last; it != last; ++it) names.insert((*it)[1]);
  }
  return names;
}

std::string difference(const Names& a, const Names& b) {
  std::string text;
  for (const std::string& name : a)
    if (!b.contains(name)) text += name + "\n";
  return text;
}

/// One of everything the tables can hold.
LayerTables full_tables() {
  LayerTables tables;
  quant::DistortionStats some;
  some.add(1.0F, 0.5F);
  for (const char* tap : {"q", "k", "v", "output", "attn_out", "ffn_act", "ffn_out", "residual"})
    tables.add_distortion(0, tap, "local", {some}, 1);
  LayerSamples& samples = tables.samples();
  samples.add_divergence(0, "local", {{0.5, 0.25, 1}}, 1, 1);
  samples.add_coded(0, "local", {{0.5, 0.25, 0.5, 1}}, 1, 1);
  samples.add_recoded(0, {std::vector<std::int64_t>(256, 1)}, {std::vector<std::int64_t>(256, 1)});
  samples.add_parts(0, {{}}, 1);
  samples.add_magnitudes(0, "residual", {{1, 1, {3, 2, 1}, 1}});
  samples.add_outliers(0, "q", {{}});
  kernels::RowStats rows;
  rows.rows = rows.elements = 1;
  tables.add_rows(-1, "embedding", {rows});
  for (const char* tap : {"attn_in", "attn_out", "ffn_in", "ffn_out", "residual", "gate"}) tables.add_rows(0, tap, {rows});
  for (const char* tap : {"final_norm", "last_hidden"}) tables.add_rows(-1, tap, {rows});
  tables.add_prob_counts(0, {{1, 0, 0}}, 1);
  for (const char* error : {"format", "kernel"}) tables.add_distortion(0, "output", error, {some}, 1);
  for (const char* site : {"q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2", "gate_proj", "lm_head", "attention.q",
                           "attention.k", "attention.v"})
    tables.add_codes(0, site, {1, 0, 0, 0});
  return tables;
}

AttentionSinks full_sinks() {
  AttentionSinks sinks(1, 1, 0.3);
  sinks.add_attention(0, {0.5}, {0.5});
  sinks.add_norms(0, {1, 2}, {1, 2});
  sinks.add_projected(0, {1, 2});
  sinks.add_gates(0, {0.5, 0.5});
  kernels::AttentionSummary summary;
  summary.rows = summary.gap_rows = 1;
  sinks.add_summary(0, {summary});
  return sinks;
}

std::vector<Metric> full_backcopy() {
  const std::vector<BackcopyWindow> task{{{false, false, true}, {0, 0, 0}}};
  BackcopyMeasures measures;
  measures.add_attention(0, std::vector<float>(9, 0.5F), task[0]);
  measures.add_norms(0, std::vector<double>(3, 1), std::vector<double>(3, 1), std::vector<double>(3, 1));
  TokenData data;
  data.windows.assign(1, WindowTokens(3));
  return measures.metrics(data, task, 1, 0);
}

ExperimentRecord full_record() {
  ExperimentRecord record;
  record.sets = {"a=b"};
  record.provenance.libraries = {{"library", "1"}};
  record.provenance.targets_path = "targets.npy";
  record.provenance.tokenizer = record.provenance.tokenizer_hash = record.provenance.documents = "text";
  record.models.push_back({"m", "p", "opt", "h", 1, "softmax", {"tensor"}, 1, "g", 7, 10});
  RunRecord run;
  run.implementations = {{"q_proj", "name"}};
  run.metrics.push_back({"perplexity", 1.0, Interval{0.5, 2.0}, "nats", "note"});
  run.layers.push_back({0, "q", 0, "local", {{"gain", 1.0}}});
  run.p_codes.push_back({0, "uint8", 255, std::vector<std::int64_t>(256)});
  run.windows = {{1}, {1.0}, {1.0}, {1.0}, {1}};
  run.documents = {{1, 1, 1}};
  run.hashes = TensorHashes{1, {{"backend", "cpu"}}, {{"logits", {"0"}}}};
  record.runs.push_back(run);
  run.windows = {{1}, {}, {}, {}, {}, {1.0}, {1.0}, {1.0}};  // under protocol hidden
  record.runs.push_back(run);
  record.pairs.push_back({"m", "a", "b", {"nll.difference", 1.0, Interval{0.5, 2.0}, "nats", "note"}});
  for (const bool upper : {true, false}) {
    GateRecord gate;
    gate.name = gate.model = gate.target = gate.metric = gate.words = gate.reason = gate.expires = "text";
    gate.upper = upper;
    gate.statistics = {16, 1.0, Interval{0.5, 2.0}, 0.5, 0.5, GateOutcome::inconclusive, 0.5, 17};
    gate.noise_floor = 1.0;
    record.gates.push_back(gate);
  }
  ErrorBudget budget{"m", "t", "cpu", {1}, {1.0}, {}, {}, {}};
  budget.parts.entries = budget.layers.entries = {{"q", {1.0}, {1.0}, {}, {}}};
  compute_shares(budget, 0.95);
  for (BudgetGroup* group : {&budget.parts, &budget.layers})
    for (Metric* metric : {&group->alone, &group->without, &group->entries[0].alone, &group->entries[0].without})
      metric->ci = Interval{0.5, 2.0};
  budget.whole.ci = Interval{0.5, 2.0};
  record.budgets = {budget};
  ScoredChange change{"m", "t", "name", "message", {1}, {1.0}, {1.0}, {}};
  change.metrics.push_back({"perplexity", 1.0, Interval{0.5, 2.0}, "nats", "note"});
  record.noise = record.interventions = {change};
  record.attention = {{"m", 0, 0, "why", 1, {{"baseline", {{1000}}}}}};
  record.warnings = {"warning"};
  return record;
}

/// Paths of all leaves; names that a user chose become "*".
void collect(const nlohmann::ordered_json& json, const std::string& path, Names& all) {
  static const Names free{"provenance.libraries", "runs[].implementations",  "runs[].metrics",       "runs[].hashes.key",
                          "noise[].metrics",      "interventions[].metrics", "runs[].hashes.tensors"};
  if (json.is_object()) {
    for (const auto& [key, value] : json.items()) {
      const bool column = path == "runs[].layers[]" && Names{"layer", "tap", "head", "error"}.count(key) == 0;
      const std::string name = free.contains(path) || column ? "*" : key;
      collect(value, path.empty() ? name : path + "." + name, all);
    }
  } else if (json.is_array()) {
    for (const auto& value : json) collect(value, path + "[]", all);
  } else {
    all.insert(path);
  }
}

/// Every key that a run's metrics can have.
Names produced_metrics() {
  TokenData data;
  data.windows.assign(16, WindowTokens(2));
  for (WindowTokens& window : data.windows) window[1].nll_base = window[1].nll_test = 1;
  data.documents.assign(16, {1, 1, 1});
  Names produced;
  for (const Metric& metric : compute_token_metrics(data)) produced.insert(metric.name);
  for (const Metric& metric : full_tables().summary()) produced.insert(metric.name);
  for (const Metric& metric : full_sinks().metrics({true})) produced.insert(metric.name);
  for (const Metric& metric : full_backcopy()) produced.insert(metric.name);
  HiddenData hidden;
  hidden.windows.assign(16, {{0.5, 0.5}});
  hidden.pooled.assign(16, 0.5);
  for (const Metric& metric : hidden_metrics(hidden)) produced.insert(metric.name);
  ModelConfig config;
  config.hidden_size = config.num_attention_heads = config.num_hidden_layers = config.ffn_dim = config.vocab_size =
      config.max_position_embeddings = 1;
  DecoderPrecision precision;
  precision.layers.resize(1);
  for (const Metric& metric : footprint_metrics(config, precision)) produced.insert(metric.name);
  for (const Metric& metric : outlier_error({}, full_tables().rows())) produced.insert(metric.name);
  return produced;
}

Names keys_of(const std::vector<MetricInfo>& all) {
  Names names;
  for (const MetricInfo& info : all) {
    std::istringstream keys{std::string(info.keys)};
    for (std::string key; keys >> key;) names.insert(key);
  }
  return names;
}

}  // namespace

TEST_CASE("every metric is documented, and no other", "[docs]") {
  const Names produced = produced_metrics();
  for (const Names& documented : {table_words(document("metrics.md"), "## Model level", "Measures that compare", 0),
                                  keys_of(model_metric_catalog())}) {
    CHECK(difference(produced, documented) == "");
    CHECK(difference(documented, produced) == "");
  }
}

TEST_CASE("metrics-reference.md is what qfid metrics prints, and every measure has its words", "[docs]") {
  CHECK(document("metrics-reference.md") == metrics_reference());
  for (const auto* all : {&model_metric_catalog(), &layer_metric_catalog()})
    for (const MetricInfo& info : *all) {
      CAPTURE(info.keys);
      CHECK_FALSE(info.what.empty());
      CHECK(info.blind.empty() == (info.level == MetricLevel::one));
      CHECK(Names{"", "lower", "higher", "0", "1"}.contains(std::string(info.better)));
      CHECK(info.what.find("](") == std::string_view::npos);
      CHECK(info.blind.find("](") == std::string_view::npos);
    }
  TokenData data;
  data.windows.assign(16, WindowTokens(2));
  data.documents.assign(16, {1, 1, 1});
  for (const Metric& metric : compute_token_metrics(data))
    for (const MetricInfo& info : model_metric_catalog())
      if (keys_of({info}).contains(metric.name)) {
        CAPTURE(metric.name);
        CHECK(info.unit == metric.unit);
      }
}

TEST_CASE("every tap and column of the layer tables is documented, and no other", "[docs]") {
  Names taps, columns;
  std::vector<LayerRow> rows = full_tables().rows();
  for (const LayerRow& row : full_sinks().rows()) rows.push_back(row);
  for (const LayerRow& row : rows) {
    taps.insert(row.tap);
    for (const auto& [name, value] : row.values) columns.insert(name);
  }
  const std::string text = document("metrics.md");
  const Names documented_taps = table_words(text, "## Layer level", "`error` is", 0);
  CHECK(difference(taps, documented_taps) == "");
  CHECK(difference(documented_taps, taps) == "");
  Names documented = table_words(text, "**Comparisons of tensors**", "**Numbers about one tensor**", 0);
  documented.merge(table_words(text, "**Numbers about one tensor**", "## What the numbers", 1));
  for (const Names& names : {documented, keys_of(layer_metric_catalog())}) {
    CHECK(difference(columns, names) == "");
    CHECK(difference(names, columns) == "");
  }
}

TEST_CASE("every key of results.json is documented, and no other", "[docs]") {
  Names produced;
  collect(nlohmann::ordered_json::parse(results_json(full_record())), "", produced);
  const Names documented = table_words(document("results-format.md"), "## results.json", "`nll.difference` is one key", 0);
  CHECK(difference(produced, documented) == "");
  CHECK(difference(documented, produced) == "");
}

TEST_CASE("results-format.md names the schema version, the token dtype and the leading columns", "[docs]") {
  const std::string text = document("results-format.md");
  CHECK(text.find("`schema_version` is " + std::to_string(record_schema_version) + ".") != std::string::npos);
  ExperimentRecord record = full_record();
  record.runs[0].model = "m";
  record.runs[0].tokens = {{1.0F}, {0.0F}, {1}};
  const auto files = token_files(record);
  REQUIRE(files.size() == 1);
  const std::string dtype = "[('nll', '<f4'), ('kl', '<f4'), ('top1', '<i4')]";
  CHECK(files[0].second.find(dtype) != std::string::npos);
  CHECK(text.find("`" + dtype + "`") != std::string::npos);
  const std::string csv = layers_csv(record), leading = "model,target,error,layer,tap,head";
  CHECK(csv.starts_with(leading + ",gain\r\n"));
  CHECK(text.find("`" + leading + "`") != std::string::npos);
}

TEST_CASE("links between the documents lead somewhere", "[docs]") {
  const std::filesystem::path project(QFID_SOURCE_DIR);
  const std::regex link(R"(\]\(([^)#:]+)(#[^)]*)?\))");
  for (const char* name :
       {"README.md", "configs/README.md", "docs/README.md", "docs/architecture.md", "docs/metrics.md",
        "docs/metrics-reference.md", "docs/first-run.md", "docs/defining-a-target.md", "docs/gates-in-ci.md",
        "docs/extending.md", "docs/choosing-a-target.md", "docs/your-own-tensors.md", "docs/numerics.md", "docs/gates.md",
        "docs/reading-a-report.md", "docs/results-format.md", "docs/results/known-values.md", "tests/bench/README.md"}) {
    CAPTURE(name);
    std::ifstream file(project / name);
    REQUIRE(file);
    std::ostringstream stream;
    stream << file.rdbuf();
    const std::string text = stream.str();
    for (std::sregex_iterator it(text.begin(), text.end(), link), last; it != last; ++it) {
      const std::string target = (*it)[1];
      CAPTURE(target);
      CHECK(std::filesystem::exists((project / name).parent_path() / target));
    }
  }
}
