// report.html: what it answers, that nothing from outside is markup, and that it is one well-formed, self-contained file.
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <functional>
#include <pugixml.hpp>
#include <set>

#include "eval/experiment/record_reader.h"
#include "eval/report/html.h"
#include "tests/eval/report/records.h"
#include "tests/support/temporary_directory.h"

using namespace qfid::eval;
using namespace qfid::tests;

namespace {

/// Faults of a page: what isn't well-formed, elements and attributes it must not have, charts without words, cells without
/// scope.
std::vector<std::string> faults_of(const std::string& html) {
  static const std::set<std::string> allowed{
      "html",   "head",    "meta",    "title",  "style", "body",    "a",       "header", "main",
      "footer", "nav",     "section", "div",    "span",  "p",       "h1",      "h2",     "h3",
      "h4",     "ul",      "li",      "dl",     "dt",    "dd",      "b",       "strong", "small",
      "table",  "caption", "thead",   "tbody",  "tr",    "th",      "td",      "figure", "figcaption",
      "svg",    "desc",    "path",    "circle", "text",  "details", "summary", "pre",    "code"};
  std::vector<std::string> faults;
  pugi::xml_document document;
  const pugi::xml_parse_result parsed = document.load_string(html.c_str(), pugi::parse_full | pugi::parse_ws_pcdata);
  if (!parsed) return {std::string("not well-formed: ") + parsed.description()};
  std::set<std::string> ids;
  const std::function<void(const pugi::xml_node&)> visit = [&](const pugi::xml_node& node) {
    const std::string name = node.name();
    if (node.type() == pugi::node_element && !allowed.contains(name)) faults.push_back("element " + name);
    for (const pugi::xml_attribute& attribute : node.attributes()) {
      const std::string key = attribute.name(), value = attribute.value();
      if (key.starts_with("on") || key == "src" || key == "style") faults.push_back("attribute " + key);
      if (key == "href" && !value.starts_with("#")) faults.push_back("link to " + value);
      if (key == "id" && !ids.insert(value).second) faults.push_back("two of id " + value);
    }
    if (name == "th" && node.attribute("scope").empty()) faults.push_back("th without scope");
    if (name == "svg" && node.attribute("aria-hidden").empty() && std::string(node.child("title").text().get()).empty())
      faults.push_back("svg without title");
    for (const pugi::xml_node& child : node.children()) visit(child);
  };
  visit(document);
  for (const char* remote : {"url(", "@import", "<script"})
    if (html.find(remote) != std::string::npos) faults.push_back(remote);
  return faults;
}

bool says(const std::string& html, const std::string& words) { return html.find(words) != std::string::npos; }

/// What a shop of hostile names would try.
const std::string hostile = "<script>alert(1)</script>\"><img src=x onerror=alert(1)>' & </style></svg> \x01\xFF";

}  // namespace

TEST_CASE("the checker of pages sees faults", "[html]") {
  CHECK(faults_of("<p>a</p>").empty());
  CHECK(faults_of("<p>a<p>").size() == 1);
  CHECK(faults_of("<p onclick=\"x\"><script>1</script></p>").size() == 3);
  CHECK(faults_of("<a href=\"http://x\">y</a>").size() == 1);
  CHECK(faults_of("<table><th>a</th></table>").size() == 1);
  CHECK(faults_of("<svg><path/></svg>").size() == 1);
}

TEST_CASE("text is escaped, elements close, and what is open can't be taken for done", "[html]") {
  Html page;
  page.open("p", {{"class", "a\"b"}}).text("1 < 2 & 'x'\x01").leaf("b", "\xFF").close();
  CHECK(page.str() == "<p class=\"a&quot;b\">1 &lt; 2 &amp; &#39;x&#39;\xEF\xBF\xBD<b>\xEF\xBF\xBD</b></p>\n");
  page.open("div");
  CHECK(failure_of([&] { (void)page.str(); }).code == 5);
  CHECK(coordinate(1.5) == "1.5");
  CHECK(coordinate(2) == "2");
  CHECK(coordinate(-0.001) == "0");
  CHECK(coordinate(0.126) == "0.13");
}

TEST_CASE("a page of every kind of record is well-formed, self-contained and readable without eyes", "[html]") {
  ExperimentRecord gated = record_with({"int8", "fp8"});
  gated.gates = {gate_on("int8", GateVerdict::pass), gate_on("fp8", GateVerdict::fail)};
  gated.warnings = {"careful"};
  ExperimentRecord failed = record_with({"int8", "gone"});
  failed.runs[2] = RunRecord{};
  failed.runs[2].model = "m";
  failed.runs[2].target = "gone";
  failed.runs[2].status = RunStatus::failed;
  failed.runs[2].message = "out of memory";
  gated.attention = {{"m", 1, 0, "why", 8, {{"baseline", {{1000}, {500, 500}}}, {"fp8", {{1000}, {0, 1000}}}, {"gone", {}}}},
                     {"of no model", 0, 0, "", 1, {}}};
  ExperimentRecord interrupted = record_with({"int8"});
  interrupted.interrupted = true;
  ExperimentRecord bare = record_with({"int8"});
  for (RunRecord& run : bare.runs) {
    run.layers.clear();
    run.tokens = {};
  }
  ExperimentRecord broken = record_with({"int8"});
  for (Metric& metric : broken.runs[1].metrics) metric.value = NAN;
  for (LayerRow& row : broken.runs[1].layers)
    for (auto& [name, value] : row.values) value = name == "nmse" ? INFINITY : NAN;
  for (float& kl : broken.runs[1].tokens.kl) kl = NAN;
  for (const ExperimentRecord& record :
       {record_with({}), record_with({"int8"}), gated, failed, interrupted, bare, broken, ExperimentRecord{}}) {
    const std::string html = html_report(record);
    CHECK(faults_of(html) == std::vector<std::string>{});
    CHECK(html.starts_with("<!DOCTYPE html>\n<html lang=\"en\">"));
    CHECK_FALSE(says(html, ">nan<"));
  }
  CHECK(says(html_report(failed), "gone on m failed: out of memory"));
  CHECK(says(html_report(interrupted), "decides nothing"));
}

TEST_CASE("nothing from outside is markup", "[html]") {
  ExperimentRecord r = record_with({hostile}, 2, 2, hostile);
  r.name = r.spec_file = r.spec_text = hostile;
  r.sets = r.warnings = {hostile};
  r.interrupted = true;
  r.provenance = {hostile, hostile, hostile, {{hostile, hostile}}, hostile, hostile, 1, 4, hostile, hostile, hostile,
                  128,     0,       16};
  ModelRecord& model = r.models[0];
  model.path = model.family = model.content_hash = model.variant = hostile;
  GateRecord gate = gate_on(hostile, GateVerdict::fail, hostile);
  gate.model = gate.metric = gate.relative_to = gate.words = gate.reason = gate.expires = hostile;
  r.gates = {gate};
  r.pairs = {{hostile, hostile, hostile, {"nll.difference", 1.0, {}, hostile, hostile}}};
  RunRecord& run = r.runs[1];
  run.backend = run.mode = run.description = run.repro = run.message = hostile;
  run.status = RunStatus::failed;
  run.implementations = {{hostile, hostile}};
  run.metrics.push_back({hostile, 1.0, {}, hostile, hostile});
  run.layers.push_back({0, hostile, -1, "local", {{"sqnr_db", 1.0}, {hostile, 2.0}}});
  for (Metric& metric : run.metrics) metric.note = hostile + ": " + hostile;
  const std::string html = html_report(r);
  CHECK(faults_of(html) == std::vector<std::string>{});
  CHECK_FALSE(says(html, "<img"));
  CHECK(says(html, "&lt;script&gt;alert(1)&lt;/script&gt;"));
}

TEST_CASE("the first screen says what ships, in words no stronger than the gates", "[html]") {
  ExperimentRecord r = record_with({"a", "b", "c"});
  CHECK(says(html_report(r), "No gates were set, so nothing passes or fails. Closest to full precision: a; farthest: c."));
  r.gates = {gate_on("a", GateVerdict::pass), gate_on("b", GateVerdict::inconclusive), gate_on("c", GateVerdict::fail)};
  CHECK(says(html_report(r), "a passes every gate. Blocked: c. Undecided, this data can&#39;t say: b."));
  CHECK(says(html_report(r),
             "<b>a</b>: perplexity \xC3\x97 1.0100 (1.0080 to 1.0120), KL 0.0100 nats, forward time \xC3\x97 0.50"));
  CHECK(says(html_report(r), "<b>a</b>: worst in layer 1, head 1, output: 29.0 dB"));
  CHECK(says(html_report(r), "The format. Fed the same inputs"));
  r.gates = {gate_on("a", GateVerdict::pass), gate_on("a", GateVerdict::expected_failure, "known")};
  CHECK(says(html_report(r),
             "None passes every gate. Not blocked, but excused: a (known: expected failure). Without a gate: b and c."));
  r.gates = {gate_on("a", GateVerdict::inconclusive), gate_on("a", GateVerdict::fail)};
  CHECK(says(html_report(r), "None passes every gate. Blocked: a."));
  r.runs[0].metrics.push_back({"weights.bytes", 8e6, {}, "bytes", ""});
  r.runs[1].metrics.push_back({"weights.bytes", 2e6, {}, "bytes", ""});
  CHECK(says(html_report(r), "forward time \xC3\x97 0.50, weights \xC3\x97 0.25 (2 MB)"));
  r.gates = {gate_on("a", GateVerdict::inconclusive)};
  CHECK(says(html_report(r), "<span class=\"verdict v2\">? inconclusive, blocks</span>"));
  r.gates = {gate_on("a", GateVerdict::fail)};
  CHECK(says(html_report(r), "<span class=\"verdict v0\">\xE2\x9C\x95 fail</span>"));
  r.runs[1].metrics[4].value = 0.5;  // the gain is far off
  CHECK(says(html_report(r), "Suspect the KERNEL of a"));
}

TEST_CASE("many models: the answer over all of them stands first", "[html]") {
  ExperimentRecord r = record_with({"a", "b"});
  CHECK_FALSE(says(html_report(r), "All 1 models"));
  for (const char* name : {"n", "o"}) {
    const ExperimentRecord other = record_with({"a", "b"}, 2, 2, name);
    r.models.push_back(other.models[0]);
    r.runs.insert(r.runs.end(), other.runs.begin(), other.runs.end());
  }
  CHECK(says(html_report(r), "All 3 models"));
  for (const char* name : {"m", "n", "o"}) {
    r.gates.push_back(gate_on("a", GateVerdict::pass));
    r.gates.back().model = name;
    r.gates.push_back(gate_on("b", std::string(name) == "n" ? GateVerdict::fail : GateVerdict::pass));
    r.gates.back().model = name;
  }
  r.runs[5].metrics[2].value = 0.5;  // b on n
  r.runs[8].layers.push_back({1, "v", 1, "local", {{"sqnr_db", 3.0}}});
  const std::string html = html_report(r);
  CHECK(faults_of(html) == std::vector<std::string>{});
  CHECK(says(html, "On every model may ship: a. Blocked: b on n."));
  CHECK(says(html, "<b>b on n</b>: perplexity \xC3\x97 1.0200 (1.0160 to 1.0240), KL 0.5000 nats"));
  CHECK(says(html, "<b>b on o</b>: layer 1, head 1, v: 3.0 dB"));
  CHECK(says(html, "No kernel that ran beside its emulated twin is suspect."));
}

TEST_CASE("targets stand worst first; any metric is in the full table", "[html]") {
  ExperimentRecord r = record_with({"good", "bad"});
  r.runs[1].metrics.push_back({"brand.new", 0.125, {}, "nats", ""});
  const std::string html = html_report(r);
  const std::size_t table = html.find("Targets of m, worst first");
  CHECK(html.find(">bad</th>", table) < html.find(">good</th>", table));
  CHECK(says(html, "<th scope=\"row\">brand.new</th><td>nats</td><td>-</td><td>0.1250</td><td>-</td>"));
}

TEST_CASE("what was read back gives the same page", "[html]") {
  const TemporaryDirectory dir;
  ExperimentRecord r = record_with({"int8", "fp8"});
  r.gates = {gate_on("int8", GateVerdict::pass), gate_on("fp8", GateVerdict::expired)};
  r.pairs = {{"m", "int8", "fp8", {"nll.difference", 0.25, Interval{0.125, 0.5}, "nats", ""}}};
  write_reports(r, dir.path());
  ExperimentRecord again = read_whole_record(dir.path() / "results.json");
  CHECK(read_token_files(again, dir.path()).empty());
  CHECK(html_report(again) == read_file(dir.path() / "report.html"));
  CHECK(markdown_report(again) == read_file(dir.path() / "report.md"));
  CHECK(layers_csv(again) == read_file(dir.path() / "layers.csv"));
  CHECK(results_json(again) == read_file(dir.path() / "results.json"));
  const std::string tokens = read_file(dir.path() / "tokens.npy");
  std::filesystem::remove(dir.path() / "tokens.npy");
  ExperimentRecord without = read_whole_record(dir.path() / "results.json");
  CHECK(read_token_files(without, dir.path()).size() == 1);
  CHECK_FALSE(says(html_report(without), "KL of single tokens"));
  for (const std::string& wrong : {std::string("x"), std::string(), tokens.substr(0, tokens.size() - 1),
                                   tokens.substr(0, tokens.size() - 36), tokens + std::string(36, '\0'), 'x' + tokens}) {
    dir.write("tokens.npy", wrong);
    CHECK(failure_of([&] { read_token_files(without, dir.path()); }).code == 3);
  }
}

TEST_CASE("a page of many layers, heads and targets stays small", "[html]") {
  std::vector<std::string> targets;
  for (int i = 0; i < 14; ++i) targets.push_back("target-" + std::to_string(i));
  const std::string large = html_report(record_with(targets, 48, 64));
  CHECK(large.size() < 3'000'000);
  CHECK(says(large, "Not every target is drawn"));
  CHECK(faults_of(large) == std::vector<std::string>{});
  const std::string usual = html_report(record_with(targets, 12, 16));
  CHECK(usual.size() < 1'000'000);
  CHECK_FALSE(says(usual, "Not every target is drawn"));
  ExperimentRecord absurd = record_with({"int8"});
  absurd.runs[1].layers.push_back({1'000'000, "output", 1'000'000, "local", {{"sqnr_db", 1.0}}});
  CHECK(faults_of(html_report(absurd)) == std::vector<std::string>{});
}

TEST_CASE("the codes of P: a map a target, what coding costs, the worst layer's parts", "[html]") {
  ExperimentRecord record = record_with({"int8"});
  record.runs[1].metrics.push_back({"p_codes.flushed_mass", 0.0123, {}, "share", ""});
  const std::string page = html_report(record);
  CHECK(faults_of(page).empty());
  CHECK(says(page, "int8 (uint8)"));
  CHECK(says(page, "2 layers by 33 groups of codes, 8 codes a group; 0.75 of all are code 0"));
  CHECK(says(page, "<td>uint8</td><td>0.7500</td><td>3</td><td>0.0123</td>"));
  CHECK(says(page, "<td>int8</td><td>1</td><td>context</td><td>0.0020</td><td>0.0020</td>"));
  for (RunRecord& run : record.runs) {
    run.p_codes.clear();
    std::erase_if(run.layers, [](const LayerRow& row) { return row.tap == "context"; });
  }
  const std::string without = html_report(record);
  CHECK_FALSE(says(without, "id=\"p-codes\""));
  CHECK_FALSE(says(without, "id=\"parts\""));
}
