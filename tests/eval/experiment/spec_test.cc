// Configurations: what is read, and every kind of mistake with its exact message.
#include "eval/experiment/spec_reader.h"

#include <catch2/catch_test_macros.hpp>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "eval/experiment/keys.h"
#include "quant/core/error.h"

using namespace qfid;
using namespace qfid::eval;
namespace fs = std::filesystem;

namespace {

const fs::path configs = fs::path(QFID_SOURCE_DIR) / "configs";

fs::path written(const std::string& text) {
  const fs::path path = fs::temp_directory_path() / "qfid-spec-test.yaml";
  std::ofstream(path, std::ios::binary) << text;
  return path;
}

/// Error text without the file's name; "" when the text is valid.
std::string error_of(const std::string& text, const std::vector<std::string>& sets = {}) {
  const fs::path path = written(text);
  try {
    read_spec(path, sets);
  } catch (const quant::Error& error) {
    CHECK(error.exit_code() == 2);
    std::string message = error.what();
    for (std::size_t at = 0; (at = message.find(path.string() + ":", at)) != std::string::npos;)
      message.erase(at, path.string().size() + 1);
    return message;
  }
  return "";
}

std::string head() {
  return "version: 1\nname: t\nmodels: {m: {path: " + (configs / "models/tiny-softmax").string() +
         "}}\ndata: {tokens: " + (configs / "data/tiny-tokens.npy").string() + "}\n";
}
std::string with_target(const std::string& body) { return head() + "targets:\n  t: " + body + "\n"; }

}  // namespace

TEST_CASE("shipped configurations and presets are valid") {
  int files = 0;
  for (const auto& entry : fs::directory_iterator(configs))
    if (entry.path().extension() == ".yaml") {
      CAPTURE(entry.path());
      ++files;
      if (entry.path().filename() == "seeds.yaml") continue;  // below
      const Spec spec = read_spec(entry.path());
      CHECK(!spec.targets.empty());
    }
  CHECK(files >= 4);
  CHECK(presets().size() >= 9);
  for (const PresetText& preset : presets())
    CHECK(
        error_of(with_target("{preset: " + preset.name + "}") + (preset.name.find("static") != std::string::npos ? "" : ""))
            .find("unknown") == std::string::npos);
}

TEST_CASE("the configuration over seeds lacks nothing but its trained models") {
  std::ifstream file(configs / "seeds.yaml");
  std::ostringstream text;
  text << file.rdbuf();
  std::string here = text.str();
  for (std::size_t at = 0; (at = here.find("path: ../out/seeds/", at)) != std::string::npos;)
    here.replace(at, here.find(',', at) - at, "path: " + (configs / "models/tiny-softmax").string());
  here.replace(here.find("data/tiny"), 0, configs.string() + "/");
  const Spec spec = read_spec(written(here));
  REQUIRE(spec.models.size() == 30);
  CHECK(spec.models[0].group == "softmax");
  CHECK(spec.models[29].group == "sink");
  CHECK(spec.models[29].seed == 4);
}

TEST_CASE("values are read, defaults hold, overrides apply in order, --set wins") {
  const Spec spec =
      read_spec(written(head() + "targets:\n  a:\n    linear: {weights: int8/channel, activations: int8/token}\n"
                                 "    overrides:\n      - {match: 'layers.[0-1].*', linear: f32}\n"
                                 "      - {match: 'layers.1.fc?', linear: {weights: e4m3, activations: e4m3}}\n"
                                 "      - {match: lm_head, linear: {weights: int8/channel, activations: int8/token}}\n"),
                {"data.windows=7", "targets.a.attention.q=int8/token", "targets.a.attention.k=int8/token"});
  CHECK(*spec.data.windows == 7);
  CHECK(spec.run.chunk_windows == 4);
  CHECK(spec.metrics.local_windows == 16);
  const TargetSpec& t = spec.targets.at(0);
  CHECK(quant::to_string(t.attention.q) == "int8/token/absmax/dynamic");
  CHECK(t.linear_at("layers.0.fc1") == LinearSchemes{});
  CHECK(quant::to_string(t.linear_at("layers.1.fc1").weights) == "e4m3/tensor/absmax/dynamic");
  CHECK(quant::to_string(t.linear_at("layers.2.q_proj").weights) == "int8/channel/absmax/dynamic");
  CHECK(quant::to_string(t.linear_at("lm_head").weights) == "int8/channel/absmax/dynamic");
  CHECK(t.linear_at("layers.2.gate_proj") == LinearSchemes{});
  CHECK(matches("layers.*.q_proj", "layers.10.q_proj"));
  CHECK_FALSE(matches("layers.[0-2].*", "layers.10.q_proj"));
}

TEST_CASE("every mistake has its place and its remedy") {
  struct Wrong {
    const char* name;
    std::string text, expected;
  };
  const std::string deep = std::string(40, '[') + std::string(40, ']'), path = configs.string();
  const std::vector<Wrong> all{
      {"empty", "", "1:1: empty, expected a map that begins with version: 1"},
      {"scalar", "hello", "1:1: the file is \"hello\", expected a map"},
      {"list", "- a", "1:1: the file is a list, expected a map"},
      {"unclosed flow", "a: [1, 2", "1:1: not valid YAML: end of sequence flow not found"},
      {"tab", "a:\n\t- b", "2:2: not valid YAML: illegal block entry"},
      {"NUL", std::string("a: \0b", 5), "1:4: NUL byte"},
      {"UTF-8", "a: \xff", "1:4: invalid UTF-8"},
      {"alias", "a: &x 1\nb: *x", "1:4: anchors are not supported, write the value out"},
      {"self anchor", "&a [*a]", "1:1: anchors are not supported, write the value out"},
      {"unknown alias", "b: *x", "1:4: not valid YAML: the referenced anchor is not defined: x"},
      {"tag", "a: !!int 3", "1:4: tags are not supported, found tag:yaml.org,2002:int"},
      {"two documents", "a: 1\n---\nb: 2", "3:1: a second document, expected one"},
      {"deep", "a: " + deep, "1:35: nested deeper than 32 levels"},
      {"map as key", "{a: 1}: 2", "1:1: a key must be a word"},
      {"list as key", "? [a]\n: 1", "1:3: a key must be a word"},
      {"half a surrogate pair", "a: \"\\ud800\"", "1:11: not valid YAML: invalid unicode: 55296"},
      {"unknown key", head() + "targts: {}\ntargets: {t: {}}",
       "5:1: unknown key \"targts\", expected one of version, name, models, data, baseline, presets, targets, metrics, run, "
       "gates, "
       "did you mean \"targets\"?"},
      {"duplicate key", head() + "name: u\ntargets: {t: {}}", "5:1: duplicate key \"name\""},
      {"seed without group",
       "version: 1\nname: t\nmodels:\n  m:\n    path: " + path + "\n    seed: 1\ndata: {tokens: " + path +
           "/data/tiny-tokens.npy}\ntargets: {t: {}}",
       "6:11: group and seed go together"},
      {"step without group and seed",
       "version: 1\nname: t\nmodels:\n  m:\n    path: " + path + "\n    step: 1\ndata: {tokens: " + path +
           "/data/tiny-tokens.npy}\ntargets: {t: {}}",
       "6:11: step goes with group and seed"},
      {"bigram_backcopy and tokens",
       "version: 1\nname: t\nmodels: {m: {path: " + path + "}}\ndata:\n  tokens: x.npy\n  context: 8\n  protocol: gptq\n" +
           "  bigram_backcopy: {tables: " + path + "/nothing}\ntargets: {t: {}}",
       "5:11: tokens doesn't go with bigram_backcopy\n6:12: context doesn't go with bigram_backcopy\n7:13: bigram_backcopy "
       "is scored "
       "under protocol window, found gptq\n8:29: directory of tables \"" +
           path + "/nothing\" doesn't exist (looked for " + path + "/nothing)"},
      {"bigram_backcopy of too many tokens",
       "version: 1\nname: t\nmodels: {m: {path: " + path + "}}\ndata:\n  bigram_backcopy: {tables: " + path +
           ", sequences: 1000000, length: 1000}\ntargets: {t: {}}",
       "5:20: bigram_backcopy of 1000000 sequences of 1000 tokens, expected 268435456 tokens or fewer"},
      {"seed twice",
       "version: 1\nname: t\nmodels:\n  m:\n    path: " + path + "\n    group: g\n    seed: 1\n  n:\n    path: " + path +
           "\n    group: g\n    seed: 1\ndata: {tokens: " + path + "/data/tiny-tokens.npy}\ntargets: {t: {}}",
       "11:11: group \"g\" has seed 1 already: model m"},
      {"no targets", head(), "1:1: missing key \"targets\", expected a map of names"},
      {"empty targets", head() + "targets: {}", "5:10: targets is empty, expected at least one entry"},
      {"null targets", head() + "targets:", "5:1: targets is nothing, expected a map of names"},
      {"version", "version: 2\n" + head().substr(11) + "targets: {t: {}}",
       "1:10: version is \"2\", expected a whole number, 1..1"},
      {"quoted number", head() + "targets: {t: {}}\nrun: {threads: \"2\"}",
       "6:16: run.threads is \"2\", expected a whole number, 1..4096"},
      {"fraction", head() + "targets: {t: {}}\nrun: {threads: 1.5}",
       "6:16: run.threads is \"1.5\", expected a whole number, 1..4096"},
      {"too small", head() + "targets: {t: {}}\nrun: {chunk_windows: 0}",
       "6:22: run.chunk_windows is \"0\", expected a whole number, 1..1024"},
      {"not a number", head() + "targets: {t: {}}\nmetrics: {confidence: high}",
       "6:23: metrics.confidence is \"high\", expected a number, 0.5..0.9999"},
      {"nan", head() + "targets: {t: {}}\nmetrics: {confidence: nan}",
       "6:23: metrics.confidence is \"nan\", expected a number, 0.5..0.9999"},
      {"overflow", head() + "targets: {t: {}}\nrun: {threads: 99999999999999999999}",
       "6:16: run.threads is \"99999999999999999999\", expected a whole number, 1..4096"},
      {"choice", with_target("{backend: cpuu}"),
       "6:16: targets.t.backend is \"cpuu\", expected one of cpu, reference, gpu, did you mean \"cpu\"?"},
      {"boolean", with_target("{attention: {smooth_k: maybe}}"),
       "6:29: targets.t.attention.smooth_k is \"maybe\", expected true or false"},
      {"name", head() + "targets: {'a b': {}}", "5:11: name \"a b\", expected 1 to 64 letters, digits, '.', '_' or '-'"},
      {"baseline name", head() + "targets: {baseline: {}}",
       "5:11: \"baseline\" is the name of the full-precision run, choose another for a target"},
      {"scheme", with_target("{linear: {weights: int9}}"),
       "6:25: targets.t.linear.weights: scheme \"int9\": unknown format \"int9\", expected one of f32, bf16, int8, uint8, "
       "e4m3, e5m2, did you mean \"int8\"?"},
      {"preset", with_target("{preset: int8-per-tokn}"),
       "6:15: unknown preset \"int8-per-tokn\", expected one of bf16, f32, fp8-e4m3-per-token, fp8-e4m3, "
       "fp8-e5m2-per-token, "
       "fp8-e5m2, int8-per-tensor-static, int8-per-tensor, int8-per-token, did you mean \"int8-per-token\"?"},
      {"pair", with_target("{linear: {weights: int8}}"),
       "6:15: linear: weights int8 and activations f32 don't pair: both integer, or both from f32, bf16, e4m3, e5m2"},
      {"qk pair", with_target("{attention: {q: int8}}"),
       "6:18: attention: q int8 and k f32 don't pair: both int8, or both from f32, bf16, e4m3, e5m2"},
      {"pv pair", with_target("{attention: {p: uint8}}"),
       "6:18: attention: p uint8 and v f32 don't pair: uint8 or int8 with int8, or both from f32, bf16, e4m3, e5m2"},
      {"v token", with_target("{attention: {p: uint8, v: int8/token}}"),
       "6:18: attention: v takes granularity tensor, head or channel"},
      {"p scale", with_target("{attention: {p: uint8, v: int8, p_scale: 256}}"),
       "6:47: p_scale needs p in e4m3 or e5m2 (uint8 has 255, int8 127)"},
      {"static", with_target("{preset: int8-per-tensor-static}"),
       "6:3: target \"t\" has ranges from calibration, expected data.calibration: {first_token, windows}"},
      {"simulated without calibration", with_target("{simulated: {}}"),
       "6:3: target \"t\" has ranges from calibration, expected data.calibration: {first_token, windows}"},
      {"simulated weights", with_target("{simulated: {weights: max}}"),
       "6:28: targets.t.simulated.weights is \"max\", expected one of minmax, mse"},
      {"emulated", with_target("{backend: gpu, mode: emulated}"),
       "6:27: mode emulated runs on the cpu and reference backends, found backend gpu"},
      {"model missing",
       "version: 1\nname: t\nmodels: {m: {path: nowhere}}\ndata: {tokens: " + path +
           "/data/tiny-tokens.npy}\ntargets: {t: {}}",
       "3:20: model directory \"nowhere\" doesn't exist (looked for " + (fs::temp_directory_path() / "nowhere").string() +
           ")"},
      {"several at once", head() + "targets: {t: {backend: cup}}\nrun: {threads: 0}\nmetrcs: {}",
       "5:24: targets.t.backend is \"cup\", expected one of cpu, reference, gpu, did you mean \"cpu\"?\n"
       "6:16: run.threads is \"0\", expected a whole number, 1..4096\n"
       "7:1: unknown key \"metrcs\", expected one of version, name, models, data, baseline, presets, targets, metrics, run, "
       "gates, "
       "did you mean \"metrics\"?"},
  };
  for (const Wrong& wrong : all) {
    CAPTURE(wrong.name);
    CHECK(error_of(wrong.text) == wrong.expected);
  }
  CHECK(all.size() >= 40);
}

TEST_CASE("mistakes on the command line") {
  const std::string good = with_target("{}");
  CHECK(error_of(good, {"data.windos=8"}).find("--set data.windos=8: unknown key \"windos\" in data") != std::string::npos);
  CHECK(error_of(good, {"nonsense"}) == "--set nonsense: expected KEY=VALUE, e.g. data.windows=8");
  CHECK(error_of(good, {"data.windows=many"}).find("expected a whole number") != std::string::npos);
  std::string deep = "a";
  for (int i = 0; i < 100'000; ++i) deep += ".a";
  CHECK(error_of(good, {deep + "=1"}).ends_with("nested deeper than 32 levels"));
  CHECK(error_of(good, {"a.b=" + std::string(31, '[') + std::string(31, ']')}).ends_with("nested deeper than 32 levels"));
  CHECK(error_of(good, {"a.b=" + std::string(30, '[') + std::string(30, ']')}).find("unknown key \"a\"") !=
        std::string::npos);
  CHECK(error_of(good).empty());
  CHECK_THROWS_AS(read_spec("/nowhere/x.yaml"), quant::Error);
}

TEST_CASE("the schema is JSON, and the key reference is the table in configs/README.md") {
  const auto schema = nlohmann::json::parse(spec_schema());
  CHECK(schema["$schema"] == "http://json-schema.org/draft-07/schema#");
  CHECK(schema["properties"]["targets"]["additionalProperties"]["properties"].contains("linear"));
  CHECK(schema["required"].size() == 5);
  std::ifstream file(configs / "README.md");
  std::ostringstream text;
  text << file.rdbuf();
  CHECK(text.str().find(key_reference()) != std::string::npos);
}
