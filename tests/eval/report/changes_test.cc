// Noise floors, interventions and hashes in every form, and back from results.json.
#include <catch2/catch_test_macros.hpp>
#include <fstream>

#include "eval/experiment/record_reader.h"
#include "quant/core/error.h"
#include "tests/eval/report/records.h"
#include "tests/support/temporary_directory.h"

using namespace qfid;
using namespace qfid::eval;
using namespace qfid::tests;

namespace {

ExperimentRecord changed_record() {
  ExperimentRecord r = record_with({"int8", "fp8"});
  ScoredChange noise{"m", "baseline", "module outputs off by 2^-9", "", {2, 2}, {0.25, -0.25}, {0.125, 0.375}, {}};
  noise.metrics = {{"perplexity", 20.5, {}, "", ""},
                   {"perplexity.ratio", 1.0625, Interval{1.03125, 1.09375}, "ratio", ""},
                   {"kl.mean", 0.0078125, {}, "nats", "no interval below 16 windows"},
                   {"top1.agreement", 0.984375, {}, "share", ""}};
  r.noise = {noise};
  ScoredChange zero{"m", "int8", "zero_v_0", "", {2, 2}, {1, 2}, {0.5, 0.25}, {}};
  zero.metrics = {{"perplexity", 33.5, {}, "", ""},
                  {"nll.difference", 0.4375, Interval{0.40625, 0.46875}, "nats", ""},
                  {"kl.mean", 0.28125, {}, "nats", ""}};
  r.interventions = {zero, {"m", "fp8", "gate_one", "the model has no <gates>"}};
  GateRecord gate = gate_on("int8", GateVerdict::pass);
  gate.noise_floor = 1.09375;
  r.gates = {gate};
  r.runs[1].hashes =
      TensorHashes{2, {{"backend", "cpu"}, {"instruction set", "isa"}}, {{"layer0.q", {"a1", "b2"}}, {"logits", {"c3"}}}};
  return r;
}

bool contains(const std::string& text, const std::string& what) { return text.find(what) != std::string::npos; }

}  // namespace

TEST_CASE("the noise floor stands beside the targets, interventions have their tables", "[changes]") {
  const ExperimentRecord r = changed_record();
  const std::string console = console_report(r), markdown = markdown_report(r), page = html_report(r), csv = metrics_csv(r);
  CHECK(contains(console, "noise floor, module outputs off by 2^-9: ratio 1.0625 (1.03125 .. 1.09375)"));
  CHECK(contains(console, "int8, zero_v_0: 0.4375 (0.40625 .. 0.46875)"));
  CHECK(contains(console, "fp8, gate_one: the model has no <gates>"));
  CHECK(contains(markdown, "### Noise floor"));
  CHECK(contains(markdown, "| module outputs off by 2^-9 | 1.0625 (1.03125 .. 1.09375) | 0.0078125 | 0.984375 | 2 |"));
  CHECK(contains(markdown, "### Interventions"));
  CHECK(contains(markdown, "0.4375 (0.40625 .. 0.46875)"));
  CHECK(contains(page, "noise floor"));
  CHECK(contains(page, "1.0312 to 1.0938"));
  CHECK(contains(page, "id=\"interventions\""));
  CHECK(contains(page, "the value of position 0 is 0"));
  CHECK(contains(page, "the model has no &lt;gates&gt;"));
  CHECK_FALSE(contains(page, "the model has no <gates>"));
  CHECK(contains(csv, "m,baseline,noise.kl.mean,0.0078125,,,nats,module outputs off by 2^-9\r\n"));
  CHECK(contains(csv, "m,int8,intervention.zero_v_0.nll.difference,0.4375,0.40625,0.46875,nats,\r\n"));
  const ExperimentRecord plain = record_with({"int8"});
  for (const std::string& text : {console_report(plain), markdown_report(plain), html_report(plain)}) {
    CHECK_FALSE(contains(text, "noise floor"));
    CHECK_FALSE(contains(text, "Intervention"));
  }
}

TEST_CASE("what results.json says of changes and hashes reads back to the same text", "[changes]") {
  const TemporaryDirectory dir;
  const std::string text = results_json(changed_record());
  const auto file = dir.write("results.json", text);
  CHECK(results_json(read_whole_record(file)) == text);
  // What a check reads: hashes and the floor, not the interventions.
  const ExperimentRecord essentials = read_results(file);
  CHECK(essentials.runs[1].hashes == changed_record().runs[1].hashes);
  CHECK(essentials.noise.size() == 1);
  const auto with = [&](const std::string& from, const std::string& to) {
    std::string bad = text;
    const std::size_t at = bad.find(from);
    REQUIRE(at != std::string::npos);
    try {
      read_whole_record(dir.write("bad.json", bad.replace(at, from.size(), to)));
    } catch (const quant::Error& error) {
      CHECK(error.exit_code() == 3);
      return dir.shown(error.what());
    }
    return std::string("read");
  };
  CHECK(contains(with("\"a1 b2\"", "\"a1  b2\""), "\"runs[1].hashes.tensors.layer0.q\" is \"a1  b2\", expected hashes"));
  CHECK(contains(with("\"nll_difference\": [", "\"nll_difference\": [7, "), "expected a list of 2 numbers, one a window"));
  CHECK(contains(with("\"name\": \"zero_v_0\"", "\"game\": \"zero_v_0\""), "missing key \"interventions[0].name\""));
}
