// The JSON Schema (draft-07) of the configuration, from the key table.
#include <nlohmann/json.hpp>

#include "eval/experiment/keys.h"
#include "eval/experiment/spec_reader.h"

namespace qfid::eval {

namespace {

using nlohmann::ordered_json;

ordered_json bound(std::string_view text) { return ordered_json::parse(text.begin(), text.end()); }

ordered_json schema_of(const std::string& pattern);

ordered_json map_schema(const std::string& pattern) {
  ordered_json node{{"type", "object"}, {"additionalProperties", false}, {"properties", ordered_json::object()}};
  ordered_json required = ordered_json::array();
  for (const std::string& name : children_of(pattern)) {
    const std::string child = pattern.empty() ? name : pattern + "." + name;
    node["properties"][name] = schema_of(child);
    if (find_key(child)->required) required.push_back(name);
  }
  if (!required.empty()) node["required"] = required;
  if (pattern == "data") node["oneOf"] = {{{"required", {"tokens"}}}, {{"required", {"text", "tokenizer"}}}};
  return node;
}

ordered_json typed(const KeyRow& row, const std::string& pattern) {
  switch (row.type) {
    case KeyType::map: {
      ordered_json map = map_schema(pattern);
      if (!pattern.starts_with("targets.*.overrides.*.")) return map;
      return {{"anyOf", ordered_json::array({map, ordered_json{{"const", "f32"}}})}};
    }
    case KeyType::names:
      return {{"type", "object"},
              {"minProperties", 1},
              {"propertyNames", {{"pattern", "^[A-Za-z0-9._-]{1,64}$"}}},
              {"additionalProperties", schema_of(pattern + ".*")}};
    case KeyType::list:
      return {{"type", "array"}, {"items", schema_of(pattern + ".*")}};
    case KeyType::integer:
    case KeyType::number: {
      const std::size_t dots = row.allowed.find("..");
      return {{"type", row.type == KeyType::integer ? "integer" : "number"},
              {"minimum", bound(row.allowed.substr(0, dots))},
              {"maximum", bound(row.allowed.substr(dots + 2))}};
    }
    case KeyType::boolean:
      return {{"type", "boolean"}};
    case KeyType::choice:
      return {{"enum", choices(row.allowed)}};
    case KeyType::scheme:
      return {{"type", "string"}, {"pattern", "^(f32|bf16|int8|uint8|e4m3|e5m2)(/.+)?$"}};
    case KeyType::prob_scheme:
      return {{"type", "string"}, {"pattern", "^(f32|bf16|uint8|int8|e4m3|e5m2)(/.+)?$"}};
    case KeyType::string:
      break;
  }
  return {{"type", "string"}, {"minLength", 1}};
}

ordered_json schema_of(const std::string& pattern) {
  const KeyRow& row = *find_key(pattern);
  ordered_json node = typed(row, pattern);
  node["description"] = std::string(row.doc);
  return node;
}

}  // namespace

std::string spec_schema() {
  ordered_json schema{{"$schema", "http://json-schema.org/draft-07/schema#"}, {"title", "qfid experiment"}};
  schema.update(map_schema(""));
  return schema.dump(2) + "\n";
}

}  // namespace qfid::eval
