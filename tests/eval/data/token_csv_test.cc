// Token losses as CSV: what is read, in any order of columns, and every mistake with its line.
#include "eval/data/token_csv.h"

#include <catch2/catch_test_macros.hpp>

#include "tests/support/temporary_directory.h"

using namespace qfid::eval;
using namespace qfid::tests;

namespace {

TokenSums read(const std::string& text) {
  const TemporaryDirectory dir;
  return read_token_csv(dir.write("t.csv", text));
}

std::string refused(const std::string& text) {
  const TemporaryDirectory dir;
  const auto path = dir.write("t.csv", text);
  const Failure failure = failure_of([&] { read_token_csv(path); });
  CHECK(failure.code == 3);
  return dir.shown(failure.message);
}

}  // namespace

TEST_CASE("token losses: columns in any order, blanks and empty lines, sums of each window", "[csv]") {
  const TokenSums sums = read("kl , extra,nll,  window\r\n0.5,x, 1.25 ,3\r\n\r\n   \n0.25,,0.75,3\n1,y,-2,7");
  CHECK(sums.windows == std::vector<std::int64_t>{3, 7});
  CHECK(sums.tokens == std::vector<std::int64_t>{2, 1});
  CHECK(sums.nll == std::vector<double>{2, -2});
  CHECK(sums.kl == std::vector<double>{0.75, 1});
  const TokenSums plain = read("window,nll\n0,1\n1,2\n1,4\n");
  CHECK(plain.windows == std::vector<std::int64_t>{0, 1});
  CHECK(plain.tokens == std::vector<std::int64_t>{1, 2});
  CHECK(plain.nll == std::vector<double>{1, 6});
  CHECK(plain.kl.empty());
}

TEST_CASE("token losses: what is wrong, and in which line", "[csv]") {
  CHECK(refused("") == "DIR/t.csv:1: empty, expected a header with window,nll[,kl]");
  CHECK(refused("window,nll\n\n") == "DIR/t.csv:2: no rows");
  CHECK(refused("window,nll,nll\n1,2,2\n") == "DIR/t.csv:1: column nll twice");
  CHECK(refused("window,window,nll\n1,1,2\n") == "DIR/t.csv:1: column window twice");
  CHECK(refused("kl,window,nll,kl\n1,1,2,1\n") == "DIR/t.csv:1: column kl twice");
  CHECK(refused("window,kl\n1,2\n") == "DIR/t.csv:1: no column \"nll\", expected window,nll[,kl]");
  CHECK(refused("nll\n1\n") == "DIR/t.csv:1: no column \"window\", expected window,nll[,kl]");
  CHECK(refused("Window,nll\n1,2\n") == "DIR/t.csv:1: no column \"window\", expected window,nll[,kl]");
  CHECK(refused("window,nll\n1,2\n\n1\n") == "DIR/t.csv:4: 1 cells, expected 2 as in the header");
  CHECK(refused("window,nll\n1,2,\n") == "DIR/t.csv:2: 3 cells, expected 2 as in the header");
  CHECK(refused("window,nll\n1.5,2\n") == "DIR/t.csv:2: window is \"1.5\", expected a whole number");
  CHECK(refused("window,nll\n,2\n") == "DIR/t.csv:2: window is \"\", expected a whole number");
  CHECK(refused("window,nll\n9223372036854775808,2\n") ==
        "DIR/t.csv:2: window is \"9223372036854775808\", expected a whole number");
  for (const std::string bad : {"nan", "inf", "1e999", "1x", "+1", "1 2"}) {
    CHECK(refused("window,nll\n1,2\n1," + bad + "\n") == "DIR/t.csv:3: nll is \"" + bad + "\", expected a finite number");
    CHECK(refused("window,nll,kl\n1,2," + bad + "\n") == "DIR/t.csv:2: kl is \"" + bad + "\", expected a finite number");
  }
  CHECK(refused("window,nll\n1," + std::string(50, 'x')) ==
        "DIR/t.csv:2: nll is \"" + std::string(40, 'x') + "\", expected a finite number");
  CHECK(refused("window,nll\n4,1\n3,1\n") == "DIR/t.csv:3: window 3 after window 4, expected windows to count upwards");
  CHECK(refused("window,nll\n1,1\n2,1\n1,1\n") == "DIR/t.csv:4: window 1 after window 2, expected windows to count upwards");
}
