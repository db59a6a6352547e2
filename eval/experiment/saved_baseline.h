// A saved baseline: a small reviewed JSON file, kept under version control, with the per-window sums of gated metrics and
// what they depend on. A later result is compared with it window by window, so the comparison is always paired.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "eval/experiment/gate_spec.h"
#include "eval/experiment/record.h"
#include "quant/core/input_file.h"

namespace qfid::eval {

/// What two results must share to be comparable.
struct DataIdentity {
  std::string protocol, tokens_hash;
  std::int64_t context = 0, first_token = 0, windows = 0, chunk_windows = 0;
  std::string tokenizer_hash{};  ///< "" where the data was tokens
};
DataIdentity identity_of(const Provenance& provenance);
/// Error{usage} "A and B aren't comparable: the protocol differs (window, gptq), ..." unless they agree.
void require_comparable(const DataIdentity& a, const std::string& a_name, const DataIdentity& b, const std::string& b_name);

/// The same for a model of equal name: vocabulary (where both know it) and checkpoint.
void require_same_model(const ModelRecord& a, const std::string& a_name, const ModelRecord& b, const std::string& b_name);

struct SavedRun {
  std::string model, checkpoint, target;
  std::int64_t vocabulary = 0;                      ///< of the model; 0 = not recorded
  std::string schemes;                              ///< of the target, canonical
  std::vector<std::int64_t> tokens;                 ///< scored in each window
  std::map<std::string, std::vector<double>> sums;  ///< GateMetric::sums -> one per window
  std::optional<TensorHashes> hashes{};             ///< what exact gates compare with
};

struct SavedBaseline {
  std::string path;  ///< for messages; not in the file
  DataIdentity data;
  std::map<std::string, std::string> made_with;  ///< information only: versions, instruction set, device
  std::vector<SavedRun> runs;

  const SavedRun* find(const std::string& model, const std::string& target) const;
};
using SavedBaselines = std::map<std::filesystem::path, SavedBaseline>;

/// What `gates` look at in this record (all gateable metrics and the hashes of all targets, where there are none).
/// Error{usage} when nothing would be saved, or a run isn't complete.
SavedBaseline baseline_of(const ExperimentRecord& record, const std::vector<GateSpec>& gates);
/// The file's text: one line a run, numbers that read back to the same double.
std::string baseline_json(const SavedBaseline& baseline);
/// Error{input} naming path and key.
SavedBaseline read_baseline(const quant::FileContent& file);
/// Every file that gates name and that exists; `instead`, unless empty, stands for all of them and must exist.
SavedBaselines load_baselines(const std::vector<GateSpec>& gates, const std::filesystem::path& instead = {});

}  // namespace qfid::eval
