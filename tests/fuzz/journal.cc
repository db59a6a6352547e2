// run.journal: the file, its records, and what a run that goes on does with its units. Files that begin with '1' are mended
// first: their lengths are cut to what is there, and their numbers and checksums are made right, so that what is hostile is
// the content.
#include "eval/experiment/journal.h"

#include <cstring>

#include "eval/experiment/run_measures.h"
#include "eval/experiment/unit_content.h"
#include "kernels/registry/registry.h"
#include "tests/fuzz/fuzz.h"

using namespace qfid;

namespace {

constexpr std::size_t preamble = 16, head = 32;  // bytes of what a journal begins with, and before each content

std::string mended(std::string_view file) {
  std::vector<std::string_view> contents;
  for (std::size_t at = preamble; at + head <= file.size();) {
    std::uint64_t size = 0;
    std::memcpy(&size, file.data() + at, sizeof size);
    at += head;
    contents.push_back(file.substr(at, size));
    at += contents.back().size();
  }
  return eval::journal_bytes(contents);
}

eval::ModelConfig small_model() {
  eval::ModelConfig config;
  config.vocab_size = config.ffn_dim = config.max_position_embeddings = 16;
  config.hidden_size = 8;
  config.num_hidden_layers = config.num_attention_heads = 2;
  return config;
}

/// Replays chunks into the arms of a run, and makes of them what the run would.
class Run {
 public:
  Run() {
    for (const eval::TargetSpec* target : {&int8, &hashed}) arms_.emplace_back(*target, *backend, config, metrics);
    arms_.back().hasher.emplace(true);
  }

  void take(const std::string& unit, std::string_view content) {
    if (unit.find("/windows/") != std::string::npos)
      eval::replay_chunk(unit, content, 1, baseline_, arms_);
    else
      eval::replay_pass(unit, content, record_);
  }

  void finish() {
    const std::vector<bool> sinks = baseline_.sinks.sink_heads();
    eval::RunRecord base;
    eval::add_measures(base, baseline_, sinks, {eval::Protocol::window, corpus, task, nullptr});
    for (eval::Arm& arm : arms_) {
      eval::RunRecord run;
      eval::add_measures(run, arm, sinks, {eval::Protocol::window, corpus, task, &base});
    }
  }

 private:
  static inline const eval::ModelConfig config = small_model();
  static inline const eval::MetricsSpec metrics{};
  static inline const eval::TargetSpec full{}, int8{}, hashed{};
  static inline const std::unique_ptr<kernels::Backend> backend = kernels::make_backend("reference");
  static inline const eval::Corpus corpus{};
  static inline const std::vector<eval::BackcopyWindow> task{};
  eval::Arm baseline_{full, *backend, config, metrics};
  std::vector<eval::Arm> arms_;
  eval::ExperimentRecord record_;
};

}  // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto [mend, file] = tests::choice_of(tests::text_of(data, size), 2);
  const std::string bytes = mend == 1 ? mended(file) : std::string(file);
  tests::refuses_with(quant::ErrorKind::input, [&] {
    const eval::JournalRecords records(quant::InputFile("run.journal", bytes));
    const std::optional<eval::JournalContent> content = eval::content_of(records);
    if (!content) return;
    eval::difference(content->identity, {});
    if (content->units.empty()) return;
    Run run;
    for (const auto& [unit, kept] : content->units) run.take(unit, eval::unit_content(records, kept.record));
    run.finish();
  });
  return 0;
}
