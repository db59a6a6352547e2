// Strict JSON: valid UTF-8, no duplicate keys at any level, bounded depth; errors name path and byte.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace qfid::eval {

/// Error{input}: "PATH: byte N: what". `offset` is added to N (a header that starts inside a file).
nlohmann::json parse_strict_json(std::string_view text, const std::string& path, std::size_t offset = 0);
/// The same with the keys of every object in the file's order.
nlohmann::ordered_json parse_strict_ordered_json(std::string_view text, const std::string& path);

}  // namespace qfid::eval
