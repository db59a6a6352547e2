// Strict reader of the safetensors format (github.com/huggingface/safetensors, "Format"): 8 bytes little-endian header size,
// a JSON header, then the tensors' bytes without a gap. Every rule of the format is checked before anything is read.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "quant/core/input_file.h"
#include "quant/core/tensor.h"

namespace qfid::eval {

struct TensorInfo {
  std::string dtype;  ///< as the file names it: "BF16", "F32", ...
  std::vector<std::int64_t> shape;
  std::uint64_t begin = 0, end = 0;  ///< bytes from the start of the data area
};
std::string shape_text(const std::vector<std::int64_t>& shape);  ///< "[2, 3]"

class SafetensorsFile {
 public:
  /// Error{input} naming path, tensor, what was expected and found.
  explicit SafetensorsFile(const std::filesystem::path& path) : SafetensorsFile(quant::InputFile(path)) {}
  explicit SafetensorsFile(quant::InputFile file);

  const std::map<std::string, TensorInfo>& tensors() const { return tensors_; }
  const std::filesystem::path& path() const { return file_.path(); }
  /// The file itself, as it was opened.
  const quant::InputFile& file() const { return file_; }
  /// Error{input} by name unless load_f32 can load it; reads no data.
  void check_f32(const std::string& name) const;
  /// F32, BF16 or F16 as f32; any other dtype is Error{input} by name. Dimensions of size 1 are kept; a scalar has rank 0.
  quant::Tensor load_f32(const std::string& name) const;
  /// BOOL or U8 as u8; Error{input} by name for another dtype.
  quant::Tensor load_bytes(const std::string& name) const;

 private:
  void check_rank(const std::string& name) const;
  void read_header();
  void check_tiling() const;
  quant::Tensor room_for(const std::string& name, quant::DType dtype) const;
  static std::string place_of(const std::string& name);

  quant::InputFile file_;
  std::map<std::string, TensorInfo> tensors_;
  std::size_t data_begin_ = 0;
};

/// The bytes of a safetensors file with these f32 tensors.
std::string safetensors_bytes(const std::map<std::string, quant::Tensor>& tensors);

}  // namespace qfid::eval
