#include "eval/data/windows.h"

#include <algorithm>

#include "quant/core/error.h"

namespace qfid::eval {

namespace {

Window window_of(std::span<const std::int32_t> block, Protocol protocol, std::int32_t bos) {
  const auto context = static_cast<std::int64_t>(block.size());
  Window window{{block.begin(), block.end()}, {block.begin(), block.end()}, 0, context};
  if (protocol == Protocol::window) {
    std::rotate(window.input.begin(), window.input.end() - 1, window.input.end());
  } else {
    std::rotate(window.target.begin(), window.target.begin() + 1, window.target.end());
    window.first_scored = protocol == Protocol::llamacpp ? context / 2 : 0;
    window.end_scored = context - 1;
  }
  if (protocol == Protocol::window || protocol == Protocol::llamacpp) window.input[0] = bos;
  return window;
}

}  // namespace

std::int64_t windows_available(std::int64_t tokens, std::int64_t first_token, std::int64_t context) {
  return first_token >= tokens ? 0 : (tokens - first_token) / context;
}

void require_vocabulary(std::span<const std::int32_t> tokens, std::int64_t begin, std::int64_t end, std::int64_t vocab,
                        const std::string& path) {
  const auto last = tokens.begin() + end;
  const auto outside = std::find_if(tokens.begin() + begin, last, [&](std::int32_t id) { return id >= vocab; });
  if (outside != last)
    throw quant::Error(quant::ErrorKind::input, path + ": token " + std::to_string(outside - tokens.begin()) + " is " +
                                                    std::to_string(*outside) + ", outside the model's vocabulary of " +
                                                    std::to_string(vocab));
}

std::int64_t document_window_count(std::int64_t tokens, std::int64_t context) { return (tokens + context - 1) / context; }

std::vector<Window> document_windows(std::span<const std::int32_t> document, std::int64_t context, std::int32_t bos) {
  const auto n = static_cast<std::int64_t>(document.size()), length = std::min(n, context);
  std::vector<Window> windows;
  for (std::int64_t done = 0; done < n;) {
    const std::int64_t end = std::min(done + context, n), begin = end - length;
    Window window{{}, {document.begin() + begin, document.begin() + end}, done - begin, length};
    window.input.push_back(begin == 0 ? bos : document[static_cast<std::size_t>(begin - 1)]);
    window.input.insert(window.input.end(), document.begin() + begin, document.begin() + end - 1);
    windows.push_back(std::move(window));
    done = end;
  }
  return windows;
}

std::vector<Window> make_windows(std::span<const std::int32_t> tokens, Protocol protocol, std::int64_t first_token,
                                 std::int64_t count, std::int64_t context, std::int32_t bos, std::int64_t vocab,
                                 const std::string& path) {
  quant::require(protocol != Protocol::lmeval, "make_windows: lmeval's windows follow documents");
  const auto fail = [&](const std::string& what) { throw quant::Error(quant::ErrorKind::input, path + ": " + what); };
  const std::int64_t available = windows_available(static_cast<std::int64_t>(tokens.size()), first_token, context);
  if (count > available)
    fail(std::to_string(count) + " windows of " + std::to_string(context) + " tokens from token " +
         std::to_string(first_token) + " asked for, " + std::to_string(available) + " fit into its " +
         std::to_string(tokens.size()) + " tokens");
  std::vector<Window> windows;
  for (std::int64_t w = 0; w < count; ++w) {
    const std::int64_t begin = first_token + w * context;
    const auto block = tokens.subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(context));
    require_vocabulary(tokens, begin, begin + context, vocab, path);
    windows.push_back(window_of(block, protocol, bos));
  }
  return windows;
}

}  // namespace qfid::eval
