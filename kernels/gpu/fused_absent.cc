// Stands in for fused_sm90.cu where nothing is compiled for sm_90a.
#include "kernels/gpu/fused.h"

namespace qfid::kernels::gpu {

FusedNames fused_names(quant::Format, quant::Format, quant::Format, quant::Format) { return {}; }

void fused_attention(const FusedJob&, int, cudaStream_t) {}

}  // namespace qfid::kernels::gpu
