// The machine-readable tables: layers.csv and the per-token series.
#include <algorithm>
#include <bit>
#include <charconv>
#include <cmath>
#include <cstring>
#include <numeric>

#include "eval/data/npy.h"
#include "eval/report/quality.h"
#include "eval/report/report.h"
#include "quant/core/error.h"
#include "quant/core/input_file.h"

namespace qfid::eval {

namespace {

std::string quoted(const std::string& text) {
  if (text.find_first_of(",\"\r\n") == std::string::npos) return text;
  std::string out = "\"";
  for (char c : text) out += c == '"' ? std::string("\"\"") : std::string(1, c);
  return out + "\"";
}

std::string exact(std::optional<double> value) {
  if (!value || !std::isfinite(*value)) return "";
  char buffer[40];
  const auto [end, error] = std::to_chars(buffer, buffer + sizeof buffer, *value);
  return {buffer, end};
}

/// The table's fields by protocol.
struct TokenTable {
  std::string_view dtype;
  std::size_t bytes;
  std::size_t (*tokens)(const TokenSeries& series);
  void (*write)(std::string& to, const TokenSeries& series, std::size_t i);
  void (*read)(const std::byte*& at, TokenSeries& series);
};

std::string token_file_name(const ExperimentRecord& record, const ModelRecord& model) {
  return record.models.size() == 1 ? "tokens.npy" : "tokens-" + model.name + ".npy";
}

template <class T>
T taken(const std::byte*& at) {
  T value;
  std::memcpy(&value, at, sizeof(T));
  at += sizeof(T);
  return value;
}

template <class T>
void append(std::string& bytes, T value) {
  static_assert(std::endian::native == std::endian::little);
  char raw[sizeof(T)];
  std::memcpy(raw, &value, sizeof(T));
  bytes.append(raw, sizeof(T));
}

const TokenTable& token_table(const ExperimentRecord& record) {
  static const TokenTable scored{"[('nll', '<f4'), ('kl', '<f4'), ('top1', '<i4')]", 12,
                                 [](const TokenSeries& series) { return series.nll.size(); },
                                 [](std::string& to, const TokenSeries& series, std::size_t i) {
                                   append(to, series.nll[i]);
                                   append(to, series.kl[i]);
                                   append(to, series.top1[i]);
                                 },
                                 [](const std::byte*& at, TokenSeries& series) {
                                   series.nll.push_back(taken<float>(at));
                                   series.kl.push_back(taken<float>(at));
                                   series.top1.push_back(taken<std::int32_t>(at));
                                 }};
  static const TokenTable hidden{"[('nmse', '<f4'), ('cosine_distance', '<f4')]", 8,
                                 [](const TokenSeries& series) { return series.nmse.size(); },
                                 [](std::string& to, const TokenSeries& series, std::size_t i) {
                                   append(to, series.nmse[i]);
                                   append(to, series.cosine_distance[i]);
                                 },
                                 [](const std::byte*& at, TokenSeries& series) {
                                   series.nmse.push_back(taken<float>(at));
                                   series.cosine_distance.push_back(taken<float>(at));
                                 }};
  return quality_of(record).ratio ? scored : hidden;
}

}  // namespace

std::string layers_csv(const ExperimentRecord& record) {
  std::vector<std::string> columns;
  for (const RunRecord& run : record.runs)
    for (const LayerRow& row : run.layers)
      for (const auto& [name, value] : row.values)
        if (std::find(columns.begin(), columns.end(), name) == columns.end()) columns.push_back(name);
  std::string text = "model,target,error,layer,tap,head";
  for (const std::string& name : columns) text += "," + quoted(name);
  text += "\r\n";
  for (const RunRecord& run : record.runs)
    for (const LayerRow& row : run.layers) {
      text += quoted(run.model) + "," + quoted(run.target) + "," + row.error + "," + std::to_string(row.layer) + "," +
              row.tap + "," + (row.head == -1 ? "" : std::to_string(row.head));
      for (const std::string& name : columns) {
        text += ",";
        for (const auto& [key, value] : row.values)
          if (key == name) text += exact(value);
      }
      text += "\r\n";
    }
  return text;
}

std::string metrics_csv(const ExperimentRecord& record) {
  std::string text = "model,target,metric,value,low,high,unit,note\r\n";
  for (const RunRecord& run : record.runs) {
    std::vector<Metric> metrics = run.metrics;
    if (const ErrorBudget* budget = record.budget_of(run.model, run.target))
      for (Metric& metric : budget_metrics(*budget)) metrics.push_back(std::move(metric));
    for (const auto* changes : {&record.noise, &record.interventions})
      for (const ScoredChange& change : *changes)
        if (change.model == run.model && change.target == run.target)
          for (Metric metric : change.metrics) {
            metric.note = changes == &record.noise ? change.name : metric.note;
            metric.name = (changes == &record.noise ? "noise." : "intervention." + change.name + ".") + metric.name;
            metrics.push_back(std::move(metric));
          }
    for (const Metric& metric : metrics)
      text += quoted(run.model) + "," + quoted(run.target) + "," + quoted(metric.name) + "," + exact(metric.value) + "," +
              (metric.ci ? exact(metric.ci->low) : "") + "," + (metric.ci ? exact(metric.ci->high) : "") + "," +
              quoted(metric.unit) + "," + quoted(metric.note) + "\r\n";
  }
  return text;
}

std::vector<std::pair<std::string, std::string>> token_files(const ExperimentRecord& record) {
  const TokenTable& table = token_table(record);
  std::vector<std::pair<std::string, std::string>> files;
  for (const ModelRecord& model : record.models) {
    std::string data;
    std::int64_t runs = 0, tokens = 0;
    for (const RunRecord& run : record.runs) {
      const std::size_t n = table.tokens(run.tokens);
      if (run.model != model.name || n == 0) continue;
      ++runs;
      tokens = static_cast<std::int64_t>(n);
      for (std::size_t i = 0; i < n; ++i) table.write(data, run.tokens, i);
    }
    files.emplace_back(token_file_name(record, model), npy_header(table.dtype, {runs, tokens}) + data);
  }
  return files;
}

std::vector<std::filesystem::path> read_token_files(ExperimentRecord& record, const std::filesystem::path& dir) {
  const TokenTable& table = token_table(record);
  std::vector<std::filesystem::path> missing;
  for (const ModelRecord& model : record.models) {
    const std::filesystem::path path = dir / token_file_name(record, model);
    std::vector<RunRecord*> scored;
    std::int64_t tokens = 0;
    for (RunRecord& run : record.runs) {
      if (run.model != model.name || run.windows.tokens.empty()) continue;
      scored.push_back(&run);
      tokens = std::accumulate(run.windows.tokens.begin(), run.windows.tokens.end(), std::int64_t{0});
    }
    std::error_code error;
    if (!std::filesystem::exists(path, error)) {
      missing.push_back(path);
      continue;
    }
    const quant::FileContent file(path);
    const auto runs = static_cast<std::int64_t>(scored.size());
    const std::string header = npy_header(table.dtype, {runs, tokens});
    const std::size_t entries = file.text().starts_with(header) ? (file.text().size() - header.size()) / table.bytes : 0;
    if (!file.text().starts_with(header) || (file.text().size() - header.size()) % table.bytes != 0 ||
        (runs == 0 ? entries != 0
                   : entries % static_cast<std::size_t>(runs) != 0 ||
                         entries / static_cast<std::size_t>(runs) != static_cast<std::size_t>(tokens)))
      throw quant::Error(quant::ErrorKind::input, path.string() + ": expected the table of results.json beside it, " +
                                                      std::to_string(runs) + " runs of " + std::to_string(tokens) +
                                                      " tokens as qfid writes it, found something else");
    const std::byte* at = file.bytes().data() + header.size();
    for (RunRecord* run : scored)
      for (std::int64_t i = 0; i < tokens; ++i) table.read(at, run->tokens);
  }
  return missing;
}

}  // namespace qfid::eval
