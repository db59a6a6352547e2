// A .npy file, as tokens, rows of tokens, either, a single token, or tables of numbers.
#include "eval/data/npy.h"

#include "tests/fuzz/fuzz.h"

using namespace qfid;

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto [reader, content] = tests::choice_of(tests::text_of(data, size), 6);
  const quant::InputFile file("f", content);
  tests::refuses_with(quant::ErrorKind::input, [&] {
    switch (reader) {
      case 0:
        eval::read_tokens(file);
        break;
      case 1:
        eval::read_token_rows(file, -100);
        break;
      case 2:
        eval::read_tokens_or_rows(file);
        break;
      case 3:
        eval::read_token(file);
        break;
      default:
        eval::read_numbers(file, reader - 3);
        break;
    }
  });
  return 0;
}
