// One device: its stream, its memory, its cuBLASLt handle. Everything runs on one stream in the order it was asked for, with
// one fixed workspace, so that the same inputs give the same bits. Memory comes from the device's stream-ordered pool:
// freeing is safe while kernels that use it are still queued.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "kernels/backend.h"
#include "kernels/gpu/cublaslt.h"

namespace qfid::kernels::gpu {

/// Throws Error{unavailable} when memory ran out, Error{internal} otherwise, naming call, subject and device.
void check(cudaError_t status, const char* call, const std::string& subject = "");
void check(cublasStatus_t status, const char* call, const std::string& subject);

/// What can be found out without making a context: driver, device, architecture, free memory, cuBLASLt.
Support probe(int device);

class Context : public std::enable_shared_from_this<Context> {
 public:
  /// Error{unavailable} as probe() would say.
  static std::shared_ptr<Context> make(int device);
  ~Context();
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;

  cudaStream_t stream() const { return stream_; }
  const CublasLt& lt() const { return *lt_; }
  cublasLtHandle_t handle() const { return handle_; }
  const std::string& device_name() const { return name_; }
  int device() const { return device_; }
  int capability() const { return capability_; }  ///< 10 * major + minor
  int processors() const { return processors_; }
  std::size_t total_memory() const { return total_; }
  /// Bytes that can be had now: of the driver, and what the pool has but nobody uses.
  std::int64_t free_memory() const;

  static constexpr std::size_t workspace_bytes = std::size_t{32} << 20;
  void* workspace() const { return workspace_; }

  /// Uninitialized device memory, 256-byte aligned, freed on the stream with its last owner.
  std::shared_ptr<void> allocate(std::size_t bytes);
  template <class T>
  std::shared_ptr<T> array(std::int64_t n) {
    return std::static_pointer_cast<T>(allocate(static_cast<std::size_t>(n) * sizeof(T)));
  }
  template <class T>
  std::shared_ptr<T> zeros(std::int64_t n) {
    auto memory = array<T>(n);
    clear(memory.get(), static_cast<std::size_t>(n) * sizeof(T));
    return memory;
  }
  DeviceTensor tensor(DType dtype, const Shape& shape);

  void clear(void* dst, std::size_t bytes);
  void copy(void* dst, const void* src, std::size_t bytes);  ///< device to device
  void upload(void* dst, const void* src, std::size_t bytes);
  /// Waits for everything queued.
  void download(void* dst, const void* src, std::size_t bytes);
  void synchronize();

  template <class T>
  std::shared_ptr<T> uploaded(const std::vector<T>& host) {
    auto memory = array<T>(static_cast<std::int64_t>(host.size()));
    upload(memory.get(), host.data(), host.size() * sizeof(T));
    return memory;
  }
  template <class T>
  std::vector<T> fetched(const T* src, std::int64_t n) {
    std::vector<T> host(static_cast<std::size_t>(n));
    download(host.data(), src, host.size() * sizeof(T));
    return host;
  }

 private:
  Context(int device, const CublasLt* lt);
  void* staging(std::size_t bytes);

  int device_, capability_ = 0, processors_ = 0;
  const CublasLt* lt_;
  std::string name_;
  std::size_t total_ = 0, staging_bytes_ = 0;
  cudaStream_t stream_ = nullptr;
  cublasLtHandle_t handle_ = nullptr;
  void* workspace_ = nullptr;
  void* staging_ = nullptr;  ///< pinned host memory
};

/// Data of a tensor of this backend; Error{internal} on the wrong dtype or an undefined tensor.
template <class T>
T* data(const DeviceTensor& tensor) {
  quant::require(tensor.defined() || tensor.shape.elements() == 0, "gpu tensor: undefined");
  quant::require(tensor.dtype == quant::dtype_of<std::remove_const_t<T>>, "gpu tensor: read as another dtype than it stores");
  return static_cast<T*>(tensor.storage.get());
}

/// Rounds up to a multiple of 16: what the alignment rules of INT8 and FP8 products ask of sizes.
constexpr std::int64_t padded(std::int64_t n) { return (n + 15) / 16 * 16; }

}  // namespace qfid::kernels::gpu
