// Token files: every integer type and version that is read, and everything else refused by its exact message.
#include "eval/data/npy.h"

#include <catch2/catch_test_macros.hpp>

#include "quant/core/random.h"
#include "tests/support/malformed.h"

using namespace qfid;
using namespace qfid::eval;
using namespace qfid::tests;

TEST_CASE("malformed token files are refused") {
  const TemporaryDirectory dir;
  for (const MalformedNpy& malformed : malformed_npy()) {
    const auto path = dir.write("tokens.npy", malformed.content);
    const Failure failure = failure_of([&] { read_tokens(path); });
    CAPTURE(malformed.name);
    CHECK(failure.code == 3);
    CHECK(dir.shown(failure.message) == "DIR/tokens.npy: " + malformed.expected);
  }
  CHECK(failure_of([&] { read_tokens(dir.path()); }).message ==
        dir.path().string() + ": expected a regular file, found a directory");
  CHECK(dir.shown(failure_of([&] { read_tokens(dir.path() / "no"); }).message) ==
        "DIR/no: can't open: No such file or directory");
}

TEST_CASE("uint16, int32 and int64 in versions 1, 2 and 3") {
  const TemporaryDirectory dir;
  const std::vector<std::int32_t> expected{0, 1, 513, 65535};
  const std::string u2 = little_endian(std::vector<std::uint16_t>{0, 1, 513, 65535}), i4 = little_endian(expected),
                    i8 = little_endian(std::vector<std::int64_t>{0, 1, 513, 65535});
  for (int version = 1; version <= 3; ++version)
    for (const auto& [descr, data] : {std::pair{"<u2", u2}, {"<i4", i4}, {"<i8", i8}}) {
      CAPTURE(version, descr);
      CHECK(read_tokens(dir.write("t.npy", npy(npy_dict(descr, "(4,)"), data, version))) == expected);
    }
  CHECK(
      read_tokens(dir.write("t.npy", npy(npy_dict("<i8", "(1,)"), little_endian(std::vector<std::int64_t>{2147483647})))) ==
      std::vector<std::int32_t>{2147483647});
  CHECK(read_tokens(dir.write("t.npy", npy(npy_dict("<u2", "(0,)"), ""))).empty());
  // Keys in another order, no trailing comma, blanks as NumPy pads them.
  CHECK(read_tokens(dir.write("t.npy", npy("{'shape': (1,), 'descr': '<u2', 'fortran_order': False}          \n",
                                           "\x07" + std::string(1, 0)))) == std::vector<std::int32_t>{7});
}

TEST_CASE("rows of tokens: two dimensions, and one value below 0 where it is asked for") {
  const TemporaryDirectory dir;
  const std::string ids = little_endian(std::vector<std::int32_t>{1, 2, 3, 4, 5, -100});
  const auto path = dir.write("t.npy", npy(npy_dict("<i4", "(2, 3)"), ids));
  const TokenRows rows = read_token_rows(path, -100);
  CHECK(rows.rows == 2);
  CHECK(rows.row == 3);
  CHECK(rows.tokens == std::vector<std::int32_t>{1, 2, 3, 4, 5, -100});
  const auto said = [&](const std::string& shape, const std::string& data) {
    return dir.shown(failure_of([&] { read_token_rows(dir.write("t.npy", npy(npy_dict("<i4", shape), data))); }).message);
  };
  CHECK(said("(2, 3)", ids) == "DIR/t.npy: token 5 is -100, expected a number from 0 to 2147483647");
  CHECK(said("(6,)", ids) == "DIR/t.npy: expected two dimensions (windows, tokens), found 1");
  CHECK(said("(1, 2, 3)", ids) == "DIR/t.npy: expected two dimensions (windows, tokens), found 3");
  CHECK(said("(3, 3)", ids) == "DIR/t.npy: shape (3, 3) of '<i4' doesn't fill the file: 24 bytes of data");
  CHECK(said("(0, 3)", "") == "DIR/t.npy: no tokens");
  CHECK(said("(4294967296, 4294967296)", ids) ==
        "DIR/t.npy: shape (4294967296, 4294967296) of '<i4' doesn't fill the file: 24 bytes of data");
}

TEST_CASE("headers we write are NumPy's: version 1.0, aligned to 64 bytes, ending in a line feed") {
  for (std::int64_t n : {0, 1, 999, 1000, 1000000}) {
    const std::string header = npy_header("'<f4'", {2, n});
    CHECK(header.size() % 64 == 0);
    CHECK(header.substr(0, 8) == std::string("\x93NUMPY\x01\x00", 8));
    CHECK(static_cast<unsigned char>(header[8]) + 256 * static_cast<unsigned char>(header[9]) ==
          static_cast<int>(header.size()) - 10);
    CHECK(header.substr(10).starts_with("{'descr': '<f4', 'fortran_order': False, 'shape': (2," + std::to_string(n) +
                                        ",), }"));
    CHECK(header.back() == '\n');
  }
  const TemporaryDirectory dir;
  const std::string file = npy_header("'<u2'", {2}) + little_endian(std::vector<std::uint16_t>{3, 4});
  CHECK(read_tokens(dir.write("t.npy", file)) == std::vector<std::int32_t>{3, 4});
  CHECK(read_tokens(quant::InputFile("t.npy", file)) ==
        std::vector<std::int32_t>{3, 4});  // bytes in memory are read as a file
}

TEST_CASE("long headers we write have their length in both bytes") {
  const std::string header = npy_header("'<u2'", std::vector<std::int64_t>(300, 1));
  CHECK(header.size() > 512);
  CHECK(header.size() % 64 == 0);
  CHECK(static_cast<unsigned char>(header[8]) + 256 * static_cast<unsigned char>(header[9]) ==
        static_cast<int>(header.size()) - 10);
}

TEST_CASE("the longest header that is read, and the shortest that isn't") {
  const TemporaryDirectory dir;
  const std::string data = little_endian(std::vector<std::uint16_t>{9}), dict = npy_dict("<u2", "(1,)");
  const auto padded = [&](std::size_t size) {
    return dir.write("t.npy", npy(dict + std::string(size - dict.size(), ' '), data, 2));
  };
  CHECK(read_tokens(padded(65536)) == std::vector<std::int32_t>{9});
  CHECK(dir.shown(failure_of([&] { read_tokens(padded(65537)); }).message) ==
        "DIR/t.npy: header length 65537 is above 65536");
  const auto said = [&](const std::string& text) {
    return dir.shown(failure_of([&] { read_tokens(dir.write("t.npy", text)); }).message);
  };
  const std::string magic = "\x93NUMPY";
  CHECK(said(magic + std::string("\x01\0\0\0", 4)) == "DIR/t.npy: header: expected '{' before \"\"");
  CHECK(said(magic + std::string("\x01\0\x03\0{}", 6)) == "DIR/t.npy: header length 3 reaches beyond the file");
  CHECK(said(magic + std::string("\x02\0\x03\0\0\0{}", 8)) == "DIR/t.npy: header length 3 reaches beyond the file");
  CHECK(said(npy("{'" + std::string(50, 'k') + "': 1}", "")) ==
        "DIR/t.npy: header: unknown key '" + std::string(40, 'k') + "'");
}

TEST_CASE("no mutation of a token file does more than fail") {
  const TemporaryDirectory dir;
  const std::string good = npy_tokens({1, 2, 3, 4, 5, 6, 7, 8});
  quant::Random random(7);
  int refused = 0;
  for (int round = 0; round < 4000; ++round) {
    std::string text = good;
    const std::size_t at = random.bits() % text.size(), kind = random.bits() % 3;
    if (kind == 0) text.erase(at, 1 + random.bits() % 8);
    if (kind == 1) text.insert(at, text.substr(random.bits() % text.size(), random.bits() % 8));
    if (kind == 2) text[at] = static_cast<char>(random.bits());
    const Failure failure = failure_of([&] { read_tokens(dir.write("t.npy", text)); });
    CAPTURE(round, failure.message);
    CHECK((failure.code == 0 || failure.code == 3));
    refused += failure.code == 3;
  }
  CHECK(refused > 2000);
}
