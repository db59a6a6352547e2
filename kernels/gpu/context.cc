#include "kernels/gpu/context.h"

#include <cstring>

namespace qfid::kernels::gpu {

using quant::Error;
using quant::ErrorKind;

namespace {

constexpr std::size_t least_free = std::size_t{512} << 20;  // cuBLASLt's kernels, the workspace, and room to work in

std::string mebibytes(std::size_t bytes) { return std::to_string(bytes >> 20) + " MiB"; }

std::string here() {
  int device = -1;
  if (cudaGetDevice(&device) != cudaSuccess) return "device unknown";
  return "device " + std::to_string(device);
}

int attribute(cudaDeviceAttr attr, int device) {
  int value = 0;
  check(cudaDeviceGetAttribute(&value, attr, device), "cudaDeviceGetAttribute");
  return value;
}

Support no_device(cudaError_t status) {
  if (status == cudaErrorInsufficientDriver)
    return {false, "no NVIDIA driver, or one older than CUDA 13 (libcuda.so.1: driver 580 or newer is needed)"};
  if (status == cudaErrorNoDevice) return {false, "the NVIDIA driver sees no device (CUDA_VISIBLE_DEVICES is respected)"};
  return {false, std::string("CUDA can't be started: ") + cudaGetErrorString(status)};
}

}  // namespace

namespace {

/// Memory, or the device itself, isn't there any more; otherwise what went wrong is ours.
bool is_gone(cudaError_t status) {
  switch (status) {
    case cudaErrorMemoryAllocation:
    case cudaErrorNoDevice:
    case cudaErrorDevicesUnavailable:
    case cudaErrorInitializationError:
    case cudaErrorECCUncorrectable:
    case cudaErrorNvlinkUncorrectable:
    case cudaErrorHardwareStackError:
    case cudaErrorContextIsDestroyed:
    case cudaErrorMpsConnectionFailed:
    case cudaErrorMpsServerNotReady:
    case cudaErrorMpsRpcFailure:
    case cudaErrorOperatingSystem:
    case cudaErrorUnknown:
      return true;
    default:
      return false;
  }
}

}  // namespace

void check(cudaError_t status, const char* call, const std::string& subject) {
  if (status == cudaSuccess) return;
  cudaGetLastError();  // not sticky: the next call starts clean
  const auto kind = is_gone(status) ? ErrorKind::unavailable : ErrorKind::internal;
  throw Error(kind, std::string("gpu: ") + call + (subject.empty() ? "" : " (" + subject + ")") + " on " + here() + ": " +
                        cudaGetErrorString(status));
}

void check(cublasStatus_t status, const char* call, const std::string& subject) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  const auto kind = status == CUBLAS_STATUS_ALLOC_FAILED ? ErrorKind::unavailable : ErrorKind::internal;
  throw Error(kind, std::string("gpu: ") + call + " (" + subject + ") on " + here() + ": " +
                        cublaslt(nullptr)->status_string(status));
}

Support probe(int device) {
  int count = 0;
  if (const cudaError_t status = cudaGetDeviceCount(&count); status != cudaSuccess) {
    cudaGetLastError();
    return no_device(status);
  }
  if (device < 0 || device >= count)
    return {false, "device " + std::to_string(device) + " was asked for, CUDA shows " + std::to_string(count)};
  cudaDeviceProp properties{};
  if (const cudaError_t status = cudaGetDeviceProperties(&properties, device); status != cudaSuccess)
    return no_device(status);
  if (properties.major < 8)
    return {false, std::string(properties.name) + " has compute capability " + std::to_string(properties.major) + "." +
                       std::to_string(properties.minor) + ", 8.0 (Ampere) or newer is needed"};
  std::string why;
  if (cublaslt(&why) == nullptr) return {false, why};
  return {};
}

std::shared_ptr<Context> Context::make(int device) {
  if (const Support here = probe(device); !here)
    throw Error(ErrorKind::unavailable, "backend gpu is not available: " + here.reason);
  return std::shared_ptr<Context>(new Context(device, cublaslt(nullptr)));
}

Context::Context(int device, const CublasLt* lt) : device_(device), lt_(lt) {
  check(cudaSetDevice(device), "cudaSetDevice");
  cudaDeviceProp properties{};
  check(cudaGetDeviceProperties(&properties, device), "cudaGetDeviceProperties");
  name_ = properties.name;
  capability_ = 10 * properties.major + properties.minor;
  processors_ = properties.multiProcessorCount;
  std::size_t free = 0;
  check(cudaMemGetInfo(&free, &total_), "cudaMemGetInfo");
  if (free < least_free)
    throw Error(ErrorKind::unavailable, "backend gpu is not available: " + name_ + " has " + mebibytes(free) + " of " +
                                            mebibytes(total_) + " free, " + mebibytes(least_free) + " are needed to start");
  if (attribute(cudaDevAttrMemoryPoolsSupported, device) == 0)
    throw Error(ErrorKind::unavailable, "backend gpu is not available: " + name_ + " has no stream-ordered memory pools");
  check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "cudaStreamCreate");
  cudaMemPool_t pool = nullptr;
  check(cudaDeviceGetDefaultMemPool(&pool, device), "cudaDeviceGetDefaultMemPool");
  std::uint64_t keep = UINT64_MAX;  // freed memory stays in the pool: asking the driver again costs milliseconds
  check(cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &keep), "cudaMemPoolSetAttribute");
  check(lt_->create(&handle_), "cublasLtCreate", name_);
  check(cudaMalloc(&workspace_, workspace_bytes), "cudaMalloc", "workspace of " + mebibytes(workspace_bytes));
}

Context::~Context() {
  cudaStreamSynchronize(stream_);
  if (handle_ != nullptr) lt_->destroy(handle_);
  cudaFree(workspace_);
  cudaFreeHost(staging_);
  cudaStreamDestroy(stream_);
}

std::int64_t Context::free_memory() const {
  std::size_t free = 0, total = 0;
  check(cudaMemGetInfo(&free, &total), "cudaMemGetInfo");
  cudaMemPool_t pool = nullptr;
  check(cudaDeviceGetDefaultMemPool(&pool, device_), "cudaDeviceGetDefaultMemPool");
  std::uint64_t reserved = 0, used = 0;
  check(cudaMemPoolGetAttribute(pool, cudaMemPoolAttrReservedMemCurrent, &reserved), "cudaMemPoolGetAttribute");
  check(cudaMemPoolGetAttribute(pool, cudaMemPoolAttrUsedMemCurrent, &used), "cudaMemPoolGetAttribute");
  return static_cast<std::int64_t>(free + (reserved - used));
}

std::shared_ptr<void> Context::allocate(std::size_t bytes) {
  void* memory = nullptr;
  if (const cudaError_t status = cudaMallocAsync(&memory, bytes == 0 ? 1 : bytes, stream_); status != cudaSuccess) {
    cudaGetLastError();
    std::size_t free = 0, total = 0;
    cudaMemGetInfo(&free, &total);
    if (status != cudaErrorMemoryAllocation) check(status, "cudaMallocAsync", mebibytes(bytes));
    throw Error(ErrorKind::unavailable, "out of memory on " + name_ + ": " + mebibytes(bytes) + " asked for, " +
                                            mebibytes(free) + " of " + mebibytes(total) +
                                            " free outside the pool; fewer windows a chunk (run.chunk_windows) need less");
  }
  return {memory, [self = shared_from_this()](void* p) { cudaFreeAsync(p, self->stream_); }};
}

DeviceTensor Context::tensor(DType dtype, const Shape& shape) {
  return {dtype, shape, allocate(static_cast<std::size_t>(shape.elements()) * quant::info(dtype).bytes)};
}

void Context::clear(void* dst, std::size_t bytes) { check(cudaMemsetAsync(dst, 0, bytes, stream_), "cudaMemsetAsync"); }

void Context::copy(void* dst, const void* src, std::size_t bytes) {
  check(cudaMemcpyAsync(dst, src, bytes, cudaMemcpyDeviceToDevice, stream_), "cudaMemcpyAsync");
}

void Context::upload(void* dst, const void* src, std::size_t bytes) {
  // From pageable memory: the source has been read when the call returns.
  if (bytes > 0) check(cudaMemcpyAsync(dst, src, bytes, cudaMemcpyHostToDevice, stream_), "cudaMemcpyAsync");
}

void* Context::staging(std::size_t bytes) {
  if (bytes > staging_bytes_) {
    cudaFreeHost(staging_);
    staging_ = nullptr;
    staging_bytes_ = 0;
    check(cudaMallocHost(&staging_, bytes), "cudaMallocHost", mebibytes(bytes));
    staging_bytes_ = bytes;
  }
  return staging_;
}

void Context::download(void* dst, const void* src, std::size_t bytes) {
  if (bytes == 0) return synchronize();
  constexpr std::size_t small = std::size_t{1} << 20;
  void* target = bytes <= small ? staging(small) : dst;
  check(cudaMemcpyAsync(target, src, bytes, cudaMemcpyDeviceToHost, stream_), "cudaMemcpyAsync");
  synchronize();
  if (target != dst) std::memcpy(dst, target, bytes);
}

void Context::synchronize() { check(cudaStreamSynchronize(stream_), "cudaStreamSynchronize"); }

}  // namespace qfid::kernels::gpu
