// The regular expressions of tokenizer.json, as PCRE2 reads them. Hugging Face's tokenizers hand them to Oniguruma; the two
// agree on what is let through here. What they read differently, or may, is refused by name: \w, \b, \h, properties other
// than general categories, sets within sets, possessive {n,m}+, anchors, the dot, groups but (?: (?i: (?! (?= and plain.
#pragma once

#include <string>
#include <string_view>

namespace qfid::eval {

/// Error{input} "\w isn't supported in a pattern", to which the caller adds where.
std::string pcre2_pattern(std::string_view oniguruma);

}  // namespace qfid::eval
