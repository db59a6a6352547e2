#include "eval/experiment/merged_units.h"

#include <algorithm>
#include <format>

#include "quant/core/error.h"

namespace qfid::eval {

using quant::Error;
using quant::ErrorKind;

MergedUnits::MergedUnits(const std::vector<std::filesystem::path>& directories) : directories_(directories) {
  for (const std::filesystem::path& directory : directories_) {
    files_.push_back(std::make_unique<JournalFile>(directory / Journal::file_name, JournalFile::Access::read));
    std::optional<JournalContent> content = content_of(files_.back()->records());
    if (!content || !content->shard)
      throw Error(ErrorKind::usage, directory.string() + " holds no shard, expected what qfid run --shard wrote");
    contents_.push_back(std::move(*content));
  }
  quant::require(!contents_.empty(), "merge: no directories");
  for (std::size_t i = 0; i < contents_.size(); ++i) {
    if (const std::string differs = difference(contents_[0].identity, contents_[i].identity); !differs.empty())
      throw Error(ErrorKind::usage, std::format("{} and {} hold shards of different runs: {}", directories_[0].string(),
                                                directories_[i].string(), differs));
    for (const auto& [unit, kept] : contents_[i].units)
      if (const auto [at, added] = kept.whole ? units_.try_emplace(unit, kept.record, i) : std::pair(units_.end(), true);
          !added)
        throw Error(ErrorKind::usage, std::format("{} and {} both hold unit {}", directories_[at->second.second].string(),
                                                  directories_[i].string(), unit));
  }
}

bool MergedUnits::begin(RunIdentity& identity) {
  const RunIdentity& shards = contents_.front().identity;
  if (const std::string differs = difference({shards.entries, {}, {}, {}}, {identity.entries, {}, {}, {}}); !differs.empty())
    throw Error(ErrorKind::usage, std::format("{}: what its shards were made of is no longer what is here: {}",
                                              directories_[0].string(), differs));
  identity = shards;
  return true;
}

std::optional<std::string> MergedUnits::find(const std::string& unit) const {
  const auto found = units_.find(unit);
  if (found == units_.end()) return std::nullopt;
  return unit_content(files_[found->second.second]->records(), found->second.first);
}

void MergedUnits::require_complete() const {
  if (missing_.empty()) return;
  constexpr std::size_t most_named = 20;
  std::string names;
  for (std::size_t i = 0; i < std::min(missing_.size(), most_named); ++i) names += (i == 0 ? "" : ", ") + missing_[i];
  if (missing_.size() > most_named) names += std::format(" and {} more", missing_.size() - most_named);
  std::string shards;
  for (const JournalContent& content : contents_)
    shards += std::format("{}{}/{}{}", shards.empty() ? "" : ", ", content.shard->index + 1, content.shard->count,
                          content.outcome ? "" : " (unfinished)");
  throw Error(ErrorKind::usage,
              std::format("no shard has {} of the units: {}; here are shards {}", missing_.size(), names, shards));
}

}  // namespace qfid::eval
