#include "eval/experiment/proposal.h"

#include <algorithm>
#include <cmath>
#include <format>
#include <numeric>

#include "eval/data/npy.h"
#include "eval/data/windows.h"
#include "eval/experiment/spec_reader.h"
#include "eval/experiment/yaml_tree.h"
#include "eval/model/decoder_weights.h"
#include "quant/core/error.h"

namespace qfid::eval {

namespace fs = std::filesystem;

namespace {

constexpr double safety = 0.8;
constexpr std::size_t most_bases = 3;
constexpr std::int64_t enough_windows = 32;  // two halves with an interval each

/// What is kept together, and its share of the whole's KL.
struct Kept {
  std::string words;
  std::string module;     ///< pattern of a linear or a layer; "" for operands of attention
  std::string attention;  ///< "q: bf16, k: bf16"
  double share = 0;
};

std::vector<Kept> layers_of(const ErrorBudget& budget) {
  std::vector<Kept> all;
  for (const BudgetEntry& e : budget.layers.entries)
    all.push_back({e.name, e.name == "lm_head" ? e.name : e.name + ".*", "", e.alone.value.value_or(0)});
  return all;
}

std::vector<Kept> parts_of(const ErrorBudget& budget, bool attention_too) {
  std::vector<Kept> all, pairs{{"q and k", "", "q: bf16, k: bf16, scores_storage: f32"},
                               {"p and v", "", "p: bf16, v: bf16"},
                               {"the output's rounding", "", "output: f32"}};
  for (const BudgetEntry& e : budget.parts.entries) {
    const double share = e.alone.value.value_or(0);
    const int pair = e.name == "q" || e.name == "k" || e.name == "scores" ? 0
                     : e.name == "p" || e.name == "v"                     ? 1
                     : e.name == "output"                                 ? 2
                                                                          : -1;
    if (pair >= 0)
      pairs[static_cast<std::size_t>(pair)].share += share;
    else
      all.push_back({e.name, e.name == "lm_head" ? e.name : "*." + e.name, "", share});
  }
  for (Kept& pair : pairs)
    if (pair.share > 0 && attention_too) all.push_back(std::move(pair));
  return all;
}

/// The fewest of `all`, largest first, whose absence leaves at most `allowed`; empty when only everything would do.
std::vector<Kept> keep(std::vector<Kept> all, double whole, double allowed, std::size_t more, double& remains) {
  std::stable_sort(all.begin(), all.end(), [](const Kept& a, const Kept& b) { return a.share > b.share; });
  std::size_t kept = 0;
  remains = 1;
  while (kept < all.size() && remains > safety * allowed) remains -= all[kept++].share / whole;
  for (; more > 0 && kept < all.size(); --more) remains -= all[kept++].share / whole;
  if (kept == all.size()) return {};
  all.resize(kept);
  return all;
}

std::string override_text(const std::vector<Kept>& kept) {
  std::string text, attention;
  for (const Kept& k : kept) {
    if (!k.attention.empty()) {
      attention += (attention.empty() ? "" : ", ") + k.attention;
      continue;
    }
    const bool layer = k.module.starts_with("layers.");
    text += std::format("{}{{match: \"{}\", {}}}", text.empty() ? "" : ", ", k.module,
                        layer ? "precision: bf16" : "linear: {weights: bf16, activations: bf16}");
  }
  if (!attention.empty())
    text += std::format("{}{{match: \"*.attention\", attention: {{{}}}}}", text.empty() ? "" : ", ", attention);
  return "[" + text + "]";
}

/// Whether a target's own overrides say something about attention, which an override by operand would undo.
bool overrides_attention(const YamlNode& target) {
  const YamlNode* list = target.find("overrides");
  return list != nullptr && std::any_of(list->items.begin(), list->items.end(), [](const YamlNode& item) {
           return item.find("attention") != nullptr || item.find("precision") != nullptr;
         });
}

YamlNode& child(YamlNode& map, const std::string& key) {
  if (YamlNode* found = map.find(key)) return *found;
  map.entries.emplace_back(YamlNode{YamlNode::Kind::scalar, {}, key, false, "", {}, {}}, YamlNode{});
  return map.entries.back().second;
}

class Writer {
 public:
  Writer(const ExperimentRecord& record, const Recommendation& r, const std::vector<GateSpec>& budget, const fs::path& file)
      : record_(record), r_(r), budget_(budget), file_(fs::absolute(file)) {
    try {
      root_ = configuration_tree(record.spec_text, record.sets);
    } catch (const YamlProblem& problem) {
      throw quant::Error(quant::ErrorKind::input, "the results' configuration: " + problem.message);
    }
    proposal_.model = r.model;
  }

  Proposal propose() {
    for (const char* key : {"models", "data", "targets"})
      if (root_.find(key) == nullptr) {
        proposal_.why_not = "the results don't hold their configuration";
        return proposal_;
      }
    YamlNode targets;
    targets.kind = YamlNode::Kind::map;
    std::size_t bases = 0;
    for (const Candidate& c : r_.candidates)
      if (bases < most_bases) bases += add_base(c, targets) ? 1 : 0;
    if (proposal_.targets.empty()) {
      proposal_.why_not = any_budget_ ? "the budget leaves so little that nearly everything would stay in bf16"
                                      : "no error budget was measured (qfid run ... --set metrics.budget_windows=16)";
      return proposal_;
    }
    add_relatives(targets);
    child(root_, "targets") = std::move(targets);
    paths();
    if (!windows()) return proposal_;
    child(root_, "name").text = child(root_, "name").text.substr(0, 90) + "-proposal";
    child(root_, "gates") = gates();
    proposal_.yaml = heading() + write_yaml(root_);
    return proposal_;
  }

 private:
  bool add_base(const Candidate& c, YamlNode& targets) {
    const ErrorBudget* budget = record_.budget_of(r_.model, c.run->target);
    const YamlNode* base = root_.find("targets")->find(c.run->target);
    if (budget == nullptr || base == nullptr || c.selection.empty()) return false;
    any_budget_ = true;
    double allowed = 1;
    for (const GateRecord& gate : c.selection) allowed = std::min(allowed, allowed_share(gate));
    const std::size_t before = proposal_.targets.size();
    for (const std::size_t more : {0, 1}) {
      add(targets, *base, c.run->target, "layers", layers_of(*budget), allowed, more);
      add(targets, *base, c.run->target, "parts", parts_of(*budget, !overrides_attention(*base)), allowed, more);
    }
    return proposal_.targets.size() > before;
  }

  void add(YamlNode& targets, const YamlNode& base, const std::string& name, const char* kind, std::vector<Kept> all,
           double allowed, std::size_t more) {
    const double whole =
        std::accumulate(all.begin(), all.end(), 0.0, [](double sum, const Kept& k) { return sum + k.share; });
    if (!(whole > 0)) return;
    ProposedTarget proposed{"", name, {}, 1, allowed};
    const std::vector<Kept> kept = keep(std::move(all), whole, allowed, more, proposed.remains);
    if (kept.empty()) return;
    proposed.name = std::format("{}-keep-{}-{}", name.substr(0, 40), kind, kept.size());
    if (targets.find(proposed.name) != nullptr) return;
    for (const Kept& k : kept) proposed.kept.push_back(k.words);
    YamlNode target = base;
    YamlNode& overrides = child(target, "overrides");
    YamlNode added = parse_yaml(override_text(kept));
    if (overrides.kind != YamlNode::Kind::list) {
      overrides = std::move(added);
    } else {
      overrides.items.insert(overrides.items.end(), added.items.begin(), added.items.end());
    }
    child(targets, proposed.name) = std::move(target);
    proposal_.targets.push_back(std::move(proposed));
  }

  /// Targets that a budget compares with must run too.
  void add_relatives(YamlNode& targets) {
    for (const GateSpec& gate : budget_) {
      const YamlNode* other = gate.relative_target.empty() ? nullptr : root_.find("targets")->find(gate.relative_target);
      if (other != nullptr && targets.find(gate.relative_target) == nullptr) child(targets, gate.relative_target) = *other;
    }
  }

  std::string moved(const std::string& written) const {
    const fs::path path(written);
    if (path.is_absolute()) return written;
    return (fs::absolute(record_.spec_file).parent_path() / path)
        .lexically_normal()
        .lexically_proximate(file_.parent_path())
        .string();
  }

  void paths() {
    YamlNode& models = *root_.find("models");
    std::erase_if(models.entries, [&](const YamlNode::Entry& entry) { return entry.first.text != r_.model; });
    for (auto& [name, model] : models.entries) model.find("path")->text = moved(model.find("path")->text);
    YamlNode& tokens = *root_.find("data")->find("tokens");
    tokens.text = moved(tokens.text);
  }

  static std::int64_t number(const YamlNode& map, const char* key, std::int64_t otherwise) {
    const YamlNode* node = map.find(key);
    return node == nullptr ? otherwise : std::stoll(node->text);
  }

  /// Windows that nothing was chosen on: after those of the run, or where the text ends before, after those of its error
  /// budgets; beside the calibration's.
  bool windows() {
    const YamlNode& data = *root_.find("data");
    const fs::path here = file_.parent_path();
    const std::string model = root_.find("models")->find(r_.model)->find("path")->text;
    const auto tokens = static_cast<std::int64_t>(read_tokens(here / data.find("tokens")->text).size());
    const YamlNode* named = data.find("protocol");
    const Protocol protocol = named == nullptr ? Protocol::window : parse_protocol(named->text);
    const std::int64_t context =
        number(data, "context", standard_context(protocol, read_config(here / model).max_position_embeddings));
    const std::int64_t batch =  // windows come in whole batches
        protocol == Protocol::outlier_free ? number(data, "batch_windows", default_batch_windows) : 1;
    const std::int64_t run = r_.selection_windows + r_.confirmation_windows;
    std::int64_t seen = 0, first_calibration = tokens, end_calibration = 0;
    for (const ErrorBudget& b : record_.budgets) seen = std::max(seen, static_cast<std::int64_t>(b.tokens.size()));
    if (const YamlNode* calibration = data.find("calibration")) {
      first_calibration = number(*calibration, "first_token", 0);
      end_calibration = first_calibration + number(*calibration, "windows", 16) * context;
    }
    const std::int64_t start = number(data, "first_token", 0);
    for (const std::int64_t from : {start + run * context, start + seen * context})
      for (const auto& [first, end] : {std::pair{from, from < first_calibration ? first_calibration : from},
                                       std::pair{std::max(from, end_calibration), tokens}}) {
        const std::int64_t most = first < end ? std::min(run, windows_available(end, first, context)) : 0;
        const std::int64_t fit = most / batch * batch;
        if (proposal_.windows >= std::min(run, enough_windows) || fit <= proposal_.windows) continue;
        proposal_.windows = fit;
        proposal_.first_token = first;
      }
    if (proposal_.windows < 1) {
      proposal_.why_not = "no window of the text is left that the error budgets haven't seen";
      return false;
    }
    YamlNode& written = *root_.find("data");
    child(written, "first_token") = parse_yaml(std::to_string(proposal_.first_token));
    child(written, "windows") = parse_yaml(std::to_string(proposal_.windows));
    return true;
  }

  YamlNode gates() const {
    std::string text;
    for (const GateSpec& gate : budget_) {
      if (!matches(gate.models, r_.model)) continue;
      text += std::format("{}{}: {{metric: {}, {}: {}, confidence: {}, targets: \"*-keep-*\"", text.empty() ? "" : ", ",
                          gate.name, gate.metric, gate.upper ? "max" : "min", gate.bound, gate.confidence);
      if (!gate.relative_target.empty()) text += ", relative_to: {target: " + gate.relative_target + "}";
      text += "}";
    }
    return parse_yaml("{" + text + "}");
  }

  std::string heading() const {
    std::string text =
        "# What to try, since no target was within its budget: proposed by qfid recommend from error budgets.\n";
    for (const ProposedTarget& t : proposal_.targets) {
      std::string kept;
      for (const std::string& word : t.kept) kept += (kept.empty() ? "" : ", ") + word;
      text += std::format("# {}: {} in bf16; about {:.0f} % of {}'s KL should remain, {:.0f} % may.\n", t.name, kept,
                          100 * std::max(t.remains, 0.0), t.base, 100 * t.allowed);
    }
    return text + std::format("# {} windows from token {} on, on which nothing was chosen.\n", proposal_.windows,
                              proposal_.first_token);
  }

  const ExperimentRecord& record_;
  const Recommendation& r_;
  const std::vector<GateSpec>& budget_;
  fs::path file_;
  YamlNode root_;
  Proposal proposal_;
  bool any_budget_ = false;
};

}  // namespace

double allowed_share(const GateRecord& gate) {
  if (!gate.statistics.effect) return 1;
  const double effect = *gate.statistics.effect, bound = gate.bound;
  double share = 1;
  if (gate.metric == "perplexity.ratio" && gate.upper)
    share = effect > 1 ? std::log(bound) / std::log(effect) : 1;
  else if (gate.metric == "top1.agreement" && !gate.upper)
    share = effect < 1 ? std::pow((1 - bound) / (1 - effect), 2) : 1;
  else if (gate.metric == "top1.flips" && gate.upper)
    share = effect > 0 ? std::copysign(std::pow(bound / effect, 2), bound) : 1;
  else if (gate.upper)
    share = effect > 0 ? bound / effect : 1;
  return std::isnan(share) ? 0 : std::clamp(share, 0.0, 1.0);
}

Proposal propose(const ExperimentRecord& record, const Recommendation& recommendation, const std::vector<GateSpec>& budget,
                 const fs::path& file) {
  return Writer(record, recommendation, budget, file).propose();
}

}  // namespace qfid::eval
