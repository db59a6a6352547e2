#include "eval/data/unicode_regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>

#include "quant/core/error.h"

namespace qfid::eval {

namespace {

/// Backtracking steps of one search where a pattern and a text don't go together: what a pattern that reads on to the end of
/// the text and goes all the way back needs, many times over, and seconds at most.
constexpr std::uint32_t most_steps = 200'000'000, steps_of_any = 1'000'000, steps_of_a_byte = 1000;
std::uint32_t steps_for(std::size_t bytes) {
  return static_cast<std::uint32_t>(std::min<std::size_t>(most_steps, steps_of_any + steps_of_a_byte * bytes));
}
constexpr std::uint32_t most_kib = 256U << 10;  ///< that one search may take
constexpr std::size_t jit_stack_bytes = 8U << 20;

std::string message_of(int code) {
  PCRE2_UCHAR text[256];
  return pcre2_get_error_message(code, text, sizeof text) < 0 ? "error " + std::to_string(code)
                                                              : reinterpret_cast<const char*>(text);
}

PCRE2_SPTR units(std::string_view text) { return reinterpret_cast<PCRE2_SPTR>(text.data()); }

}  // namespace

struct UnicodeRegex::Compiled {
  explicit Compiled(std::string_view pattern) {
    int error = 0;
    PCRE2_SIZE at = 0;
    code = pcre2_compile(units(pattern), pattern.size(), PCRE2_UTF | PCRE2_UCP, &error, &at, nullptr);
    if (code == nullptr)
      throw quant::Error(quant::ErrorKind::input, "\"" + std::string(pattern.substr(0, 200)) +
                                                      "\" isn't a regular expression: " + message_of(error) + " at byte " +
                                                      std::to_string(at));
    data = pcre2_match_data_create_from_pattern(code, nullptr);
    context = pcre2_match_context_create(nullptr);
    // Without the just-in-time compiler (some processors) matching is slower and gives the same.
    if (pcre2_jit_compile(code, PCRE2_JIT_COMPLETE) == 0) stack = pcre2_jit_stack_create(1U << 15, jit_stack_bytes, nullptr);
    if (context != nullptr) {
      pcre2_set_heap_limit(context, most_kib);
      if (stack != nullptr) pcre2_jit_stack_assign(context, nullptr, stack);
    }
    if (data == nullptr || context == nullptr) {
      release();
      throw std::bad_alloc();
    }
  }
  Compiled(const Compiled&) = delete;
  Compiled& operator=(const Compiled&) = delete;
  ~Compiled() { release(); }

  void release() {
    pcre2_jit_stack_free(stack);
    pcre2_match_context_free(context);
    pcre2_match_data_free(data);
    pcre2_code_free(code);
  }

  pcre2_code* code = nullptr;
  pcre2_match_data* data = nullptr;
  pcre2_match_context* context = nullptr;
  pcre2_jit_stack* stack = nullptr;
};

UnicodeRegex::UnicodeRegex(std::string_view pattern) : compiled_(std::make_unique<Compiled>(pattern)) {}
UnicodeRegex::~UnicodeRegex() = default;
UnicodeRegex::UnicodeRegex(UnicodeRegex&&) noexcept = default;
UnicodeRegex& UnicodeRegex::operator=(UnicodeRegex&&) noexcept = default;

std::optional<RegexMatch> UnicodeRegex::find(std::string_view text, std::size_t from) const {
  const Compiled& c = *compiled_;
  pcre2_set_match_limit(c.context, steps_for(text.size() - from));
  const auto match = [&](std::uint32_t options) {
    return pcre2_match(c.code, units(text), text.size(), from, PCRE2_NO_UTF_CHECK | options, c.data, c.context);
  };
  int count = match(0);
  if (count == PCRE2_ERROR_JIT_STACKLIMIT) count = match(PCRE2_NO_JIT);
  if (count == PCRE2_ERROR_NOMATCH) return std::nullopt;
  if (count < 0)
    throw quant::Error(quant::ErrorKind::input,
                       "the text from byte " + std::to_string(from) + " on can't be searched: " + message_of(count));
  const PCRE2_SIZE* places = pcre2_get_ovector_pointer(c.data);
  RegexMatch found{places[0], places[1], 0, 0};
  if (count > 1 && places[2] != PCRE2_UNSET) {
    found.group_begin = places[2];
    found.group_end = places[3];
  }
  return found;
}

std::optional<std::size_t> invalid_utf8(std::string_view text) {
  int error = 0;
  PCRE2_SIZE at = 0;
  // An empty pattern matches at once; before that the whole text is checked.
  const std::unique_ptr<pcre2_code, void (*)(pcre2_code*)> code(pcre2_compile(units(""), 0, PCRE2_UTF, &error, &at, nullptr),
                                                                pcre2_code_free);
  const std::unique_ptr<pcre2_match_data, void (*)(pcre2_match_data*)> data(
      code ? pcre2_match_data_create_from_pattern(code.get(), nullptr) : nullptr, pcre2_match_data_free);
  if (!data) throw std::bad_alloc();
  const int result = pcre2_match(code.get(), units(text), text.size(), 0, 0, data.get(), nullptr);
  if (result >= 0) return std::nullopt;
  return pcre2_get_startchar(data.get());
}

void require_utf8(std::string_view text, const std::string& name) {
  if (const std::optional<std::size_t> at = invalid_utf8(text))
    throw quant::Error(quant::ErrorKind::input, name + ": byte " + std::to_string(*at) + " isn't UTF-8");
}

}  // namespace qfid::eval
