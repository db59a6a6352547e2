// Every value of a configuration is read, bounds hold where they are said to, and what a reader of gates or targets alone
// asks.
#include <catch2/catch_test_macros.hpp>
#include <filesystem>

#include "eval/experiment/gate_reader.h"
#include "eval/experiment/spec_reader.h"
#include "eval/experiment/yaml_tree.h"
#include "tests/support/temporary_directory.h"

using namespace qfid;
using namespace qfid::eval;
using namespace qfid::tests;

namespace {

const std::string configs = QFID_SOURCE_DIR "/configs";
const std::string tokens = "tokens: " + configs + "/data/tiny-tokens.npy";

/// Five lines and the targets.
std::string text_of(const std::string& data, const std::string& target, const std::string& rest = "") {
  return "version: 1\nname: t\nmodels: {m: {path: " + configs + "/models/tiny-softmax}}\ndata: {" + data +
         "}\ntargets:\n  t: " + target + "\n" + rest;
}

Spec read(const std::string& text, const std::vector<std::string>& sets = {}) {
  const TemporaryDirectory dir;
  return read_spec(dir.write("x.yaml", text), sets);
}

/// Message without the file's name; "" when the text is valid.
std::string refused(const std::string& text, const std::vector<std::string>& sets = {}) {
  const TemporaryDirectory dir;
  const auto path = dir.write("x.yaml", text);
  const Failure failure = failure_of([&] { read_spec(path, sets); });
  CHECK(failure.code == (failure.message.empty() ? 0 : 2));
  return replaced(failure.message, path.string() + ":", "");
}
std::string refused_target(const std::string& target) { return refused(text_of(tokens, target)); }
std::string refused_rest(const std::string& rest) { return refused(text_of(tokens, "{}", rest)); }

}  // namespace

TEST_CASE("every value of models, data, baseline, metrics and run is read", "[spec]") {
  std::string text = text_of(tokens +
                                 ", first_token: 5, windows: 3, context: 16, protocol: outlier_free, batch_windows: 3, "
                                 "calibration: {first_token: 900, windows: 2}",
                             "{}",
                             "baseline: {backend: gpu, device: 1}\nmetrics:\n  local_windows: 2\n  kernel_windows: 3\n"
                             "  sink_windows: 4\n  budget_windows: 5\n  noise_windows: 6\n  intervention_windows: 7\n"
                             "  interventions: [zero_v_0, gate_one, zero_v_0]\n  confidence: 0.75\n  sink_threshold: 0.25\n"
                             "run: {threads: 3, chunk_windows: 9}\n");
  text.replace(text.find("}}"), 0, ", group: g, seed: 3, step: 100");
  const Spec spec = read(text, {"data.windows=6"});
  CHECK(spec.name == "t");
  CHECK(spec.sets == std::vector<std::string>{"data.windows=6"});
  CHECK(spec.text == text);
  REQUIRE(spec.models.size() == 1);
  CHECK(spec.models[0].name == "m");
  CHECK(spec.models[0].group == "g");
  CHECK(spec.models[0].seed == 3);
  CHECK(spec.models[0].step == 100);
  CHECK(spec.data.first_token == 5);
  CHECK(spec.data.windows == 6);
  CHECK(spec.data.context == 16);
  CHECK(spec.data.protocol == Protocol::outlier_free);
  CHECK(spec.data.batch_windows == 3);
  REQUIRE(spec.data.calibration);
  CHECK(spec.data.calibration->first_token == 900);
  CHECK(spec.data.calibration->windows == 2);
  CHECK(spec.baseline.name == "baseline");
  CHECK(spec.baseline.backend == "gpu");
  CHECK(spec.baseline.device == 1);
  CHECK(spec.metrics.local_windows == 2);
  CHECK(spec.metrics.kernel_windows == 3);
  CHECK(spec.metrics.sink_windows == 4);
  CHECK(spec.metrics.budget_windows == 5);
  CHECK(spec.metrics.noise_windows == 6);
  CHECK(spec.metrics.intervention_windows == 7);
  CHECK(spec.metrics.interventions == std::vector<std::string>{"zero_v_0", "gate_one"});
  CHECK(spec.metrics.confidence == 0.75);
  CHECK(spec.metrics.sink_threshold == 0.25);
  CHECK(spec.run.threads == 3);
  CHECK(spec.run.chunk_windows == 9);
  CHECK(read(text_of(tokens + ", calibration: {first_token: 1}", "{}")).data.calibration->windows == 16);
  CHECK_FALSE(read(text_of(tokens, "{}")).run.threads);
}

TEST_CASE("every value of a target is read", "[spec]") {
  const auto target = [](const std::string& body) {
    return read(text_of(tokens + ", calibration: {first_token: 0}", body)).targets.at(0);
  };
  const TargetSpec plain = target("{}");
  CHECK(plain.name == "t");
  CHECK(plain.backend == "cpu");
  CHECK(plain.mode == kernels::ExecutionMode::real);
  CHECK_FALSE(plain.fast_accum);
  CHECK_FALSE(plain.skip_when_unavailable);
  CHECK(plain.attention == kernels::AttentionSchemes{});
  const TargetSpec gpu = target(
      "{backend: gpu, device: 2, fast_accum: true, mode: library, when_unavailable: skip, "
      "linear: {weights: e4m3, activations: e4m3}}");
  CHECK(gpu.backend == "gpu");
  CHECK(gpu.device == 2);
  CHECK(gpu.fast_accum);
  CHECK(gpu.mode == kernels::ExecutionMode::library);
  CHECK(gpu.skip_when_unavailable);
  CHECK(quant::to_string(gpu.linear.activations) == "e4m3/tensor/absmax/dynamic");
  CHECK(target("{mode: real, fast_accum: false, when_unavailable: fail}").mode == kernels::ExecutionMode::real);
  CHECK(target("{mode: emulated, backend: reference}").mode == kernels::ExecutionMode::emulated);

  const auto attention = [&](const std::string& body) { return target("{attention: {" + body + "}}").attention; };
  const kernels::AttentionSchemes codes = attention(
      "q: int8/token, k: int8/head, v: e4m3, p: e4m3, output: bf16, p_scale: 128, p_reference: running_forward, p_block: "
      "32, "
      "p_sum: quantized, smooth_k: true, scores_storage: bf16");
  CHECK(quant::to_string(codes.q) == "int8/token/absmax/dynamic");
  CHECK(quant::to_string(codes.k) == "int8/head/absmax/dynamic");
  CHECK(quant::to_string(codes.v) == "e4m3/tensor/absmax/dynamic");
  CHECK(codes.output.format == quant::Format::bf16);
  CHECK(codes.p.format == quant::Format::e4m3);
  CHECK(codes.p.p_scale == 128);
  CHECK(codes.p.reference == kernels::PReference::running_forward);
  CHECK(codes.p.block == 32);
  CHECK(codes.p.quantized_sum);
  CHECK(codes.smooth_k);
  CHECK(codes.scores_storage == quant::DType::bf16);
  CHECK(attention("v: e4m3, p: e4m3, p_reference: running_reverse").p.reference == kernels::PReference::running_reverse);
  const kernels::AttentionSchemes named =
      attention("v: e4m3, p: e4m3, p_reference: row_max, p_sum: exact, smooth_k: false, scores_storage: f32");
  CHECK(named.p.reference == kernels::PReference::row_max);
  CHECK_FALSE(named.p.quantized_sum);
  CHECK_FALSE(named.smooth_k);
  CHECK(named.scores_storage == quant::DType::f32);

  const TargetSpec mse = target("{simulated: {weights: mse, percentile: 99.5, momentum: 0.5}}");
  REQUIRE(mse.simulated);
  CHECK(mse.simulated->mse_weights);
  CHECK(mse.simulated->percentile == 99.5);
  CHECK(mse.simulated->momentum == 0.5);
  CHECK_FALSE(target("{simulated: {weights: minmax}}").simulated->mse_weights);

  const TargetSpec overridden = target(
      "{attention: {q: int8/token, k: int8/token}, linear: {weights: int8, activations: int8}, "
      "overrides: [{match: 'layers.0.*', attention: f32}, {match: '*1.*', linear: f32}]}");
  CHECK(overridden.attention_at("layers.0.attention") == kernels::AttentionSchemes{});
  CHECK(overridden.attention_at("layers.1.attention") == overridden.attention);
  CHECK(overridden.linear_at("layers.1.fc1") == LinearSchemes{});
  CHECK(overridden.linear_at("layers.0.fc1") == overridden.linear);
}

TEST_CASE("bounds of names, patterns and lists: the last that is good, the first that isn't", "[spec]") {
  const auto named = [](const std::string& name) {
    std::string text = text_of(tokens, "{}");
    return refused(text.replace(text.find("name: t"), 7, "name: " + name));
  };
  const std::string bad = "2:7: name must be at most 100 characters without '/', and not . or ..";
  CHECK(named(std::string(100, 'n')).empty());
  for (const std::string& name : {std::string(101, 'n'), std::string("a/b"), std::string("."), std::string("..")})
    CHECK(named(name) == bad);
  const auto target = [](const std::string& name) {
    std::string text = text_of(tokens, "{}");
    return refused(text.replace(text.find("  t: {}"), 7, "  " + name + ": {}"));
  };
  CHECK(target(std::string(64, 'x')).empty());
  CHECK(target("A.b_c-9").empty());
  CHECK(target(std::string(65, 'x')) ==
        "6:3: name \"" + std::string(60, 'x') + "\", expected 1 to 64 letters, digits, '.', '_' or '-'");
  CHECK(target("a+b") == "6:3: name \"a+b\", expected 1 to 64 letters, digits, '.', '_' or '-'");
  CHECK(refused_target("{overrides: [{match: 'a*b*c*d*', linear: f32}]}").empty());
  CHECK(refused_target("{overrides: [{match: 'a*b*c*d*e*', linear: f32}]}") == "6:27: match has more than 4 '*'");
  CHECK(refused_target("{overrides: [{match: a, linear: int8}]}") ==
        "6:38: targets.t.overrides[0].linear is \"int8\", expected a map");
  CHECK(refused_target("{linear: f32}") == "6:15: targets.t.linear is \"f32\", expected a map");
  const auto interventions = [](std::size_t n, const std::string& last) {
    std::string list = last;
    for (std::size_t i = 1; i < n; ++i) list = "gate_one, " + list;
    return refused_rest("metrics: {interventions: [" + list + "]}\n");
  };
  CHECK(interventions(1000, "gate_one").empty());
  CHECK(interventions(1001, "gate_one") == "7:26: metrics.interventions has 1001 entries, expected at most 1000");
  CHECK(interventions(2, "gate_two").starts_with("7:37: metrics.interventions[1] is \"gate_two\", expected one of "));
  CHECK(refused_rest("presets: {p: {linear: f32}}\n") == "7:23: presets.p.linear is \"f32\", expected a map");
}

TEST_CASE("what doesn't go together in a target, and in a baseline", "[spec]") {
  const std::string device = "device chooses a GPU, expected backend: gpu";
  CHECK(refused_target("{device: 0}") == "6:15: " + device);
  CHECK(refused_target("{device: 0, backend: reference}") == "6:15: " + device);
  CHECK(refused_target("{device: 0, backend: gpu}").empty());
  CHECK(refused_rest("baseline: {device: 0}\n") == "7:20: " + device);
  CHECK(refused_target("{fast_accum: true}") == "6:19: fast_accum belongs to FP8 products of backend gpu");
  CHECK(refused_target("{fast_accum: false}").empty());
  CHECK(refused_target("{overrides: [{match: a}]}") ==
        "6:19: override changes nothing, expected linear, attention or precision");
  const std::string twice = text_of(tokens, "{}", "run: {threads: 2, threads: 0}\n");
  CHECK(refused(twice) == "7:19: duplicate key \"threads\"");
}

TEST_CASE("many mistakes are counted behind the first hundred", "[spec]") {
  const auto bad = [](int n) {
    std::string text;
    for (int i = 0; i < n; ++i) text += "k" + std::to_string(i) + ": 1\n";
    return refused_rest(text);
  };
  const std::string some = bad(40), more = bad(2000);
  CHECK(some.find(" more") == std::string::npos);
  const std::size_t listed = static_cast<std::size_t>(std::count(more.begin(), more.end(), '\n'));
  CHECK(more.ends_with("\nand " + std::to_string(2000 - listed) + " more"));
  CHECK(bad(static_cast<int>(listed)).find(" more") == std::string::npos);
  CHECK(bad(static_cast<int>(listed) + 1).ends_with("\nand 1 more"));
}

TEST_CASE("a configuration may be 1 MiB long", "[spec]") {
  std::string text = text_of(tokens, "{}", "# ");
  text += std::string((1U << 20) - text.size(), 'x');
  CHECK(refused(text).empty());
  CHECK(refused(text + "x") == "1:1: larger than 1 MiB");
}

TEST_CASE("--set: its values' mistakes carry it, and come before the file's", "[spec]") {
  const std::string good = text_of(tokens, "{}");
  CHECK(refused(good, {"data.windows=many"}) ==
        "--set data.windows=many: data.windows is \"many\", expected a whole number, 1..10000000");
  CHECK(refused(good, {"run={threads: 1, thread: 2}"}) ==
        "--set run={threads: 1, thread: 2}: unknown key \"thread\" in run, expected one of threads, chunk_windows, did you "
        "mean \"threads\"?");
  CHECK(refused(good, {"run={threads: [1, 2]}"}) ==
        "--set run={threads: [1, 2]}: run.threads is a list, expected a whole number, 1..4096");
  CHECK(refused(replaced(good, "version: 1", "version: 2"), {"run.threads=\n\n 0"}) ==
        "--set run.threads=\n\n 0: run.threads is \"0\", expected a whole number, 1..4096\n"
        "1:10: version is \"2\", expected a whole number, 1..1");
  CHECK(refused(good, {"name.x=1"}) == "--set name.x=1: \"x\" has nothing above it that is a map");
  CHECK(refused(good, {"=1"}) == "--set =1: expected KEY=VALUE, e.g. data.windows=8");
  CHECK(refused(good, {"a=\"x"}).starts_with("--set a=\"x: not valid YAML: "));
  CHECK(write_yaml(configuration_tree("a: 1\n", {"b.c=2", "a=\"1\"", "d=[x, y]"})) ==
        "a: \"1\"\nb:\n  c: 2\nd:\n  - x\n  - y\n");
  CHECK(failure_of([] { configuration_tree("a: 1\n", {"a.b=1"}); }).code == 2);
}

TEST_CASE("--set: a long one is shown up to the last whole character that fits 200 bytes", "[spec]") {
  const std::string good = text_of(tokens, "{}");
  const std::string expected = ": expected KEY=VALUE, e.g. data.windows=8";
  const auto shown = [&](const std::string& text) { return replaced(refused(good, {text}), expected, ""); };
  const std::string whole(200, 'x'), before = whole.substr(1);
  CHECK(shown(whole) == "--set " + whole);
  CHECK(shown(whole + "x") == "--set " + whole + "...");
  for (const char* letter : {"ä", "å", "€", "😀"}) {
    CAPTURE(letter);
    CHECK(shown(before + letter) == "--set " + before + "...");
    CHECK(shown(before.substr(std::string(letter).size() - 1) + letter + "x") ==
          "--set " + before.substr(std::string(letter).size() - 1) + letter + "...");
  }
  CHECK(shown(std::string(300, '\x80')) == "--set ...");  // no character at all
}

TEST_CASE("--set: its value may be as deep below the key as a file's may", "[spec]") {
  const auto lists = [](std::size_t n, const std::string& inside) {
    return std::string(n, '[') + inside + std::string(n, ']');
  };
  const auto maps = [](std::size_t n) {
    std::string text = "x";
    for (std::size_t i = 0; i < n; ++i) text.insert(0, "{k: ").append("}");
    return text;
  };
  for (const auto& [key, levels] : {std::pair{"b", 31}, std::pair{"b.c", 30}, std::pair{"b.c.d", 29}})
    for (const bool map : {false, true}) {
      CAPTURE(key, levels, map);
      const auto n = static_cast<std::size_t>(levels);
      const auto set = [&](std::size_t depth) { return std::string(key) + "=" + (map ? maps(depth) : lists(depth, "x")); };
      const std::string written = write_yaml(configuration_tree("a: 1\n", {set(n)}));
      CHECK(write_yaml(parse_yaml(written)) == written);  // the deepest that a file may hold
      CHECK(refused(text_of(tokens, "{}"), {set(n + 1)}) == "--set " + set(n + 1) + ": nested deeper than 32 levels");
    }
  // The deepest entry counts, wherever it stands.
  for (const std::string& text : {"b={k: " + lists(31, "x") + ", l: x}", "b={k: x, l: " + lists(31, "x") + "}"})
    CHECK(refused(text_of(tokens, "{}"), {text}) == "--set " + text + ": nested deeper than 32 levels");
}

TEST_CASE("targets alone: what is read and what is missed", "[spec]") {
  const auto said = [](const std::string& text) {
    return replaced(failure_of([&] { read_targets("/x/t.yaml", text); }).message, "/x/t.yaml:", "");
  };
  const auto targets =
      read_targets("/x/t.yaml", "name: t\npresets: {p: {precision: bf16}}\ntargets: {a: {preset: p}, b: {}}\n");
  REQUIRE(targets.size() == 2);
  CHECK(targets[0].name == "a");
  CHECK(targets[0].linear.weights.format == quant::Format::bf16);
  CHECK(targets[1].linear == LinearSchemes{});
  CHECK(read_targets("/x/t.yaml", "targets: {a: {preset: int8-per-tensor-static}}\n").size() == 1);  // calibrated elsewhere
  const std::string none = "no targets, expected a map \"targets\" (see configs/README.md)";
  CHECK(said("name: t\n") == "1:1: " + none);
  CHECK(said("[targets]\n") == "1:1: " + none);
  CHECK(said("targts: {a: {}}\n") == "1:1: unknown key \"targts\", did you mean \"targets\"?\n1:1: " + none);
  CHECK(said("targets: {a: {}}\n" + std::string("x") + std::string(70, 'k') + ": 1\n") ==
        "2:1: unknown key \"x" + std::string(59, 'k') + "\"");
  CHECK(said("targets: {a: {simulated: {}}}\n") ==
        "1:26: simulated rounds a whole model, and these targets run attention alone");
  CHECK(said("targets: {a: {backend: cup}}\n").starts_with("1:24: targets.a.backend is \"cup\""));
  CHECK(said("targets: [\n") == "2:1: not valid YAML: end of sequence flow not found");
}

TEST_CASE("gates alone: what is read and what is missed", "[spec]") {
  const auto said = [](const std::string& text) {
    return replaced(failure_of([&] { read_gates("/x/g.yaml", text); }).message, "/x/g.yaml:", "");
  };
  CHECK(read_gates("/x/g.yaml", "gates: {g: {metric: kl.mean, max: 1}}\n").size() == 1);
  const std::string none = "no gates, expected a map \"gates\" (see docs/gates.md)";
  CHECK(said("name: t\n") == "1:1: " + none);
  CHECK(said("[gates]\n") == "1:1: " + none);
  CHECK(said("gates: {g: {metric: kl.mean, max: 1}}\n" + std::string("x") + std::string(70, 'k') + ": 1\n") ==
        "2:1: unknown key \"x" + std::string(59, 'k') + "\"");
  CHECK(said("gates: {g: {max: 1}}\n") == "1:12: missing key \"metric\" in gate \"g\", expected one of metric, exact");
  const auto bound = [&](const std::string& body) { return said("gates: {g: {" + body + "}}\n"); };
  CHECK(bound("metric: perplexity.ratio, max: 0").ends_with(": a perplexity ratio is above 0, found 0"));
  for (const char* ratio : {"0.5", "1", "1.5"}) CHECK(bound(std::string("metric: perplexity.ratio, max: ") + ratio).empty());
  for (const char* key : {"models", "targets"}) {
    CHECK(bound("metric: kl.mean, max: 1, " + std::string(key) + ": 'a*b*c*d*'").empty());
    CHECK(
        bound("metric: kl.mean, max: 1, " + std::string(key) + ": 'a*b*c*d*e*'").ends_with(": pattern has more than 4 '*'"));
  }
  CHECK(bound("exact: taps") == "1:12: gate \"g\" is exact, expected relative_to: {file: ...}, a saved baseline");
  CHECK(bound("exact: taps, relative_to: {target: t}") ==
        "1:12: gate \"g\" is exact, expected relative_to: {file: ...}, a saved baseline");
  CHECK(bound("exact: taps, max: 1, relative_to: {file: b}") ==
        "1:31: gate \"g\" is exact and has no max: nothing may change");
  CHECK(bound("exact: taps, confidence: 0.9, relative_to: {file: b}") ==
        "1:38: gate \"g\" is exact and has no confidence: nothing may change");
}

TEST_CASE("gates and what the run measures", "[spec]") {
  const auto with = [](const std::string& data, const std::string& gate, const std::string& metrics = "") {
    return refused(text_of(data, "{}", "gates:\n  g: {" + gate + "}\n" + metrics));
  };
  const std::string hidden = tokens + ", protocol: hidden", file = ", relative_to: {file: " + configs + "/tiny.yaml}";
  CHECK(with(tokens, "metric: kl.mean, max: 1").empty());
  CHECK(with(tokens, "metric: kl.mean, max: 1, models: none") == "8:6: gate \"g\": models \"none\" matches nothing here");
  CHECK(with(tokens, "metric: kl.mean, max: 1, targets: none") == "8:6: gate \"g\": targets \"none\" matches nothing here");
  CHECK(with(hidden, "exact: logits" + file) == "8:6: gate \"g\": protocol hidden makes no logits, expected exact: taps");
  CHECK(with(hidden, "exact: taps" + file).empty());
  CHECK(with(tokens, "exact: logits" + file).empty());
  CHECK(with(tokens, "exact: taps" + file, "metrics: {local_windows: 0}\n") ==
        "8:6: gate \"g\" is exact, which needs metrics.local_windows");
  CHECK(with(tokens, "metric: hidden.nmse.mean, max: 1") ==
        "8:6: gate \"g\": hidden.nmse.mean is of hidden states, expected data.protocol: hidden");
  for (const char* key : {"budget_windows", "noise_windows"}) {
    const std::string name = key;
    CHECK(refused(text_of(hidden, "{}", "metrics: {" + name + ": 2}\n"))
              .ends_with(": " + name + " measures by scored tokens, and protocol hidden scores none"));
    CHECK(refused(text_of(hidden, "{}", "metrics: {" + name + ": 0}\n")).empty());
  }
  CHECK(refused(text_of(hidden, "{}", "metrics: {interventions: [gate_one]}\n"))
            .ends_with(": interventions measures by scored tokens, and protocol hidden scores none"));
}

TEST_CASE("text is data of its own: what it is written as, and which protocols read it", "[spec]") {
  const std::string text = "text: " + configs + "/README.md, tokenizer: " + configs + "/data/tiny-tokenizer.json";
  const Spec spec = read(text_of(text + ", documents: lines, detokenize: wikitext", "{}"));
  CHECK(spec.data.written == configs + "/README.md");
  CHECK(spec.data.tokenizer_written == configs + "/data/tiny-tokenizer.json");
  CHECK(spec.data.text.documents == Documents::lines);
  CHECK(spec.data.text.detokenize);
  CHECK(refused(text_of(text + ", protocol: mlm", "{}")) ==
        "4:7: protocol mlm without data.targets, expected what stood where data.tokens is masked\n"
        "4:14: protocol mlm reads data.tokens and data.targets, text isn't masked here");
  CHECK(refused(text_of(text + ", protocol: hidden", "{}")) ==
        "4:14: protocol hidden reads data.tokens, expected a .npy file of one or two dimensions");
}

TEST_CASE("days of gates are days of the calendar", "[spec]") {
  for (const char* day : {"2026-01-31", "2024-02-29", "0001-12-01"}) CHECK(is_date(day));
  for (const char* day : {"", "2026-01-3", "2026-01-311", "2026/01-02", "2026-01/02", "2026-1-031", "x026-01-02",
                          "2o26-01-02", "2026-x1-02", "2026-01-x2", "2026-01-2x", "2026-02-29", "2026-13-01", "2026-00-01",
                          "2026-01-00", "0000-01-01", "-026-01-01", " 026-01-01"}) {
    CAPTURE(day);
    CHECK_FALSE(is_date(day));
  }
}
