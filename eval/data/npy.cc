#include "eval/data/npy.h"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <optional>
#include <span>

#include "quant/core/error.h"
#include "quant/core/input_file.h"

namespace qfid::eval {

namespace {

struct Header {
  std::string descr;
  bool fortran = false;
  std::vector<std::int64_t> shape;
  std::size_t data_begin = 0;
};

/// The header's Python dict literal, as numpy.save writes it; anything else is refused.
class DictReader {
 public:
  DictReader(std::string_view text, std::string path) : rest_(text), path_(std::move(path)) {}

  Header read() {
    Header header;
    bool descr = false, order = false, shape = false;
    expect('{');
    while (!accept('}')) {
      const std::string key = quoted();
      expect(':');
      bool& seen = key == "descr" ? descr : key == "fortran_order" ? order : shape;
      if (key != "descr" && key != "fortran_order" && key != "shape") fail("unknown key '" + key.substr(0, 40) + "'");
      if (seen) fail("duplicate key '" + key + "'");
      seen = true;
      if (key == "descr") header.descr = quoted();
      if (key == "fortran_order") header.fortran = boolean();
      if (key == "shape") header.shape = tuple();
      if (!accept(',')) {
        expect('}');
        break;
      }
    }
    skip();
    if (!rest_.empty()) fail("text after the closing brace");
    if (!descr || !order || !shape) fail("expected the keys 'descr', 'fortran_order' and 'shape'");
    return header;
  }

 private:
  [[noreturn]] void fail(const std::string& what) const {
    throw quant::Error(quant::ErrorKind::input, path_ + ": header: " + what);
  }
  void skip() {
    while (!rest_.empty() && (rest_.front() == ' ' || rest_.front() == '\n')) rest_.remove_prefix(1);
  }
  bool accept(char c) {
    skip();
    if (rest_.empty() || rest_.front() != c) return false;
    rest_.remove_prefix(1);
    return true;
  }
  void expect(char c) {
    if (!accept(c)) fail(std::string("expected '") + c + "' before \"" + std::string(rest_.substr(0, 20)) + "\"");
  }
  std::string quoted() {
    expect('\'');
    const std::size_t end = rest_.find('\'');
    if (end == std::string_view::npos) fail("unfinished string");
    std::string text(rest_.substr(0, end));
    rest_.remove_prefix(end + 1);
    return text;
  }
  bool boolean() {
    skip();
    for (const auto& [word, value] :
         {std::pair{std::string_view("True"), true}, std::pair{std::string_view("False"), false}})
      if (rest_.starts_with(word)) {
        rest_.remove_prefix(word.size());
        return value;
      }
    fail("fortran_order must be True or False");
  }
  std::vector<std::int64_t> tuple() {
    expect('(');
    std::vector<std::int64_t> dims;
    while (!accept(')')) {
      skip();
      std::int64_t value = 0;
      const auto [end, error] = std::from_chars(rest_.data(), rest_.data() + rest_.size(), value);
      if (error != std::errc() || value < 0) fail("shape must hold whole numbers");
      if (dims.size() >= 8) fail("shape has more than 8 dimensions");
      rest_.remove_prefix(static_cast<std::size_t>(end - rest_.data()));
      dims.push_back(value);
      if (!accept(',')) {
        if (dims.size() == 1) fail("shape must be a tuple, expected ',' after its only number");
        expect(')');
        break;
      }
    }
    return dims;
  }

  std::string_view rest_;
  std::string path_;
};

Header read_header(const quant::InputFile& file) {
  const std::string path = file.path().string();
  const auto fail = [&](const std::string& what) { throw quant::Error(quant::ErrorKind::input, path + ": " + what); };
  constexpr std::size_t longest = 65536;  // of the header itself
  std::string start(static_cast<std::size_t>(std::min<std::uint64_t>(file.size(), 12 + longest)), '\0');
  file.read(0, std::as_writable_bytes(std::span(start)));
  const std::string_view text = start;
  if (!text.starts_with("\x93NUMPY")) fail("not a .npy file: doesn't begin with \\x93NUMPY");
  if (text.size() < 10) fail("cut short in its header");
  const int major = static_cast<unsigned char>(text[6]);
  const int minor = static_cast<unsigned char>(text[7]);
  if (major < 1 || major > 3 || minor != 0)
    fail("format version " + std::to_string(major) + "." + std::to_string(minor) + ", expected 1.0, 2.0 or 3.0");
  const std::size_t width = major == 1 ? 2 : 4;
  if (text.size() < 8 + width) fail("cut short in its header");
  std::size_t length = 0;
  for (std::size_t i = width; i-- > 0;) length = length << 8 | static_cast<unsigned char>(text[8 + i]);
  if (length > file.size() - 8 - width) fail("header length " + std::to_string(length) + " reaches beyond the file");
  if (length > longest) fail("header length " + std::to_string(length) + " is above 65536");
  Header header = DictReader(text.substr(8 + width, length), path).read();
  header.data_begin = 8 + width + length;
  return header;
}

template <class T>
std::vector<std::int32_t> converted(const quant::InputFile& file, std::uint64_t begin, std::size_t n,
                                    std::optional<std::int32_t> also) {
  std::vector<std::int32_t> tokens;
  tokens.reserve(n);
  file.read_in_pieces(begin, n * sizeof(T), "", [&](std::span<const std::byte> bytes) {
    for (std::size_t at = 0; at < bytes.size(); at += sizeof(T)) {
      T value;
      std::memcpy(&value, bytes.data() + at, sizeof(T));
      const auto wide = static_cast<std::int64_t>(value);
      if ((wide < 0 || wide > INT32_MAX) && !(also && wide == *also))
        throw quant::Error(quant::ErrorKind::input, file.path().string() + ": token " + std::to_string(tokens.size()) +
                                                        " is " + std::to_string(value) +
                                                        ", expected a number from 0 to 2147483647" +
                                                        (also ? " or " + std::to_string(*also) : ""));
      tokens.push_back(static_cast<std::int32_t>(value));
    }
  });
  return tokens;
}

std::string shape_text(const std::vector<std::int64_t>& shape) {
  std::string text;
  for (const std::int64_t n : shape) text += (text.empty() ? "" : ", ") + std::to_string(n);
  return "(" + text + (shape.size() == 1 ? ",)" : ")");
}

/// How many numbers of `width` bytes (0: not of a type that was `expected`) the file holds. Error{input} where they aren't
/// `rank` dimensions, called `what` in messages, or don't fill it.
std::size_t count_of(const quant::InputFile& file, const Header& header, std::size_t rank, const std::string& what,
                     std::size_t width, const char* expected) {
  const auto fail = [&](const std::string& problem) {
    throw quant::Error(quant::ErrorKind::input, file.path().string() + ": " + problem);
  };
  if (header.shape.size() != rank) fail("expected " + what + ", found " + std::to_string(header.shape.size()));
  if (header.fortran) fail("fortran_order True, expected False");
  if (width == 0) fail("dtype '" + header.descr.substr(0, 40) + "', expected " + expected);
  const std::size_t available = file.size() - header.data_begin;
  std::uint64_t n = 1;
  bool fills = true;
  for (const std::int64_t dim : header.shape) {
    fills = fills && (n == 0 || static_cast<std::uint64_t>(dim) <= available / width / n);
    n = fills ? n * static_cast<std::uint64_t>(dim) : 0;
  }
  if (!fills || n * width != available)
    fail("shape " + shape_text(header.shape) + " of '" + header.descr +
         "' doesn't fill the file: " + std::to_string(available) + " bytes of data");
  return n;
}

/// All of a file's numbers; `rank` dimensions, called `what` in messages.
std::vector<std::int32_t> read_ids(const quant::InputFile& file, const Header& header, std::size_t rank, const char* what,
                                   std::optional<std::int32_t> also) {
  const std::size_t width = header.descr == "<u2" ? 2 : header.descr == "<i4" ? 4 : header.descr == "<i8" ? 8 : 0;
  const std::size_t n = count_of(file, header, rank, what, width, "'<u2', '<i4' or '<i8'");
  if (width == 2) return converted<std::uint16_t>(file, header.data_begin, n, also);
  if (width == 4) return converted<std::int32_t>(file, header.data_begin, n, also);
  return converted<std::int64_t>(file, header.data_begin, n, also);
}

}  // namespace

std::vector<std::int32_t> read_tokens(const quant::InputFile& file) {
  return read_ids(file, read_header(file), 1, "one dimension (a row of tokens)", std::nullopt);
}

namespace {

TokenRows rows_of(const quant::InputFile& file, const Header& header, const char* what, std::optional<std::int32_t> also) {
  TokenRows rows{read_ids(file, header, 2, what, also), header.shape[0], header.shape[1]};
  if (rows.tokens.empty()) throw quant::Error(quant::ErrorKind::input, file.path().string() + ": no tokens");
  return rows;
}

}  // namespace

TokenRows read_token_rows(const quant::InputFile& file, std::optional<std::int32_t> also) {
  return rows_of(file, read_header(file), "two dimensions (windows, tokens)", also);
}

TokenRows read_tokens_or_rows(const quant::InputFile& file) {
  const Header header = read_header(file);
  if (header.shape.size() == 1) return {read_ids(file, header, 1, "one dimension", std::nullopt)};
  return rows_of(file, header, "one dimension (a row of tokens) or two (windows, tokens)", std::nullopt);
}

std::int32_t read_token(const quant::InputFile& file) {
  return read_ids(file, read_header(file), 0, "a single number (no dimensions)", std::nullopt).at(0);
}

NumberTable read_numbers(const quant::InputFile& file, std::size_t rank) {
  const Header header = read_header(file);
  const std::size_t width = header.descr == "<f8" ? sizeof(double) : 0;
  const std::size_t n =
      count_of(file, header, rank, std::to_string(rank) + (rank == 1 ? " dimension" : " dimensions"), width, "'<f8'");
  NumberTable table{std::vector<double>(n), header.shape};
  file.read(header.data_begin, std::as_writable_bytes(std::span(table.values)));
  return table;
}

std::string npy_header(std::string_view descr, const std::vector<std::int64_t>& shape) {
  std::string dict = "{'descr': " + std::string(descr) + ", 'fortran_order': False, 'shape': (";
  for (std::int64_t n : shape) dict += std::to_string(n) + ",";
  dict += "), }";
  const std::size_t unpadded = 10 + dict.size() + 1;
  dict.append((64 - unpadded % 64) % 64, ' ');
  dict += '\n';
  std::string header("\x93NUMPY\x01\x00", 8);
  header += static_cast<char>(dict.size() & 0xFF);
  header += static_cast<char>(dict.size() >> 8);
  return header + dict;
}

}  // namespace qfid::eval
