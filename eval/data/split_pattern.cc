#include "eval/data/split_pattern.h"

#include <algorithm>
#include <array>

#include "quant/core/error.h"

namespace qfid::eval {

namespace {

constexpr std::array<std::string_view, 37> categories{
    "C", "Cc", "Cf", "Cn", "Co", "L",  "Ll", "Lm", "Lo", "Lt", "Lu", "M",  "Mc", "Me", "Mn", "N",  "Nd", "Nl", "No",
    "P", "Pc", "Pd", "Pe", "Pf", "Pi", "Po", "Ps", "S",  "Sc", "Sk", "Sm", "So", "Z",  "Zl", "Zp", "Zs", "Cs"};

class Translator {
 public:
  explicit Translator(std::string_view pattern) : rest_(pattern) {}

  std::string translate() {
    while (!rest_.empty()) {
      const char c = take();
      if (c == '\\') {
        escape();
      } else if (c == '[') {
        set();
      } else if (c == '(') {
        group();
      } else if (c == '.' || c == '^' || c == '$') {
        refuse(std::string(1, c));
      } else {
        out_ += c;
        if (c == '{') repeat();
      }
    }
    return std::move(out_);
  }

 private:
  [[noreturn]] static void refuse(const std::string& what) {
    throw quant::Error(quant::ErrorKind::input, what + " isn't supported in a pattern");
  }
  char take() {
    if (rest_.empty()) refuse("an unfinished part");
    const char c = rest_.front();
    rest_.remove_prefix(1);
    return c;
  }

  /// Oniguruma's white space is Unicode's; PCRE2's has U+180E too.
  void escape() {
    const char c = take();
    if (c == 's' || c == 'S') {
      out_ += c == 's' ? "\\p{White_Space}" : "\\P{White_Space}";
    } else if (c == 'd' || c == 'D') {
      out_ += c == 'd' ? "\\p{Nd}" : "\\P{Nd}";
    } else if (c == 'p' || c == 'P') {
      property(c);
    } else if (std::string_view("rntf").find(c) != std::string_view::npos || static_cast<unsigned char>(c) >= 0x80 ||
               (c > ' ' && !(c >= '0' && c <= '9') && !(c >= 'a' && c <= 'z') && !(c >= 'A' && c <= 'Z'))) {
      out_ += {'\\', c};
    } else {
      refuse(std::string("\\") + c);
    }
  }

  void property(char c) {
    const std::size_t close = rest_.find('}');
    const bool braced = rest_.starts_with('{') && close != std::string_view::npos;
    const std::string_view name = braced ? rest_.substr(1, close - 1) : rest_.substr(0, 1);
    if (!braced || std::find(categories.begin(), categories.end(), name) == categories.end())
      refuse(std::string("\\") + c + (braced ? "{" + std::string(name) + "}" : std::string(name)));
    out_ += std::string("\\") + c + "{" + std::string(name) + "}";
    rest_.remove_prefix(close + 1);
  }

  void set() {
    out_ += '[';
    if (rest_.starts_with('^')) out_ += take();
    if (rest_.starts_with(']')) refuse("[] or []...]");
    while (true) {
      if (rest_.starts_with("&&")) refuse("&& in a set");
      const char c = take();
      if (c == '[') refuse("a set in a set");
      if (c == '\\') {
        escape();
        continue;
      }
      out_ += c;
      if (c == ']') return;
    }
  }

  void group() {
    if (rest_.starts_with('*')) refuse("(" + std::string(rest_.substr(0, 10)));  // PCRE2's verbs
    out_ += '(';
    if (!rest_.starts_with('?')) return;
    for (const std::string_view kind : {"?:", "?i:", "?!", "?="})
      if (rest_.starts_with(kind)) {
        out_ += kind;
        rest_.remove_prefix(kind.size());
        return;
      }
    refuse("(" + std::string(rest_.substr(0, 3)));
  }

  /// {n}, {n,}, {n,m}, and nothing that changes its greed: the two read that differently.
  void repeat() {
    const std::size_t close = rest_.find('}');
    const std::string_view body = rest_.substr(0, close);
    const bool plain = close != std::string_view::npos && !body.empty() && body.front() != ',' &&
                       body.find_first_not_of("0123456789,") == std::string_view::npos;
    if (!plain) refuse("{" + std::string(body.substr(0, 20)) + "}");
    out_ += std::string(body) + "}";
    rest_.remove_prefix(close + 1);
    if (rest_.starts_with('+') || rest_.starts_with('?') || rest_.starts_with('*'))
      refuse("{" + std::string(body) + "}" + rest_.front());
  }

  std::string_view rest_;
  std::string out_;
};

}  // namespace

std::string pcre2_pattern(std::string_view oniguruma) { return Translator(oniguruma).translate(); }

}  // namespace qfid::eval
