// Tokens of any engine: what is read, what is refused with its line, and the paired table.
#include "eval/experiment/compare.h"

#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <filesystem>
#include <format>
#include <fstream>

#include "quant/core/error.h"

using namespace qfid;
using namespace qfid::eval;
namespace fs = std::filesystem;

namespace {

fs::path written(const std::string& text) {
  const fs::path path = fs::temp_directory_path() / "qfid-tokens-test.csv";
  std::ofstream(path, std::ios::binary) << text;
  return path;
}

template <class Work>
std::string error_of(Work&& work, int code) {
  try {
    work();
  } catch (const quant::Error& error) {
    CHECK(error.exit_code() == code);
    const std::string text = error.what(), file = (fs::temp_directory_path() / "qfid-tokens-test.csv").string();
    return text.starts_with(file) ? "FILE" + text.substr(file.size()) : text;
  }
  return "";
}

std::string refused(const std::string& text) {
  return error_of([&] { read_token_csv(written(text)); }, 3);
}

}  // namespace

TEST_CASE("token CSV: columns in any order, sums by window", "[compare]") {
  const TokenSums sums = read_token_csv(written("kl,token,nll,window\r\n0.5,x,1,3\r\n0.25,y,2,3\n1,z,-4,7"));
  CHECK(sums.windows == std::vector<std::int64_t>{3, 7});
  CHECK(sums.tokens == std::vector<std::int64_t>{2, 1});
  CHECK(sums.nll == std::vector<double>{3, -4});
  CHECK(sums.kl == std::vector<double>{0.75, 1});
  CHECK(read_token_csv(written("window,nll\n1,2\n\n")).kl.empty());
}

TEST_CASE("token CSV: what is wrong, and where", "[compare]") {
  CHECK(refused("") == "FILE:1: empty, expected a header with window,nll[,kl]");
  CHECK(refused("window,loss\n") == "FILE:1: no column \"nll\", expected window,nll[,kl]");
  CHECK(refused("window,nll,nll\n") == "FILE:1: column nll twice");
  CHECK(refused("window,nll\n") == "FILE:1: no rows");
  CHECK(refused("window,nll\n1,2,3\n") == "FILE:2: 3 cells, expected 2 as in the header");
  CHECK(refused("window,nll\n1,2\n1,nan\n") == "FILE:3: nll is \"nan\", expected a finite number");
  CHECK(refused("window,nll\n1.5,2\n") == "FILE:2: window is \"1.5\", expected a whole number");
  CHECK(refused("window,nll,kl\n1,2,\n") == "FILE:2: kl is \"\", expected a finite number");
  CHECK(refused("window,nll\n2,1\n1,1\n") == "FILE:3: window 1 after window 2, expected windows to count upwards");
  CHECK(error_of([] { read_token_csv("/nonexistent.csv"); }, 3) != "");
}

TEST_CASE("the paired table of tokens, by hand", "[compare]") {
  NamedTokens a{"a", {}}, b{"b", {}};
  for (int w = 0; w < 32; ++w) {
    a.sums.windows.push_back(w);
    a.sums.tokens.push_back(10);
    a.sums.nll.push_back(30 + w % 5);
    a.sums.kl.push_back(1);
  }
  b.sums = a.sums;
  for (std::size_t w = 0; w < 32; ++w) b.sums.nll[w] += 1 + 0.1 * (static_cast<double>(w % 2) - 0.5);
  const auto rows = compare_tokens({a, b}, 0.95);
  REQUIRE(rows.size() == 2);
  CHECK(rows[0].metric == "perplexity");
  CHECK(std::fabs(*rows[0].change.value - std::exp(0.1)) < 1e-9);
  CHECK(rows[0].change.ci->low > 1.09);
  CHECK(rows[0].change.ci->low <= std::exp(0.1));
  CHECK(*rows[1].change.value == 0);
  b.sums.kl.clear();
  CHECK(compare_tokens({a, b}, 0.95).size() == 1);
  b.sums.tokens[4] = 9;
  CHECK(error_of([&] { compare_tokens({a, b}, 0.95); }, 2) == "a and b aren't comparable: window 4 has 10 and 9 tokens");
  b.sums.windows.pop_back();
  CHECK(error_of([&] { compare_tokens({a, b}, 0.95); }, 2) ==
        "a and b aren't comparable: the windows differ (32, 31 windows)");
}
