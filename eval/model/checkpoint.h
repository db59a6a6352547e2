// A checkpoint directory: config.json beside model.safetensors, or beside model.safetensors.index.json and its shards.
#pragma once

#include <filesystem>
#include <map>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "eval/model/safetensors.h"

namespace qfid::eval {

class Checkpoint {
 public:
  /// Error{input}: directory or file missing, a shard that leaves the directory, tensors and index that don't match.
  static Checkpoint open(const std::filesystem::path& directory);

  const std::filesystem::path& directory() const { return directory_; }
  std::vector<std::string> names() const;  ///< sorted
  bool has(const std::string& name) const { return where_.contains(name); }
  const TensorInfo& info(const std::string& name) const;
  const SafetensorsFile& file_of(const std::string& name) const;
  /// What load_f32 would refuse is refused; nothing is read. Marks as used.
  void check_f32(const std::string& name, const std::vector<std::int64_t>& expected);
  /// Loads as f32 and marks as used. Error{input} when missing or of another shape.
  quant::Tensor load_f32(const std::string& name, const std::vector<std::int64_t>& expected);
  std::vector<std::string> unused() const;
  std::int64_t parameters() const;
  /// XXH3-128 over config.json and every tensor file: names the content in records; no protection against forgery.
  std::string content_hash() const;

 private:
  std::filesystem::path directory_;
  std::vector<SafetensorsFile> files_;
  std::map<std::string, std::size_t> where_;  ///< tensor -> index of its file
  std::set<std::string> used_;
};

/// weight_map of a model.safetensors.index.json: tensor -> shard, a plain file name. Error{input}.
std::map<std::string, std::string> read_shard_index(const quant::FileContent& file);

/// XXH3-128 of a file's bytes as 32 hex digits.
std::string file_hash(const std::filesystem::path& path);
/// The same of several stretches of memory, one after the other.
std::string bytes_hash(const std::vector<std::span<const std::byte>>& parts);

}  // namespace qfid::eval
