// Gates of a record: verdicts, patterns, expected failures, saved baselines; what can't be compared; malformed files.
#include "eval/experiment/gates.h"

#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <filesystem>
#include <format>
#include <fstream>
#include <functional>

#include "eval/experiment/compare.h"
#include "eval/experiment/record_reader.h"
#include "eval/experiment/spec_reader.h"
#include "quant/core/error.h"
#include "quant/core/random.h"

using namespace qfid;
using namespace qfid::eval;
namespace fs = std::filesystem;

namespace {

fs::path written(const std::string& name, const std::string& text) {
  const fs::path path = fs::temp_directory_path() / ("qfid-gates-test-" + name);
  std::ofstream(path, std::ios::binary) << text;
  return path;
}

/// The error's message, FILE for the file's path; "" when there is none.
template <class Work>
std::string error_of(Work&& work, int code, const fs::path& file = {}) {
  try {
    work();
  } catch (const quant::Error& error) {
    CHECK(error.exit_code() == code);
    std::string text = error.what();
    if (!file.empty())
      for (std::size_t at = 0; (at = text.find(file.string(), at)) != std::string::npos;)
        text.replace(at, file.string().size(), "FILE");
    return text;
  }
  return "";
}

/// 32 windows of 100 tokens; per token, the target's NLL is 0.05 above the baseline's, KL 0.02, agreement 90 %.
ExperimentRecord record() {
  ExperimentRecord all;
  all.name = "t";
  all.provenance = {"1", "abc", "g++", {{"lib", "2"}},   "cpu", "isa", 1, 4, "t.npy", "hash", "window",
                    128, 0,     32,    "tokenizer.json", "tok", "file"};
  all.models.push_back({"m", "p", "opt", "content", 1, "softmax", {}, 2048});
  quant::Random random(1);
  WindowSums base;
  for (int i = 0; i < 32; ++i) {
    base.tokens.push_back(100);
    base.nll.push_back(300 + 10 * random.normal());
    base.kl.push_back(0);
    base.kl_reverse.push_back(0);
    base.top1_agree.push_back(100);
  }
  const auto add = [&](const std::string& name, double harm) {
    RunRecord run;
    run.model = "m";
    run.target = name;
    run.windows = base;
    for (std::size_t i = 0; i < 32 && harm > 0; ++i) {
      run.windows.nll[i] += harm * (5 + 0.5 * random.normal());
      run.windows.kl[i] = run.windows.kl_reverse[i] = harm * (2 + 0.2 * random.normal());
      run.windows.top1_agree[i] = 90 + static_cast<int>(random.below(3)) - 1;
    }
    all.runs.push_back(run);
  };
  add("baseline", 0);
  add("int8", 1);
  add("fp8", 2.5);
  return all;
}

std::vector<GateRecord> verdicts(const std::string& gates, const ExperimentRecord& of = record(),
                                 const SavedBaselines& saved = {}, const std::string& day = "2026-11-24") {
  return evaluate_gates(of, read_gates("/x/g.yaml", "gates:\n" + gates), saved, day);
}

}  // namespace

TEST_CASE("every metric, both directions, patterns and words", "[gates]") {
  const auto all = verdicts(
      "  a: {metric: perplexity.ratio, max: 1.06}\n  b: {metric: nll.difference, max: 0.04, targets: 'int?'}\n"
      "  c: {metric: kl.mean, max: 0.025}\n  d: {metric: kl_reverse.mean, min: 0.01, models: 'm*'}\n"
      "  e: {metric: top1.agreement, min: 0.8}\n  f: {metric: top1.flips, max: 0.01}\n  g: {metric: kl.mean, max: 1, "
      "models: n}\n");
  std::string summary;
  for (const GateRecord& g : all) summary += g.name + " " + g.target + " " + to_string(g.verdict) + "\n";
  CHECK(summary ==
        "a int8 pass\na fp8 fail\nb int8 fail\nc int8 pass\nc fp8 fail\nd int8 pass\nd fp8 pass\n"
        "e int8 pass\ne fp8 pass\nf int8 fail\nf fp8 fail\n");
  CHECK(std::fabs(*all[0].statistics.effect - std::exp(0.05)) < 0.005);
  CHECK(all[0].statistics.limits->low > 1);
  CHECK(all[0].words.find("perplexity.ratio is 1.05") == 0);
  CHECK(all[0].words.find("max 1.06: shown to be within") != std::string::npos);
  CHECK(all[1].words.find("shown to be beyond") != std::string::npos);
  CHECK_FALSE(all[0].blocks());
  CHECK(all[1].blocks());
}

TEST_CASE("inconclusive fails or warns, and says what it would take", "[gates]") {
  const auto all = verdicts(
      "  a: {metric: kl.mean, max: 0.0202, targets: int8}\n"
      "  b: {metric: kl.mean, max: 0.0202, targets: int8, on_inconclusive: warn}\n");
  REQUIRE(all.size() == 2);
  CHECK(all[0].verdict == GateVerdict::inconclusive);
  CHECK(all[0].blocks());
  CHECK(all[0].words.find("32 windows can't say; they show what is off by ") != std::string::npos);
  CHECK(all[0].words.find(" windows would settle it") != std::string::npos);
  CHECK(all[1].verdict == GateVerdict::warning);
  CHECK_FALSE(all[1].blocks());
  ExperimentRecord few = record();
  for (RunRecord& run : few.runs) run.windows = {{100, 100}, {300, 301}, {2, 3}, {2, 3}, {90, 91}};
  CHECK(verdicts("  a: {metric: kl.mean, max: 1, targets: int8}\n", few)[0].words.find(
            "2 windows say nothing, at least 16") != std::string::npos);
  few.runs[1].status = RunStatus::skipped;
  few.runs[1].message = "no GPU";
  const auto skipped = verdicts("  a: {metric: kl.mean, max: 1, targets: int8}\n", few);
  CHECK(skipped[0].blocks());
  CHECK(skipped[0].words.find("the run was skipped: no GPU") != std::string::npos);
}

TEST_CASE("by word and byte: documents are the units, and the bound is a power of the perplexity ratio's", "[gates]") {
  ExperimentRecord text = record();
  text.provenance.protocol = "lmeval";
  for (RunRecord& run : text.runs)
    for (std::int64_t d = 0; d < 16; ++d) run.documents.push_back({2, 50 + d, 250 + 4 * d});
  const auto all = verdicts(
      "  w: {metric: word_perplexity.ratio, max: 1.3, targets: int8}\n"
      "  b: {metric: byte_perplexity.ratio, max: 1.01, targets: int8}\n"
      "  d: {metric: bits_per_byte.difference, max: 0.08, targets: int8}\n"
      "  r: {metric: word_perplexity.ratio, max: 1.3, targets: fp8, relative_to: {target: int8}}\n"
      "  p: {metric: perplexity.ratio, max: 1.06, targets: int8}\n",
      text);
  double nll = 0, words = 0, bytes = 0, more = 0;
  for (std::size_t w = 0; w < 32; ++w) {
    nll += text.runs[1].windows.nll[w] - text.runs[0].windows.nll[w];
    more += text.runs[2].windows.nll[w] - text.runs[1].windows.nll[w];
  }
  for (const ScoredDocument& d : text.runs[1].documents) {
    words += static_cast<double>(d.words);
    bytes += static_cast<double>(d.bytes);
  }
  const auto near = [](std::optional<double> found, double expected) { return std::fabs(*found / expected - 1) < 1e-12; };
  CHECK(near(all[0].statistics.effect, std::exp(nll / words)));
  CHECK(near(all[0].statistics.effect, std::pow(*all[4].statistics.effect, 3200 / words)));
  CHECK(near(all[1].statistics.effect, std::exp(nll / bytes)));
  CHECK(near(all[2].statistics.effect, nll / bytes / std::log(2.0)));
  CHECK(near(all[3].statistics.effect, std::exp(more / words)));
  CHECK(all[0].statistics.windows == 16);
  CHECK(all[4].statistics.windows == 32);
  CHECK(all[0].verdict == GateVerdict::pass);
  CHECK(all[1].verdict == GateVerdict::fail);
  CHECK(all[2].verdict == GateVerdict::pass);
  for (RunRecord& run : text.runs) run.documents.assign(8, {4, 100, 500});
  CHECK(verdicts("  w: {metric: word_perplexity.ratio, max: 1.3, targets: int8}\n", text)[0].words.find(
            "8 documents say nothing, at least 16") != std::string::npos);
  const auto none = verdicts("  w: {metric: byte_perplexity.ratio, max: 2, targets: int8}\n");
  CHECK(none[0].words.find("hold no documents") != std::string::npos);
  CHECK(none[0].blocks());
}

TEST_CASE("relative to a target: the difference is paired", "[gates]") {
  const auto all = verdicts(
      "  a: {metric: perplexity.ratio, max: 1.01, relative_to: {target: int8}}\n"
      "  b: {metric: top1.agreement, max: 0.02, relative_to: {target: int8}}\n"
      "  c: {metric: kl.mean, max: 1, targets: int8, relative_to: {target: bf16}}\n");
  REQUIRE(all.size() == 3);  // not int8 against itself
  CHECK(std::fabs(*all[0].statistics.effect - std::exp(0.075)) < 0.005);
  CHECK(all[0].verdict == GateVerdict::fail);
  CHECK(all[0].words.find("relative to target int8") != std::string::npos);
  CHECK(all[1].verdict == GateVerdict::pass);
  CHECK(all[2].words.find("target bf16 wasn't run") != std::string::npos);
}

TEST_CASE("an expected failure is accepted while it fails and hasn't expired", "[gates]") {
  const auto verdict = [](const char* max, const char* day) {
    return verdicts(std::string("  a: {metric: kl.mean, targets: int8, expected_failure: {reason: coarse, expires: "
                                "2026-12-31}, max: ") +
                        max + "}\n",
                    record(), {}, day)[0];
  };
  CHECK(verdict("0.01", "2026-12-31").verdict == GateVerdict::expected_failure);
  CHECK_FALSE(verdict("0.01", "2026-12-31").blocks());
  CHECK(verdict("0.01", "2026-12-31").words.find("expected to fail until 2026-12-31 (coarse)") != std::string::npos);
  CHECK(verdict("0.01", "2027-01-01").verdict == GateVerdict::expired);
  CHECK(verdict("0.01", "2027-01-01").blocks());
  CHECK(verdict("0.03", "2026-12-31").verdict == GateVerdict::unexpected_pass);
  CHECK(verdict("0.03", "2026-12-31").blocks());
  CHECK(verdict("0.0202", "2026-12-31").verdict == GateVerdict::inconclusive);
}

TEST_CASE("a failure alone isn't one among many gates (Holm)", "[gates]") {
  // A bound just outside the limits: p a little below 0.01.
  const Interval limits = *verdicts("  a: {metric: kl.mean, max: 1, targets: int8}\n")[0].statistics.limits;
  const std::string edge = std::format("  a: {{metric: kl.mean, targets: int8, max: {}}}\n", limits.low * 0.9999);
  CHECK(verdicts(edge)[0].verdict == GateVerdict::fail);
  const auto many = verdicts(edge + "  b: {metric: kl.mean, max: 1}\n  c: {metric: top1.flips, max: 0.5}\n");
  CHECK(many[0].verdict == GateVerdict::inconclusive);
  CHECK(many[0].words.find("not surely so among 5 gates (Holm)") != std::string::npos);
}

TEST_CASE("a saved baseline: same bytes back, paired, and refused where the data differ", "[gates]") {
  const std::string gates = "  a: {metric: kl.mean, max: 0.0001, targets: int8, relative_to: {file: b.json}}\n";
  CHECK(verdicts(gates)[0].words.find("/x/b.json isn't there yet") != std::string::npos);
  const SavedBaseline made = baseline_of(record(), read_gates("/x/g.yaml", "gates:\n" + gates));
  REQUIRE(made.runs.size() == 1);
  CHECK(made.runs[0].sums.size() == 1);
  CHECK(baseline_of(record(), {}).runs.size() == 2);
  const std::string text = baseline_json(made);
  const fs::path file = written("b.json", text);
  const SavedBaseline read = read_baseline(file);
  CHECK(baseline_json(read) == text);
  const auto against = [&](const SavedBaseline& saved, const ExperimentRecord& now) {
    return verdicts(gates, now, {{"/x/b.json", saved}})[0];
  };
  CHECK(against(read, record()).verdict == GateVerdict::pass);  // the very same sums
  ExperimentRecord worse = record();
  for (double& kl : worse.runs[1].windows.kl) kl += 0.02;  // 0.0002 a token: far below the noise of unpaired windows
  CHECK(against(read, worse).verdict == GateVerdict::fail);
  struct Change {
    const char* what;
    std::function<void(ExperimentRecord&)> apply;
  };
  for (const auto& [what, apply] : std::vector<Change>{
           {"the protocol differs (gptq, window)", [](ExperimentRecord& r) { r.provenance.protocol = "gptq"; }},
           {"the context differs (64, 128)", [](ExperimentRecord& r) { r.provenance.context = 64; }},
           {"the hash of the tokens differs (other, hash)", [](ExperimentRecord& r) { r.provenance.tokens_hash = "other"; }},
           {"the hash of the tokenizer differs (other, tok)",
            [](ExperimentRecord& r) { r.provenance.tokenizer_hash = "other"; }},
           {"the number of windows differs (31, 32)", [](ExperimentRecord& r) { r.provenance.windows = 31; }},
           {"the chunk size differs (8, 4)", [](ExperimentRecord& r) { r.provenance.chunk_windows = 8; }},
           {"the protocol differs (outlier_free/batch=4, window)",
            [](ExperimentRecord& r) { r.provenance.protocol = "outlier_free/batch=4"; }},
           {"the vocabulary of model m differs (50272, 2048), the checkpoint of model m differs (x, content)",
            [](ExperimentRecord& r) {
              r.models[0].vocabulary = 50272;
              r.models[0].content_hash = "x";
            }},
           {"the checkpoint of model m differs (x, content)", [](ExperimentRecord& r) { r.models[0].content_hash = "x"; }},
       }) {
    ExperimentRecord other = record();
    apply(other);
    CAPTURE(what);
    CHECK(error_of([&] { against(read, other); }, 2).find(what) != std::string::npos);
    CHECK(error_of([&] { compare_records({{"b", record()}, {"a", other}}, 0.95); }, 2) != "");
  }
  SavedBaseline lacking = read;
  lacking.runs[0].target = "fp8";
  CHECK(against(lacking, record()).words.find("has no run m / int8") != std::string::npos);
  ExperimentRecord failed = record();
  failed.runs[1].status = RunStatus::failed;
  CHECK(error_of([&] { baseline_of(failed, {}); }, 2).find("only complete results") != std::string::npos);
}

TEST_CASE("malformed baselines name path and key", "[gates]") {
  const std::string good = baseline_json(baseline_of(record(), {}));
  const auto with = [&](const std::string& from, const std::string& to) {
    std::string text = good;
    const std::size_t at = text.find(from);
    REQUIRE(at != std::string::npos);
    const fs::path file = written("bad.json", text.replace(at, from.size(), to));
    return error_of([&] { read_baseline(file); }, 3, file);
  };
  CHECK(with("\"baseline_version\": 1", "\"baseline_version\": 2") == "FILE: \"baseline_version\" is 2, expected 1");
  CHECK(with("\"context\":128", "\"context\":\"128\"") ==
        "FILE: \"data.context\" is \"128\", expected a whole number, 1..1000000000000");
  CHECK(with("\"target\": \"int8\"", "\"tarket\": \"int8\"") == "FILE: missing key \"runs[0].target\"");
  CHECK(with("\"target\": \"fp8\"", "\"target\": \"int8\"") ==
        "FILE: \"runs[1].target\" is \"int8\", expected a target that no earlier run has");
  CHECK(with("\"kl\": [", "\"kl\": [1.5,") ==
        "FILE: \"runs[0].sums.kl\" is a list, expected a list of 32 numbers, one a window");
  CHECK(with("\"kl\": [", "\"kl\": [null,").starts_with("FILE: \"runs[0].sums.kl[0]\" is null, expected a number"));
  CHECK(with("{", "[").starts_with("FILE: "));
}

TEST_CASE("mistakes in gates have their place and remedy", "[gates]") {
  const auto message = [](const std::string& gates) {
    return error_of([&] { read_gates("g.yaml", "gates:\n" + gates); }, 2);
  };
  CHECK(message("  a: {metric: kl.mean}\n") ==
        "g.yaml:2:6: gate \"a\" has no bound, expected one of max, min (two gates make a range)");
  CHECK(message("  a: {metric: kl.mean, max: 1, min: 0}\n").find("has max and min") != std::string::npos);
  CHECK(message("  a: {metric: kl.maen, max: 1}\n").find("did you mean \"kl.mean\"?") != std::string::npos);
  CHECK(message("  a: {metric: kl.max, max: 1}\n").find("expected one of perplexity.ratio") != std::string::npos);
  CHECK(message("  a: {metric: perplexity.ratio, max: 0}\n").find("a perplexity ratio is above 0, found 0") !=
        std::string::npos);
  CHECK(message("  a: {metric: word_perplexity.ratio, max: 0}\n").find("a perplexity ratio is above 0") !=
        std::string::npos);
  CHECK(message("  a: {metric: top1.flips, max: 2}\n").find("is a share") != std::string::npos);
  CHECK(message("  a: {metric: kl.mean, max: -1}\n").find("never below 0") != std::string::npos);
  CHECK(message("  a: {metric: kl.mean, max: 1, relative_to: {}}\n").find("expected one of target, file") !=
        std::string::npos);
  CHECK(message("  a: {metric: kl.mean, max: 1, relative_to: {target: baseline}}\n").find("already relative") !=
        std::string::npos);
  for (const char* day : {"2026-02-30", "tomorrow", "2026-1-01", "0000-01-01"})
    CHECK(message(std::string("  a: {metric: kl.mean, max: 1, expected_failure: {reason: r, expires: ") + day + "}}\n")
              .find("expected a day, YYYY-MM-DD") != std::string::npos);
  CHECK(
      message("  a: {metric: kl.mean, max: 1, expected_failure: {expires: 2026-01-01}}\n").find("missing key \"reason\"") !=
      std::string::npos);
  CHECK(error_of([] { read_gates("g.yaml", "version: 1\n"); }, 2).find("no gates") != std::string::npos);
  CHECK(error_of([] { read_gates("g.yaml", "gate: {}\n"); }, 2).find("did you mean \"gates\"?") != std::string::npos);
  const fs::path configs = fs::path(QFID_SOURCE_DIR) / "configs";
  const fs::path spec =
      written("s.yaml", "version: 1\nname: t\nmodels: {m: {path: " + (configs / "models/tiny-softmax").string() +
                            "}}\ndata: {tokens: " + (configs / "data/tiny-tokens.npy").string() +
                            "}\ntargets: {int8: {}}\ngates:\n  a: {metric: kl.mean, max: 1, targets: imt8}\n");
  CHECK(error_of([&] { read_spec(spec); }, 2, spec) ==
        "FILE:7:6: gate \"a\": targets \"imt8\" matches nothing here, did you mean \"int8\"?");
  const auto with = [&](const std::string& gate, const std::string& metrics) {
    const fs::path file =
        written("u.yaml", "version: 1\nname: t\nmodels: {m: {path: " + (configs / "models/tiny-softmax").string() +
                              "}}\ndata: {tokens: " + (configs / "data/tiny-tokens.npy").string() +
                              "}\ntargets: {int8: {}}\n" + metrics + "gates:\n  a: " + gate + "\n");
    return error_of([&] { read_spec(file); }, 2, file);
  };
  CHECK(with("{metric: word_perplexity.ratio, max: 2}", "") ==
        "FILE:7:6: gate \"a\": word_perplexity.ratio counts words and bytes of documents, expected data.protocol: lmeval");
  CHECK(with("{exact: taps, relative_to: {file: b.json}}", "metrics: {local_windows: 0}\n") ==
        "FILE:8:6: gate \"a\" is exact, which needs metrics.local_windows");
  CHECK(with("{exact: taps, relative_to: {file: b.json}}", "") == "");
}
