#include "eval/report/html.h"

#include <algorithm>
#include <format>
#include <nlohmann/json.hpp>

#include "quant/core/error.h"

namespace qfid::eval {

std::string utf8(std::string_view text) {
  if (std::all_of(text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) < 0x80; }))
    return std::string(text);
  using nlohmann::json;
  return json::parse(json(text).dump(-1, ' ', false, json::error_handler_t::replace)).get<std::string>();
}

std::string html_text(std::string_view text) {
  std::string out;
  for (const char c : utf8(text)) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '&') {
      out += "&amp;";
    } else if (c == '<') {
      out += "&lt;";
    } else if (c == '>') {
      out += "&gt;";
    } else if (c == '"') {
      out += "&quot;";
    } else if (c == '\'') {
      out += "&#39;";
    } else if ((byte < 0x20 && c != '\n' && c != '\t') || byte == 0x7F) {
      out += "\xEF\xBF\xBD";
    } else {
      out += c;
    }
  }
  return out;
}

std::string coordinate(double value) {
  std::string text = std::format("{:.2f}", value);
  while (text.back() == '0') text.pop_back();
  if (text.back() == '.') text.pop_back();
  return text == "-0" ? "0" : text;
}

void Html::begin(std::string_view tag, Attributes attributes) {
  out_ += '<';
  out_ += tag;
  for (const auto& [name, value] : attributes) {
    out_ += ' ';
    out_ += name;
    out_ += "=\"";
    out_ += html_text(value);
    out_ += '"';
  }
}

Html& Html::open(std::string_view tag, Attributes attributes) {
  begin(tag, attributes);
  out_ += '>';
  open_.emplace_back(tag);
  return *this;
}

Html& Html::close() {
  quant::require(!open_.empty(), "html: nothing is open");
  out_ += "</" + open_.back() + ">";
  static constexpr std::string_view lines[] = {"tr", "p",  "li", "figure", "table", "section",
                                               "h1", "h2", "h3", "svg",    "div"};
  if (std::find(std::begin(lines), std::end(lines), open_.back()) != std::end(lines)) out_ += '\n';
  open_.pop_back();
  return *this;
}

Html& Html::text(std::string_view text) {
  out_ += html_text(text);
  return *this;
}

Html& Html::leaf(std::string_view tag, std::string_view text, Attributes attributes) {
  return open(tag, attributes).text(text).close();
}

Html& Html::empty(std::string_view tag, Attributes attributes) {
  begin(tag, attributes);
  out_ += "/>";
  return *this;
}

Html& Html::row(std::string_view cell_tag, const std::vector<std::string>& cells) {
  open("tr");
  for (std::size_t i = 0; i < cells.size(); ++i) {
    if (cell_tag == "th") {
      leaf("th", cells[i], {{"scope", "col"}});
    } else if (i == 0) {
      leaf("th", cells[i], {{"scope", "row"}});
    } else {
      leaf("td", cells[i]);
    }
  }
  return close();
}

Html& Html::trusted(std::string_view text) {
  out_ += text;
  return *this;
}

const std::string& Html::str() const {
  quant::require(open_.empty(), "html: an element wasn't closed");
  return out_;
}

}  // namespace qfid::eval
