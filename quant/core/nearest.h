// "did you mean": the nearest valid word to a misspelt one, for error messages everywhere.
#pragma once

#include <algorithm>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace qfid::quant {

/// Optimal string alignment distance: insertions, deletions, substitutions, swaps of neighbours (Damerau 1964).
inline std::size_t edit_distance(std::string_view a, std::string_view b) {
  if (a.size() > 64 || b.size() > 64) return a == b ? 0 : 64;  // nobody misspells that much; keeps the cost bounded
  std::vector<std::vector<std::size_t>> d(a.size() + 1, std::vector<std::size_t>(b.size() + 1));
  for (std::size_t i = 0; i <= a.size(); ++i) d[i][0] = i;
  for (std::size_t j = 0; j <= b.size(); ++j) d[0][j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i)
    for (std::size_t j = 1; j <= b.size(); ++j) {
      d[i][j] = std::min({d[i - 1][j] + 1, d[i][j - 1] + 1, d[i - 1][j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1)});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) d[i][j] = std::min(d[i][j], d[i - 2][j - 2] + 1);
    }
  return d[a.size()][b.size()];
}

/// The nearest word within a distance of max(1, length / 2); empty when none is near. Ties: the first.
template <class Words>
std::string nearest(std::string_view word, const Words& words) {
  std::string best;
  std::size_t least = std::max<std::size_t>(1, word.size() / 2) + 1;
  for (const auto& candidate : words) {
    const std::string_view other(candidate);
    if (std::max(word.size(), other.size()) - std::min(word.size(), other.size()) >= least) continue;  // the least it can be
    const std::size_t distance = edit_distance(word, other);
    if (distance < least) {
      least = distance;
      best = std::string(candidate);
    }
  }
  return best;
}

/// `, did you mean "x"?` or nothing.
template <class Words>
std::string did_you_mean(std::string_view word, const Words& words) {
  const std::string best = nearest(word, words);
  return best.empty() ? "" : ", did you mean \"" + best + "\"?";
}

}  // namespace qfid::quant
