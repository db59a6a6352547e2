// The smallest parts: sizes, memory, bytes, random numbers, nearest words, files.
#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <cstring>
#include <fstream>
#include <limits>
#include <numbers>
#include <string>
#include <vector>

#include "quant/core/byte_stream.h"
#include "quant/core/counter_random.h"
#include "quant/core/dispatch.h"
#include "quant/core/input_file.h"
#include "quant/core/nearest.h"
#include "quant/core/random.h"
#include "quant/core/tensor.h"
#include "tests/support/said.h"

using namespace qfid::quant;
using qfid::tests::said;

TEST_CASE("shapes: elements, names, what is refused") {
  CHECK(Shape{}.elements() == 1);
  CHECK(Shape{}.rank() == 0);
  CHECK(Shape{}.to_string() == "scalar");
  const Shape s{2, 128, 64};
  CHECK(s.rank() == 3);
  CHECK(s.elements() == 16384);
  CHECK(s.to_string() == "2x128x64");
  CHECK(s[0] == 2);
  CHECK(s[2] == 64);
  CHECK(s[-1] == 64);
  CHECK(s[-3] == 2);
  CHECK(s.dims().size() == 3);
  CHECK(s == Shape{2, 128, 64});
  CHECK_FALSE(s == Shape{2, 128, 65});
  CHECK_FALSE(Shape{2} == Shape{2, 0});
  CHECK_FALSE(Shape{2, 0} == Shape{2});
  const std::int64_t most = std::numeric_limits<std::int64_t>::max();
  CHECK(Shape{most, 0, most}.elements() == 0);
  CHECK(Shape{0, most, most}.elements() == 0);
  CHECK(Shape{most, 1}.elements() == most);
  CHECK(Shape{1, 2, 3, 4, 5}.elements() == 120);
  CHECK(said([] { return Shape{1, 1, 1, 1, 1, 1}; }) == "5 shape: more than 5 dimensions");
  CHECK(said([] { return Shape{3, -1}; }) == "5 shape: negative dimension");
  CHECK(said([] { return Shape{-1, 0}; }) == "5 shape: negative dimension");
  CHECK(said([&] { return Shape{most / 2 + 1, 2}; }) == "5 shape: element count overflows int64");
  CHECK(said([&] { return Shape{3, most / 3}; }) == "nothing");
}

TEST_CASE("tensors: aligned, typed, copied whole; views") {
  Tensor t(DType::f32, Shape{3, 5});
  CHECK(t.bytes() == 60);
  CHECK_FALSE(t.empty());
  CHECK(reinterpret_cast<std::uintptr_t>(t.raw()) % 64 == 0);
  for (std::int64_t i = 0; i < 15; ++i) t.view<float>()[i] = static_cast<float>(i);
  const Tensor copy = t.clone();
  CHECK(copy.shape() == t.shape());
  CHECK(copy.raw() != t.raw());
  CHECK(std::memcmp(copy.raw(), t.raw(), 60) == 0);
  const auto view = copy.view<float>();
  CHECK(view.rows() == 3);
  CHECK(view.columns() == 5);
  CHECK(view.size() == 15);
  CHECK(view.row(2)[4] == 14);
  CHECK(view.row(1).size() == 5);
  CHECK(view.reshaped(Shape{5, 3}).row(4)[0] == 12);
  CHECK(said([&] { return view.reshaped(Shape{5, 4}); }) == "5 view: reshape changes the number of elements");
  CHECK(said([&] { return t.view<std::int32_t>(); }) == "5 tensor: viewed as another dtype than it stores");
  CHECK(said([&] { return copy.view<std::int8_t>(); }) == "5 tensor: viewed as another dtype than it stores");
  CHECK(View<float>(t.view<float>().data(), Shape{}).columns() == 1);
  CHECK(View<float>(t.view<float>().data(), Shape{}).rows() == 1);
  CHECK(Tensor(DType::u8, Shape{4, 0}).view<std::uint8_t>().rows() == 0);
  const Tensor none(DType::i8, Shape{0});
  CHECK(none.empty());
  CHECK(none.raw() == nullptr);
  CHECK(none.clone().raw() == nullptr);
  CHECK(Tensor().empty());
  const Tensor zeros = Tensor::zeros(DType::i32, Shape{33});
  for (std::int64_t i = 0; i < 33; ++i) REQUIRE(zeros.view<std::int32_t>()[i] == 0);
  CHECK(Tensor::zeros(DType::i32, Shape{0}).raw() == nullptr);
  CHECK(said([] { return Tensor(DType::f32, Shape{std::int64_t{1} << 60}); }) ==
        "4 out of memory: 4611686018427387904 bytes for a f32 tensor of 1152921504606846976");
}

TEST_CASE("types: sizes, largest values and steps") {
  for (const auto& [type, name, bytes, largest, step] :
       {std::tuple{DType::f32, "f32", 4U, static_cast<double>(std::numeric_limits<float>::max()), std::ldexp(1.0, -23)},
        std::tuple{DType::bf16, "bf16", 2U, (2 - std::ldexp(1.0, -7)) * std::ldexp(1.0, 127), std::ldexp(1.0, -7)},
        std::tuple{DType::f16, "f16", 2U, 65504.0, std::ldexp(1.0, -10)},
        std::tuple{DType::i32, "i32", 4U, 2147483647.0, 1.0}, std::tuple{DType::i8, "i8", 1U, 127.0, 1.0},
        std::tuple{DType::u8, "u8", 1U, 255.0, 1.0}, std::tuple{DType::e4m3, "e4m3", 1U, 448.0, 0.125},
        std::tuple{DType::e5m2, "e5m2", 1U, 57344.0, 0.25}}) {
    CAPTURE(name);
    CHECK(info(type).type == type);
    CHECK(info(type).name == name);
    CHECK(info(type).bytes == bytes);
    CHECK(info(type).largest_finite == largest);
    CHECK(info(type).epsilon == step);
    CHECK(dtype_from_name(name) == type);
  }
  CHECK_FALSE(dtype_from_name("f64"));
}

TEST_CASE("bytes that are written are read again, and nothing beyond them") {
  ByteWriter out;
  out.number(std::int32_t{-7});
  out.text("four");
  out.text("");
  out.list(std::vector<double>{1.5, -2});
  out.list(std::vector<float>{});
  const std::string bytes = out.bytes();
  CHECK(bytes.size() == 4 + 8 + 4 + 8 + 8 + 16 + 8);
  CHECK(out.take() == bytes);
  CHECK(out.bytes().empty());
  ByteReader in(bytes);
  CHECK(in.number<std::int32_t>() == -7);
  CHECK(in.text() == "four");
  CHECK(in.view().empty());
  CHECK(in.list<double>() == std::vector<double>{1.5, -2});
  CHECK_FALSE(in.done());
  CHECK(in.list<float>().empty());
  CHECK(in.done());
  const std::string early = "3 the bytes aren't what this program writes";
  CHECK(said([&] { return in.number<char>(); }) == early);
  for (std::size_t n = 0; n < bytes.size(); ++n) {
    ByteReader part(std::string_view(bytes).substr(0, n));
    REQUIRE(said([&] {
              (void)part.number<std::int32_t>();
              (void)part.text();
              (void)part.view();
              (void)part.list<double>();
              return part.list<float>();
            }) == early);
  }
  ByteWriter huge;
  huge.number<std::uint64_t>(std::numeric_limits<std::uint64_t>::max());
  CHECK(said([&] { return ByteReader(huge.bytes()).list<double>(); }) == early);
  CHECK(said([&] { return ByteReader(huge.bytes()).view(); }) == early);
  ByteReader::check(true);
  CHECK(said([] {
          ByteReader::check(false);
          return 0;
        }) == early);
}

TEST_CASE("random numbers are the standard's engine and nothing of the library's distributions") {
  Random random(5489);
  for (int i = 1; i < 10000; ++i) (void)random.bits();
  CHECK(random.bits() == 9981545732273789042U);  // ISO C++ [rand.predef]: the 10000th
  std::mt19937_64 engine(3);
  Random same(3);
  for (int i = 0; i < 100; ++i) {
    const double u = same.uniform();
    REQUIRE(u == static_cast<double>(engine() / 2048) / 9007199254740992.0);
    REQUIRE((u >= 0 && u < 1));
  }
  for (int i = 0; i < 100; ++i) {
    const double first = static_cast<double>(engine() / 2048) / 9007199254740992.0;
    const double second = static_cast<double>(engine() / 2048) / 9007199254740992.0;
    REQUIRE(std::fabs(same.normal() - std::sqrt(-2 * std::log(1 - first)) * std::cos(2 * std::numbers::pi * second)) <
            1e-12);
  }
  // Of 3 * 2^62 values a quarter is thrown away: what is kept is below, and taken modulo n.
  const std::uint64_t n = std::uint64_t{3} << 62, limit = UINT64_MAX - UINT64_MAX % n;
  int thrown = 0;
  for (int i = 0; i < 1000; ++i) {
    std::uint64_t value = engine();
    for (; value >= limit; value = engine()) ++thrown;
    REQUIRE(same.below(n) == value % n);
  }
  CHECK(thrown > 200);
  for (int i = 0; i < 100; ++i) REQUIRE(same.below(7) == engine() % 7);
  std::vector<std::uint64_t> outputs;
  for (std::uint64_t i = 0; i < 5; ++i) outputs.push_back(counter_random(1234567, i));  // SplitMix64 seeded with 1234567
  CHECK(outputs == std::vector<std::uint64_t>{6457827717110365317U, 3203168211198807973U, 9817491932198370423U,
                                              4593380528125082431U, 16408922859458223821U});
}

TEST_CASE("the nearest word: insertions, deletions, substitutions, swaps") {
  for (const auto& [a, b, distance] :
       {std::tuple{"", "", 0U}, std::tuple{"a", "", 1U}, std::tuple{"", "abc", 3U}, std::tuple{"kitten", "sitting", 3U},
        std::tuple{"ab", "ba", 1U}, std::tuple{"abcd", "acbd", 1U}, std::tuple{"abcd", "abdc", 1U},
        std::tuple{"ca", "abc", 3U}, std::tuple{"token", "tokn", 1U}, std::tuple{"abab", "baba", 2U},
        std::tuple{"xab", "xyb", 1U}, std::tuple{"aab", "aba", 1U}, std::tuple{"abc", "cab", 2U}}) {
    CAPTURE(a, b);
    CHECK(edit_distance(a, b) == distance);
    CHECK(edit_distance(b, a) == distance);
  }
  const std::string long64(64, 'x'), long65(65, 'x');
  CHECK(edit_distance(long64, long64.substr(1)) == 1);
  CHECK(edit_distance(long64, long65) == 64);
  CHECK(edit_distance(long65, long64) == 64);
  CHECK(edit_distance(long65, long65) == 0);
  const std::vector<std::string> words{"token", "tokens", "head"};
  CHECK(nearest("tokem", words) == "token");
  CHECK(nearest("tokens", words) == "tokens");
  CHECK(nearest("hexx", words) == "head");  // 2 of 4
  CHECK(nearest("hxyz", words).empty());    // 3 of 4
  CHECK(nearest("x", std::vector<std::string>{"y"}) == "y");
  CHECK(nearest("x", std::vector<std::string>{"yz"}).empty());
  CHECK(nearest("ab", std::vector<std::string>{"ac", "ad"}) == "ac");  // the first of equals
  CHECK(did_you_mean("tokem", words) == ", did you mean \"token\"?");
  CHECK(did_you_mean("", words).empty());
}

TEST_CASE("errors: kinds are exit codes; a NUL in a message is shown") {
  CHECK(Error(ErrorKind::usage, "a").exit_code() == 2);
  CHECK(Error(ErrorKind::input, "a").exit_code() == 3);
  CHECK(Error(ErrorKind::unavailable, "a").exit_code() == 4);
  CHECK(Error(ErrorKind::internal, "a").exit_code() == 5);
  CHECK(std::string(Error(ErrorKind::usage, std::string("a\0b\0\0c", 6)).what()) == "a\\0b\\0\\0c");
  CHECK(said([] {
          require(true, "x");
          return 0;
        }) == "nothing");
  CHECK(said([] {
          require(false, "x");
          return 0;
        }) == "5 x");
  CHECK(said([] {
          require(false, std::string("y"));
          return 0;
        }) == "5 y");
  CHECK(said([] {
          require(true, std::string("y"));
          return 0;
        }) == "nothing");
}

TEST_CASE("files and bytes under a file's name: content, pieces, emptiness, what isn't a file") {
  const qfid::tests::TemporaryDirectory folder;
  const auto path = folder.path() / "numbers", other = folder.path() / "empty";
  std::ofstream(path) << "0123456789";
  std::ofstream(other).flush();
  const std::string memory = "0123456789";
  InputFile on_disk(path);
  const InputFile moved(std::move(on_disk)), in_memory(path, memory);
  for (const InputFile* of : {&moved, &in_memory}) {
    const InputFile& file = *of;
    CHECK(file.size() == 10);
    CHECK(file.path() == path);
    std::string part(4, ' ');
    file.read(3, std::as_writable_bytes(std::span(part)));
    CHECK(part == "3456");
    file.read(10, {});
    CHECK(said([&] {
            file.read(7, std::as_writable_bytes(std::span(part)));
            return 0;
          }) == "5 input file: read beyond the size it was opened with");
    CHECK(said([&] {
            file.read(11, {});
            return 0;
          }) == "5 input file: read beyond the size it was opened with");
    std::string all;
    file.read_in_pieces(1, 9, "", [&](std::span<const std::byte> bytes) {
      all.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    });
    CHECK(all == "123456789");
  }
  const FileContent read(path), given(path, memory);
  for (const FileContent* of : {&read, &given}) {
    const FileContent& content = *of;
    CHECK(content.text() == memory);
    CHECK(content.bytes().size() == 10);
    CHECK(content.path() == path);
  }
  CHECK(FileContent(other).text().empty());
  CHECK(InputFile(other).size() == 0);
  InputFile assigned(other);
  assigned = InputFile(path);
  CHECK(assigned.size() == 10);
  CHECK(assigned.path() == path);
  const std::string name = folder.path().string();
  const auto refusal = [](const std::filesystem::path& of) { return said([&] { return InputFile(of).size(); }); };
  CHECK(refusal(folder.path() / "none") == "3 " + name + "/none: can't open: No such file or directory");
  CHECK(refusal(folder.path()) == "3 " + name + ": expected a regular file, found a directory");
  REQUIRE(::mkfifo((folder.path() / "pipe").c_str(), 0600) == 0);
  CHECK(refusal(folder.path() / "pipe") == "3 " + name + "/pipe: expected a regular file, found a pipe");
  CHECK(refusal("/dev/null") == "3 /dev/null: expected a regular file, found a device");
}

TEST_CASE("files that come in pieces: every byte once, in order") {
  const qfid::tests::TemporaryDirectory folder;
  const auto path = folder.path() / "long";
  std::string content(2 * InputFile::piece + 12345, ' ');
  for (std::size_t i = 0; i < content.size(); ++i) content[i] = static_cast<char>(counter_random(1, i));
  std::ofstream(path, std::ios::binary) << content;
  std::string all;
  std::size_t largest = 0;
  InputFile(path).read_in_pieces(5, content.size() - 5, "", [&](std::span<const std::byte> bytes) {
    largest = std::max(largest, bytes.size());
    all.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  });
  CHECK(all == content.substr(5));
  CHECK(largest == InputFile::piece);
}

TEST_CASE("instruction sets: never a better one than the machine has") {
  const Isa before = force_isa(Isa::portable);
  CHECK(current_isa() == Isa::portable);
  CHECK(force_isa(Isa::avx512) == Isa::portable);
  CHECK(current_isa() == (best_isa() < Isa::avx512 ? best_isa() : Isa::avx512));
  force_isa(before);
  CHECK(current_isa() == before);
  CHECK(before == best_isa());
}
