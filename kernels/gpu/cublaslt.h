// cuBLASLt, bound when a gpu backend is first used: the library is 541 MB and costs half a second to load, which a run on
// the CPU must not pay, and a machine without it must be able to say so.
#pragma once

#include <cublasLt.h>

#include <string>

namespace qfid::kernels::gpu {

/// The functions used here, under the names of cublasLt.h without their prefix.
struct CublasLt {
  decltype(&::cublasLtCreate) create;
  decltype(&::cublasLtDestroy) destroy;
  decltype(&::cublasLtGetVersion) get_version;
  decltype(&::cublasLtGetStatusString) status_string;
  decltype(&::cublasLtMatmul) matmul;
  decltype(&::cublasLtMatmulDescCreate) desc_create;
  decltype(&::cublasLtMatmulDescDestroy) desc_destroy;
  decltype(&::cublasLtMatmulDescSetAttribute) desc_set;
  decltype(&::cublasLtMatrixLayoutCreate) layout_create;
  decltype(&::cublasLtMatrixLayoutDestroy) layout_destroy;
  decltype(&::cublasLtMatrixLayoutSetAttribute) layout_set;
  decltype(&::cublasLtMatmulPreferenceCreate) preference_create;
  decltype(&::cublasLtMatmulPreferenceDestroy) preference_destroy;
  decltype(&::cublasLtMatmulPreferenceSetAttribute) preference_set;
  decltype(&::cublasLtMatmulAlgoGetHeuristic) heuristic;
  decltype(&::cublasLtMatmulAlgoConfigGetAttribute) config_get;
};

/// Null when the library can't be loaded; `why` (may be null) then says what was looked for. Loaded once a process.
const CublasLt* cublaslt(std::string* why);

}  // namespace qfid::kernels::gpu
