// Per-token losses of any engine as CSV: columns window,nll and, if there, kl, in any order; others are ignored. Rows in the
// order of the text; a window's rows stand together and windows count upwards. Only sums of windows are kept.
#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

namespace qfid::eval {

struct TokenSums {
  std::vector<std::int64_t> windows, tokens;  ///< number of each window, tokens in it
  std::vector<double> nll, kl;                ///< sums; kl is empty without such a column
};
/// Error{input} "PATH:LINE: what". Numbers are finite; nll and kl in nats.
TokenSums read_token_csv(const std::filesystem::path& path);

}  // namespace qfid::eval
