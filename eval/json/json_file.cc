#include "eval/json/json_file.h"

#include <optional>
#include <set>
#include <vector>

#include "quant/core/error.h"

namespace qfid::eval {

namespace {

using nlohmann::json;
constexpr std::size_t deepest = 16;

/// First pass: structure only (duplicates, depth, syntax with its byte). Nothing is built, so hostile nesting costs nothing.
class StructureCheck : public nlohmann::json_sax<json> {
 public:
  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(number_integer_t) override { return true; }
  bool number_unsigned(number_unsigned_t) override { return true; }
  bool number_float(number_float_t, const string_t&) override { return true; }
  bool string(string_t&) override { return true; }
  bool binary(binary_t&) override { return true; }
  bool start_object(std::size_t) override { return open(); }
  bool end_object() override { return close(); }
  bool start_array(std::size_t) override { return open(); }
  bool end_array() override { return close(); }
  bool key(string_t& name) override {
    if (keys_.back().insert(name).second) return true;
    problem = "duplicate key \"" + name.substr(0, 100) + "\"";
    return false;
  }
  bool parse_error(std::size_t at, const std::string&, const nlohmann::detail::exception& error) override {
    byte = at - 1;  // `at` counts what was read, that byte too
    const std::string text = error.what();
    problem = text.find("ill-formed UTF-8") != std::string::npos ? "invalid UTF-8" : "not valid JSON";
    return false;
  }
  std::string problem;
  std::optional<std::size_t> byte;  ///< of syntax errors

 private:
  bool open() {
    keys_.emplace_back();
    if (keys_.size() <= deepest) return true;
    problem = "nested deeper than " + std::to_string(deepest) + " levels";
    return false;
  }
  bool close() {
    keys_.pop_back();
    return true;
  }
  std::vector<std::set<std::string>> keys_;
};

void check_structure(std::string_view text, const std::string& path, std::size_t offset) {
  StructureCheck check;
  if (json::sax_parse(text.begin(), text.end(), &check)) return;
  const std::string where = check.byte ? "byte " + std::to_string(*check.byte + offset) + ": " : "";
  throw quant::Error(quant::ErrorKind::input, path + ": " + where + check.problem);
}

}  // namespace

json parse_strict_json(std::string_view text, const std::string& path, std::size_t offset) {
  check_structure(text, path, offset);
  return json::parse(text.begin(), text.end());
}

nlohmann::ordered_json parse_strict_ordered_json(std::string_view text, const std::string& path) {
  check_structure(text, path, 0);
  return nlohmann::ordered_json::parse(text.begin(), text.end());
}

}  // namespace qfid::eval
