#include "eval/model/checkpoint.h"

#include <xxhash.h>

#include <format>
#include <memory>
#include <new>
#include <string_view>

#include "eval/json/json_file.h"
#include "quant/core/error.h"

namespace qfid::eval {

namespace fs = std::filesystem;
using nlohmann::json;
using quant::Error;
using quant::ErrorKind;

namespace {

[[noreturn]] void fail(const std::string& where, const std::string& what) {
  throw Error(ErrorKind::input, where + ": " + what);
}

/// A shard stays inside the directory when links are followed.
fs::path shard_path(const fs::path& directory, const std::string& shard, const std::string& index) {
  std::error_code error;
  const fs::path real = fs::weakly_canonical(directory / shard, error), base = fs::weakly_canonical(directory, error);
  if (error || real.parent_path() != base) fail(index, "weight_map: shard \"" + shard + "\" leaves the directory");
  return directory / shard;
}

void require_file_name(const std::string& shard, const std::string& index) {
  if (shard.empty() || shard.find_first_of(std::string_view("/\0", 2)) != std::string::npos || shard == "." || shard == "..")
    fail(index, "weight_map: shard \"" + shard.substr(0, 200) + "\" must be a file name inside the directory");
}

std::string hex(const XXH128_hash_t& hash) { return std::format("{:016x}{:016x}", hash.high64, hash.low64); }

struct FreeState {
  void operator()(XXH3_state_t* state) const { XXH3_freeState(state); }
};

class Hasher {
 public:
  Hasher() : state_(XXH3_createState()) {
    if (!state_) throw std::bad_alloc();
    XXH3_128bits_reset(state_.get());
  }
  void add(std::span<const std::byte> bytes) { XXH3_128bits_update(state_.get(), bytes.data(), bytes.size()); }
  void add(const quant::InputFile& file) {
    file.read_in_pieces(0, file.size(), "", [&](std::span<const std::byte> bytes) { add(bytes); });
  }
  std::string digest() const { return hex(XXH3_128bits_digest(state_.get())); }

 private:
  std::unique_ptr<XXH3_state_t, FreeState> state_;
};

}  // namespace

std::map<std::string, std::string> read_shard_index(const quant::FileContent& file) {
  const std::string path = file.path().string();
  const json index = parse_strict_json(file.text(), path);
  if (!index.is_object() || !index.contains("weight_map") || !index["weight_map"].is_object())
    fail(path, "expected an object with an object \"weight_map\"");
  std::map<std::string, std::string> map;
  for (const auto& [tensor, shard] : index["weight_map"].items()) {
    if (!shard.is_string()) fail(path, "weight_map: \"" + tensor.substr(0, 200) + "\" must name a file");
    map.emplace(tensor, shard.get<std::string>());
    require_file_name(map.at(tensor), path);
  }
  if (map.empty()) fail(path, "weight_map is empty");
  return map;
}

Checkpoint Checkpoint::open(const fs::path& directory) {
  Checkpoint checkpoint;
  checkpoint.directory_ = directory;
  std::error_code error;
  if (!fs::is_directory(directory, error))
    fail(directory.string(), "not a directory, expected a checkpoint (config.json and *.safetensors)" +
                                 (error ? ": " + error.message() : std::string()));
  const fs::path single = directory / "model.safetensors", index = directory / "model.safetensors.index.json";
  // A link that leads nowhere is there: reading it says what is wrong with it.
  const auto there = [&](const fs::path& path) {
    const fs::file_status status = fs::symlink_status(path, error);
    if (status.type() == fs::file_type::none) fail(path.string(), "can't open: " + error.message());
    return status.type() != fs::file_type::not_found;
  };
  if (!there(index)) {
    if (!there(single)) fail(directory.string(), "neither model.safetensors nor model.safetensors.index.json");
    checkpoint.files_.emplace_back(single);
    for (const auto& [name, info] : checkpoint.files_[0].tensors()) checkpoint.where_[name] = 0;
    return checkpoint;
  }
  const std::map<std::string, std::string> map = read_shard_index(quant::FileContent(index));
  std::map<std::string, std::size_t> shards;
  for (const auto& [tensor, shard] : map) {
    if (!shards.contains(shard)) {
      const fs::path path = shard_path(directory, shard, index.string());
      shards[shard] = checkpoint.files_.size();
      checkpoint.files_.emplace_back(path);
    }
    const std::size_t file = shards[shard];
    if (!checkpoint.files_[file].tensors().contains(tensor))
      fail(index.string(), "weight_map: tensor \"" + tensor.substr(0, 200) + "\" is not in " + shard);
    checkpoint.where_[tensor] = file;
  }
  for (const SafetensorsFile& file : checkpoint.files_)
    for (const auto& [name, info] : file.tensors()) {
      const auto found = map.find(name);
      if (found == map.end() || found->second != file.path().filename())
        fail(index.string(), "tensor \"" + name + "\" of " + file.path().filename().string() + " is not in weight_map");
    }
  return checkpoint;
}

std::vector<std::string> Checkpoint::names() const {
  std::vector<std::string> all;
  for (const auto& [name, file] : where_) all.push_back(name);
  return all;
}

const SafetensorsFile& Checkpoint::file_of(const std::string& name) const {
  const auto found = where_.find(name);
  if (found == where_.end()) fail(directory_.string(), "no tensor \"" + name + "\"");
  return files_[found->second];
}

const TensorInfo& Checkpoint::info(const std::string& name) const { return file_of(name).tensors().at(name); }

void Checkpoint::check_f32(const std::string& name, const std::vector<std::int64_t>& expected) {
  const SafetensorsFile& file = file_of(name);
  const TensorInfo& found = file.tensors().at(name);
  if (found.shape != expected)
    fail(file.path().string() + ": tensor \"" + name + "\"",
         "shape " + shape_text(found.shape) + ", expected " + shape_text(expected));
  file.check_f32(name);
  used_.insert(name);
}

quant::Tensor Checkpoint::load_f32(const std::string& name, const std::vector<std::int64_t>& expected) {
  check_f32(name, expected);
  return file_of(name).load_f32(name);
}

std::vector<std::string> Checkpoint::unused() const {
  std::vector<std::string> all;
  for (const auto& [name, file] : where_)
    if (!used_.contains(name)) all.push_back(name);
  return all;
}

std::int64_t Checkpoint::parameters() const {
  std::int64_t sum = 0;
  for (const auto& [name, file] : where_) {
    std::int64_t n = 1;
    for (std::int64_t dim : files_[file].tensors().at(name).shape) n *= dim;
    sum += n;
  }
  return sum;
}

std::string Checkpoint::content_hash() const {
  Hasher hasher;
  hasher.add(quant::InputFile(directory_ / "config.json"));
  for (const SafetensorsFile& file : files_) hasher.add(file.file());
  return hasher.digest();
}

std::string file_hash(const fs::path& path) {
  Hasher hasher;
  hasher.add(quant::InputFile(path));
  return hasher.digest();
}

std::string bytes_hash(const std::vector<std::span<const std::byte>>& parts) {
  Hasher hasher;
  for (const std::span<const std::byte> part : parts) hasher.add(part);
  return hasher.digest();
}

}  // namespace qfid::eval
