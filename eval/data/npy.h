// NumPy's .npy format (numpy.lib.format, versions 1 to 3): a strict reader of tokens and tables, a writer of tables.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "quant/core/input_file.h"

namespace qfid::eval {

/// 1-D little-endian uint16, int32 or int64, C order. Error{input} naming path, what was expected and found; a value outside
/// [0, 2^31) names its index.
std::vector<std::int32_t> read_tokens(const quant::InputFile& file);

struct TokenRows {
  std::vector<std::int32_t> tokens;  ///< [rows * row], one row after the other
  std::int64_t rows = 0, row = 0;    ///< both > 0
};
/// The same, 2-D. `also`: one more value that is allowed below 0.
TokenRows read_token_rows(const quant::InputFile& file, std::optional<std::int32_t> also = {});

/// 1-D (rows and row are 0 then) or 2-D.
TokenRows read_tokens_or_rows(const quant::InputFile& file);

/// A 0-D file of such an integer, a token.
std::int32_t read_token(const quant::InputFile& file);

struct NumberTable {
  std::vector<double> values;
  std::vector<std::int64_t> shape;
};
/// Little-endian float64 of `rank` dimensions, C order. Error{input}.
NumberTable read_numbers(const quant::InputFile& file, std::size_t rank);

/// Header of a version 1.0 file: descr as NumPy writes it ("'<f4'" or a list of fields), shape.
std::string npy_header(std::string_view descr, const std::vector<std::int64_t>& shape);

}  // namespace qfid::eval
