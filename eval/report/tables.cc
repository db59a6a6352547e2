// The machine-readable tables: layers.csv and the per-token series.
#include <algorithm>
#include <bit>
#include <charconv>
#include <cmath>
#include <cstring>

#include "eval/data/npy.h"
#include "eval/report/report.h"

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

template <class T>
void append(std::string& bytes, T value) {
  static_assert(std::endian::native == std::endian::little);
  char raw[sizeof(T)];
  std::memcpy(raw, &value, sizeof(T));
  bytes.append(raw, sizeof(T));
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

std::vector<std::pair<std::string, std::string>> token_files(const ExperimentRecord& record) {
  std::vector<std::pair<std::string, std::string>> files;
  for (const ModelRecord& model : record.models) {
    std::string data;
    std::int64_t runs = 0, tokens = 0;
    for (const RunRecord& run : record.runs) {
      if (run.model != model.name || run.tokens.nll.empty()) continue;
      ++runs;
      tokens = static_cast<std::int64_t>(run.tokens.nll.size());
      for (std::size_t i = 0; i < run.tokens.nll.size(); ++i) {
        append(data, run.tokens.nll[i]);
        append(data, run.tokens.kl[i]);
        append(data, run.tokens.top1[i]);
      }
    }
    const std::string name = record.models.size() == 1 ? "tokens.npy" : "tokens-" + model.name + ".npy";
    files.emplace_back(name, npy_header("[('nll', '<f4'), ('kl', '<f4'), ('top1', '<i4')]", {runs, tokens}) + data);
  }
  return files;
}

}  // namespace qfid::eval
