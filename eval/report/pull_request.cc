// Markdown for a pull request or a CI job's summary, and workflow annotations: the verdict first, the worst rows first, and
// never more than the place takes. What was left out is said.
#include <algorithm>
#include <format>

#include "eval/report/findings.h"
#include "eval/report/format.h"
#include "eval/report/quality.h"
#include "eval/report/report.h"

namespace qfid::eval {

namespace {

struct Row {
  Shipping shipping;
  double distance;
  std::string text;
};

std::string row_of(const Quality& quality, const TargetFinding& finding) {
  const RunRecord& run = *finding.run;
  const std::string names = std::format("| {} | {} | {} |", to_string(finding.shipping), cell(run.model), cell(run.target));
  if (run.metrics.empty()) return std::format("{} {}: {} | | | | |\n", names, to_string(run.status), cell(run.message));
  const auto place = worst_place(run, "local");
  return std::format("{} {} | {} | {} | {} | {} |\n", names, short_number(find_metric(run, quality.headline.metric)),
                     interval_text(find_metric(run, quality.headline.metric)),
                     short_number(find_metric(run, quality.distance.metric)),
                     short_number(find_metric(run, quality.agreement.metric)), place ? cell(in_words(*place)) : "-");
}

std::vector<Row> rows_of(const ExperimentRecord& record) {
  const Quality& quality = quality_of(record);
  std::vector<Row> rows;
  for (const ModelRecord& model : record.models)
    for (const TargetFinding& finding : worst_first(record, model.name)) {
      const Metric* distance = find_metric(*finding.run, quality.distance.metric);
      rows.push_back({finding.shipping, distance != nullptr ? distance->value.value_or(0) : 0, row_of(quality, finding)});
    }
  std::stable_sort(rows.begin(), rows.end(), [](const Row& a, const Row& b) {
    return a.shipping != b.shipping ? a.shipping < b.shipping : a.distance > b.distance;
  });
  return rows;
}

/// Adds lines while they fit below `limit`; returns how many didn't.
std::size_t add_rows(std::string& text, const std::vector<std::string>& rows, std::size_t limit) {
  for (std::size_t i = 0; i < rows.size(); ++i) {
    if (text.size() + rows[i].size() > limit) return rows.size() - i;
    text += rows[i];
  }
  return 0;
}

std::string left_out(std::size_t rows) {
  return rows == 0 ? "\n"
                   : std::format("\n{} more rows are left out here: report.html and results.json have them.\n\n", rows);
}

std::string shortened(std::string text, std::size_t most) {
  if (text.size() <= most) return text;
  std::size_t end = most;  // never inside a character
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;
  return text.substr(0, end) + "...";
}

/// As the workflow commands of GitHub Actions want text: https://docs.github.com/actions, "workflow commands".
std::string command_text(const std::string& text, bool property) {
  std::string out;
  for (const char c : text) {
    if (c == '%') {
      out += "%25";
    } else if (c == '\r') {
      out += "%0D";
    } else if (c == '\n') {
      out += "%0A";
    } else if (property && c == ':') {
      out += "%3A";
    } else if (property && c == ',') {
      out += "%2C";
    } else {
      out += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
    }
  }
  return out;
}

}  // namespace

std::string pull_request_markdown(const ExperimentRecord& record, std::size_t limit) {
  constexpr std::size_t name_length = 200, reserve = 2000;
  const std::size_t room = limit > reserve ? limit - reserve : 0;
  std::string text = "## qfid: " + cell(shortened(record.name, name_length)) + "\n\n";
  if (record.interrupted) text += "**Interrupted**: the numbers cover the windows that were finished.\n\n";
  const auto blocking =
      std::count_if(record.gates.begin(), record.gates.end(), [](const GateRecord& g) { return g.blocks(); });
  if (record.gates.empty())
    text += "No gates: nothing passes or fails.\n\n";
  else if (blocking == 0)
    text += std::format("**Passes**: none of {} gates blocks.\n\n", record.gates.size());
  else
    text += std::format("**Does not pass**: {} of {} gates block.\n\n", blocking, record.gates.size());
  const Quality& quality = quality_of(record);
  text +=
      std::format("| verdict | model | target | {} | interval | {} | {} | worst local place |\n",
                  quality.ratio ? "perplexity ratio" : quality.headline.name, quality.distance.name, quality.agreement.name);
  text += "|---|---|---|---|---|---|---|---|\n";
  std::vector<std::string> rows, gates;
  for (Row& row : rows_of(record)) rows.push_back(std::move(row.text));
  text += left_out(add_rows(text, rows, record.gates.empty() ? room : room / 2));
  for (const bool blocks : {true, false})
    for (const GateRecord& gate : record.gates)
      if (gate.blocks() == blocks)
        gates.push_back(std::format("| {}{}{} | {} | {} | {} | {} |\n", blocks ? "**" : "", to_string(gate.verdict),
                                    blocks ? "**" : "", cell(gate.name), cell(gate.model), cell(gate.target),
                                    cell(gate.words)));
  if (!gates.empty()) {
    text += "| gate's verdict | gate | model | target | in words |\n|---|---|---|---|---|\n";
    text += left_out(add_rows(text, gates, room));
  }
  for (const ModelRecord& model : record.models) {
    const std::string words = format_or_kernel(record, model.name);
    if (!words.empty() && text.size() + words.size() + model.name.size() < room)
      text += cell(model.name) + ": " + cell(words) + ".\n\n";
  }
  const Provenance& p = record.provenance;
  text += shortened(std::format("{} windows of {} tokens, protocol {}, {}, {}; qfid {} ({}).", p.windows, p.context,
                                cell(p.protocol), cell(p.device), cell(p.isa), cell(p.tool_version), cell(p.git_commit)),
                    1000) +
          "\n";
  return text;
}

std::string annotations(const ExperimentRecord& record) {
  constexpr std::size_t most = 10, length = 1000;
  std::vector<std::string> lines;
  const auto add = [&](const char* kind, const std::string& title, const std::string& words) {
    lines.push_back(std::format("::{} title={}::{}\n", kind, command_text(shortened(title, 200), true),
                                command_text(shortened(words, length), false)));
  };
  for (const RunRecord& run : record.runs)
    if (run.status == RunStatus::failed) add("error", "qfid: " + run.target + " on " + run.model + " failed", run.message);
  for (const bool blocks : {true, false})
    for (const GateRecord& gate : record.gates)
      if (gate.blocks() == blocks && gate.verdict != GateVerdict::pass)
        add(blocks ? "error" : "warning",
            std::format("qfid: {}, {} on {}, {}", gate.name, gate.target, gate.model, to_string(gate.verdict)), gate.words);
  if (lines.size() > most) {
    const std::size_t more = lines.size() - (most - 1);
    lines.resize(most - 1);
    add("warning", "qfid", std::format("{} more findings; report.html has them all", more));
  }
  std::string text;
  for (const std::string& line : lines) text += line;
  return text;
}

}  // namespace qfid::eval
