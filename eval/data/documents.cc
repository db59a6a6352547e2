#include "eval/data/documents.h"

#include <array>

#include "eval/data/unicode_regex.h"
#include "eval/json/json_cursor.h"
#include "eval/json/json_file.h"
#include "quant/core/error.h"
#include "quant/core/input_file.h"

namespace qfid::eval {

namespace {

constexpr std::array<std::string_view, 3> names{"file", "lines", "jsonl"};

/// Python's white space: Unicode's and the four separators of ASCII.
constexpr std::string_view blank = R"([\x1c-\x1f\p{White_Space}])";

std::vector<std::string_view> lines_of(std::string_view text) {
  std::vector<std::string_view> lines;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size() - 1) + 1;
    lines.push_back(text.substr(0, end));
    text.remove_prefix(end);
  }
  return lines;
}

std::vector<std::string> text_fields(std::string_view text, const std::string& path) {
  std::vector<std::string> all;
  std::size_t number = 0;
  for (const std::string_view line : lines_of(text)) {
    const std::string where = path + ":" + std::to_string(++number);
    if (line.find_first_not_of(" \t\r\n") == std::string_view::npos) continue;
    const nlohmann::json json = parse_strict_json(line, where);
    all.push_back(SortedJsonCursor(json, where).at("text").text());
  }
  return all;
}

void replace_all(std::string& text, std::string_view from, std::string_view to) {
  std::string out;
  std::size_t done = 0;
  for (std::size_t at = 0; (at = text.find(from, done)) != std::string::npos; done = at + from.size())
    out.append(text, done, at - done).append(to);
  text = out.append(text, done);
}

/// re.sub(PATTERN, BEFORE + \1 + AFTER, text); \1 is empty for a pattern without a group.
std::string substituted(const std::string& text, const UnicodeRegex& pattern, std::string_view before,
                        std::string_view after) {
  std::string out;
  std::size_t done = 0;
  while (const std::optional<RegexMatch> match = pattern.find(text, done)) {
    out.append(text, done, match->begin - done);
    out.append(before).append(text, match->group_begin, match->group_end - match->group_begin).append(after);
    done = match->end;
  }
  return out.append(text, done);
}

/// White space inside a pair of brackets or quotes, removed.
std::string tightened(const std::string& text, std::string_view open, std::string_view inner, std::string_view close) {
  const std::string space = std::string(blank) + "*";
  const UnicodeRegex pattern("\\" + std::string(open) + space + "(" + std::string(inner) + "*?)" + space + "\\" +
                             std::string(close));
  return substituted(text, pattern, open, close);
}

}  // namespace

std::string_view to_string(Documents documents) { return names[static_cast<std::size_t>(documents)]; }

Documents parse_documents(std::string_view name) {
  for (std::size_t i = 0; i < names.size(); ++i)
    if (names[i] == name) return static_cast<Documents>(i);
  throw quant::Error(quant::ErrorKind::internal, "no documents " + std::string(name));
}

std::vector<std::string> read_documents(const std::filesystem::path& path, Documents documents) {
  const quant::FileContent file(path);
  const std::string_view text = file.text();
  require_utf8(text, path.string());
  std::vector<std::string> all;
  if (documents == Documents::file && !text.empty()) all.emplace_back(text);
  if (documents == Documents::jsonl) all = text_fields(text, path.string());
  if (documents == Documents::lines) {
    const UnicodeRegex word("[^\\x1c-\\x1f\\p{White_Space}]");
    for (const std::string_view line : lines_of(text)) all.emplace_back(word.find(line, 0) ? line : "");
  }
  if (all.empty()) throw quant::Error(quant::ErrorKind::input, path.string() + ": no documents");
  return all;
}

std::int64_t count_words(std::string_view text) {
  thread_local const UnicodeRegex spaces(std::string(blank) + "+");
  std::int64_t words = 1;
  for (std::optional<RegexMatch> found = spaces.find(text, 0); found; found = spaces.find(text, found->end)) ++words;
  return words;
}

std::string wikitext_detokenized(std::string text) {
  replace_all(text, "s '", "s'");
  text = substituted(text, UnicodeRegex("/' [0-9]/"), "/'[0-9]/", "");  // as it stands there
  for (const auto& [from, to] : std::initializer_list<std::pair<std::string_view, std::string_view>>{{" @-@ ", "-"},
                                                                                                     {" @,@ ", ","},
                                                                                                     {" @.@ ", "."},
                                                                                                     {" : ", ": "},
                                                                                                     {" ; ", "; "},
                                                                                                     {" . ", ". "},
                                                                                                     {" ! ", "! "},
                                                                                                     {" ? ", "? "},
                                                                                                     {" , ", ", "}})
    replace_all(text, from, to);
  text = tightened(text, "(", "[^)]", ")");
  text = tightened(text, "[", "[^\\]]", "]");
  text = tightened(text, "{", "[^}]", "}");
  text = tightened(text, "\"", "[^\"]", "\"");
  text = tightened(text, "'", "[^']", "'");
  for (const auto& [from, to] : std::initializer_list<std::pair<std::string_view, std::string_view>>{{"= = = =", "===="},
                                                                                                     {"= = =", "==="},
                                                                                                     {"= =", "=="},
                                                                                                     {" \u00b0 ", "\u00b0"},
                                                                                                     {" \n", "\n"},
                                                                                                     {"\n ", "\n"},
                                                                                                     {" N ", " 1 "},
                                                                                                     {" 's", "'s"}})
    replace_all(text, from, to);
  return text;
}

}  // namespace qfid::eval
