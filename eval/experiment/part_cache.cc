#include "eval/experiment/part_cache.h"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <span>

#include "eval/experiment/journal_file.h"
#include "eval/model/checkpoint.h"
#include "quant/core/byte_stream.h"
#include "quant/core/error.h"

namespace qfid::eval {

namespace fs = std::filesystem;
using quant::Error;
using quant::ErrorKind;

namespace {

constexpr const char* ending = ".part";
constexpr auto age_of_leftovers = std::chrono::hours(1);  // a writer needs moments

enum Record : std::size_t { key_record, label_record, content_record, records_of_a_part };

std::string label_bytes(const PartKey& key) {
  quant::ByteWriter to;
  for (const std::string* text : {&key.model, &key.target, &key.unit}) to.text(*text);
  return to.take();
}

/// The files of a directory that may vanish while they are looked at.
template <class Take>
void for_each_file(const fs::path& directory, Take&& take) {
  std::error_code error;
  if (!fs::exists(directory, error)) return;
  fs::directory_iterator it(directory, error);
  for (; !error && it != fs::directory_iterator(); it.increment(error)) {
    std::error_code gone;
    const fs::file_time_type used = it->last_write_time(gone);
    const std::uintmax_t bytes = gone || !it->is_regular_file(gone) ? 0 : it->file_size(gone);
    if (!gone && bytes > 0) take(CachedPart{it->path(), bytes, used});
  }
  if (error) throw Error(ErrorKind::input, directory.string() + ": can't read the cache: " + error.message());
}

}  // namespace

PartCache::PartCache(Options options) : options_(std::move(options)) {
  std::error_code error;
  fs::create_directories(options_.directory, error);
  if (error) throw Error(ErrorKind::input, options_.directory.string() + ": can't make the cache: " + error.message());
  for (const CachedPart& part : cached_parts(options_.directory)) bytes_ += part.bytes;
}

fs::path PartCache::path_of(const PartKey& key) const {
  return options_.directory / (bytes_hash({std::as_bytes(std::span(key.text))}) + ending);
}

bool PartCache::has(const PartKey& key) const {
  std::error_code error;
  return fs::exists(path_of(key), error);
}

std::optional<std::string> PartCache::read(const PartKey& key) const {
  const fs::path path = path_of(key);
  std::error_code error;
  if (!fs::exists(path, error)) return std::nullopt;
  try {
    const JournalRecords records{quant::InputFile(path)};
    if (records.size() == 0) return std::nullopt;  // being written
    if (records.size() != records_of_a_part || records.torn_bytes() > 0) throw Error(ErrorKind::input, "it isn't whole");
    if (records.record(key_record) != key.text) throw Error(ErrorKind::input, "it is another part");
    std::string content = records.record(content_record);
    fs::last_write_time(path, fs::file_time_type::clock::now(), error);
    return content;
  } catch (const Error& damage) {
    if (fs::exists(path, error)) warn(path.string() + ": left out and removed: " + damage.what());
    fs::remove(path, error);
  }
  return std::nullopt;
}

std::optional<std::string> PartCache::find(const PartKey& key) {
  std::optional<std::string> content = read(key);
  if (content) ++found_;
  return content;
}

void PartCache::keep(const PartKey& key, std::string_view content) {
  if (full_ || content.size() > options_.most_bytes) return;
  if (read(key)) return;
  const std::string label = label_bytes(key);
  try {
    JournalFile(path_of(key), JournalFile::Access::append, true).replace({key.text, label, content});
    ++kept_;
    bytes_ += key.text.size() + label.size() + content.size();
    if (bytes_ > options_.most_bytes) bytes_ = prune_cache(options_.directory, options_.most_bytes / 10 * 9).left;
  } catch (const Error& problem) {
    if (problem.kind() == ErrorKind::usage) return;  // another process writes the same part
    full_ = true;
    warn(std::string("the cache keeps nothing more: ") + problem.what());
  }
}

fs::path standard_cache_directory() {
  const auto value = [](const char* name) {
    const char* const text = std::getenv(name);
    return std::string(text == nullptr ? "" : text);
  };
  if (const std::string own = value("QFID_CACHE_DIR"); !own.empty()) return own;
  if (const std::string caches = value("XDG_CACHE_HOME"); !caches.empty()) return fs::path(caches) / "qfid";
  if (const std::string home = value("HOME"); !home.empty()) return fs::path(home) / ".cache" / "qfid";
  throw Error(ErrorKind::usage,
              "no place for a cache: none of QFID_CACHE_DIR, XDG_CACHE_HOME and HOME is set, expected "
              "--cache-dir DIR");
}

std::vector<CachedPart> cached_parts(const fs::path& directory) {
  std::vector<CachedPart> parts;
  for_each_file(directory, [&](CachedPart part) {
    if (part.path.extension() == ending) parts.push_back(std::move(part));
  });
  std::sort(parts.begin(), parts.end(),
            [](const CachedPart& a, const CachedPart& b) { return a.used != b.used ? a.used > b.used : a.path < b.path; });
  return parts;
}

std::optional<PartKey> label_of(const CachedPart& part) {
  try {
    const JournalRecords records{quant::InputFile(part.path)};
    if (records.size() != records_of_a_part) return std::nullopt;
    const std::string label = records.record(label_record);
    quant::ByteReader from(label);
    PartKey key;
    for (std::string* text : {&key.model, &key.target, &key.unit}) *text = from.text();
    return key;
  } catch (const Error&) { return std::nullopt; }
}

Pruned prune_cache(const fs::path& directory, std::uint64_t most_bytes) {
  Pruned pruned;
  std::error_code ignored;
  for_each_file(directory, [&](const CachedPart& file) {
    if (file.path.extension() == ".tmp" && fs::file_time_type::clock::now() - file.used > age_of_leftovers)
      fs::remove(file.path, ignored);
  });
  for (const CachedPart& part : cached_parts(directory)) {
    std::error_code error;
    if (pruned.left + part.bytes <= most_bytes) {
      pruned.left += part.bytes;
    } else if (fs::remove(part.path, error)) {
      ++pruned.parts;
      pruned.bytes += part.bytes;
    } else if (error) {
      throw Error(ErrorKind::input, part.path.string() + ": can't remove: " + error.message());
    }
  }
  return pruned;
}

}  // namespace qfid::eval
