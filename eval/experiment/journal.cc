#include "eval/experiment/journal.h"

#include <algorithm>
#include <format>

#include "eval/experiment/identity_entries.h"
#include "eval/model/checkpoint.h"
#include "quant/core/byte_stream.h"
#include "quant/core/error.h"

namespace qfid::eval {

namespace fs = std::filesystem;
using quant::ByteReader;
using quant::ByteWriter;
using quant::Error;
using quant::ErrorKind;

namespace {

enum class Kind : std::uint8_t { identity, unit, outcome, part };

void write(ByteWriter& to, const Provenance& machine) {
  for (const std::string* text :
       {&machine.tool_version, &machine.git_commit, &machine.compiler, &machine.device, &machine.isa})
    to.text(*text);
  to.number(machine.threads);
  to.number<std::uint64_t>(machine.libraries.size());
  for (const auto& [name, version] : machine.libraries) {
    to.text(name);
    to.text(version);
  }
}

Provenance read_machine(ByteReader& from) {
  Provenance machine;
  for (std::string* text : {&machine.tool_version, &machine.git_commit, &machine.compiler, &machine.device, &machine.isa})
    *text = from.text();
  machine.threads = from.number<int>();
  for (auto left = from.number<std::uint64_t>(); left > 0; --left) {
    const std::string name = from.text();
    machine.libraries[name] = from.text();
  }
  return machine;
}

void read_identity(ByteReader& from, JournalContent& content) {
  read_entries(from, content.identity);
  content.identity.machine = read_machine(from);
  content.identity.started = from.text();
  content.origin = from.text();
  const auto index = from.number<std::int64_t>(), count = from.number<std::int64_t>();
  if (count > 0) content.shard = Shard{index, count};
}

/// The first line in which two texts differ.
std::string first_difference(const std::string& was, const std::string& is) {
  std::size_t line = 1, from = 0;
  const auto line_at = [](const std::string& text, std::size_t at) {
    return at < text.size() ? text.substr(at, std::min(text.find('\n', at), text.size()) - at) : std::string();
  };
  for (std::size_t i = 0; i < std::min(was.size(), is.size()) && was[i] == is[i]; ++i)
    if (was[i] == '\n') ++line, from = i + 1;
  return std::format("line {} was \"{:.60}\", is \"{:.60}\"", line, line_at(was, from), line_at(is, from));
}

std::string shown(const std::string& name, const std::string& was, const std::string& is) {
  if (was.find('\n') != std::string::npos || is.find('\n') != std::string::npos)
    return std::format("{} ({})", name, first_difference(was, is));
  const auto value = [](const std::string& text) { return text.empty() ? "none" : text; };
  return std::format("{} (was {:.120}, is {:.120})", name, value(was), value(is));
}

std::string spelled(const std::optional<Shard>& shard) {
  return shard ? std::format("{}/{}", shard->index + 1, shard->count) : "";
}

}  // namespace

std::optional<JournalContent> content_of(const JournalRecords& records) {
  if (records.size() == 0) return std::nullopt;
  JournalContent content;
  try {
    for (std::size_t i = 0; i < records.size(); ++i) {
      const std::string record = records.record(i);
      ByteReader from(record);
      const auto kind = from.number<Kind>();
      ByteReader::check((kind == Kind::identity) == (i == 0) && !content.outcome);
      if (kind == Kind::identity) {
        read_identity(from, content);
      } else if (kind == Kind::unit || kind == Kind::part) {
        const std::string unit = from.text();
        from.view();
        const auto before = content.units.find(unit);
        ByteReader::check(before == content.units.end() || !before->second.whole);
        content.units[unit] = {i, kind == Kind::unit};
      } else {
        ByteReader::check(kind == Kind::outcome);
        const int code = from.number<int>();
        const std::string hash = from.text();
        content.outcome = RunOutcome{code, hash, from.text()};
      }
      ByteReader::check(from.done());
    }
  } catch (const Error& error) { throw Error(ErrorKind::input, records.path().string() + ": " + error.what()); }
  return content;
}

std::string unit_content(const JournalRecords& records, std::size_t i) {
  std::string record = records.record(i);
  ByteReader from(record);
  from.number<Kind>();
  from.view();
  const std::string_view content = from.view();
  record.erase(0, record.size() - content.size());
  return record;
}

std::string difference(const RunIdentity& was, const RunIdentity& is) {
  std::string all;
  const auto value_of = [](const RunIdentity::Entries& entries, const std::string& name) -> const std::string* {
    for (const auto& [key, value] : entries)
      if (key == name) return &value;
    return nullptr;
  };
  const auto add = [&](const std::string& what) { all += (all.empty() ? "" : "; ") + what; };
  for (const auto entries : {&RunIdentity::entries, &RunIdentity::machine_entries}) {
    // Another configuration has other targets and so other devices: that says nothing more.
    const bool presence = entries == &RunIdentity::entries || all.empty();
    for (const auto& [name, value] : was.*entries) {
      const std::string* const now = value_of(is.*entries, name);
      if (now != nullptr && *now != value) add(shown(name, value, *now));
      if (now == nullptr && presence) add(name + " (is no longer there)");
    }
    for (const auto& [name, value] : is.*entries)
      if (presence && value_of(was.*entries, name) == nullptr) add(name + " (wasn't there)");
  }
  return all;
}

Journal::Journal(const fs::path& directory, Options options)
    : directory_(directory),
      options_(std::move(options)),
      file_(directory / file_name, JournalFile::Access::append, options_.restart) {}

std::string Journal::header(const RunIdentity& identity) const {
  ByteWriter to;
  to.number(Kind::identity);
  write_entries(to, identity);
  write(to, identity.machine);
  to.text(identity.started);
  to.text(options_.origin);
  to.number<std::int64_t>(options_.shard ? options_.shard->index : 0);
  to.number<std::int64_t>(options_.shard ? options_.shard->count : 0);
  return to.take();
}

void Journal::start_anew(const RunIdentity& identity) {
  units_.clear();
  outcome_.reset();
  kept_ = 0;
  identity_ = identity;
  const std::string first = header(identity);
  file_.replace({first});
}

bool Journal::begin(RunIdentity& identity) {
  if (file_.torn_bytes() > 0 && !options_.restart && options_.say)
    options_.say(std::format("{}: {} bytes of an unfinished record were cut off; its unit is computed again",
                             file_.path().string(), file_.torn_bytes()),
                 true);
  const std::optional<JournalContent> found = options_.restart ? std::nullopt : content_of(file_.records());
  const bool over = found && found->outcome;  // a run that left what can't be taken up again is made again
  if (!found || (options_.forgets && (over || found->units.empty()))) {
    start_anew(identity);
    return true;
  }
  std::string differs = difference(found->identity, identity);
  if (spelled(found->shard) != spelled(options_.shard))
    differs += (differs.empty() ? "" : "; ") + shown("shard", spelled(found->shard), spelled(options_.shard));
  if (!differs.empty() || options_.forgets)
    throw Error(
        ErrorKind::usage,
        std::format("{} holds {} run{}: {}; --restart begins anew and replaces it, --out DIR goes elsewhere",
                    directory_.string(), over ? "a finished" : "an unfinished", differs.empty() ? "" : " of something else",
                    differs.empty() ? "with --dump it can't go on" : differs));
  identity_ = identity = found->identity;
  units_ = found->units;
  outcome_ = found->outcome;
  kept_ = std::count_if(units_.begin(), units_.end(), [](const auto& unit) { return unit.second.whole; });
  if (!over) {
    if (kept_ > 0 && options_.say)
      options_.say(std::format("{}: going on after {} finished units", directory_.string(), kept_), false);
    return true;
  }
  if (outcome_->results_hash.empty()) return false;
  const fs::path results = directory_ / "results.json";
  std::error_code error;
  if (fs::is_regular_file(results, error) && file_hash(results) == outcome_->results_hash) return false;
  if (options_.say)
    options_.say(std::format("{}: isn't what the finished run wrote there: beginning anew", results.string()), true);
  start_anew(identity);
  return true;
}

std::optional<std::string> Journal::find(const std::string& unit) const {
  const auto found = units_.find(unit);
  if (found == units_.end()) return std::nullopt;
  return unit_content(file_.records(), found->second.record);
}

bool Journal::keep(const std::string& unit, std::string_view content, bool whole) {
  if (options_.forgets) return true;
  ByteWriter to;
  to.number(whole ? Kind::unit : Kind::part);
  to.text(unit);
  to.text(content);
  try {
    file_.append(to.bytes());
  } catch (const Error& error) {
    failure_ = error.what();
    return false;
  }
  if (whole) ++kept_;
  return true;
}

void Journal::reread() {
  units_.clear();
  file_.reread();
  if (const std::optional<JournalContent> found = content_of(file_.records())) units_ = found->units;
}

void Journal::finish(const RunOutcome& outcome) {
  ByteWriter last;
  last.number(Kind::outcome);
  last.number(outcome.exit_code);
  last.text(outcome.results_hash);
  last.text(outcome.message);
  if (options_.shard) return file_.append(last.bytes());
  const std::string first = header(identity_);
  file_.replace({first, last.bytes()});
}

}  // namespace qfid::eval
