// Hopper's asynchronous matrix products of one-byte operands (PTX ISA 8.0, "wgmma"), and what feeds them: bulk copies into
// shared memory and the barriers both report to. Compiled for sm_90a alone.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace qfid::kernels::gpu {

/// Operand types of a product: A times B into s32 or f32.
enum class Mma : std::uint8_t { s8_s8, u8_s8, e4m3_e4m3 };

/// What a product of this kind accumulates in.
template <Mma kind>
struct MmaAccumulator {
  using type = std::int32_t;
};
template <>
struct MmaAccumulator<Mma::e4m3_e4m3> {
  using type = float;
};

__device__ inline std::uint32_t shared_address(const void* p) {
  return static_cast<std::uint32_t>(__cvta_generic_to_shared(p));
}

/// Descriptor of a K-major operand in shared memory, rows of `row_bytes` (64 or 128) swizzled by as much: 16-byte piece c of
/// row r lies at c ^ (r & 7), or c ^ (r / 2 & 3). Groups of eight rows follow each other. A step of 32 bytes along K adds 2.
template <int row_bytes>
__device__ inline std::uint64_t mma_descriptor(std::uint32_t address) {
  static_assert(row_bytes == 64 || row_bytes == 128);
  constexpr std::uint64_t layout = row_bytes == 128 ? 1 : 2, group = row_bytes * 8 >> 4;
  return layout << 62 | group << 32 | std::uint64_t{1} << 16 | (address & 0x3FFFFU) >> 4;
}

__device__ inline void mma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ inline void mma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
/// Waits for all committed products.
__device__ inline void mma_wait() { asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory"); }

/// Keeps the compiler from moving uses of accumulators across a fence or a wait.
template <int n>
__device__ inline void mma_hold(float (&d)[n]) {
#pragma unroll
  for (int i = 0; i < n; ++i) asm volatile("" : "+f"(d[i])::"memory");
}
template <int n>
__device__ inline void mma_hold(std::int32_t (&d)[n]) {
#pragma unroll
  for (int i = 0; i < n; ++i) asm volatile("" : "+r"(d[i])::"memory");
}

// Accumulator i of a thread in the instructions' text and among their operands.
#define QFID_MMA_F32(x) "+f"(x)
#define QFID_MMA_S32(x) "+r"(x)
#define QFID_MMA_32(C, d)                                                                                                 \
  C(d[0]), C(d[1]), C(d[2]), C(d[3]), C(d[4]), C(d[5]), C(d[6]), C(d[7]), C(d[8]), C(d[9]), C(d[10]), C(d[11]), C(d[12]), \
      C(d[13]), C(d[14]), C(d[15]), C(d[16]), C(d[17]), C(d[18]), C(d[19]), C(d[20]), C(d[21]), C(d[22]), C(d[23]),       \
      C(d[24]), C(d[25]), C(d[26]), C(d[27]), C(d[28]), C(d[29]), C(d[30]), C(d[31])
#define QFID_MMA_64(C, d)                                                                                                 \
  C(d[0]), C(d[1]), C(d[2]), C(d[3]), C(d[4]), C(d[5]), C(d[6]), C(d[7]), C(d[8]), C(d[9]), C(d[10]), C(d[11]), C(d[12]), \
      C(d[13]), C(d[14]), C(d[15]), C(d[16]), C(d[17]), C(d[18]), C(d[19]), C(d[20]), C(d[21]), C(d[22]), C(d[23]),       \
      C(d[24]), C(d[25]), C(d[26]), C(d[27]), C(d[28]), C(d[29]), C(d[30]), C(d[31]), C(d[32]), C(d[33]), C(d[34]),       \
      C(d[35]), C(d[36]), C(d[37]), C(d[38]), C(d[39]), C(d[40]), C(d[41]), C(d[42]), C(d[43]), C(d[44]), C(d[45]),       \
      C(d[46]), C(d[47]), C(d[48]), C(d[49]), C(d[50]), C(d[51]), C(d[52]), C(d[53]), C(d[54]), C(d[55]), C(d[56]),       \
      C(d[57]), C(d[58]), C(d[59]), C(d[60]), C(d[61]), C(d[62]), C(d[63])
#define QFID_MMA_TEXT_32                                                   \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, " \
  "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define QFID_MMA_TEXT_64                                                             \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "           \
  "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, " \
  "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, " \
  "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"

/// d[64 x n / 2 of this thread] (+)= A[64, 32] * B[n, 32]^T; A and B in shared memory.
#define QFID_MMA_SHARED(kind, n, half, acc, constraint, types, scales, a, b, use)                                         \
  template <>                                                                                                             \
  __device__ inline void mma_shared<kind, n>(acc(&d)[half], std::uint64_t desc_a, std::uint64_t desc_b, int accumulate) { \
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %" use ", 0;\nwgmma.mma_async.sync.aligned.m64n" #n "k32." types       \
                 " {" QFID_MMA_TEXT_##half "}, %" a ", %" b ", p" scales ";\n}\n"                                         \
                 : QFID_MMA_##half(constraint, d)                                                                         \
                 : "l"(desc_a), "l"(desc_b), "r"(accumulate));                                                            \
  }
/// The same with A in registers: four words a thread, bytes (row, k): (lane / 4, lane % 4 * 4 + i), (+8, same), (same, +16),
/// both.
#define QFID_MMA_REGISTERS(kind, n, half, acc, constraint, types, scales, a0, a1, a2, a3, b, use)                   \
  template <>                                                                                                       \
  __device__ inline void mma_registers<kind, n>(acc(&d)[half], const std::uint32_t(&a)[4], std::uint64_t desc_b,    \
                                                int accumulate) {                                                   \
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %" use ", 0;\nwgmma.mma_async.sync.aligned.m64n" #n "k32." types \
                 " {" QFID_MMA_TEXT_##half "}, {%" a0 ", %" a1 ", %" a2 ", %" a3 "}, %" b ", p" scales ";\n}\n"     \
                 : QFID_MMA_##half(constraint, d)                                                                   \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(desc_b), "r"(accumulate));                       \
  }

template <Mma kind, int n>
__device__ void mma_shared(typename MmaAccumulator<kind>::type (&d)[n / 2], std::uint64_t desc_a, std::uint64_t desc_b,
                           int accumulate);
template <Mma kind, int n>
__device__ void mma_registers(typename MmaAccumulator<kind>::type (&d)[n / 2], const std::uint32_t (&a)[4],
                              std::uint64_t desc_b, int accumulate);

QFID_MMA_SHARED(Mma::s8_s8, 128, 64, std::int32_t, QFID_MMA_S32, "s32.s8.s8", "", "64", "65", "66")
QFID_MMA_SHARED(Mma::e4m3_e4m3, 128, 64, float, QFID_MMA_F32, "f32.e4m3.e4m3", ", 1, 1", "64", "65", "66")
QFID_MMA_REGISTERS(Mma::s8_s8, 64, 32, std::int32_t, QFID_MMA_S32, "s32.s8.s8", "", "32", "33", "34", "35", "36", "37")
QFID_MMA_REGISTERS(Mma::u8_s8, 64, 32, std::int32_t, QFID_MMA_S32, "s32.u8.s8", "", "32", "33", "34", "35", "36", "37")
QFID_MMA_REGISTERS(Mma::e4m3_e4m3, 64, 32, float, QFID_MMA_F32, "f32.e4m3.e4m3", ", 1, 1", "32", "33", "34", "35", "36",
                   "37")
QFID_MMA_REGISTERS(Mma::s8_s8, 128, 64, std::int32_t, QFID_MMA_S32, "s32.s8.s8", "", "64", "65", "66", "67", "68", "69")
QFID_MMA_REGISTERS(Mma::u8_s8, 128, 64, std::int32_t, QFID_MMA_S32, "s32.u8.s8", "", "64", "65", "66", "67", "68", "69")
QFID_MMA_REGISTERS(Mma::e4m3_e4m3, 128, 64, float, QFID_MMA_F32, "f32.e4m3.e4m3", ", 1, 1", "64", "65", "66", "67", "68",
                   "69")

#undef QFID_MMA_SHARED
#undef QFID_MMA_REGISTERS

/// Moves registers between the groups of four warps of a block: `count` a thread afterwards.
template <int count>
__device__ inline void registers_give() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(count));
}
template <int count>
__device__ inline void registers_take() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(count));
}

/// A barrier in shared memory that counts arrivals and bytes (PTX "mbarrier").
using Barrier = std::uint64_t;
__device__ inline void barrier_init(Barrier* b, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(b)), "r"(arrivals) : "memory");
}
/// Makes initialized barriers known to the copy engine; before the block's __syncthreads.
__device__ inline void barriers_ready() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }
__device__ inline void barrier_arrive(Barrier* b) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(b)) : "memory");
}
__device__ inline void barrier_wait(Barrier* b, int parity) {
  asm volatile(
      "{\n.reg .pred p;\nwaiting:\nmbarrier.try_wait.parity.shared::cta.b64 p, [%0], %1;\n@p bra done;\nbra waiting;\n"
      "done:\n}\n" ::"r"(shared_address(b)),
      "r"(parity)
      : "memory");
}
/// dst (shared) = `bytes` from src (both 16-byte aligned); the barrier gets an arrival and waits for the bytes.
__device__ inline void bulk_copy(void* dst, const void* src, int bytes, Barrier* b) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(b)), "r"(bytes) : "memory");
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(shared_address(dst)),
      "l"(src), "r"(bytes), "r"(shared_address(b))
      : "memory");
}

}  // namespace qfid::kernels::gpu
