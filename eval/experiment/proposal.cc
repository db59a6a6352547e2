#include "eval/experiment/proposal.h"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <format>
#include <numeric>

#include "eval/experiment/config_check.h"
#include "eval/experiment/data_reader.h"
#include "eval/experiment/proposal_text.h"
#include "eval/experiment/spec_reader.h"
#include "eval/experiment/yaml_tree.h"
#include "eval/model/decoder_weights.h"
#include "quant/core/error.h"

namespace qfid::eval {

namespace fs = std::filesystem;

namespace {

constexpr double safety = 0.8;
constexpr std::size_t most_bases = 3;
constexpr std::size_t longest_name = 64;  // of a target (config_check.h)

constexpr const char* results_configuration = "the results' configuration";

/// At most `bytes` of UTF-8 text, no character torn.
std::string cut(const std::string& text, std::size_t bytes) {
  if (text.size() <= bytes) return text;
  while (bytes > 0 && (static_cast<unsigned char>(text[bytes]) & 0xC0) == 0x80) --bytes;
  return text.substr(0, bytes);
}

/// What is kept together, and its share of the whole's KL.
struct Kept {
  std::string words;
  std::string module;     ///< pattern of a linear or a layer; "" for operands of attention
  std::string attention;  ///< "q: bf16, k: bf16"
  double share = 0;
};

/// Names end up in patterns and comments, and results may come from anywhere.
void require_module(const BudgetEntry& entry) {
  const bool good = !entry.name.empty() && entry.name.size() <= longest_name &&
                    std::all_of(entry.name.begin(), entry.name.end(),
                                [](unsigned char c) { return std::isalnum(c) != 0 || c == '.' || c == '_'; });
  if (!good)
    throw quant::Error(
        quant::ErrorKind::input,
        "the results' error budgets name a part that no model has, expected names such as layers.2 or k_proj");
}

std::vector<Kept> layers_of(const ErrorBudget& budget) {
  std::vector<Kept> all;
  for (const BudgetEntry& e : budget.layers.entries) {
    require_module(e);
    all.push_back({e.name, e.name == "lm_head" ? e.name : e.name + ".*", "", e.alone.value.value_or(0)});
  }
  return all;
}

std::vector<Kept> parts_of(const ErrorBudget& budget, bool attention_too) {
  std::vector<Kept> all, pairs{{"q and k", "", "q: bf16, k: bf16, scores_storage: f32"},
                               {"p and v", "", "p: bf16, v: bf16"},
                               {"the output's rounding", "", "output: f32"}};
  for (const BudgetEntry& e : budget.parts.entries) {
    require_module(e);
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

YamlNode word(const std::string& text) { return {YamlNode::Kind::scalar, {}, text, true, "", {}, {}}; }

/// The results' configuration as a tree that keeps to the key table, since results may come from anywhere.
YamlNode checked_configuration(const ExperimentRecord& record) {
  YamlNode root = configuration_tree(record.spec_text, record.sets);
  Problems problems(results_configuration);
  check_node(root, "", "", problems);
  if (!problems.empty()) throw quant::Error(quant::ErrorKind::usage, problems.text());
  return root;
}

class Writer {
 public:
  Writer(const ExperimentRecord& record, const Recommendation& r, const std::vector<GateSpec>& budget, const fs::path& file)
      : record_(record), r_(r), budget_(budget), file_(fs::absolute(file)) {
    proposal_.model = r.model;
  }

  Proposal propose() {
    if (record_.spec_text.empty()) {
      proposal_.why_not = "the results don't hold their configuration";
      return proposal_;
    }
    root_ = checked_configuration(record_);
    if (root_.find("models")->find(r_.model) == nullptr) {
      proposal_.why_not = "the results' configuration has no such model";
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
    if (!windows()) return proposal_;
    paths();
    YamlNode& name = child(root_, "name");
    name.text = cut(name.text, 90) + "-proposal";
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
    proposed.name = free_name(targets, name, std::format("-keep-{}-{}", kind, kept.size()));
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

  /// No target of the file or of the run, which a budget may compare with, has it; numbered where one would.
  std::string free_name(const YamlNode& targets, const std::string& base, const std::string& suffix) const {
    for (int number = 1;; ++number) {
      const std::string end = suffix + (number > 1 ? "-" + std::to_string(number) : "");
      std::string name = cut(base, longest_name - end.size()) + end;
      if (targets.find(name) == nullptr && root_.find("targets")->find(name) == nullptr) return name;
    }
  }

  /// Targets that a budget compares with must run too.
  void add_relatives(YamlNode& targets) {
    for (const GateSpec& gate : budget_) {
      const YamlNode* other = gate.relative_target.empty() ? nullptr : root_.find("targets")->find(gate.relative_target);
      if (other != nullptr && targets.find(gate.relative_target) == nullptr) child(targets, gate.relative_target) = *other;
    }
  }

  fs::path directory() const { return fs::absolute(record_.spec_file).parent_path(); }

  void move(YamlNode& path) const {
    if (fs::path(path.text).is_absolute()) return;
    path.text = (directory() / path.text).lexically_normal().lexically_proximate(file_.parent_path()).string();
  }

  void paths() {
    YamlNode& models = *root_.find("models");
    std::erase_if(models.entries, [&](const YamlNode::Entry& entry) { return entry.first.text != r_.model; });
    for (auto& [name, model] : models.entries) move(*model.find("path"));
    for (const char* key : {"tokens", "text", "tokenizer"})
      if (YamlNode* path = root_.find("data")->find(key)) move(*path);
  }

  DataSpec read_data() const {
    Problems problems(results_configuration);
    DataSpec data = data_from(*root_.find("data"), directory(), problems);
    if (!problems.empty()) throw quant::Error(quant::ErrorKind::usage, problems.text());
    return data;
  }

  /// After all windows of the run, or where the text leaves too few there, after those on which something was chosen: its
  /// first half, and its error budgets' windows. Beside the calibration's.
  bool windows() {
    const DataSpec data = read_data();
    const ProposalText text(data,
                            read_config(resolved(directory(), root_.find("models")->find(r_.model)->find("path")->text)));
    for (const ErrorBudget& b : record_.budgets)
      if (b.model == r_.model) budgeted_ = std::max(budgeted_, static_cast<std::int64_t>(b.tokens.size()));
    const std::int64_t run = r_.selection_windows + r_.confirmation_windows, end_run = text.behind(run);
    const std::int64_t end_chosen = text.behind(std::max<std::int64_t>(budgeted_, r_.selection_windows));
    for (const std::int64_t from : {end_run, end_chosen})
      for (const auto& [first, end] :
           {std::pair{from, text.first_calibration()}, std::pair{std::max(from, text.end_calibration()), text.tokens()}}) {
        const std::int64_t fit = text.fit(first, end, run);
        if (proposal_.windows >= std::min(run, enough_windows) || fit <= proposal_.windows) continue;
        proposal_.windows = fit;
        proposal_.first_token = first;
      }
    proposal_.measured = proposal_.first_token < end_run;
    if (proposal_.windows < 1) {
      proposal_.why_not = std::format("the text leaves {} after the windows on which something was chosen",
                                      data.protocol == Protocol::lmeval ? "no document" : "no window");
      return false;
    }
    YamlNode& written = *root_.find("data");
    child(written, "first_token") = parse_yaml(std::to_string(proposal_.first_token));
    child(written, "windows") = parse_yaml(std::to_string(proposal_.windows));
    return true;
  }

  YamlNode gates() const {
    YamlNode all;
    all.kind = YamlNode::Kind::map;
    for (const GateSpec& gate : budget_) {
      if (!matches(gate.models, r_.model)) continue;
      YamlNode& written = child(all, gate.name) =
          parse_yaml(std::format("{{metric: {}, {}: {}, confidence: {}, targets: \"*-keep-*\"}}", gate.metric,
                                 gate.upper ? "max" : "min", gate.bound, gate.confidence));
      if (gate.relative_target.empty()) continue;
      child(written, "relative_to").kind = YamlNode::Kind::map;
      child(child(written, "relative_to"), "target") = word(gate.relative_target);
    }
    return all;
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
    text += std::format("# {} windows from token {} on, ", proposal_.windows, proposal_.first_token);
    text += !proposal_.measured
                ? "after all that the run evaluated: nothing was chosen on them.\n"
                : std::format(
                      "where the run measured its targets too: the text leaves too few after its {} windows. What to "
                      "keep was\n# chosen on windows before: the first {} said how much must go, the first {} made "
                      "the error budgets.\n",
                      r_.selection_windows + r_.confirmation_windows, r_.selection_windows, budgeted_);
    if (proposal_.windows < enough_windows)
      text += std::format("# Fewer than {} windows: too few for both halves to decide.\n", enough_windows);
    return text;
  }

  const ExperimentRecord& record_;
  const Recommendation& r_;
  const std::vector<GateSpec>& budget_;
  fs::path file_;
  YamlNode root_;
  Proposal proposal_;
  std::int64_t budgeted_ = 0;  ///< windows of the error budgets
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
  try {
    return Writer(record, recommendation, budget, file).propose();
  } catch (const YamlProblem& problem) {
    Problems problems(results_configuration);
    problems.add(problem.at, "", problem.message);
    throw quant::Error(quant::ErrorKind::usage, problems.text());
  }
}

}  // namespace qfid::eval
