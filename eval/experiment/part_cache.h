// A directory of what arms measured on chunks of windows, each part under everything that decides its bits: program,
// machine, model, tokens, windows, baseline, target, and what is measured. Another run that needs the same part takes it
// from there. Any number of processes use one directory at once: a part is written under a temporary name and renamed, what
// is read is checked (journal_file.h), and a part that isn't there, or is damaged, is computed.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace qfid::eval {

/// What a part is found by, and what people are told of it.
struct PartKey {
  std::string text;                 ///< all that decides its bits
  std::string model, target, unit;  ///< names in the run that kept it
};

/// A part in the directory.
struct CachedPart {
  std::filesystem::path path;
  std::uint64_t bytes = 0;
  std::filesystem::file_time_type used;  ///< last kept or found
};

class PartCache {
 public:
  static constexpr std::uint64_t standard_bytes = std::uint64_t{4} << 30;

  struct Options {
    std::filesystem::path directory;
    std::uint64_t most_bytes = standard_bytes;
    std::function<void(const std::string&)> warn;  ///< told of damage, and once of a directory that can't be written
  };
  /// Makes the directory where it isn't there. Error{input} when it can't, or isn't one.
  explicit PartCache(Options options);

  /// Whether there is a file for `key`, whole or not.
  bool has(const PartKey& key) const;
  /// The content that was kept under `key`.
  std::optional<std::string> find(const PartKey& key);
  /// Keeps a part that isn't there; when the directory has grown above its size, those used longest ago go. Never an error:
  /// a part that can't be kept is computed again another time.
  void keep(const PartKey& key, std::string_view content);

  std::int64_t found() const { return found_; }  ///< parts, since this was made
  std::int64_t kept() const { return kept_; }
  const std::filesystem::path& directory() const { return options_.directory; }

 private:
  std::filesystem::path path_of(const PartKey& key) const;
  std::optional<std::string> read(const PartKey& key) const;
  void warn(const std::string& text) const {
    if (options_.warn) options_.warn(text);
  }

  Options options_;
  std::uint64_t bytes_ = 0;  ///< in the directory, as far as this process knows
  bool full_ = false;        ///< it couldn't be written
  std::int64_t found_ = 0, kept_ = 0;
};

/// Where parts are kept when nobody says: $QFID_CACHE_DIR, $XDG_CACHE_HOME/qfid or ~/.cache/qfid. Error{usage} when none of
/// them is set.
std::filesystem::path standard_cache_directory();

/// All parts, those used last first. Error{input} when the directory can't be read; none when it isn't there.
std::vector<CachedPart> cached_parts(const std::filesystem::path& directory);
/// What a part says of itself, text apart; nothing when it isn't whole.
std::optional<PartKey> label_of(const CachedPart& part);

struct Pruned {
  std::int64_t parts = 0;
  std::uint64_t bytes = 0, left = 0;
};
/// Removes the parts used longest ago until at most `most_bytes` are left, and what killed writers left.
Pruned prune_cache(const std::filesystem::path& directory, std::uint64_t most_bytes);

}  // namespace qfid::eval
