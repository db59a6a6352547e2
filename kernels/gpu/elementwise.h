// Launchers of the full-precision kernels. Pointers are device memory; sizes in elements.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/backend.h"

namespace qfid::kernels::gpu {

enum class Number : std::uint8_t;

void embedding(const std::int32_t* ids, const float* table, float* out, std::int64_t tokens, std::int64_t width,
               cudaStream_t stream);
void add(const float* a, const float* b, float* out, std::int64_t n, cudaStream_t stream);
/// Statistics in double; beta may be null. centered: layer norm, else RMS norm.
void normalize(const float* x, const float* gamma, const float* beta, float eps, bool centered, float* out,
               std::int64_t rows, std::int64_t width, cudaStream_t stream);
void activate(const float* x, Activation kind, float* out, std::int64_t n, cudaStream_t stream);
/// x [rows = B*T*heads, width], token = row / heads % length.
void rotate(const float* x, float* out, std::int64_t rows, std::int64_t heads, std::int64_t length, std::int64_t width,
            std::int64_t first, double theta, cudaStream_t stream);
void sigmoid(const float* x, float* out, std::int64_t n, cudaStream_t stream);
/// out[r, c] = gate[r] * x[r, c].
void scale_rows(const float* x, const float* gate, float* out, std::int64_t rows, std::int64_t width, cudaStream_t stream);
/// Mean of k [B, T, H, D] over valid tokens, in double, rounded once: [B, H, D].
void key_means(const float* k, const std::uint8_t* mask, float* means, std::int64_t batch, std::int64_t length,
               std::int64_t heads, std::int64_t width, cudaStream_t stream);
void subtract_means(const float* k, const float* means, float* out, std::int64_t batch, std::int64_t length,
                    std::int64_t heads, std::int64_t width, cudaStream_t stream);
/// [B, q_heads, q_len]: sink[h] - c * q_i . kbar (means may be null: plain sinks).
void sink_logits(const float* sink, const float* q, const float* means, float c, float* out, std::int64_t batch,
                 std::int64_t q_len, std::int64_t q_heads, std::int64_t kv_heads, std::int64_t width, cudaStream_t stream);

void fill(float* dst, float value, std::int64_t n, cudaStream_t stream);

/// For probing products.
void fill_ones(void* dst, Number number, std::int64_t n, cudaStream_t stream);
/// Numbers spread over [-2, 2), the same for the same seed.
void fill_random(void* dst, Number number, std::int64_t n, std::uint32_t seed, cudaStream_t stream);
/// different[0] = 1 where `words` 16-byte words are not all the same.
void find_different(const void* a, const void* b, std::int64_t words, std::uint32_t* different, cudaStream_t stream);
/// wrong[0] = 1 where an element of `batch` matrices differs from `expected` by more than tolerance * expected.
void find_unlike(const void* x, Number number, double expected, double tolerance, std::int64_t batch, std::int64_t stride,
                 std::int64_t rows, std::int64_t columns, std::int64_t ld, std::uint32_t* wrong, cudaStream_t stream);

}  // namespace qfid::kernels::gpu
