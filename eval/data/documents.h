// Text files as documents: the pages that a protocol may tokenize and score one by one.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace qfid::eval {

/// file: the whole file is one. lines: each line with its newline, a blank one as the empty text (as Hugging Face's
/// `wikitext` reads WikiText's files). jsonl: the field "text" of each line.
enum class Documents : std::uint8_t { file, lines, jsonl };
std::string_view to_string(Documents documents);
/// Error{internal} for an unknown name (the key table has checked it).
Documents parse_documents(std::string_view name);

/// Error{input} "PATH: byte N isn't UTF-8", "PATH:LINE: what" for a malformed line of jsonl, "PATH: no documents".
std::vector<std::string> read_documents(const std::filesystem::path& path, Documents documents);

/// As lm-evaluation-harness counts: len(re.split(r"\s+", text)), empty ends included, so 1 for the empty text.
std::int64_t count_words(std::string_view text);

/// The release of WikiText back to plain English, as lm-evaluation-harness does it before scoring: " @-@ " to "-", spaces
/// before punctuation and inside brackets and quotes removed.
std::string wikitext_detokenized(std::string text);

}  // namespace qfid::eval
