#include "eval/experiment/hashes_json.h"

namespace qfid::eval {

nlohmann::ordered_json hashes_json(const TensorHashes& hashes) {
  nlohmann::ordered_json tensors = nlohmann::ordered_json::object();
  for (const auto& [name, heads] : hashes.tensors) {
    std::string text;  // a list would take a line for each head
    for (const std::string& hash : heads) text += (text.empty() ? "" : " ") + hash;
    tensors[name] = text;
  }
  return {{"windows", hashes.windows}, {"key", hashes.key}, {"tensors", std::move(tensors)}};
}

TensorHashes hashes_of(const JsonCursor& at) {
  TensorHashes hashes;
  hashes.windows = at.at("windows").integer(1, 1'000'000'000'000);
  for (const auto& [name, value] : at.at("key").entries()) hashes.key[name] = value.text();
  for (const auto& [name, value] : at.at("tensors").entries()) {
    std::vector<std::string> heads;
    const std::string text = value.text();
    for (std::size_t from = 0; from <= text.size();) {
      const std::size_t end = std::min(text.find(' ', from), text.size());
      if (end == from) value.fail("hashes with a space between");
      heads.push_back(text.substr(from, end - from));
      from = end + 1;
    }
    hashes.tensors.emplace_back(name, std::move(heads));
  }
  if (hashes.tensors.empty()) at.at("tensors").fail("hashes of tensors");
  return hashes;
}

}  // namespace qfid::eval
