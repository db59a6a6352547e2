#include "eval/experiment/spec.h"

#include <string_view>

namespace qfid::eval {

namespace {

/// "[0-2]" at the front of pattern: whether the number at the front of text lies in it; advances both.
bool match_range(std::string_view& pattern, std::string_view& text) {
  const std::size_t close = pattern.find(']'), dash = pattern.find('-');
  if (close == std::string_view::npos || dash == std::string_view::npos || dash > close) return false;
  const auto number = [](std::string_view digits) {
    long value = digits.empty() ? -1 : 0;
    for (char c : digits) value = c >= '0' && c <= '9' && value >= 0 && value < 1'000'000 ? value * 10 + (c - '0') : -1;
    return value;
  };
  std::size_t length = 0;
  while (length < text.size() && text[length] >= '0' && text[length] <= '9') ++length;
  const long value = number(text.substr(0, length)), low = number(pattern.substr(1, dash - 1)),
             high = number(pattern.substr(dash + 1, close - dash - 1));
  if (value < 0 || low < 0 || high < 0 || value < low || value > high) return false;
  pattern.remove_prefix(close + 1);
  text.remove_prefix(length);
  return true;
}

}  // namespace

bool matches(std::string_view pattern, std::string_view text) {
  while (!pattern.empty()) {
    if (pattern.front() == '*') {
      pattern.remove_prefix(1);
      if (pattern.empty()) return true;
      for (std::size_t i = 0; i <= text.size(); ++i)
        if (matches(pattern, text.substr(i))) return true;
      return false;
    }
    if (pattern.front() == '[') {
      if (!match_range(pattern, text)) return false;
      continue;
    }
    if (text.empty() || (pattern.front() != '?' && pattern.front() != text.front())) return false;
    pattern.remove_prefix(1);
    text.remove_prefix(1);
  }
  return text.empty();
}

LinearSchemes TargetSpec::linear_at(const std::string& module) const {
  const bool only_by_override = module == "lm_head" || module == "head_dense" || module.ends_with("gate_proj");
  LinearSchemes schemes = only_by_override ? LinearSchemes{} : linear;
  for (const OverrideSpec& entry : overrides)
    if (entry.linear && matches(entry.match, module)) schemes = *entry.linear;
  return schemes;
}

kernels::AttentionSchemes TargetSpec::attention_at(const std::string& module) const {
  kernels::AttentionSchemes schemes = attention;
  for (const OverrideSpec& entry : overrides)
    if (entry.attention && matches(entry.match, module)) schemes = *entry.attention;
  return schemes;
}

bool needs_range(const quant::QuantScheme& s) {
  return quant::is_scaled(s.format) && s.timing == quant::Timing::static_ && s.range.kind != quant::RangeKind::fixed;
}

bool needs_range(const kernels::AttentionSchemes& a) {
  return needs_range(a.q) || needs_range(a.k) || needs_range(a.v) || needs_range(a.output);
}

bool TargetSpec::needs_calibration() const {
  if (simulated || needs_range(linear.activations) || needs_range(attention)) return true;
  for (const OverrideSpec& entry : overrides)
    if ((entry.linear && needs_range(entry.linear->activations)) || (entry.attention && needs_range(*entry.attention)))
      return true;
  return false;
}

}  // namespace qfid::eval
