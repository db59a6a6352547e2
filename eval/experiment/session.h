// What plan and run share: backends made once, models' configurations, tokens and windows, checked before anything is
// computed.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "eval/data/corpus.h"
#include "eval/data/windows.h"
#include "eval/experiment/record.h"
#include "eval/experiment/spec.h"
#include "eval/model/decoder_weights.h"
#include "kernels/backend.h"

namespace qfid::eval {

/// Makes a backend by name and device: kernels::make_backend, or what a test puts in its place.
using BackendMaker = std::function<std::unique_ptr<kernels::Backend>(const std::string& name, int device)>;

class Backends {
 public:
  Backends();
  explicit Backends(BackendMaker make) : make_(std::move(make)) {}
  /// Error{usage} for an unknown name; the backend may be unavailable.
  kernels::Backend& get(const std::string& name, int device);
  kernels::Backend& of(const TargetSpec& target) { return get(target.backend, target.device); }

 private:
  BackendMaker make_;
  std::map<std::pair<std::string, int>, std::unique_ptr<kernels::Backend>> made_;
};

/// Where error budgets run: the cpu backend, or the reference where it isn't built.
kernels::Backend& budget_backend(Backends& backends);

/// What this build is, and the device and libraries of the full-precision run.
Provenance provenance_of(const kernels::Backend& baseline);

/// Why a target can't run a model on its backend; empty when it can.
std::string unsupported_reason(const TargetSpec& target, const ModelConfig& config, kernels::Backend& backend);

struct EvaluationSize {
  std::int64_t context = 0, windows = 0;
  std::size_t first_document = 0, end_document = 0;  ///< lmeval: the corpus's documents that are evaluated
};
/// Context and number of windows for this model. Error{usage}/{input} when they don't fit model or tokens, or when
/// calibration overlaps the evaluation.
EvaluationSize evaluation_size(const Spec& spec, const ModelConfig& config, const Corpus& corpus);

/// Tokens of a window: data.context, or the protocol's, or those of a row of masked-LM data.
std::int64_t context_of(const DataSpec& data, const ModelConfig& config, const Corpus& corpus);

/// Tokens as the files have them, or text tokenized as the protocol wants it. Error{input}.
Corpus load_corpus(const DataSpec& data);

/// The windows to evaluate. Error{input} for a token that the model doesn't know.
std::vector<Window> evaluation_windows(const Spec& spec, const ModelConfig& config, const Corpus& corpus,
                                       const EvaluationSize& size);
/// The same for calibration, whose windows are blocks (under lmeval those of protocol window), under mlm whole rows.
std::vector<Window> calibration_windows(const Spec& spec, const ModelConfig& config, const Corpus& corpus,
                                        std::int64_t context);

/// The documents of the windows to evaluate, in order; none but under lmeval.
std::vector<ScoredDocument> scored_documents(const Corpus& corpus, const EvaluationSize& size);

struct CheckedModel {
  ModelConfig config;
  EvaluationSize size;
};
/// Everything that can be known to fail about a model's files and its windows without reading a tensor's data: its errors
/// come before anything runs.
CheckedModel check_model(const Spec& spec, const ModelSpec& model, const Corpus& corpus);

/// `qfid run FILE --model M --target T [--set ...]`.
std::string repro_line(const Spec& spec, const std::string& model, const std::string& target);

}  // namespace qfid::eval
