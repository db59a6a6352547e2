// A writer of HTML and SVG in which nothing can be forgotten: every text and attribute is escaped here and nowhere else, and
// elements close in the order in which they were opened. What it doesn't do: raw markup. The one raw text of a page, the
// style sheet, is ours.
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace qfid::eval {

class Html {
 public:
  using Attributes = std::initializer_list<std::pair<std::string_view, std::string_view>>;

  Html& open(std::string_view tag, Attributes attributes = {});
  /// Closes the innermost open element.
  Html& close();
  Html& text(std::string_view text);
  /// An element with nothing but text.
  Html& leaf(std::string_view tag, std::string_view text, Attributes attributes = {});
  /// An element without content: `<tag .../>`; HTML's void elements and SVG's shapes.
  Html& empty(std::string_view tag, Attributes attributes = {});
  /// A heading, table cells and rows, as often needed.
  Html& row(std::string_view cell_tag, const std::vector<std::string>& cells);
  /// The doctype and our style sheet: written as they are. Never anything that came from outside.
  Html& trusted(std::string_view text);

  /// The text so far; everything must be closed.
  const std::string& str() const;

 private:
  void begin(std::string_view tag, Attributes attributes);

  std::string out_;
  std::vector<std::string> open_;
};

/// `text` with & < > " ' as entities, control characters and what isn't UTF-8 as U+FFFD.
std::string html_text(std::string_view text);
/// Valid UTF-8: what isn't becomes U+FFFD, as in results.json.
std::string utf8(std::string_view text);
/// A coordinate: two digits after the point at most, no trailing zeros.
std::string coordinate(double value);

}  // namespace qfid::eval
