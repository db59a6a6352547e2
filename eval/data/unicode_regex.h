// Regular expressions over UTF-8 text with Unicode properties, by PCRE2: the only place that sees its header.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace qfid::eval {

/// Byte ranges; `group` is that of the first group, empty where there is none or it took no part.
struct RegexMatch {
  std::size_t begin = 0, end = 0, group_begin = 0, group_end = 0;
};

class UnicodeRegex {
 public:
  /// A pattern in PCRE2's syntax. Error{input} "PATTERN isn't a regular expression: ..." .
  explicit UnicodeRegex(std::string_view pattern);
  ~UnicodeRegex();
  UnicodeRegex(UnicodeRegex&&) noexcept;
  UnicodeRegex& operator=(UnicodeRegex&&) noexcept;

  /// The first match that begins at byte `from` or later. `text` is UTF-8 (invalid_utf8 says so) and `from` the start of a
  /// character. Error{input} where the pattern needs too many steps. One call at a time.
  std::optional<RegexMatch> find(std::string_view text, std::size_t from) const;

 private:
  struct Compiled;
  std::unique_ptr<Compiled> compiled_;
};

/// Byte at which `text` stops being UTF-8; nothing when it is.
std::optional<std::size_t> invalid_utf8(std::string_view text);
/// Error{input} "NAME: byte N isn't UTF-8".
void require_utf8(std::string_view text, const std::string& name);

}  // namespace qfid::eval
