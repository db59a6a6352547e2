// One model family a file: which of a checkpoint's tensors mean what (opt.cc, bert.cc). Chosen by config.json's model_type
// in family.cc.
#pragma once

#include <string>

#include "eval/model/checkpoint.h"
#include "eval/model/decoder_weights.h"

namespace qfid::eval {

/// The tensors a family's model is made of; with `with_data` false they are checked only and come back empty. Error{input}
/// naming every one that is missing or of another shape.
DecoderWeights read_opt(Checkpoint& checkpoint, const ModelConfig& config, bool with_data);
DecoderWeights read_bert(Checkpoint& checkpoint, const ModelConfig& config, bool with_data);

/// Whether the masked-LM head is there.
bool bert_has_head(const Checkpoint& checkpoint);

/// Module path of a tensor ("layers.0.q_proj.weight"), "" for one the family doesn't know.
std::string opt_role(const std::string& tensor);
std::string bert_role(const std::string& tensor);

}  // namespace qfid::eval
