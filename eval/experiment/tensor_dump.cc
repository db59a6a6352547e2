#include "eval/experiment/tensor_dump.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <format>
#include <fstream>

#include "eval/data/npy.h"
#include "quant/core/error.h"

namespace qfid::eval {

namespace fs = std::filesystem;
using quant::DType;
using quant::Error;
using quant::ErrorKind;

namespace {

constexpr double gib = 1024.0 * 1024 * 1024;

/// FP8 and bf16 as their bits: NumPy has neither.
const char* descr_of(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return "'<f4'";
    case DType::i32:
      return "'<i4'";
    case DType::i8:
      return "'|i1'";
    case DType::bf16:
      return "'<u2'";
    default:
      return "'|u1'";
  }
}

[[noreturn]] void fail(const fs::path& path) {
  throw Error(ErrorKind::input, path.string() + ": can't write: " + std::strerror(errno));
}

}  // namespace

void TensorDump::add(const std::string& model, const std::string& target, const std::string& name,
                     const quant::Tensor& windows) {
  const fs::path path = directory_ / model / target / (name + ".npy");
  const auto [entry, first] = rows_.try_emplace(path, 0);
  if (first) {
    std::error_code error;
    fs::create_directories(path.parent_path(), error);
    errno = error ? error.value() : 0;
    if (error || !std::ofstream(path, std::ios::binary | std::ios::trunc)) fail(path);
  }
  entry->second += windows.shape()[0];
  std::vector<std::int64_t> shape{entry->second};
  for (int axis = 1; axis < windows.shape().rank(); ++axis) shape.push_back(windows.shape()[axis]);
  const std::string header = npy_header(descr_of(windows.dtype()), shape);
  quant::require(header.size() == 128, "dump: a header of another length than the one it replaces");
  std::fstream file(path, std::ios::binary | std::ios::in | std::ios::out);
  file.write(header.data(), static_cast<std::streamsize>(header.size()));
  file.seekp(0, std::ios::end);
  file.write(reinterpret_cast<const char*>(windows.raw()), static_cast<std::streamsize>(windows.bytes()));
  file.flush();
  if (!file) fail(path);
}

std::int64_t dump_bytes(const ModelConfig& c, const MetricsSpec& metrics, const TargetSpec& target, std::int64_t windows,
                        std::int64_t context) {
  const bool baseline = target.name == "baseline";
  const std::int64_t H = c.hidden_size, F = c.ffn_dim, L = c.num_hidden_layers, T = context,
                     square = c.num_attention_heads * T * T, sink = std::min(metrics.sink_windows, windows),
                     local = baseline ? 0 : std::min(metrics.local_windows, windows),
                     emulated = std::min(metrics.kernel_windows, local);
  std::int64_t code = 1;
  for (std::int64_t l = 0; l < L; ++l) {
    const quant::Format format = target.attention_at("layers." + std::to_string(l) + ".attention").p.format;
    code = std::max<std::int64_t>(code, static_cast<std::int64_t>(quant::info(quant::storage(format)).bytes));
  }
  const std::int64_t gated = c.gate ? c.num_attention_heads * T * (windows + sink) + sink * T * H : 0;
  const std::int64_t layer = windows * (T * (9 * H + F) * 4 + square * code) + std::max(sink, local) * square * 4 +
                             (local + emulated) * ((T * (6 * H + F) + square) * 4 + square * code) + gated * 4;
  return L * layer + windows * T * (2 * H + (c.has_head ? c.vocab_size : 0)) * 4;
}

void require_dump_fits(const DumpSpec& dump, std::int64_t bytes) {
  const double size = static_cast<double>(bytes) / gib;
  if (size > dump.limit_gib)
    throw Error(
        ErrorKind::usage,
        std::format("--dump would write {:.2f} GiB, more than --dump-limit {:g}: fewer windows (--set data.windows=N), "
                    "targets (--target NAME) or a higher limit",
                    size, dump.limit_gib));
  std::error_code error;
  fs::create_directories(dump.directory, error);
  const fs::space_info space = error ? fs::space_info{} : fs::space(dump.directory, error);
  if (error) throw Error(ErrorKind::input, dump.directory.string() + ": can't write there: " + error.message());
  if (static_cast<double>(space.available) < static_cast<double>(bytes))
    throw Error(ErrorKind::input, std::format("{}: --dump would write {:.2f} GiB, the disk has {:.2f} GiB left",
                                              dump.directory.string(), size, static_cast<double>(space.available) / gib));
}

}  // namespace qfid::eval
