#include "eval/model/safetensors.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>
#include <span>
#include <utility>

#include "eval/json/json_file.h"
#include "quant/codec.h"
#include "quant/core/out_of_memory.h"

namespace qfid::eval {

using nlohmann::json;
using quant::Error;
using quant::ErrorKind;

namespace {

constexpr std::uint64_t largest_header = 100'000'000;  // the format's own limit

struct DtypeWidth {
  std::string_view name;
  std::uint64_t bytes;  ///< of an element
};
/// Every dtype of the format; only F32, BF16 and F16 can be loaded.
constexpr std::array<DtypeWidth, 17> widths{{{"BOOL", 1},
                                             {"U8", 1},
                                             {"I8", 1},
                                             {"F8_E5M2", 1},
                                             {"F8_E4M3", 1},
                                             {"I16", 2},
                                             {"U16", 2},
                                             {"F16", 2},
                                             {"BF16", 2},
                                             {"I32", 4},
                                             {"U32", 4},
                                             {"F32", 4},
                                             {"F64", 8},
                                             {"I64", 8},
                                             {"U64", 8},
                                             {"F8_E8M0", 1},
                                             {"C64", 8}}};

[[noreturn]] void fail(const std::string& where, const std::string& what) {
  throw Error(ErrorKind::input, where + ": " + what);
}

std::uint64_t unsigned_at(const json& value, const std::string& where, const std::string& what) {
  if (!value.is_number_unsigned()) fail(where, what + " must be a whole number >= 0, found " + value.dump().substr(0, 40));
  return value.get<std::uint64_t>();
}

TensorInfo read_entry(const std::string& where, const json& entry) {
  if (!entry.is_object()) fail(where, "expected an object with dtype, shape and data_offsets");
  for (const auto& [key, value] : entry.items())
    if (key != "dtype" && key != "shape" && key != "data_offsets") fail(where, "unknown key \"" + key.substr(0, 60) + "\"");
  for (const char* key : {"dtype", "shape", "data_offsets"})
    if (!entry.contains(key)) fail(where, std::string("missing key \"") + key + "\"");
  TensorInfo info;
  if (!entry["dtype"].is_string()) fail(where, "dtype must be a string");
  info.dtype = entry["dtype"].get<std::string>();
  const auto width = std::find_if(widths.begin(), widths.end(), [&](const DtypeWidth& w) { return w.name == info.dtype; });
  if (width == widths.end()) fail(where, "unknown dtype \"" + info.dtype.substr(0, 40) + "\"");
  if (!entry["shape"].is_array()) fail(where, "shape must be an array");
  std::int64_t elements = 1;  // of the dimensions so far, though the next be 0: whoever multiplies them can't overflow
  for (const json& dim : entry["shape"]) {
    const std::uint64_t n = unsigned_at(dim, where, "a dimension");
    if (n > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()) ||
        __builtin_mul_overflow(elements, static_cast<std::int64_t>(n), &elements))
      fail(where, "shape " + entry["shape"].dump() + " has more elements than can be counted");
    info.shape.push_back(static_cast<std::int64_t>(n));
  }
  const json& offsets = entry["data_offsets"];
  if (!offsets.is_array() || offsets.size() != 2) fail(where, "data_offsets must be [begin, end]");
  info.begin = unsigned_at(offsets[0], where, "data_offsets");
  info.end = unsigned_at(offsets[1], where, "data_offsets");
  if (info.begin > info.end)
    fail(where, "data_offsets [" + std::to_string(info.begin) + ", " + std::to_string(info.end) + "] end before they begin");
  std::uint64_t bytes = 0;
  if (__builtin_mul_overflow(static_cast<std::uint64_t>(elements), width->bytes, &bytes) ||
      bytes != info.end - info.begin)
    fail(where, "shape " + shape_text(info.shape) + " of " + info.dtype +
                    " doesn't fill data_offsets: " + std::to_string(info.end - info.begin) + " bytes found");
  return info;
}

}  // namespace

std::string shape_text(const std::vector<std::int64_t>& shape) {
  std::string text = "[";
  for (std::int64_t n : shape) text += (text.size() > 1 ? ", " : "") + std::to_string(n);
  return text + "]";
}

SafetensorsFile::SafetensorsFile(quant::InputFile file) : file_(std::move(file)) {
  read_header();
  check_tiling();
}

void SafetensorsFile::read_header() {
  const std::string path = file_.path().string();
  if (file_.size() < 8)
    fail(path, "too short for a safetensors header: " + std::to_string(file_.size()) + " bytes, expected at least 8");
  std::array<std::byte, 8> length{};
  file_.read(0, length, "size of the header");
  std::uint64_t size = 0;
  for (std::size_t i = 8; i-- > 0;) size = size << 8 | std::to_integer<std::uint64_t>(length[i]);
  if (size > largest_header) fail(path, "header size " + std::to_string(size) + " is above the format's limit of 100000000");
  if (size > file_.size() - 8)
    fail(path,
         "header size " + std::to_string(size) + " reaches beyond the file of " + std::to_string(file_.size()) + " bytes");
  std::string text(static_cast<std::size_t>(size), '\0');
  file_.read(8, std::as_writable_bytes(std::span(text)), "header");
  if (text.empty() || text.front() != '{') fail(path, "header must begin with '{'");
  const json header = parse_strict_json(text, path, 8);
  for (const auto& [name, entry] : header.items()) {
    if (name == "__metadata__") {
      if (!entry.is_object()) fail(path, "__metadata__ must be an object of strings");
      for (const auto& [key, value] : entry.items())
        if (!value.is_string()) fail(path, "__metadata__: \"" + key.substr(0, 60) + "\" must be a string");
      continue;
    }
    tensors_.emplace(name, read_entry(path + ": tensor \"" + name.substr(0, 200) + "\"", entry));
  }
  data_begin_ = 8 + static_cast<std::size_t>(size);
}

void SafetensorsFile::check_tiling() const {
  const std::string path = file_.path().string();
  std::vector<std::pair<const std::string*, const TensorInfo*>> order;
  for (const auto& [name, info] : tensors_) order.emplace_back(&name, &info);
  std::sort(order.begin(), order.end(), [](const auto& a, const auto& b) {
    return std::pair(a.second->begin, a.second->end) < std::pair(b.second->begin, b.second->end);
  });
  const std::uint64_t size = file_.size() - data_begin_;
  std::uint64_t at = 0;
  for (const auto& [name, info] : order) {
    if (info->begin != at)
      fail(path + ": tensor \"" + name->substr(0, 200) + "\"",
           (info->begin < at ? "overlaps the tensor before it: begins at byte " : "leaves a gap: begins at byte ") +
               std::to_string(info->begin) + ", expected " + std::to_string(at));
    if (info->end > size)
      fail(path + ": tensor \"" + name->substr(0, 200) + "\"", "ends at byte " + std::to_string(info->end) +
                                                                   " of a data area of " + std::to_string(size) +
                                                                   " bytes: file cut short");
    at = info->end;
  }
  if (at != size) fail(path, std::to_string(size - at) + " bytes after the last tensor");
}

void SafetensorsFile::check_rank(const std::string& name) const {
  const auto found = tensors_.find(name);
  if (found == tensors_.end()) fail(file_.path().string(), "no tensor \"" + name + "\"");
  if (found->second.shape.size() > static_cast<std::size_t>(quant::Shape::max_rank))
    fail(file_.path().string() + ": tensor \"" + name + "\"",
         "has " + std::to_string(found->second.shape.size()) + " dimensions, at most 5 are supported");
}

void SafetensorsFile::check_f32(const std::string& name) const {
  check_rank(name);
  const std::string& dtype = tensors_.at(name).dtype;
  if (dtype != "F32" && dtype != "BF16" && dtype != "F16")
    fail(file_.path().string() + ": tensor \"" + name + "\"",
         "dtype " + dtype + " can't be read as f32, expected F32, BF16 or F16");
}

std::string SafetensorsFile::place_of(const std::string& name) { return "tensor \"" + name.substr(0, 200) + "\""; }

quant::Tensor SafetensorsFile::room_for(const std::string& name, quant::DType dtype) const {
  try {
    return {dtype, quant::Shape(std::span<const std::int64_t>(tensors_.at(name).shape))};
  } catch (const quant::OutOfMemory& error) {
    throw Error(ErrorKind::unavailable, error.what() + std::string(", ") + place_of(name) + " of " + file_.path().string());
  }
}

quant::Tensor SafetensorsFile::load_bytes(const std::string& name) const {
  check_rank(name);
  const TensorInfo& info = tensors_.at(name);
  if (info.dtype != "BOOL" && info.dtype != "U8")
    fail(file_.path().string() + ": tensor \"" + name + "\"", "dtype " + info.dtype + ", expected BOOL or U8");
  quant::Tensor tensor = room_for(name, quant::DType::u8);
  file_.read(data_begin_ + info.begin, {tensor.raw(), tensor.bytes()}, place_of(name));
  return tensor;
}

quant::Tensor SafetensorsFile::load_f32(const std::string& name) const {
  check_f32(name);
  const TensorInfo& info = tensors_.at(name);
  quant::Tensor tensor = room_for(name, quant::DType::f32);
  const std::uint64_t begin = data_begin_ + info.begin;
  if (info.dtype == "F32") {
    file_.read(begin, {tensor.raw(), tensor.bytes()}, place_of(name));
    return tensor;
  }
  std::span<float> out = tensor.view<float>().span();
  file_.read_in_pieces(begin, out.size() * 2, place_of(name), [&](std::span<const std::byte> bytes) {
    const std::size_t n = bytes.size() / 2;
    if (info.dtype == "BF16") {
      quant::expand(std::span(reinterpret_cast<const quant::bf16*>(bytes.data()), n), out.first(n));
    } else {
      quant::expand(std::span(reinterpret_cast<const quant::f16*>(bytes.data()), n), out.first(n));
    }
    out = out.subspan(n);
  });
  return tensor;
}

std::string safetensors_bytes(const std::map<std::string, quant::Tensor>& tensors) {
  nlohmann::json header = nlohmann::json::object();
  std::size_t end = 0;
  for (const auto& [name, tensor] : tensors) {
    std::vector<std::int64_t> shape;
    for (int i = 0; i < tensor.shape().rank(); ++i) shape.push_back(tensor.shape()[i]);
    header[name] = {{"dtype", "F32"}, {"shape", shape}, {"data_offsets", {end, end + tensor.bytes()}}};
    end += tensor.bytes();
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');  // data starts at a multiple of 8
  const std::uint64_t size = text.size();
  std::string bytes(reinterpret_cast<const char*>(&size), 8);
  bytes += text;
  for (const auto& [name, tensor] : tensors) {
    quant::require(tensor.dtype() == quant::DType::f32, "safetensors: only f32 is written");
    bytes.append(reinterpret_cast<const char*>(tensor.raw()), tensor.bytes());
  }
  return bytes;
}

}  // namespace qfid::eval
