// A safetensors file, and every tensor in it.
#include "eval/model/safetensors.h"

#include "tests/fuzz/fuzz.h"

using namespace qfid;

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  tests::refuses_with(quant::ErrorKind::input, [&] {
    const eval::SafetensorsFile file(quant::InputFile("f", tests::text_of(data, size)));
    for (const auto& [name, info] : file.tensors()) {
      std::int64_t elements = 1;  // as a checkpoint counts its parameters
      for (const std::int64_t dim : info.shape) elements *= dim;
      tests::must_hold(elements >= 0, "a negative number of elements");
      tests::refuses_with(quant::ErrorKind::input, [&] {
        if (info.dtype == "U8" || info.dtype == "BOOL")
          file.load_bytes(name);
        else
          file.load_f32(name);
      });
    }
  });
  return 0;
}
