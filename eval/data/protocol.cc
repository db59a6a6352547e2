#include "eval/data/protocol.h"

#include <algorithm>

#include "quant/core/error.h"

namespace qfid::eval {

const std::vector<ProtocolTraits>& protocols() {
  static const std::vector<ProtocolTraits> all{
      {Protocol::window, "window", 0, false, 1, false, false, true},
      {Protocol::gptq, "gptq", 2048, true, 2, true, true, true},
      {Protocol::llamacpp, "llamacpp", 512, false, 3, true, true, true},
      {Protocol::outlier_free, "outlier_free", 512, true, 2, false, true, true},
      {Protocol::lmeval, "lmeval", 0, false, 1, false, false, false},
      {Protocol::mlm, "mlm", 0, false, 1, false, false, false},
      {Protocol::hidden, "hidden", 0, false, 1, false, false, true},
  };
  return all;
}

const ProtocolTraits& traits(Protocol protocol) {
  for (const ProtocolTraits& row : protocols())
    if (row.protocol == protocol) return row;
  throw quant::Error(quant::ErrorKind::internal, "a protocol without traits");
}

std::string_view to_string(Protocol protocol) { return traits(protocol).name; }

Protocol parse_protocol(std::string_view name) {
  for (const ProtocolTraits& row : protocols())
    if (row.name == name) return row.protocol;
  throw quant::Error(quant::ErrorKind::internal, "no protocol " + std::string(name));
}

std::string spelling(Protocol protocol, const ProtocolParameters& parameters) {
  std::string text(to_string(protocol));
  if (protocol == Protocol::outlier_free) text += "/batch=" + std::to_string(parameters.batch_windows);
  if (parameters.detokenize) text += "/detokenize=wikitext";
  return text;
}

std::string current_spelling(std::string recorded) { return recorded == "llamacpp-512" ? "llamacpp" : recorded; }

std::int64_t standard_context(Protocol protocol, std::int64_t model_context) {
  const ProtocolTraits& row = traits(protocol);
  if (row.context == 0) return model_context;
  return row.at_most_the_models ? std::min(row.context, model_context) : row.context;
}

}  // namespace qfid::eval
