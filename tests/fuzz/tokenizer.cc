// tokenizer.json; behind a NUL the text that it encodes.
#include "eval/data/tokenizer.h"

#include "tests/fuzz/fuzz.h"

using namespace qfid;

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto [json, text] = tests::halves_of(tests::text_of(data, size));
  tests::refuses_with(quant::ErrorKind::input, [&] {
    const eval::Tokenizer tokenizer = eval::Tokenizer::read(quant::FileContent("f", json));
    for (const std::int32_t token : tokenizer.encode(text.empty() ? "It's 12 a\xC3\xA9 \n a" : text, true, "text"))
      tests::must_hold(token >= 0 && token < tokenizer.vocabulary(), "a token beyond the vocabulary");
  });
  return 0;
}
