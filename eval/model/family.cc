#include "eval/model/family.h"

#include "quant/core/error.h"

namespace qfid::eval {

namespace {

DecoderWeights read(Checkpoint& checkpoint, const ModelConfig& config, bool with_data) {
  DecoderWeights weights =
      config.family == "bert" ? read_bert(checkpoint, config, with_data) : read_opt(checkpoint, config, with_data);
  weights.config = config;
  weights.config.has_head = has_head(checkpoint, config);
  weights.unused_tensors = checkpoint.unused();
  for (const std::string& name : weights.unused_tensors)
    if (name.find(".gate_proj.") != std::string::npos || name.ends_with("self_attn.sink") ||
        name.ends_with("attention.self.sink"))
      throw quant::Error(quant::ErrorKind::input,
                         checkpoint.directory().string() + ": tensor \"" + name +
                             "\" changes the arithmetic, but config.json's attention object doesn't ask for it");
  return weights;
}

}  // namespace

DecoderWeights load_weights(Checkpoint& checkpoint, const ModelConfig& config) { return read(checkpoint, config, true); }

std::vector<std::string> check_weights(Checkpoint& checkpoint, const ModelConfig& config) {
  return read(checkpoint, config, false).unused_tensors;
}

bool has_head(const Checkpoint& checkpoint, const ModelConfig& config) {
  return config.family != "bert" || bert_has_head(checkpoint);
}

std::string tensor_role(const ModelConfig& config, const std::string& tensor) {
  return config.family == "bert" ? bert_role(tensor) : opt_role(tensor);
}

}  // namespace qfid::eval
