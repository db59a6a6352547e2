#include "eval/experiment/spec_reader.h"

#include <algorithm>
#include <charconv>
#include <span>

#include "eval/experiment/config_check.h"
#include "eval/experiment/data_reader.h"
#include "eval/experiment/gate_reader.h"
#include "eval/experiment/keys.h"
#include "eval/experiment/set_option.h"
#include "quant/core/error.h"
#include "quant/core/input_file.h"
#include "quant/core/nearest.h"

namespace qfid::eval {

namespace fs = std::filesystem;
using quant::Error;
using quant::ErrorKind;

namespace {

std::string read_text(const fs::path& file) {
  std::error_code error;
  if (fs::status(file, error).type() == fs::file_type::not_found)
    throw Error(ErrorKind::usage, file.string() + ": no such configuration file");
  try {
    const quant::InputFile opened(file);
    if (opened.size() > (1U << 20)) throw Error(ErrorKind::usage, file.string() + ":1:1: larger than 1 MiB");
    std::string text(static_cast<std::size_t>(opened.size()), '\0');
    opened.read(0, std::as_writable_bytes(std::span(text)));
    return text;
  } catch (const Error& problem) { throw Error(ErrorKind::usage, problem.what()); }
}

double real(const YamlNode& node) {
  double value = 0;
  std::from_chars(node.text.data(), node.text.data() + node.text.size(), value);
  return value;
}

class SpecBuilder {
 public:
  SpecBuilder(const YamlNode& root, Spec& spec, Problems& problems) : root_(root), spec_(spec), problems_(problems) {}

  void build_targets() {
    calibration_needed_ = false;
    for (const auto& [name, body] : root_.find("targets")->entries) {
      target(name, body);
      if (const YamlNode* n = body.find("simulated"))
        problems_.add(*n, "simulated rounds a whole model, and these targets run attention alone");
    }
  }

  void build() {
    spec_.name = root_.find("name")->text;
    if (spec_.name.find('/') != std::string::npos || spec_.name.size() > 100 || spec_.name == "." || spec_.name == "..")
      problems_.add(*root_.find("name"), "name must be at most 100 characters without '/', and not . or ..");
    for (const auto& [name, body] : root_.find("models")->entries) model(name, body);
    spec_.data = data_from(*root_.find("data"), spec_.file.parent_path(), problems_);
    spec_.baseline.name = "baseline";
    if (const YamlNode* node = root_.find("baseline")) {
      if (const YamlNode* backend = node->find("backend")) spec_.baseline.backend = backend->text;
      device(*node, spec_.baseline);
    }
    for (const auto& [name, body] : root_.find("targets")->entries) target(name, body);
    if (const YamlNode* node = root_.find("metrics")) {
      metrics(*node);
      check_metrics(*node, spec_.data.protocol, problems_);
    }
    if (const YamlNode* node = root_.find("gates")) gates(*node);
    if (const YamlNode* node = root_.find("run")) {
      if (const YamlNode* threads = node->find("threads")) spec_.run.threads = static_cast<int>(whole(*threads));
      if (const YamlNode* chunk = node->find("chunk_windows")) spec_.run.chunk_windows = whole(*chunk);
    }
  }

 private:
  fs::path resolve(const std::string& written) const { return resolved(spec_.file.parent_path(), written); }

  void model(const YamlNode& name, const YamlNode& body) {
    const YamlNode& path = *body.find("path");
    ModelSpec model{name.text, resolve(path.text), path.text};
    if (const std::string what = missing(model.path, true); !what.empty())
      problems_.add(path, "model directory \"" + path.text + "\" " + what + " (looked for " + model.path.string() + ")");
    training(body, model);
    spec_.models.push_back(std::move(model));
  }

  void training(const YamlNode& body, ModelSpec& model) {
    const YamlNode *group = body.find("group"), *seed = body.find("seed"), *step = body.find("step");
    if (step != nullptr && seed == nullptr) problems_.add(*step, "step goes with group and seed");
    if (step != nullptr) model.step = whole(*step);
    if (group == nullptr || seed == nullptr)
      return group == seed ? void() : problems_.add(group == nullptr ? *seed : *group, "group and seed go together");
    model.group = group->text;
    model.seed = whole(*seed);
    for (const auto& other : spec_.models)
      if (other.group == model.group && other.seed == model.seed && other.step == model.step)
        problems_.add(*seed, "group \"" + model.group + "\" has seed " + seed->text +
                                 (step == nullptr ? "" : " at step " + step->text) + " already: model " + other.name);
  }

  void metrics(const YamlNode& node) {
    MetricsSpec& m = spec_.metrics;
    if (const YamlNode* n = node.find("local_windows")) m.local_windows = whole(*n);
    if (const YamlNode* n = node.find("kernel_windows")) m.kernel_windows = whole(*n);
    if (const YamlNode* n = node.find("sink_windows")) m.sink_windows = whole(*n);
    if (const YamlNode* n = node.find("budget_windows")) m.budget_windows = whole(*n);
    if (const YamlNode* n = node.find("noise_windows")) m.noise_windows = whole(*n);
    if (const YamlNode* n = node.find("intervention_windows")) m.intervention_windows = whole(*n);
    if (const YamlNode* n = node.find("interventions"))
      for (const YamlNode& item : n->items)
        if (std::find(m.interventions.begin(), m.interventions.end(), item.text) == m.interventions.end())
          m.interventions.push_back(item.text);
    if (const YamlNode* n = node.find("confidence")) m.confidence = real(*n);
    if (const YamlNode* n = node.find("sink_threshold")) m.sink_threshold = real(*n);
  }

  void gates(const YamlNode& node) {
    spec_.gates = gates_from(node, spec_.file.parent_path(), problems_);
    const auto check = [&](const GateSpec& gate, const char* key, const std::string& pattern, const auto& named) {
      std::vector<std::string> names;
      for (const auto& entry : named) names.push_back(entry.name);
      if (std::none_of(names.begin(), names.end(), [&](const std::string& name) { return matches(pattern, name); }))
        problems_.add(*node.find(gate.name), "gate \"" + gate.name + "\": " + key + " \"" + pattern +
                                                 "\" matches nothing here" + quant::did_you_mean(pattern, names));
    };
    for (const GateSpec& gate : spec_.gates) {
      check(gate, "models", gate.models, spec_.models);
      check(gate, "targets", gate.targets, spec_.targets);
      check_measurable(gate, spec_, *node.find(gate.name), problems_);
      if (!gate.relative_target.empty()) check(gate, "relative_to.target", gate.relative_target, spec_.targets);
    }
  }

  static void linear(const YamlNode& node, LinearSchemes& schemes) {
    if (node.kind == YamlNode::Kind::scalar) {
      schemes = {};
      return;
    }
    if (const YamlNode* n = node.find("weights")) schemes.weights = quant::parse_scheme(n->text);
    if (const YamlNode* n = node.find("activations")) schemes.activations = quant::parse_scheme(n->text);
  }

  void attention(const YamlNode& node, kernels::AttentionSchemes& a) {
    if (node.kind == YamlNode::Kind::scalar) {
      a = {};
      return;
    }
    if (const YamlNode* n = node.find("q")) a.q = quant::parse_scheme(n->text);
    if (const YamlNode* n = node.find("k")) a.k = quant::parse_scheme(n->text);
    if (const YamlNode* n = node.find("v")) a.v = quant::parse_scheme(n->text);
    if (const YamlNode* n = node.find("p")) a.p = kernels::parse_prob_scheme(n->text);
    if (const YamlNode* n = node.find("output")) a.output = quant::parse_scheme(n->text);
    if (const YamlNode* n = node.find("p_scale")) {
      a.p.p_scale = static_cast<float>(real(*n));
      if (!quant::is_fp8(a.p.format)) problems_.add(*n, "p_scale needs p in e4m3 or e5m2 (uint8 has 255, int8 127)");
    }
    if (const YamlNode* n = node.find("p_reference"))
      a.p.reference = n->text == "row_max"           ? kernels::PReference::row_max
                      : n->text == "running_forward" ? kernels::PReference::running_forward
                                                     : kernels::PReference::running_reverse;
    if (const YamlNode* n = node.find("p_block")) a.p.block = whole(*n);
    if (const YamlNode* n = node.find("p_sum")) a.p.quantized_sum = n->text == "quantized";
    if (const YamlNode* n = node.find("smooth_k")) a.smooth_k = n->text == "true";
    if (const YamlNode* n = node.find("scores_storage"))
      a.scores_storage = n->text == "bf16" ? quant::DType::bf16 : quant::DType::f32;
  }

  void body(const YamlNode& node, LinearSchemes& l, kernels::AttentionSchemes& a) {
    if (const YamlNode* n = node.find("precision")) {
      const quant::QuantScheme scheme = quant::parse_scheme(n->text);
      l = {scheme, scheme};
      a = {};
      a.q = a.k = a.v = scheme;
      a.p.format = scheme.format;
    }
    if (const YamlNode* n = node.find("linear")) linear(*n, l);
    if (const YamlNode* n = node.find("attention")) attention(*n, a);
  }

  void preset(const YamlNode& node, TargetSpec& t) {
    t.preset = node.text;
    std::vector<std::string> names;
    if (const YamlNode* own = root_.find("presets")) {
      if (const YamlNode* found = own->find(node.text)) return body(*found, t.linear, t.attention);
      for (const auto& [name, value] : own->entries) names.push_back(name.text);
    }
    for (const PresetText& p : presets()) {
      if (p.name == node.text) return body(parse_yaml(p.text), t.linear, t.attention);
      names.push_back(p.name);
    }
    std::string list;
    for (const std::string& name : names) list += (list.empty() ? "" : ", ") + name;
    problems_.add(node,
                  "unknown preset \"" + node.text + "\", expected one of " + list + quant::did_you_mean(node.text, names));
  }

  void device(const YamlNode& node, TargetSpec& t) {
    const YamlNode* n = node.find("device");
    if (n == nullptr) return;
    t.device = static_cast<int>(whole(*n));
    t.device_chosen = true;
    if (t.backend != "gpu") problems_.add(*n, "device chooses a GPU, expected backend: gpu");
  }

  void target(const YamlNode& name, const YamlNode& node) {
    if (name.text == "baseline")
      problems_.add(name, "\"baseline\" is the name of the full-precision run, choose another for a target");
    TargetSpec t;
    t.name = name.text;
    if (const YamlNode* n = node.find("backend")) t.backend = n->text;
    device(node, t);
    if (const YamlNode* n = node.find("fast_accum")) t.fast_accum = n->text == "true";
    if (t.fast_accum && t.backend != "gpu")
      problems_.add(*node.find("fast_accum"), "fast_accum belongs to FP8 products of backend gpu");
    if (const YamlNode* n = node.find("mode"))
      t.mode = n->text == "emulated"  ? kernels::ExecutionMode::emulated
               : n->text == "library" ? kernels::ExecutionMode::library
                                      : kernels::ExecutionMode::real;
    if (t.mode == kernels::ExecutionMode::emulated && t.backend == "gpu")
      problems_.add(*node.find("mode"), "mode emulated runs on the cpu and reference backends, found backend gpu");
    if (const YamlNode* n = node.find("when_unavailable")) t.skip_when_unavailable = n->text == "skip";
    if (const YamlNode* n = node.find("preset")) preset(*n, t);
    body(node, t.linear, t.attention);
    check_schemes(node, t, t.linear, t.attention);
    if (const YamlNode* n = node.find("overrides")) overrides(*n, t);
    if (const YamlNode* n = node.find("simulated")) simulated(node, *n, t);
    if (calibration_needed_ && t.needs_calibration() && !spec_.data.calibration)
      problems_.add(
          name, "target \"" + t.name + "\" has ranges from calibration, expected data.calibration: {first_token, windows}");
    spec_.targets.push_back(std::move(t));
  }

  void simulated(const YamlNode& node, const YamlNode& own, TargetSpec& t) {
    t.simulated.emplace();
    if (const YamlNode* n = own.find("weights")) t.simulated->mse_weights = n->text == "mse";
    if (const YamlNode* n = own.find("percentile")) t.simulated->percentile = real(*n);
    if (const YamlNode* n = own.find("momentum")) t.simulated->momentum = real(*n);
    for (const char* key : {"preset", "precision", "linear", "attention", "overrides", "mode", "fast_accum"})
      if (const YamlNode* n = node.find(key))
        problems_.add(*n, std::string(key) + " doesn't go with simulated, which rounds everything in f32");
  }

  void overrides(const YamlNode& list, TargetSpec& t) {
    for (const YamlNode& item : list.items) {
      const YamlNode& match = *item.find("match");
      if (std::count(match.text.begin(), match.text.end(), '*') > 4) problems_.add(match, "match has more than 4 '*'");
      OverrideSpec entry{match.text, t.linear, t.attention};
      body(item, *entry.linear, *entry.attention);
      check_schemes(item, t, *entry.linear, *entry.attention);
      if (item.find("linear") == nullptr && item.find("precision") == nullptr) entry.linear.reset();
      if (item.find("attention") == nullptr && item.find("precision") == nullptr) entry.attention.reset();
      if (!entry.linear && !entry.attention)
        problems_.add(item, "override changes nothing, expected linear, attention or precision");
      t.overrides.push_back(std::move(entry));
    }
  }

  void check_schemes(const YamlNode& node, const TargetSpec& t, const LinearSchemes& l, const kernels::AttentionSchemes& a) {
    const auto report = [&](const char* key, const Error& error) {
      const YamlNode* where = node.find(key);
      problems_.add(where != nullptr ? *where : node, error.what());
    };
    try {
      if (l != LinearSchemes{}) kernels::validate(kernels::LinearProblem{64, 64, l.weights, l.activations, t.mode});
    } catch (const Error& error) { report("linear", error); }
    try {
      kernels::AttentionProblem problem;
      problem.head_dim = problem.v_head_dim = 64;
      problem.schemes = a;
      kernels::validate(problem);
    } catch (const Error& error) { report("attention", error); }
  }

  const YamlNode& root_;
  Spec& spec_;
  Problems& problems_;
  bool calibration_needed_ = true;
};

}  // namespace

Spec read_spec(const fs::path& file, const std::vector<std::string>& sets) { return read_spec(file, read_text(file), sets); }

Spec read_spec(const fs::path& file, std::string text, const std::vector<std::string>& sets) {
  Spec spec;
  spec.file = file;
  spec.text = std::move(text);
  spec.sets = sets;
  Problems problems(file.string());
  YamlNode root;
  try {
    root = parse_yaml(spec.text);
  } catch (const YamlProblem& problem) {
    problems.add(problem.at, "", problem.message);
    throw Error(ErrorKind::usage, problems.text());
  }
  for (const std::string& set : sets) apply_set(root, set, problems);
  check_node(root, "", "", problems);
  if (!problems.empty()) throw Error(ErrorKind::usage, problems.text());
  SpecBuilder(root, spec, problems).build();
  if (!problems.empty()) throw Error(ErrorKind::usage, problems.text());
  return spec;
}

YamlNode configuration_tree(const std::string& text, const std::vector<std::string>& sets) {
  Problems problems("configuration");
  YamlNode root = parse_yaml(text);
  for (const std::string& set : sets) apply_set(root, set, problems);
  if (!problems.empty()) throw Error(ErrorKind::usage, problems.text());
  return root;
}

std::vector<GateSpec> read_gates(const fs::path& file, const std::string& text, const std::vector<std::string>& sets) {
  Problems problems(file.string());
  std::vector<GateSpec> gates;
  try {
    YamlNode root = parse_yaml(text);
    for (const std::string& set : sets) apply_set(root, set, problems);
    const std::vector<std::string> known = children_of("");
    for (const auto& [key, value] : root.entries)
      if (std::find(known.begin(), known.end(), key.text) == known.end())
        problems.add(key, "unknown key \"" + key.text.substr(0, 60) + "\"" + quant::did_you_mean(key.text, known));
    const YamlNode* node = root.kind == YamlNode::Kind::map ? root.find("gates") : nullptr;
    if (node == nullptr) {
      problems.add(root, "no gates, expected a map \"gates\" (see docs/gates.md)");
    } else {
      check_node(*node, "gates", "gates", problems);
      if (problems.empty()) gates = gates_from(*node, file.parent_path(), problems);
    }
  } catch (const YamlProblem& problem) { problems.add(problem.at, "", problem.message); }
  if (!problems.empty()) throw Error(ErrorKind::usage, problems.text());
  return gates;
}

std::vector<GateSpec> read_gates(const fs::path& file) { return read_gates(file, read_text(file)); }

std::vector<TargetSpec> read_targets(const fs::path& file, const std::string& text) {
  Problems problems(file.string());
  Spec spec;
  spec.file = file;
  try {
    const YamlNode root = parse_yaml(text);
    const std::vector<std::string> known = children_of("");
    for (const auto& [key, value] : root.entries)
      if (std::find(known.begin(), known.end(), key.text) == known.end())
        problems.add(key, "unknown key \"" + key.text.substr(0, 60) + "\"" + quant::did_you_mean(key.text, known));
    const bool map = root.kind == YamlNode::Kind::map;
    for (const char* key : {"presets", "targets"})
      if (const YamlNode* node = map ? root.find(key) : nullptr) check_node(*node, key, key, problems);
    if (!map || root.find("targets") == nullptr)
      problems.add(root, "no targets, expected a map \"targets\" (see configs/README.md)");
    else if (problems.empty())
      SpecBuilder(root, spec, problems).build_targets();
  } catch (const YamlProblem& problem) { problems.add(problem.at, "", problem.message); }
  if (!problems.empty()) throw Error(ErrorKind::usage, problems.text());
  return spec.targets;
}

std::vector<TargetSpec> read_targets(const fs::path& file) { return read_targets(file, read_text(file)); }

}  // namespace qfid::eval
