// What the targets share. A target hands hostile bytes to one reader: it may take them, or refuse them with an Error of the
// kind that its input deserves. Anything else is a finding and ends the process.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string_view>
#include <utility>

#include "quant/core/error.h"
#include "quant/core/input_file.h"

/// libFuzzer's entry, once in each target.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace qfid::tests {

inline std::string_view text_of(const std::uint8_t* data, std::size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

/// The bytes before the first NUL and those behind it; all and nothing where there is none.
inline std::pair<std::string_view, std::string_view> halves_of(std::string_view text) {
  const std::size_t nul = text.find('\0');
  if (nul == std::string_view::npos) return {text, {}};
  return {text.substr(0, nul), text.substr(nul + 1)};
}

/// Inputs that several readers share begin with a byte that chooses one; '0' chooses the first.
inline std::pair<unsigned, std::string_view> choice_of(std::string_view text, unsigned readers) {
  if (text.empty()) return {0, text};
  return {(static_cast<unsigned char>(text[0]) - '0' + 256U * readers) % readers, text.substr(1)};
}

template <class Read>
void refuses_with(quant::ErrorKind kind, Read&& read) {
  try {
    std::forward<Read>(read)();
  } catch (const quant::Error& error) {
    if (error.kind() == kind) return;
    std::fprintf(stderr, "an Error of kind %d, expected %d: %s\n", error.exit_code(), static_cast<int>(kind), error.what());
    std::abort();
  }
}

inline void must_hold(bool ok, const char* what) {
  if (ok) return;
  std::fprintf(stderr, "%s\n", what);
  std::abort();
}

}  // namespace qfid::tests
