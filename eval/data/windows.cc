#include "eval/data/windows.h"

#include <algorithm>

#include "quant/core/error.h"

namespace qfid::eval {

namespace {

Window window_of(std::span<const std::int32_t> block, Protocol protocol, std::int32_t bos) {
  const auto context = static_cast<std::int64_t>(block.size());
  Window window{{block.begin(), block.end()}, {block.begin(), block.end()}, 0, context};
  if (protocol == Protocol::hidden) return window;
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

namespace {

void require_rows(std::span<const std::int32_t> ids, std::int64_t row, std::int64_t first, std::int64_t count,
                  const std::string& path) {
  const std::int64_t there = static_cast<std::int64_t>(ids.size()) / row;
  if (first + count > there)
    throw quant::Error(quant::ErrorKind::input, path + ": rows " + std::to_string(first) + " to " +
                                                    std::to_string(first + count - 1) + " asked for, it holds " +
                                                    std::to_string(there));
}

[[noreturn]] void fail_row(const std::string& path, std::int64_t row, const std::string& what) {
  throw quant::Error(quant::ErrorKind::input, path + ": row " + std::to_string(row) + what);
}

/// Tokens of a row without the padding behind its last other one.
std::size_t unpadded(std::span<const std::int32_t> row, std::int32_t pad, const std::string& path, std::int64_t index) {
  std::size_t length = row.size();
  while (length > 0 && row[length - 1] == pad) --length;
  if (length == 0) fail_row(path, index, " is nothing but padding (token " + std::to_string(pad) + ")");
  return length;
}

}  // namespace

std::vector<Window> masked_windows(const MaskedRows& rows, std::int64_t first, std::int64_t count, std::int64_t vocab,
                                   std::int32_t pad) {
  require_rows(rows.inputs, rows.row, first, count, rows.inputs_path);
  require_vocabulary(rows.inputs, first * rows.row, (first + count) * rows.row, vocab, rows.inputs_path);
  require_vocabulary(rows.targets, first * rows.row, (first + count) * rows.row, vocab, rows.targets_path);
  std::vector<Window> windows;
  bool any = false;
  for (std::int64_t r = first; r < first + count; ++r) {
    const auto at = static_cast<std::size_t>(r * rows.row), size = static_cast<std::size_t>(rows.row);
    const auto input = rows.inputs.subspan(at, size), target = rows.targets.subspan(at, size);
    const std::size_t length = unpadded(input, pad, rows.inputs_path, r);
    const auto scored = [](std::int32_t id) { return id != no_target; };
    if (const auto cut = std::find_if(target.begin() + static_cast<std::ptrdiff_t>(length), target.end(), scored);
        cut != target.end())
      fail_row(rows.targets_path, r,
               ": column " + std::to_string(cut - target.begin()) + " is scored, where the inputs are padding (token " +
                   std::to_string(pad) + ")");
    any = any || std::any_of(target.begin(), target.end(), scored);
    windows.push_back({{input.begin(), input.begin() + static_cast<std::ptrdiff_t>(length)},
                       {target.begin(), target.begin() + static_cast<std::ptrdiff_t>(length)},
                       0,
                       static_cast<std::int64_t>(length)});
  }
  if (!any && count > 0)
    throw quant::Error(quant::ErrorKind::input, rows.targets_path + ": every target of rows " + std::to_string(first) +
                                                    " to " + std::to_string(first + count - 1) + " is " +
                                                    std::to_string(no_target) + ", nothing is scored");
  return windows;
}

std::vector<Window> padded_windows(std::span<const std::int32_t> ids, std::int64_t row, std::int64_t first,
                                   std::int64_t count, std::int64_t vocab, std::int32_t pad, const std::string& path) {
  require_rows(ids, row, first, count, path);
  require_vocabulary(ids, first * row, (first + count) * row, vocab, path);
  std::vector<Window> windows;
  for (std::int64_t r = first; r < first + count; ++r) {
    const auto all = ids.subspan(static_cast<std::size_t>(r * row), static_cast<std::size_t>(row));
    const auto kept = all.first(unpadded(all, pad, path, r));
    windows.push_back({{kept.begin(), kept.end()}, {kept.begin(), kept.end()}, 0, static_cast<std::int64_t>(kept.size())});
  }
  return windows;
}

void unscore_padding(std::vector<Window>& windows, std::int32_t pad, const std::string& path) {
  for (std::size_t w = 0; w < windows.size(); ++w) {
    const std::vector<std::int32_t>& input = windows[w].input;
    for (std::size_t i = 0; i < input.size(); ++i)
      if (input[i] == pad) windows[w].target[i] = no_target;
    if (std::all_of(input.begin(), input.end(), [&](std::int32_t id) { return id == pad; }))
      throw quant::Error(quant::ErrorKind::input, path + ": window " + std::to_string(w) +
                                                      " is nothing but padding (token " + std::to_string(pad) + ")");
  }
}

std::vector<Window> make_windows(std::span<const std::int32_t> tokens, Protocol protocol, std::int64_t first_token,
                                 std::int64_t count, std::int64_t context, std::int32_t bos, std::int64_t vocab,
                                 const std::string& path) {
  quant::require(protocol != Protocol::lmeval && protocol != Protocol::mlm, "make_windows: not a protocol of blocks");
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
