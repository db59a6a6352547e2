// Who made the damage, in the words of every report, from rows made by hand.
#include "eval/metrics/blame.h"

#include <catch2/catch_test_macros.hpp>
#include <cmath>

#include "eval/report/findings.h"
#include "tests/eval/report/records.h"

using namespace qfid::eval;
using namespace qfid::tests;

namespace {

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

void add_row(RunRecord& run, int layer, int head, const char* tap, const char* error, double gain, double nmse) {
  run.layers.push_back(
      {layer, tap, head, error, {{"gain", gain}, {"nmse", nmse}, {"sqnr_db", -10 * std::log10(nmse)}, {"nan", 0.0}}});
}

}  // namespace

TEST_CASE("the format's damage is the format's, and a suspect kernel stands beside it in every report", "[blame]") {
  ExperimentRecord r = record_with({"int8"});
  RunRecord& run = r.runs[1];
  run.layers.clear();
  add_row(run, 0, 1, "v", "local", 1, 1e-3);
  add_row(run, 0, 1, "v", "format", 1, 1e-3);
  add_row(run, 0, 1, "v", "kernel", 1, 1e-14);
  add_row(run, 1, 0, "output", "kernel", 1.0005, 1e-6);
  CHECK(damage_in_words(run) == "layer 0, head 1, v: 30.0 dB, the format's");
  CHECK(kernel_suspicion(run).empty());
  CHECK(contains(console_report(r), "layer 0, head 1, v: 30.0 dB, the format's\n"));
  CHECK(contains(console_report(r), "format or kernel: the format."));

  add_row(run, 1, 1, "output", "kernel", 1.01, 1e-4);
  CHECK(contains(kernel_suspicion(run), "layer 1, head 1, output against the emulated twin"));
  CHECK(contains(kernel_suspicion(run), "gain 1.01, NMSE 0.0001, 10 times the limit; 1 of 3 places are beyond"));
  CHECK(damage_in_words(run) == "layer 0, head 1, v: 30.0 dB, the format's");
  CHECK(contains(markdown_report(r), "**suspect**: layer 1, head 1, output"));
  CHECK(contains(html_report(r), "Suspect the KERNEL of int8: layer 1, head 1, output"));

  add_row(run, 0, 0, "q", "kernel", 1, 1e-8);  // beyond an f32 sum, within 14 bits
  run.description = "real; linear: weights e4m3/channel";
  CHECK(blame_of(run).kernel->places == 2);
  run.backend = "gpu";
  CHECK(blame_of(run).kernel->places == 1);
}

TEST_CASE("what isn't a number is suspect; the probabilities come before the output that they make", "[blame]") {
  RunRecord run;
  add_row(run, 2, 0, "output", "kernel", 0.5, 0.5);
  run.layers.push_back({2, "probs", 0, "kernel", {{"kl", 0.1}}});
  CHECK(blame(run.layers, {}).kernel->tap == "probs");
  run.layers.push_back({1, "q", 0, "kernel", {{"gain", 1.0}, {"nmse", 0.0}, {"nan", 3.0}}});
  CHECK(blame(run.layers, {}).kernel->tap == "q");
  CHECK(blame(run.layers, {}).kernel->layer == 1);
  CHECK_FALSE(blame(run.layers, {}).damage);
  CHECK(blame({}, {}).party == Party::unknown);

  RunRecord codes;  // other codes of P are named before the output that suffers, behind the probabilities they come from
  add_row(codes, 2, 0, "output", "kernel", 0.5, 0.5);
  for (const int head : {0, 1})
    codes.layers.push_back({2, "p_codes", head, "kernel", {{"histogram_distance", 0.95 - 0.5 * head}}});
  CHECK(blame(codes.layers, {}).kernel->tap == "p_codes");
  CHECK(blame(codes.layers, {}).kernel->head == -1);  // both heads are beyond
  CHECK(contains(kernel_suspicion(codes), "layer 2, p_codes against the emulated twin"));
  CHECK(contains(kernel_suspicion(codes), "95 % of its codes are others, 9.5 times the limit; 3 of 3 places are beyond"));
  codes.layers.push_back({2, "probs", 1, "kernel", {{"kl", 1e-6}}});
  CHECK(blame(codes.layers, {}).kernel->tap == "probs");
  codes.layers = {{2, "p_codes", 0, "kernel", {{"histogram_distance", 0.05}}}};
  CHECK_FALSE(blame(codes.layers, {}).kernel);

  RunRecord local;
  add_row(local, 0, -1, "q", "local", 1, 0.1);
  local.layers.push_back({3, "ffn_out", -1, "local", {{"nan", 7.0}}});
  REQUIRE(blame(local.layers, {}).damage);
  CHECK(blame(local.layers, {}).damage->layer == 3);
  CHECK(damage_in_words(local) == "layer 3, ffn_out: NaN, format or kernel not told apart");
}
