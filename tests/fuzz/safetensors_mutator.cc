// libFuzzer's mutations of a safetensors file; in three of four the header's size and that of the data are then what the
// header needs, without which hardly any gets past the first eight bytes.
#include <algorithm>
#include <charconv>
#include <cstring>
#include <string>

#include "tests/fuzz/fuzz.h"

extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t most);
extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size, std::size_t most, unsigned seed);

namespace {

/// The largest number behind a comma within brackets: where the last tensor ends, most of the time.
std::size_t largest_end(std::string_view header) {
  std::size_t largest = 0;
  for (std::size_t close = header.find(']'); close != std::string_view::npos; close = header.find(']', close + 1)) {
    const std::size_t comma = header.rfind(',', close);
    if (comma == std::string_view::npos) continue;
    std::size_t end = 0;
    const std::size_t from = header.find_first_not_of(' ', comma + 1);
    std::from_chars(header.data() + from, header.data() + close, end);
    if (end < 4096 && header.substr(0, comma).rfind("data_offsets") != std::string_view::npos)
      largest = std::max(largest, end);
  }
  return largest;
}

}  // namespace

std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size, std::size_t most, unsigned seed) {
  size = LLVMFuzzerMutate(data, size, most);
  if (seed % 4 == 0 || size < 10) return size;
  const std::string_view text = qfid::tests::text_of(data, size);
  const std::size_t brace = text.rfind('}');
  if (brace == std::string_view::npos || brace < 8) return size;
  const std::uint64_t header = brace + 1 - 8;
  std::memcpy(data, &header, sizeof header);
  if (seed % 4 == 1) return size;
  const std::size_t whole = std::min(most, brace + 1 + largest_end(text.substr(8, header)));
  if (whole > size) std::memset(data + size, 0x3C, whole - size);
  return whole;
}
