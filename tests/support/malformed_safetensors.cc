#include <sys/stat.h>

#include "tests/support/malformed.h"

namespace qfid::tests {

namespace {

std::string zeros(std::size_t n) { return std::string(n, '\0'); }

/// One tensor "a" whose entry is this text, over four bytes of data.
std::string entry(const std::string& text) { return raw_safetensors("{\"a\": " + text + "}", zeros(4)); }
/// F32 with this shape and these offsets.
std::string f32(const std::string& shape, const std::string& offsets = "[0, 4]") {
  return entry(R"({"dtype": "F32", "shape": )" + shape + R"(, "data_offsets": )" + offsets + "}");
}
std::string u8_pair(const std::string& a, const std::string& b, std::size_t data) {
  return raw_safetensors(R"({"a": {"dtype": "U8", "shape": [4], "data_offsets": )" + a +
                             R"(}, "b": {"dtype": "U8", "shape": [4], "data_offsets": )" + b + "}}",
                         zeros(data));
}

struct Content {
  const char* name;
  std::string bytes, expected;
};

std::vector<Content> contents() {
  const std::string a = "tensor \"a\": ", b = "tensor \"b\": ";
  const std::string longer(250, 'n'), cut = "tensor \"" + longer.substr(0, 200) + "\": ";
  const std::string good = R"({"dtype": "F32", "shape": [1], "data_offsets": [0, 4]})";
  return {
      {"empty", "", "too short for a safetensors header: 0 bytes, expected at least 8"},
      {"seven bytes", zeros(7), "too short for a safetensors header: 7 bytes, expected at least 8"},
      {"header size 0", zeros(8), "header must begin with '{'"},
      {"header size huge", std::string(8, '\xff') + "{}",
       "header size 18446744073709551615 is above the format's limit of 100000000"},
      {"header size above the limit", little_endian(std::vector<std::uint64_t>{100000001}) + "{}",
       "header size 100000001 is above the format's limit of 100000000"},
      {"header beyond the file", little_endian(std::vector<std::uint64_t>{3}) + "{}",
       "header size 3 reaches beyond the file of 10 bytes"},
      {"a list", raw_safetensors("[]"), "header must begin with '{'"},
      {"space first", raw_safetensors(" {}"), "header must begin with '{'"},
      {"byte order mark", raw_safetensors("\xEF\xBB\xBF{}"), "header must begin with '{'"},
      {"invalid UTF-8", raw_safetensors("{\"\xff\": 1}"), "byte 10: invalid UTF-8"},
      {"cut in the middle", raw_safetensors("{\"a\": "), "byte 14: not valid JSON"},
      {"text after the header", raw_safetensors("{} x"), "byte 11: not valid JSON"},
      {"a comment", raw_safetensors("{/* */}"), "byte 9: not valid JSON"},
      {"NaN", entry("NaN"), "byte 14: not valid JSON"},
      {"number out of range", entry("1e999"), "byte 18: not valid JSON"},
      {"duplicate tensor", raw_safetensors("{\"a\": " + good + ", \"a\": " + good + "}", zeros(4)), "duplicate key \"a\""},
      {"duplicate key in an entry", entry(R"({"dtype": "F32", "dtype": "F32", "shape": [1], "data_offsets": [0, 4]})"),
       "duplicate key \"dtype\""},
      {"duplicate metadata", raw_safetensors(R"({"__metadata__": {"k": "1", "k": "2"}})"), "duplicate key \"k\""},
      {"metadata is a list", raw_safetensors(R"({"__metadata__": []})"), "__metadata__ must be an object of strings"},
      {"metadata holds a number", raw_safetensors(R"({"__metadata__": {"k": 1}})"), "__metadata__: \"k\" must be a string"},
      {"deep nesting", f32(std::string(20, '[') + std::string(20, ']')), "nested deeper than 16 levels"},
      {"deep nesting, never closed", raw_safetensors("{\"a\": " + std::string(100000, '[')), "nested deeper than 16 levels"},
      {"entry is a number", entry("7"), a + "expected an object with dtype, shape and data_offsets"},
      {"entry is null", entry("null"), a + "expected an object with dtype, shape and data_offsets"},
      {"unknown key", entry(R"({"dtype": "F32", "shape": [1], "data_offsets": [0, 4], "strides": [1]})"),
       a + "unknown key \"strides\""},
      {"no dtype", entry(R"({"shape": [1], "data_offsets": [0, 4]})"), a + "missing key \"dtype\""},
      {"no shape", entry(R"({"dtype": "F32", "data_offsets": [0, 4]})"), a + "missing key \"shape\""},
      {"no offsets", entry(R"({"dtype": "F32", "shape": [1]})"), a + "missing key \"data_offsets\""},
      {"dtype is a number", entry(R"({"dtype": 32, "shape": [1], "data_offsets": [0, 4]})"), a + "dtype must be a string"},
      {"unknown dtype", entry(R"({"dtype": "F128", "shape": [1], "data_offsets": [0, 4]})"), a + "unknown dtype \"F128\""},
      {"no letters in a dtype", entry(R"({"dtype": "", "shape": [1], "data_offsets": [0, 4]})"), a + "unknown dtype \"\""},
      {"dtype in small letters", entry(R"({"dtype": "f32", "shape": [1], "data_offsets": [0, 4]})"),
       a + "unknown dtype \"f32\""},
      {"shape is a number", f32("1"), a + "shape must be an array"},
      {"negative dimension", f32("[-1]"), a + "a dimension must be a whole number >= 0, found -1"},
      {"fractional dimension", f32("[1.0]"), a + "a dimension must be a whole number >= 0, found 1.0"},
      {"exponent", f32("[1e0]"), a + "a dimension must be a whole number >= 0, found 1.0"},
      {"dimension is a string", f32("[\"1\"]"), a + "a dimension must be a whole number >= 0, found \"1\""},
      {"dimension above 2^64", f32("[18446744073709551616]"),
       a + "a dimension must be a whole number >= 0, found 1.8446744073709552e+19"},
      {"dimension above 2^63", f32("[9223372036854775808]"),
       a + "shape [9223372036854775808] has more elements than can be counted"},
      {"most elements that can be counted", f32("[9223372036854775807]"),
       a + "shape [9223372036854775807] of F32 doesn't fill data_offsets: 4 bytes found"},
      {"shape overflows", f32("[8589934592, 8589934592]"),
       a + "shape [8589934592,8589934592] has more elements than can be counted"},
      {"shape overflows to zero bytes", f32("[4611686018427387904]", "[0, 0]"),
       a + "shape [4611686018427387904] of F32 doesn't fill data_offsets: 0 bytes found"},
      {"offsets are a number", f32("[1]", "4"), a + "data_offsets must be [begin, end]"},
      {"three offsets", f32("[1]", "[0, 2, 4]"), a + "data_offsets must be [begin, end]"},
      {"negative offset", f32("[1]", "[-4, 0]"), a + "data_offsets must be a whole number >= 0, found -4"},
      {"minus zero", f32("[1]", "[-0, 4]"), a + "data_offsets must be a whole number >= 0, found 0"},
      {"offsets reversed", f32("[1]", "[4, 0]"), a + "data_offsets [4, 0] end before they begin"},
      {"too few bytes", f32("[2]"), a + "shape [2] of F32 doesn't fill data_offsets: 4 bytes found"},
      {"too many bytes", f32("[]", "[0, 8]"), a + "shape [] of F32 doesn't fill data_offsets: 8 bytes found"},
      {"too few bytes from an offset on", f32("[2]", "[1, 5]"),
       a + "shape [2] of F32 doesn't fill data_offsets: 4 bytes found"},
      {"a long name, no entry", raw_safetensors("{\"" + longer + "\": 7}"),
       cut + "expected an object with dtype, shape and data_offsets"},
      {"a long name, a gap",
       raw_safetensors("{\"" + longer + R"(": {"dtype": "U8", "shape": [1], "data_offsets": [2, 3]}})"),
       cut + "leaves a gap: begins at byte 2, expected 0"},
      {"a long name, cut short",
       raw_safetensors("{\"" + longer + R"(": {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]}})", zeros(3)),
       cut + "ends at byte 4 of a data area of 3 bytes: file cut short"},
      {"a long duplicate", raw_safetensors("{\"" + longer + "\": 7, \"" + longer + "\": 7}"),
       "duplicate key \"" + longer.substr(0, 100) + "\""},
      {"gap at the start", f32("[0]", "[4, 4]"), a + "leaves a gap: begins at byte 4, expected 0"},
      {"gap", u8_pair("[0, 4]", "[5, 9]", 9), b + "leaves a gap: begins at byte 5, expected 4"},
      {"overlap", u8_pair("[0, 4]", "[2, 6]", 6), b + "overlaps the tensor before it: begins at byte 2, expected 4"},
      {"the same bytes twice", u8_pair("[0, 4]", "[0, 4]", 4),
       b + "overlaps the tensor before it: begins at byte 0, expected 4"},
      {"cut short", u8_pair("[0, 4]", "[4, 8]", 7), b + "ends at byte 8 of a data area of 7 bytes: file cut short"},
      {"trailing bytes", u8_pair("[0, 4]", "[4, 8]", 9), "1 bytes after the last tensor"},
      {"data but no tensors", raw_safetensors("{}", zeros(3)), "3 bytes after the last tensor"},
  };
}

}  // namespace

std::vector<MalformedModel> malformed_safetensors() {
  std::vector<MalformedModel> all;
  for (const Content& content : contents())
    all.push_back({content.name,
                   [bytes = content.bytes](const TemporaryDirectory& dir) {
                     dir.write("m/config.json", tiny_config().dump());
                     dir.write("m/model.safetensors", bytes);
                   },
                   "DIR/m/model.safetensors: " + content.expected});
  const auto special = [&](const char* name, void (*make)(const std::filesystem::path&), const char* expected) {
    all.push_back({name,
                   [make](const TemporaryDirectory& dir) {
                     dir.write("m/config.json", tiny_config().dump());
                     make(dir.path() / "m" / "model.safetensors");
                   },
                   std::string("DIR/m/model.safetensors: ") + expected});
  };
  special(
      "a directory", [](const std::filesystem::path& path) { std::filesystem::create_directory(path); },
      "expected a regular file, found a directory");
  special(
      "a pipe", [](const std::filesystem::path& path) { mkfifo(path.c_str(), 0600); },
      "expected a regular file, found a pipe");
  special(
      "a device", [](const std::filesystem::path& path) { std::filesystem::create_symlink("/dev/zero", path); },
      "expected a regular file, found a device");
  special(
      "a link to itself", [](const std::filesystem::path& path) { std::filesystem::create_symlink(path, path); },
      "can't open: Too many levels of symbolic links");
  special(
      "a link to nothing", [](const std::filesystem::path& path) { std::filesystem::create_symlink("nowhere", path); },
      "can't open: No such file or directory");
  return all;
}

}  // namespace qfid::tests
