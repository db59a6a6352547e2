// A place in a JSON file that knows its path: strict reading whose errors name file and key.
#pragma once

#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "quant/core/error.h"

namespace qfid::eval {

template <class Json>
class BasicJsonCursor {
 public:
  BasicJsonCursor(const Json& value, std::string file, std::string key = "")
      : value_(&value), file_(std::move(file)), key_(std::move(key)) {}

  BasicJsonCursor at(const std::string& name) const {
    if (!value_->is_object()) fail("a map");
    const auto found = value_->find(name);
    const std::string key = key_.empty() ? name : key_ + "." + name;
    if (found == value_->end()) throw quant::Error(quant::ErrorKind::input, file_ + ": missing key \"" + key + "\"");
    return {*found, file_, key};
  }
  std::vector<BasicJsonCursor> items() const {
    if (!value_->is_array()) fail("a list");
    std::vector<BasicJsonCursor> all;
    for (std::size_t i = 0; i < value_->size(); ++i)
      all.emplace_back((*value_)[i], file_, key_ + "[" + std::to_string(i) + "]");
    return all;
  }
  bool has(const std::string& name) const { return value_->is_object() && value_->contains(name); }
  bool is_null() const { return value_->is_null(); }
  bool is_list() const { return value_->is_array(); }
  /// Keys and values of a map, in the file's order.
  std::vector<std::pair<std::string, BasicJsonCursor>> entries() const {
    if (!value_->is_object()) fail("a map");
    const std::string prefix = key_.empty() ? "" : key_ + ".";
    std::vector<std::pair<std::string, BasicJsonCursor>> all;
    for (const auto& [name, value] : value_->items()) all.emplace_back(name, BasicJsonCursor(value, file_, prefix + name));
    return all;
  }
  std::string text() const {
    if (!value_->is_string()) fail("text");
    return value_->template get<std::string>();
  }
  double number() const {
    if (!value_->is_number() || !std::isfinite(value_->template get<double>())) fail("a number");
    return value_->template get<double>();
  }
  /// A number, or nothing where the file says null.
  std::optional<double> number_or_null() const {
    if (value_->is_null()) return std::nullopt;
    return number();
  }
  std::int64_t integer(std::int64_t low, std::int64_t high) const {
    const bool whole =
        value_->is_number_integer() && !(value_->is_number_unsigned() && value_->template get<std::uint64_t>() > INT64_MAX);
    if (!whole || value_->template get<std::int64_t>() < low || value_->template get<std::int64_t>() > high)
      fail("a whole number, " + std::to_string(low) + ".." + std::to_string(high));
    return value_->template get<std::int64_t>();
  }
  bool boolean() const {
    if (!value_->is_boolean()) fail("true or false");
    return value_->template get<bool>();
  }
  /// Error{input}: "FILE: KEY: WHAT".
  [[noreturn]] void refuse(const std::string& what) const {
    throw quant::Error(quant::ErrorKind::input, file_ + ": \"" + key_ + "\": " + what);
  }
  /// Error{input}: "FILE: KEY is FOUND, expected EXPECTED".
  [[noreturn]] void fail(const std::string& expected) const {
    std::string found = value_->is_object()  ? "a map"
                        : value_->is_array() ? "a list"
                                             : value_->dump(-1, ' ', false, Json::error_handler_t::replace);
    if (found.size() > 60) found = found.substr(0, 60) + "...";
    throw quant::Error(quant::ErrorKind::input, file_ + ": " + (key_.empty() ? "the file" : "\"" + key_ + "\"") + " is " +
                                                    found + ", expected " + expected);
  }

 private:
  const Json* value_;
  std::string file_, key_;
};
/// With the keys of every map in the file's order; for maps of thousands of keys take the other, which sorts them.
using JsonCursor = BasicJsonCursor<nlohmann::ordered_json>;
using SortedJsonCursor = BasicJsonCursor<nlohmann::json>;

}  // namespace qfid::eval
