// model.safetensors.index.json, a NUL, config.json.
#include "eval/model/checkpoint.h"
#include "eval/model/decoder_weights.h"
#include "tests/fuzz/fuzz.h"

using namespace qfid;

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto [index, config] = tests::halves_of(tests::text_of(data, size));
  if (!index.empty())
    tests::refuses_with(quant::ErrorKind::input, [&] { eval::read_shard_index(quant::FileContent("i", index)); });
  if (!config.empty())
    tests::refuses_with(quant::ErrorKind::input, [&] { eval::read_config(quant::FileContent("c", config)); });
  return 0;
}
