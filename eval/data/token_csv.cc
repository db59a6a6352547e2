#include "eval/data/token_csv.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <optional>
#include <string>
#include <string_view>

#include "quant/core/error.h"
#include "quant/core/input_file.h"

namespace qfid::eval {

namespace {

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && (text.back() == '\r' || text.back() == ' ')) text.remove_suffix(1);
  while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
  return text;
}

std::vector<std::string_view> cells_of(std::string_view line) {
  std::vector<std::string_view> cells;
  while (true) {
    const std::size_t comma = line.find(',');
    cells.push_back(trimmed(line.substr(0, comma)));
    if (comma == std::string_view::npos) return cells;
    line.remove_prefix(comma + 1);
  }
}

class Reader {
 public:
  explicit Reader(const std::filesystem::path& path) : path_(path.string()), file_(path), rest_(file_.text()) {}

  TokenSums read() {
    std::string_view line;
    if (!next(line)) fail("empty, expected a header with window,nll[,kl]");
    header(cells_of(line));
    while (next(line))
      if (!trimmed(line).empty()) row(cells_of(line));
    if (sums_.windows.empty()) fail("no rows");
    return std::move(sums_);
  }

 private:
  [[noreturn]] void fail(const std::string& what) const {
    throw quant::Error(quant::ErrorKind::input, path_ + ":" + std::to_string(std::max(line_, 1)) + ": " + what);
  }

  bool next(std::string_view& line) {
    if (rest_.empty()) return false;
    const std::size_t end = rest_.find('\n');
    line = rest_.substr(0, end);
    rest_.remove_prefix(end == std::string_view::npos ? rest_.size() : end + 1);
    ++line_;
    return true;
  }

  void header(const std::vector<std::string_view>& names) {
    columns_ = names.size();
    const auto find = [&](std::string_view name) -> std::optional<std::size_t> {
      if (std::count(names.begin(), names.end(), name) > 1) fail("column " + std::string(name) + " twice");
      const auto found = std::find(names.begin(), names.end(), name);
      if (found == names.end()) return std::nullopt;
      return static_cast<std::size_t>(found - names.begin());
    };
    const auto window = find("window"), nll = find("nll");
    if (!window || !nll) fail("no column \"" + std::string(window ? "nll" : "window") + "\", expected window,nll[,kl]");
    window_ = *window;
    nll_ = *nll;
    kl_ = find("kl");
  }

  template <class T>
  T number(std::string_view cell, const char* name, const char* expected) const {
    T value{};
    const auto [end, error] = std::from_chars(cell.data(), cell.data() + cell.size(), value);
    if (error != std::errc() || end != cell.data() + cell.size() || !std::isfinite(static_cast<double>(value)))
      fail(std::string(name) + " is \"" + std::string(cell.substr(0, 40)) + "\", expected " + expected);
    return value;
  }

  void row(const std::vector<std::string_view>& cells) {
    if (cells.size() != columns_)
      fail(std::to_string(cells.size()) + " cells, expected " + std::to_string(columns_) + " as in the header");
    const auto window = number<std::int64_t>(cells[window_], "window", "a whole number");
    const auto nll = number<double>(cells[nll_], "nll", "a finite number");
    if (sums_.windows.empty() || window != sums_.windows.back()) {
      if (!sums_.windows.empty() && window < sums_.windows.back())
        fail("window " + std::to_string(window) + " after window " + std::to_string(sums_.windows.back()) +
             ", expected windows to count upwards");
      sums_.windows.push_back(window);
      sums_.tokens.push_back(0);
      sums_.nll.push_back(0);
      if (kl_) sums_.kl.push_back(0);
    }
    ++sums_.tokens.back();
    sums_.nll.back() += nll;
    if (kl_) sums_.kl.back() += number<double>(cells[*kl_], "kl", "a finite number");
  }

  std::string path_;
  quant::FileContent file_;
  std::string_view rest_;
  int line_ = 0;
  std::size_t columns_ = 0, window_ = 0, nll_ = 0;
  std::optional<std::size_t> kl_;
  TokenSums sums_;
};

}  // namespace

TokenSums read_token_csv(const std::filesystem::path& path) { return Reader(path).read(); }

}  // namespace qfid::eval
