#include "eval/experiment/session.h"

#include <algorithm>
#include <cctype>
#include <span>

#include "eval/experiment/target_precision.h"
#include "eval/experiment/version.h"
#include "eval/model/checkpoint.h"
#include "eval/model/decoder.h"
#include "kernels/registry/registry.h"
#include "quant/core/error.h"

namespace qfid::eval {

using quant::Error;
using quant::ErrorKind;

Backends::Backends() : make_([](const std::string& name, int device) { return kernels::make_backend(name, device); }) {}

kernels::Backend& Backends::get(const std::string& name, int device) {
  std::unique_ptr<kernels::Backend>& backend = made_[{name, device}];
  if (!backend) backend = make_(name, device);
  return *backend;
}

kernels::Backend& budget_backend(Backends& backends) {
  kernels::Backend& cpu = backends.get("cpu", 0);
  return cpu.available() ? cpu : backends.get("reference", 0);
}

Provenance provenance_of(const kernels::Backend& baseline) {
  const kernels::BackendInfo info = baseline.info();
  Provenance p;
  p.tool_version = tool_version();
  p.git_commit = git_commit();
  p.compiler = compiler();
  p.device = info.device;
  p.isa = info.isa;
  p.threads = info.threads;
  p.libraries = info.libraries;
  return p;
}

std::string unsupported_reason(const TargetSpec& target, const ModelConfig& config, kernels::Backend& backend) {
  if (const kernels::Support here = backend.available(); !here)
    return "backend " + target.backend + " is not available: " + here.reason;
  const DecoderPrecision precision = precision_of(target, config);
  for (const ModuleProblem& entry : linear_problems(config, precision))
    if (const kernels::Support support = backend.supports(entry.problem); !support)
      return entry.module + ": backend " + target.backend + " doesn't support it: " + support.reason;
  for (std::size_t l = 0; l < precision.layers.size(); ++l) {
    const kernels::AttentionProblem problem =
        attention_problem(config, precision.layers[l].attention, precision.execution());
    if (const kernels::Support support = backend.supports(problem); !support)
      return "layers." + std::to_string(l) + ".attention: backend " + target.backend +
             " doesn't support it: " + support.reason;
  }
  return "";
}

namespace {

/// Tokens of a window where the data comes in windows; 0 where it doesn't.
std::int64_t row_of(const Corpus& corpus) { return corpus.backcopy ? corpus.sequence : corpus.row; }

/// Documents from first_token on that end at `end` or before, as many as data.windows hold.
void whole_documents(const Spec& spec, const Corpus& corpus, std::int64_t end, EvaluationSize& size) {
  const std::vector<DocumentSpan>& all = corpus.documents;
  while (size.first_document < all.size() && all[size.first_document].first_token < spec.data.first_token)
    ++size.first_document;
  for (size.end_document = size.first_document; size.end_document < all.size(); ++size.end_document) {
    const DocumentSpan& next = all[size.end_document];
    const std::int64_t windows = document_window_count(next.tokens, size.context);
    if (next.first_token + next.tokens > end) break;
    if (spec.data.windows && size.windows + windows > *spec.data.windows) {
      if (size.windows > 0) break;
      throw Error(ErrorKind::usage, spec.file.string() + ": the first document takes " + std::to_string(windows) +
                                        " windows of " + std::to_string(size.context) + " tokens, data.windows allows " +
                                        std::to_string(*spec.data.windows));
    }
    size.windows += windows;
  }
}

/// Windows of 2-D data are its rows, those of bigram-backcopy its sequences, and what is counted in tokens must agree with
/// them.
void whole_rows(const Spec& spec, const Corpus& corpus) {
  const std::int64_t row = row_of(corpus);
  if (row == 0) return;
  const char* what = corpus.backcopy ? "sequence" : "row";
  const auto check = [&](const char* key, std::int64_t first) {
    if (first % row != 0)
      throw Error(ErrorKind::usage, spec.file.string() + ": " + key + " " + std::to_string(first) + " isn't where a " +
                                        what + " of " + corpus.path + " begins, expected a multiple of its " +
                                        std::to_string(row) + " tokens");
  };
  check("data.first_token", spec.data.first_token);
  if (spec.data.calibration) check("data.calibration.first_token", spec.data.calibration->first_token);
  if (spec.data.context && *spec.data.context != row)
    throw Error(ErrorKind::usage, spec.file.string() + ": data.context " + std::to_string(*spec.data.context) + ", the " +
                                      what + "s of " + corpus.path + " have " + std::to_string(row) + " tokens");
}

/// A model, a protocol and the data go together, or the reason why they don't.
void require_scorable(const Spec& spec, const ModelSpec& model, const ModelConfig& config, const Corpus& corpus) {
  const bool masked = spec.data.protocol == Protocol::mlm;
  if (spec.data.protocol == Protocol::hidden) return;
  const auto refuse = [&](const std::string& what) {
    throw Error(ErrorKind::usage, spec.file.string() + ": model " + model.name + " " + what);
  };
  if (!config.causal && !masked)
    refuse("is an encoder (" + config.family + "), which predicts no next token: protocol " +
           std::string(to_string(spec.data.protocol)) +
           " can't score it, expected data.protocol mlm with data.tokens and data.targets, or hidden");
  if (config.causal && masked)
    refuse("is a decoder (" + config.family + "), which predicts next tokens: protocol mlm scores masked ones");
  if (!config.has_head)
    refuse(
        "has no masked-LM head (no tensor cls.predictions.*): protocol mlm can't score it, expected data.protocol hidden");
  if (corpus.backcopy && config.bos_token_id != corpus.backcopy->bos())
    refuse("begins with token " + std::to_string(config.bos_token_id) + " (bos_token_id), " + corpus.path + " with " +
           std::to_string(corpus.backcopy->bos()));
}

/// With equal batches the mean of batch means is the mean over tokens, and windows stay the units of every interval; the
/// windows of a shorter one would weigh more.
void whole_batches(const Spec& spec, const Corpus& corpus, EvaluationSize& size) {
  const std::int64_t batch = spec.data.batch_windows, rest = size.windows % batch;
  if (rest != 0 && spec.data.windows)
    throw Error(ErrorKind::usage, spec.file.string() + ": data.windows " + std::to_string(size.windows) +
                                      " is no multiple of data.batch_windows " + std::to_string(batch) +
                                      ", expected whole batches under outlier_free");
  if (size.windows < batch)
    throw Error(ErrorKind::input, corpus.path + ": " + std::to_string(size.windows) + " windows of " +
                                      std::to_string(size.context) + " tokens fit, not one batch of " +
                                      std::to_string(batch));
  size.windows -= rest;
}

}  // namespace

Corpus load_corpus(const DataSpec& data) {
  if (data.backcopy) return make_backcopy_corpus(*data.backcopy);
  if (data.protocol == Protocol::mlm) return read_masked_corpus(data.tokens, data.targets);
  if (data.protocol == Protocol::hidden) return read_hidden_corpus(data.tokens);
  return data.tokens.empty() ? read_text_corpus(data.text, data.protocol) : read_token_corpus(data.tokens);
}

std::int64_t context_of(const DataSpec& data, const ModelConfig& config, const Corpus& corpus) {
  if (const std::int64_t row = row_of(corpus); row > 0) return row;
  return data.context.value_or(standard_context(data.protocol, config.max_position_embeddings));
}

EvaluationSize evaluation_size(const Spec& spec, const ModelConfig& config, const Corpus& corpus) {
  const auto token_count = static_cast<std::int64_t>(corpus.tokens.size());
  const DataSpec& data = spec.data;
  EvaluationSize size;
  size.context = context_of(data, config, corpus);
  whole_rows(spec, corpus);
  if (size.context > config.max_position_embeddings)
    throw Error(ErrorKind::usage, spec.file.string() + ": context " + std::to_string(size.context) +
                                      " is above the model's " + std::to_string(config.max_position_embeddings) +
                                      " positions" + (row_of(corpus) > 0 ? "" : ", set data.context"));
  if (const std::int64_t least = traits(data.protocol).least_context; size.context < least)
    throw Error(ErrorKind::usage, spec.file.string() + ": a context of " + std::to_string(size.context) +
                                      " leaves nothing to score under " + std::string(to_string(data.protocol)) +
                                      ", expected data.context of " + std::to_string(least) + " or more");
  std::int64_t end = token_count;
  if (data.calibration) {
    const std::int64_t first = data.calibration->first_token, last = first + data.calibration->windows * size.context;
    if (last > token_count)
      throw Error(ErrorKind::input, corpus.path + ": " + std::to_string(data.calibration->windows) +
                                        " calibration windows of " + std::to_string(size.context) + " tokens from token " +
                                        std::to_string(first) + " asked for, the file holds " + std::to_string(token_count) +
                                        " tokens");
    if (first >= data.first_token) end = first;  // windows: all that fit before the calibration
  }
  if (data.protocol == Protocol::lmeval)
    whole_documents(spec, corpus, end, size);
  else
    size.windows = data.windows.value_or(windows_available(end, data.first_token, size.context));
  if (data.protocol == Protocol::outlier_free) whole_batches(spec, corpus, size);
  if (size.windows < 1)
    throw Error(ErrorKind::input, corpus.path + ": not one window of " + std::to_string(size.context) + " tokens fits");
  if (data.calibration) {
    const std::int64_t first = data.calibration->first_token, last = first + data.calibration->windows * size.context;
    std::int64_t eval_end = data.first_token + size.windows * size.context;
    if (data.protocol == Protocol::lmeval) {
      const DocumentSpan& document = corpus.documents[size.end_document - 1];
      eval_end = document.first_token + document.tokens;
    }
    if (first < eval_end && data.first_token < last)
      throw Error(ErrorKind::usage, spec.file.string() + ": calibration tokens [" + std::to_string(first) + ", " +
                                        std::to_string(last) + ") overlap the evaluated [" +
                                        std::to_string(data.first_token) + ", " + std::to_string(eval_end) + ")");
  }
  return size;
}

CheckedModel check_model(const Spec& spec, const ModelSpec& model, const Corpus& corpus) {
  CheckedModel checked{read_config(model.path), {}};
  Checkpoint checkpoint = Checkpoint::open(model.path);
  checked.config.has_head = has_head(checkpoint, checked.config);
  require_scorable(spec, model, checked.config, corpus);
  check_weights(checkpoint, checked.config);
  checked.size = evaluation_size(spec, checked.config, corpus);
  evaluation_windows(spec, checked.config, corpus, checked.size);
  if (spec.data.calibration) calibration_windows(spec, checked.config, corpus, checked.size.context);
  return checked;
}

namespace {

/// Padding is an encoder's: a decoder sees whatever comes before, and its rows have none behind.
std::vector<Window> hidden_windows(const Spec& spec, const ModelConfig& config, const Corpus& corpus,
                                   const EvaluationSize& size, std::int32_t pad) {
  const std::int64_t first = spec.data.first_token;
  std::vector<Window> windows =
      corpus.row > 0
          ? padded_windows(corpus.tokens, corpus.row, first / corpus.row, size.windows, config.vocab_size, pad, corpus.path)
          : make_windows(corpus.tokens, Protocol::hidden, first, size.windows, size.context,
                         static_cast<std::int32_t>(config.bos_token_id), config.vocab_size, corpus.path);
  if (!config.causal) unscore_padding(windows, pad, corpus.path);
  return windows;
}

}  // namespace

std::vector<Window> evaluation_windows(const Spec& spec, const ModelConfig& config, const Corpus& corpus,
                                       const EvaluationSize& size) {
  const auto bos = static_cast<std::int32_t>(config.bos_token_id);
  const auto pad = static_cast<std::int32_t>(config.pad_token_id);
  if (spec.data.protocol == Protocol::hidden) return hidden_windows(spec, config, corpus, size, pad);
  if (corpus.row > 0)
    return masked_windows({corpus.tokens, corpus.targets, corpus.row, corpus.path, corpus.targets_path},
                          spec.data.first_token / corpus.row, size.windows, config.vocab_size, pad);
  if (spec.data.protocol != Protocol::lmeval)
    return make_windows(corpus.tokens, spec.data.protocol, spec.data.first_token, size.windows, size.context, bos,
                        config.vocab_size, corpus.path);
  std::vector<Window> windows;
  for (std::size_t d = size.first_document; d < size.end_document; ++d) {
    const DocumentSpan& span = corpus.documents[d];
    require_vocabulary(corpus.tokens, span.first_token, span.first_token + span.tokens, config.vocab_size, corpus.path);
    const std::span<const std::int32_t> tokens(corpus.tokens.data() + span.first_token,
                                               static_cast<std::size_t>(span.tokens));
    for (Window& window : document_windows(tokens, size.context, bos)) windows.push_back(std::move(window));
  }
  return windows;
}

std::vector<ScoredDocument> scored_documents(const Corpus& corpus, const EvaluationSize& size) {
  std::vector<ScoredDocument> all;
  for (std::size_t d = size.first_document; d < size.end_document; ++d) {
    const DocumentSpan& span = corpus.documents[d];
    all.push_back({document_window_count(span.tokens, size.context), span.words, span.bytes});
  }
  return all;
}

std::vector<Window> calibration_windows(const Spec& spec, const ModelConfig& config, const Corpus& corpus,
                                        std::int64_t context) {
  // Inputs alone matter. Rows are read as they are, padding included: all of them go in at once.
  const Protocol blocks = spec.data.protocol == Protocol::lmeval ? Protocol::window
                          : corpus.row > 0                       ? Protocol::gptq
                                                                 : spec.data.protocol;
  return make_windows(corpus.tokens, blocks, spec.data.calibration->first_token, spec.data.calibration->windows, context,
                      static_cast<std::int32_t>(config.bos_token_id), config.vocab_size, corpus.path);
}

namespace {

/// As a POSIX shell reads it back.
std::string shell_word(const std::string& text) {
  const bool plain = !text.empty() && std::all_of(text.begin(), text.end(), [](unsigned char c) {
    return std::isalnum(c) != 0 || std::string_view("_./=:,@%+-").find(static_cast<char>(c)) != std::string_view::npos;
  });
  if (plain) return text;
  std::string quoted = "'";
  for (char c : text) quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return quoted + "'";
}

}  // namespace

std::string repro_line(const Spec& spec, const std::string& model, const std::string& target) {
  std::string line = "qfid run " + shell_word(spec.file.string()) + " --model " + model;
  if (target != "baseline") line += " --target " + target;
  for (const std::string& set : spec.sets) line += " --set " + shell_word(set);
  return line;
}

}  // namespace qfid::eval
